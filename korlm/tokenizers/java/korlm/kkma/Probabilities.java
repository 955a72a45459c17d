package korlm.kkma;

import java.lang.reflect.Field;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.snu.ids.ha.constants.POSTag;
import org.snu.ids.ha.dic.PDDictionary;
import org.snu.ids.ha.dic.SpacingPDDictionary;

/**
 * Kkma's log-probabilities in hash tables with open addressing, read without locks and without
 * building keys. Kkma itself concatenates a string for each lookup in a synchronized table.
 *
 * <p>For unknown text Kkma falls back to the tag alone; the fallback rules are identical.
 */
final class Probabilities {
    private static final int EXP = 0, MORPH = 1, INTRA = 2, INTER = 3;
    /** Below this a morpheme is rare and falls back to its tag. */
    private static final float RARE = -14f;
    private static final float UNSEEN = -18f;
    private static final float UNSEEN_TAG = -9f;
    private static final int NUM_CLASSES = TagClass.SIZE;
    /** Kkma's placeholder for any morpheme in a key. */
    private static final String ANY = "null";

    private final Table table;
    /** Texts in the tables of morphemes. */
    private final TextSet seen;
    /** Probabilities of unseen texts, by the classes of the previous and this morpheme. */
    private final float[] unseenIntra;
    private final float[] unseenInter;
    private final float[] tags;
    private final SpacingTable pairs;

    Probabilities() throws Exception {
        TagClass.of(POSTag.BOS);
        Map<String, Float> exp = privateTable(PDDictionary.class, "LNPR_POS_G_EXP");
        Map<String, Float> morph = privateTable(PDDictionary.class, "LNPR_MORP");
        Map<String, Float> intra = privateTable(PDDictionary.class, "LNPR_POS_G_MORP_INTRA");
        Map<String, Float> inter = privateTable(PDDictionary.class, "LNPR_POS_G_MORP_INTER");
        table = new Table(exp.size() + morph.size() + intra.size() + inter.size());
        HashMap<String, String> texts = new HashMap<>();
        for (Map.Entry<String, Float> entry : exp.entrySet()) {
            String key = entry.getKey();
            int bar = key.indexOf('|');
            put(texts, key.substring(bar + 1), EXP, 0, key.substring(0, bar), entry.getValue());
        }
        exp.clear();
        for (Map.Entry<String, Float> entry : morph.entrySet()) {
            String key = entry.getKey();
            int colon = key.lastIndexOf(':');
            put(texts, key.substring(0, colon), MORPH, 0, key.substring(colon + 1),
                    entry.getValue());
        }
        morph.clear();
        putPairs(texts, intra, INTRA);
        putPairs(texts, inter, INTER);
        seen = new TextSet(texts.keySet());
        unseenIntra = unseen(INTRA);
        unseenInter = unseen(INTER);
        Map<Long, Float> byTag = privateTable(PDDictionary.class, "LNPR_POS");
        tags = new float[TagClass.SIZE];
        Arrays.fill(tags, UNSEEN_TAG);
        for (Map.Entry<Long, Float> entry : byTag.entrySet()) {
            if (isUsed(entry.getKey())) {
                tags[TagClass.of(entry.getKey())] = entry.getValue();
            }
        }
        Map<String, float[]> spacing = privateTable(SpacingPDDictionary.class, "PROB_HASH");
        Field unseen = SpacingPDDictionary.class.getDeclaredField("DEFAULT_PROB");
        unseen.setAccessible(true);
        pairs = new SpacingTable(spacing.size(), unseen.getFloat(null));
        for (Map.Entry<String, float[]> entry : spacing.entrySet()) {
            String key = entry.getKey();
            if (key.length() == 2) pairs.put(key.charAt(0), key.charAt(1), entry.getValue());
        }
        spacing.clear();
    }

    private void putPairs(Map<String, String> texts, Map<String, Float> map, int kind) {
        for (Map.Entry<String, Float> entry : map.entrySet()) {
            String key = entry.getKey();
            int bar = key.indexOf('|');
            int colon = key.lastIndexOf(':');
            long before = Long.parseLong(key.substring(0, bar));
            if (!isUsed(before)) continue;
            put(texts, key.substring(bar + 1, colon), kind, TagClass.of(before),
                    key.substring(colon + 1), entry.getValue());
        }
        map.clear();
    }

    private void put(Map<String, String> texts, String text, int kind, int before, String tag,
            float value) {
        long bits = Long.parseLong(tag);
        if (!isUsed(bits)) return;
        String one = texts.putIfAbsent(text, text);
        table.put(one == null ? text : one, kind, before, TagClass.of(bits), value);
    }

    /** Returns whether lookups use the tag: Kkma replaces a tag by its class first. */
    private static boolean isUsed(long tag) {
        return PDDictionary.getPrTag(tag) == tag;
    }

    /** Returns a private static table of Kkma. */
    @SuppressWarnings("unchecked")
    private static <K, V> Map<K, V> privateTable(Class<?> owner, String name) throws Exception {
        Field field = owner.getDeclaredField(name);
        field.setAccessible(true);
        return (Map<K, V>) field.get(null);
    }

