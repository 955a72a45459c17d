package korlm.kkma;

import java.util.Arrays;

/**
 * Kkma's log-probabilities, read without locks and without building keys. Kkma itself
 * concatenates a string for each lookup in a synchronized table.
 *
 * <p>For unknown text Kkma falls back to the tag alone; the fallback rules are identical.
 */
final class Probabilities {
    static final int EXP = 0, MORPH = 1, INTRA = 2, INTER = 3;
    /** The kind of the probabilities of tags alone. */
    private static final int TAG = MORPH;
    /** Below this a morpheme is rare and falls back to its tag. */
    private static final float RARE = -14f;
    private static final float UNSEEN = -18f;
    private static final float UNSEEN_TAG = -9f;
    static final int NUM_CLASSES = TagClass.SIZE;
    /** Kkma's placeholder for any morpheme in a key. */
    private static final String ANY = "null";

    private final Texts texts;
    private final int[] begins;
    private final char[] keys;
    private final float[] values;
    private final int any;
    /** Probabilities of unseen texts, by the classes of the previous and this morpheme. */
    private final float[] unseenIntra = unknown();
    private final float[] unseenInter = unknown();
    private final float[] tags = new float[NUM_CLASSES];
    private final SpacingTable pairs;

    Probabilities(Image image, Texts texts) {
        this.texts = texts;
        begins = Texts.sums(image.probabilitySizes);
        keys = image.probabilityKeys;
        values = image.probabilities;
        any = texts.find(ANY);
        pairs = new SpacingTable(image);
        int none = texts.find("");
        for (int i = 0; i < NUM_CLASSES; i++) {
            float value = get(none, TAG, 0, i);
            tags[i] = value == value ? value : UNSEEN_TAG;
        }
    }

    private static float[] unknown() {
        float[] values = new float[NUM_CLASSES * NUM_CLASSES];
        Arrays.fill(values, Float.NaN);
        return values;
    }

    /** Returns the key of a probability; those of tags alone belong to the empty text. */
    static char key(int kind, int before, int tagClass) {
        return (char) ((kind * NUM_CLASSES + before) * NUM_CLASSES + tagClass);
    }

    private float get(int text, int kind, int before, int tagClass) {
        if (text < 0) return Float.NaN;
        int at = Arrays.binarySearch(keys, begins[text], begins[text + 1],
                key(kind, before, tagClass));
        return at < 0 ? Float.NaN : values[at];
    }

    /** Returns log P(tag | text). */
    float exp(String text, int tagClass) {
        float result = get(texts.find(text), EXP, 0, tagClass);
        return result == result ? result : tags[tagClass];
    }

    /** Returns log P(morpheme | previous tag) within an eojeol. */
    float intra(int before, String text, int tagClass) {
        return morph(INTRA, before, texts.find(text), tagClass);
    }

    /** Returns log P(morpheme | previous tag) across a blank. */
    float inter(int before, String text, int tagClass) {
        return morph(INTER, before, texts.find(text), tagClass);
    }

    /** Returns whether there is any probability of a text. */
    boolean isSeen(String text) {
        int number = texts.find(text);
        return number >= 0 && begins[number] < begins[number + 1];
    }

    /** Returns log P(unseen morpheme | previous tag) within an eojeol. */
    float unseenIntra(int before, int tagClass) {
        return unseen(unseenIntra, INTRA, before, tagClass);
    }

    /** Returns log P(unseen morpheme | previous tag) across a blank. */
    float unseenInter(int before, int tagClass) {
        return unseen(unseenInter, INTER, before, tagClass);
    }

    private float unseen(float[] known, int kind, int before, int tagClass) {
        int at = before * NUM_CLASSES + tagClass;
        float result = known[at];
        if (result != result) known[at] = result = morph(kind, before, any, tagClass);
        return result;
    }

    private float morph(int kind, int before, int text, int tagClass) {
        float result = get(text, kind, before, tagClass);
        if (result == result) return result;
        float alone = get(text, MORPH, 0, tagClass);
        if (alone != alone || alone < RARE) result = get(any, kind, before, tagClass);
        return result == result ? result : UNSEEN;
    }

    /** Returns the log-probability of a blank, or of none, between two characters. */
    float spacing(char before, char after, boolean blank) {
        return pairs.get(before, after, blank);
    }

    /** A hash table with open addressing, by two characters, of two values each. */
    private static final class SpacingTable {
        private final int[] keys;
        private final float[] values;
        private final int mask;
        private final float unseen;

        SpacingTable(Image image) {
            keys = image.spacingKeys;
            values = image.spacing;
            mask = keys.length - 1;
            unseen = image.unseenSpacing[0];
        }

        float get(char before, char after, boolean blank) {
            int key = before << 16 | after;
            for (int at = spacingSlot(key) & mask; keys[at] != 0; at = at + 1 & mask) {
                if (keys[at] == key) return values[2 * at + (blank ? 0 : 1)];
            }
            return unseen;
        }
    }

    static int spacingSlot(int key) {
        int hash = key * 0x9E3779B9;
        return hash ^ hash >>> 15;
    }
}
