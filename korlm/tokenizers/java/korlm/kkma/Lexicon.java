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
import org.snu.ids.ha.ma.Window;

/**
 * Kkma's dictionary and probabilities, copied once into tables that threads read without a lock.
 *
 * <p>Kkma's own are synchronized hash tables that copy every entry they give.
 */
public final class Lexicon {
    private static final int MAX_KEPT = 20_000;

    /** Open addressing by text. */
    private final Expression[] entries;
    private final int size;
    private final int longest;
    /** The dictionary's morphemes, while it is copied. */
    private HashMap<MorphKey, Morph> morphs = new HashMap<>();
    private final ConcurrentHashMap<MorphPair, Morph> joints = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<MorphKey, Morph> narrow = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<String, Candidate> foreign = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<Character, Bits> unknownHaving =
            new ConcurrentHashMap<>();
    private final float[] nounChars = new float[1 << 16];
    final Probabilities probabilities;

    private Lexicon(Map<String, MExpression> table) throws Exception {
        probabilities = new Probabilities();
        Arrays.fill(nounChars, Float.NaN);
        entries = new Expression[Hash.tableSize(table.size())];
        size = table.size();
        int max = 0;
        for (Map.Entry<String, MExpression> entry : table.entrySet()) {
            String text = entry.getKey();
            MExpression theirs = entry.getValue();
            Candidate[] candidates = new Candidate[theirs.size()];
            for (int i = 0; i < candidates.length; i++) {
                candidates[i] = Candidate.ofDictionary(theirs.get(i), text, this);
            }
            int at = Hash.of(text) & entries.length - 1;
            while (entries[at] != null) at = at + 1 & entries.length - 1;
            entries[at] = new Expression(text, candidates);
            max = Math.max(max, text.length());
        }
        longest = max;
        morphs = null;
    }

    /** Loads Kkma's dictionary, copies it and empties Kkma's own: nobody else uses this JVM. */
    @SuppressWarnings("unchecked")
    public static Lexicon load() throws Exception {
        Dictionary dictionary = Dictionary.getInstance();
        Field field = Dictionary.class.getDeclaredField("table");
        field.setAccessible(true);
        Lexicon lexicon = new Lexicon((Map<String, MExpression>) field.get(dictionary));
        dictionary.clear();
        return lexicon;
    }

    /** Number of dictionary entries: 365,048 in Kkma 2.0. */
    public int size() {
        return size;
    }

    private Expression find(String text, int begin, int end, int hash) {
        int length = end - begin;
        int at = hash & entries.length - 1;
        for (Expression found; (found = entries[at]) != null; at = at + 1 & entries.length - 1) {
            if (found.text.length() == length && found.text.regionMatches(0, text, begin, length)) {
                return found;
            }
        }
        return null;
    }

    /** Whether a text is a noun by itself. */
    boolean isNoun(String text) {
        if (text.length() > longest) return false;
        Expression found = find(text, 0, text.length(), Hash.of(text));
        if (found == null) return false;
        for (Candidate candidate : found.candidates) {
            if (candidate.morphs.length == 1 && candidate.first().isTagOf(NNA)) return true;
        }
        return false;
    }

    /** The readings of a stretch of Hangul: the dictionary's, or one that calls it unknown. */
    Expression readings(String text, int begin, int end) {
        if (end - begin <= longest) {
            Expression found = find(text, begin, end, Hash.of(text, begin, end));
            if (found != null) return found;
        }
        String part = text.substring(begin, end);
        return new Expression(part, Candidate.unknown(part, this));
    }

    /** The reading of a token that is not Hangul. */
    Candidate foreign(String text, CharSetType charSet) throws Exception {
        if (text.length() > 32) return Candidate.foreign(Window.foreign(text, charSet), this);
        String key = charSet.ordinal() + text;
        Candidate found = foreign.get(key);
        if (found == null) {
            found = Candidate.foreign(Window.foreign(text, charSet), this);
            if (foreign.size() >= MAX_KEPT) foreign.clear();
            foreign.put(key, found);
        }
        return found;
    }

    /** A morpheme; those of the dictionary, once each. */
    Morph morph(String text, long info, CharSetType charSet) {
        if (morphs == null) return new Morph(text, info, charSet);
        return morphs.computeIfAbsent(new MorphKey(text, info, charSet),
                key -> new Morph(text, info, charSet));
    }

    Morph narrowed(Morph morph, long tags) {
        if ((morph.info & (Morph.COMPOSED | tags)) == morph.info) return morph;
        MorphKey key = new MorphKey(morph.text, morph.info & (Morph.COMPOSED | tags), morph.charSet);
        Morph found = narrow.get(key);
        if (found == null) {
            found = new Morph(morph.text, key.info, morph.charSet);
            if (narrow.size() >= MAX_KEPT) narrow.clear();
            narrow.put(key, found);
        }
        return found;
    }

    Morph joined(Morph morph, Morph next) {
        MorphPair key = new MorphPair(morph, next);
        Morph found = joints.get(key);
        if (found == null) {
            found = morph.joined(next);
            if (joints.size() >= MAX_KEPT) joints.clear();
            joints.put(key, found);
        }
        return found;
    }

    Bits unknownHaving(char last) {
        Bits found = unknownHaving.get(last);
        if (found == null) {
            try {
                found = Bits.of(Window.unknown(String.valueOf(last)).getHCLEnc());
            } catch (Exception error) {
                throw new IllegalStateException(error);
            }
            unknownHaving.put(last, found);
        }
        return found;
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
