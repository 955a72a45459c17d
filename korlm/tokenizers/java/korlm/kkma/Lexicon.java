package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.snu.ids.ha.ma.CharSetType;
import org.snu.ids.ha.ma.MCandidate;
import org.snu.ids.ha.ma.KkmaInternals;

/**
 * Kkma's dictionary and probabilities in tables that threads read without locks.
 *
 * <p>Kkma's own tables are synchronized and copy every entry that they return.
 */
public final class Lexicon {
    /** Longs of a reading in Image.sets. */
    static final int NUM_SETS = 5;
    /** Value of characters that are in no noun of Kkma's. */
    static final float UNSEEN_CHAR = -30f;
    private static final int MAX_KEPT = 20_000;

    private final Image image;
    private final Texts texts;
    /** Of the dictionary, by the number of the text; null: not looked up yet. */
    private final Expression[] entries;
    /** Begin of the readings of each text in those of the image. */
    private final int[] begins;
    private final Morph[] morphs;
    /** Entries with the words of a user, and a bit for each of their first characters. */
    private final HashMap<String, Expression> added = new HashMap<>();
    private final BitSet addedStarts = new BitSet();
    private final int size;
    private final int longest;
    private final ConcurrentHashMap<MorphPair, Morph> joinedMorphs = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<MorphKey, Morph> narrow = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<String, Candidate> foreign = new ConcurrentHashMap<>();
    private final ConcurrentHashMap<Character, TagSet> unknownHaving =
            new ConcurrentHashMap<>();
    private final float[] nounChars = new float[1 << 16];
    /** Parts of compound nouns; null: not read yet. */
    private volatile Map<String, String[]> compoundNouns;
    private final UserWords userWords;
    final Probabilities probabilities;

    /** Creates a lexicon of Kkma's words and those that a user has added. */
    Lexicon(Image image, UserWords userWords) {
        this.image = image;
        this.userWords = userWords;
        TagClass.register(image.tags);
        texts = new Texts(image);
        probabilities = new Probabilities(image, texts);
        entries = new Expression[texts.size()];
        begins = Texts.sums(image.readingSizes);
        morphs = new Morph[image.morphTexts.length];
        int max = 0;
        int count = 0;
        for (int i = 0; i < entries.length; i++) {
            if (image.readingSizes[i] == 0) continue;
            count++;
            max = Math.max(max, image.lengths[i]);
        }
        size = count;
        Arrays.fill(nounChars, UNSEEN_CHAR);
        for (int i = 0; i < image.nounChars.length; i++) {
            nounChars[image.nounChars[i]] = image.nounValues[i];
        }
        for (Map.Entry<String, List<MCandidate>> entry : userWords.readings.entrySet()) {
            String text = entry.getKey();
            max = Math.max(max, text.length());
            added.put(text, withUserReadings(text, entry.getValue()));
            addedStarts.set(text.charAt(0));
        }
        longest = max;
    }

    /** Returns an entry with a user's readings in the place where Kkma would load them. */
    private Expression withUserReadings(String text, List<MCandidate> more) {
        int number = texts.find(text);
        boolean isNew = number < 0 || image.readingSizes[number] == 0;
        Candidate[] own = isNew ? Expression.NONE : entry(number).candidates;
        int size = own.length - (isNew ? 0 : image.readings[begins[number]]);
        Expression.Builder all = new Expression.Builder(text, Arrays.copyOf(own, size));
        for (MCandidate reading : more) all.add(Candidate.ofUser(reading, text, this));
        for (int i = size; i < own.length; i++) all.add(own[i]);
        return all.build();
    }

    /** Returns the number of Kkma's entries: 365,048 in Kkma 2.0. */
    public int size() {
        return size;
    }

    /** Returns the parts of the dictionary's compound nouns. */
    Map<String, String[]> compoundNouns() {
        Map<String, String[]> result = compoundNouns;
        if (result == null) {
            result = new HashMap<>();
            for (String line : new String(image.compounds, StandardCharsets.UTF_8).split("\n")) {
                int tab = line.indexOf('\t');
                result.put(line.substring(0, tab), line.substring(tab + 1).split("[+]"));
            }
            result.putAll(userWords.compounds);
            compoundNouns = result;
        }
        return result;
    }

    private Expression find(String text, int begin, int end, int hash) {
        if (addedStarts.get(text.charAt(begin))) {
            Expression known = added.get(text.substring(begin, end));
            if (known != null) return known;
        }
        int number = texts.find(text, begin, end, hash);
        if (number < 0) return null;
        Expression result = entries[number];
        // Threads may build an entry twice, but never see an incomplete one: it is immutable.
        if (result == null && image.readingSizes[number] > 0) {
            entries[number] = result = entry(number);
        }
        return result;
    }

    /** Builds the dictionary's readings of a text. */
    private Expression entry(int number) {
        String text = texts.get(number);
        float spacing = Candidate.spacingOf(text, Candidate.NO_CUTS, this);
        ArrayList<Candidate> candidates = new ArrayList<>();
        int end = begins[number + 1];
        for (int at = begins[number] + 1; at < end; ) {
            int head = image.readings[at++];
            int set = image.readings[at++] * NUM_SETS;
            Morph[] all = new Morph[head & 0xff];
            for (int i = 0; i < all.length; i++) all[i] = morph(image.readings[at++]);
            candidates.add(Candidate.ofDictionary(all, TagSet.of(image.sets[set]),
                    TagSet.of(image.sets[set + 1]), TagSet.of(image.sets[set + 2]),
                    TagSet.of(image.sets[set + 3]), image.sets[set + 4], (byte) (head >> 16),
                    (byte) (head >> 8), spacing, probabilities));
        }
        return new Expression(text, candidates.toArray(new Candidate[0]));
    }

    private Morph morph(int number) {
        Morph result = morphs[number];
        if (result == null) {
            result = new Morph(texts.get(image.morphTexts[number]),
                    image.infos[image.morphInfos[number] & 0xff], CharSetType.HANGUL);
            morphs[number] = result;
        }
        return result;
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
            return Candidate.foreign(KkmaInternals.foreign(text, charSet));
        }
        String key = charSet.ordinal() + text;
        Candidate result = foreign.get(key);
        if (result == null) {
            result = Candidate.foreign(KkmaInternals.foreign(text, charSet));
            if (foreign.size() >= MAX_KEPT) foreign.clear();
            foreign.put(key, result);
        }
        return result;
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
            sum += nounChars[text.charAt(i)];
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