    /** Returns log P(tag | text). */
    float exp(String text, int tagClass) {
        float result = table.get(text, EXP, 0, tagClass);
        return result == result ? result : tags[tagClass];
    }

    /** Returns log P(morpheme | previous tag) within an eojeol. */
    float intra(int before, String text, int tagClass) {
        return morph(INTRA, before, text, tagClass);
    }

    /** Returns log P(morpheme | previous tag) across a blank. */
    float inter(int before, String text, int tagClass) {
        return morph(INTER, before, text, tagClass);
    }

    /** Returns whether any table contains a text. */
    boolean isSeen(String text) {
        return seen.contains(text);
    }

    /** Returns log P(unseen morpheme | previous tag) within an eojeol. */
    float unseenIntra(int before, int tagClass) {
        return unseenIntra[before * NUM_CLASSES + tagClass];
    }

    /** Returns log P(unseen morpheme | previous tag) across a blank. */
    float unseenInter(int before, int tagClass) {
        return unseenInter[before * NUM_CLASSES + tagClass];
    }

    private float[] unseen(int kind) {
        float[] all = new float[NUM_CLASSES * NUM_CLASSES];
        for (int before = 0; before < NUM_CLASSES; before++) {
            for (int tag = 0; tag < NUM_CLASSES; tag++) {
                float result = table.get(ANY, kind, before, tag);
                all[before * NUM_CLASSES + tag] = result == result ? result : UNSEEN;
            }
        }
        return all;
    }

    private float morph(int kind, int before, String text, int tagClass) {
        float result = table.get(text, kind, before, tagClass);
        if (result == result) return result;
        float alone = table.get(text, MORPH, 0, tagClass);
        if (alone != alone || alone < RARE) result = table.get(ANY, kind, before, tagClass);
        return result == result ? result : UNSEEN;
    }

    /** Returns the log-probability of a blank, or of none, between two characters. */
    float spacing(char before, char after, boolean blank) {
        return pairs.get(before, after, blank);
    }

    /** A set of texts. */
    private static final class TextSet {
        private final String[] slots;

        TextSet(java.util.Collection<String> texts) {
            slots = new String[Hash.tableSize(texts.size())];
            for (String text : texts) {
                int at = Hash.of(text) & slots.length - 1;
                while (slots[at] != null) at = at + 1 & slots.length - 1;
                slots[at] = text;
            }
        }

        boolean contains(String text) {
            int at = Hash.of(text) & slots.length - 1;
            for (; slots[at] != null; at = at + 1 & slots.length - 1) {
                if (slots[at].equals(text)) return true;
            }
            return false;
        }
    }

    /** A hash table with open addressing, by text and three small integers. */
    private static final class Table {
        private final String[] texts;
        private final int[] keys;
        private final float[] values;
        private final int mask;

        Table(int entries) {
            int size = Hash.tableSize(entries);
            texts = new String[size];
            keys = new int[size];
            values = new float[size];
            mask = size - 1;
        }

        private int slot(String text, int key) {
            int hash = Hash.of(text) + key * 0x85EBCA6B;
            return (hash ^ hash >>> 15) & mask;
        }

        private static int key(int kind, int before, int tagClass) {
            return (kind << 10 | before) << 10 | tagClass;
        }

        void put(String text, int kind, int before, int tagClass, float value) {
            int key = key(kind, before, tagClass);
            int at = slot(text, key);
            while (texts[at] != null) at = at + 1 & mask;
            texts[at] = text;
            keys[at] = key;
            values[at] = value;
        }

        float get(String text, int kind, int before, int tagClass) {
            int key = key(kind, before, tagClass);
            int at = slot(text, key);
            for (String held; (held = texts[at]) != null; at = at + 1 & mask) {
                if (keys[at] == key && held.equals(text)) return values[at];
            }
            return Float.NaN;
        }
    }

    /** A hash table with open addressing, by two characters, of two values each. */
    private static final class SpacingTable {
        private final int[] keys;
        private final float[] values;
        private final int mask;
        private final float unseen;

        SpacingTable(int entries, float unseen) {
            int size = Hash.tableSize(entries);
            keys = new int[size];
            values = new float[size * 2];
            mask = size - 1;
            this.unseen = unseen;
        }

        private int slot(int key) {
            int hash = key * 0x9E3779B9;
            return (hash ^ hash >>> 15) & mask;
        }

        void put(char before, char after, float[] both) {
            int key = before << 16 | after;
            int at = slot(key);
            while (keys[at] != 0) at = at + 1 & mask;
            keys[at] = key;
            values[2 * at] = both[0];
            values[2 * at + 1] = both[1];
        }

        float get(char before, char after, boolean blank) {
            int key = before << 16 | after;
            for (int at = slot(key); keys[at] != 0; at = at + 1 & mask) {
                if (keys[at] == key) return values[2 * at + (blank ? 0 : 1)];
            }
            return unseen;
        }
    }
}
