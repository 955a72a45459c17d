package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.lang.reflect.Field;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.snu.ids.ha.dic.Dictionary;
import org.snu.ids.ha.dic.UNPDDictionary;
import org.snu.ids.ha.ma.CharSetType;
import org.snu.ids.ha.ma.MCandidate;
import org.snu.ids.ha.ma.MExpression;
import org.snu.ids.ha.ma.KkmaInternals;

/**
 * Kkma's dictionary and probabilities, copied once into tables that threads read without locks.
 *
 * <p>Kkma's own tables are synchronized and copy every entry that they return.
 */
public final class Lexicon {
    private static final int MAX_KEPT = 20_000;

    /** Hash table with open addressing, by text. */
    private final Expression[] entries;
    private final int size;
    private final int longest;
    /** The morphemes of the dictionary while it is being copied. */
    private HashMap<MorphKey, Morph> morphs = new HashMap<>();
    private final ConcurrentHashMap<MorphPair, Morph> joinedMorphs = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<MorphKey, Morph> narrow = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<String, Candidate> foreign = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<Character, TagSet> unknownHaving =
            new ConcurrentHashMap<>();
    private final float[] nounChars = new float[1 << 16];
    /** Parts of compound nouns. */
    private final Map<String, String[]> compoundNouns;
    final Probabilities probabilities;

    private Lexicon(Map<String, MExpression> table, Map<String, String[]> compoundNouns)
            throws Exception {
        this.compoundNouns = new HashMap<>(compoundNouns);
        probabilities = new Probabilities();
        Arrays.fill(nounChars, Float.NaN);
        entries = new Expression[Hash.tableSize(table.size())];
        size = table.size();
        int max = 0;
        for (Map.Entry<String, MExpression> entry : table.entrySet()) {
            String text = entry.getKey();
            MExpression original = entry.getValue();
            Candidate[] candidates = new Candidate[original.size()];
            for (int i = 0; i < candidates.length; i++) {
                candidates[i] = Candidate.ofDictionary(original.get(i), text, this);
            }
            int at = Hash.of(text) & entries.length - 1;
            while (entries[at] != null) at = at + 1 & entries.length - 1;
            entries[at] = new Expression(text, candidates);
            max = Math.max(max, text.length());
        }
        longest = max;
        morphs = null;
    }

    /** Loads and copies Kkma's dictionary and empties the original, which is not used otherwise. */
    @SuppressWarnings("unchecked")
    public static Lexicon load() throws Exception {
        Dictionary dictionary = Dictionary.getInstance();
        Field table = Dictionary.class.getDeclaredField("table");
        table.setAccessible(true);
        Field compounds = Dictionary.class.getDeclaredField("compNounTable");
        compounds.setAccessible(true);
        Lexicon lexicon = new Lexicon((Map<String, MExpression>) table.get(dictionary),
                (Map<String, String[]>) compounds.get(dictionary));
        dictionary.clear();
        return lexicon;
    }

    /** Returns the number of dictionary entries: 365,048 in Kkma 2.0. */
    public int size() {
        return size;
    }

    /** Returns the parts of the dictionary's compound nouns. */
    Map<String, String[]> compoundNouns() {
        return compoundNouns;
    }

    private Expression find(String text, int begin, int end, int hash) {
        int length = end - begin;
        int at = hash & entries.length - 1;
        for (Expression result; (result = entries[at]) != null; at = at + 1 & entries.length - 1) {
            if (result.text.length() == length
                    && result.text.regionMatches(0, text, begin, length)) {
                return result;
            }
        }
        return null;
    }

    /** Returns whether a text is a noun by itself. */
    boolean isNoun(String text) {
        if (text.length() > longest) return false;
        Expression result = find(text, 0, text.length(), Hash.of(text));
        if (result == null) return false;
        for (Candidate candidate : result.candidates) {
            if (candidate.morphs.length == 1 && candidate.first().isTagOf(NNA)) return true;
        }
        return false;
    }

    /** Returns the dictionary's readings of a span of Hangul, or one unknown reading. */
    Expression readings(String text, int begin, int end) {
        if (end - begin <= longest) {
            Expression result = find(text, begin, end, Hash.of(text, begin, end));
            if (result != null) return result;
        }
        String part = text.substring(begin, end);
        return new Expression(part, Candidate.unknown(part, this));
    }

    /** Returns the reading of a token that is not Hangul. */
    Candidate foreign(String text, CharSetType charSet) throws Exception {
        if (text.length() > 32) {
            return Candidate.foreign(KkmaInternals.foreign(text, charSet), this);
        }
        String key = charSet.ordinal() + text;
        Candidate result = foreign.get(key);
        if (result == null) {
            result = Candidate.foreign(KkmaInternals.foreign(text, charSet), this);
            if (foreign.size() >= MAX_KEPT) foreign.clear();
            foreign.put(key, result);
        }
        return result;
    }

    /** Returns a morpheme; while the dictionary is copied, one object for equal morphemes. */
    Morph morph(String text, long info, CharSetType charSet) {
        if (morphs == null) return new Morph(text, info, charSet);
        return morphs.computeIfAbsent(new MorphKey(text, info, charSet),
                key -> new Morph(text, info, charSet));
    }

    Morph narrowed(Morph morph, long tags) {
        if ((morph.info & (Morph.COMPOSED | tags)) == morph.info) return morph;
        long info = morph.info & (Morph.COMPOSED | tags);
        MorphKey key = new MorphKey(morph.text, info, morph.charSet);
        Morph result = narrow.get(key);
        if (result == null) {
            result = new Morph(morph.text, key.info, morph.charSet);
            if (narrow.size() >= MAX_KEPT) narrow.clear();
            narrow.put(key, result);
        }
        return result;
    }

    Morph joined(Morph morph, Morph next) {
        MorphPair key = new MorphPair(morph, next);
        Morph result = joinedMorphs.get(key);
        if (result == null) {
            result = morph.joined(next);
            if (joinedMorphs.size() >= MAX_KEPT) joinedMorphs.clear();
            joinedMorphs.put(key, result);
        }
        return result;
    }

    TagSet unknownHaving(char last) {
        TagSet result = unknownHaving.get(last);
        if (result == null) {
            try {
                result = TagSet.of(KkmaInternals.unknown(String.valueOf(last)).getHCLEnc());
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
            unknownHaving.put(last, result);
        }
        return result;
    }

    float unknownTagging(String text) {
        float sum = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            float prob = nounChars[c];
            if (prob != prob) nounChars[c] = prob = UNPDDictionary.getProb(String.valueOf(c));
            sum += prob;
        }
        return sum;
    }

    private static final class MorphKey {
        final String text;
        final long info;
        final CharSetType charSet;

        MorphKey(String text, long info, CharSetType charSet) {
            this.text = text;
            this.info = info;
            this.charSet = charSet;
        }

        @Override
        public int hashCode() {
            return text.hashCode() * 31 + Long.hashCode(info);
        }

        @Override
        public boolean equals(Object other) {
            MorphKey key = (MorphKey) other;
            return info == key.info && charSet == key.charSet && text.equals(key.text);
        }
    }

    private static final class MorphPair {
        final Morph first, second;

        MorphPair(Morph first, Morph second) {
            this.first = first;
            this.second = second;
        }

        @Override
        public int hashCode() {
            return System.identityHashCode(first) * 31 + System.identityHashCode(second);
        }

        @Override
        public boolean equals(Object other) {
            MorphPair pair = (MorphPair) other;
            return first == pair.first && second == pair.second;
        }
    }
}
