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
 * Kkma's log-probabilities, moved into open hash tables that are read without a lock and without
 * writing a key. Kkma glues a string together for each question and asks synchronized tables.
 *
 * <p>Where Kkma knows nothing it falls back on the tag alone; these rules are kept to the letter.
 */
final class Probabilities {
    private static final int EXP = 0, MORPH = 1, INTRA = 2, INTER = 3;
    /** Below this a morpheme is rare, and its tag speaks for it. */
    private static final float RARE = -14f;
    private static final float UNSEEN = -18f;
    private static final float UNSEEN_TAG = -9f;
    private static final int NUM_CLASSES = TagClass.SIZE;
    /** What Kkma writes into a key in the place of a morpheme that is not told. */
    private static final String ANY = "null";

    private final Table table;
    /** Texts that the tables of morphemes hold. */
    private final Texts seen;
    /** What the tables say of a text that they do not hold, by classes before and after. */
    private final float[] unseenIntra;
    private final float[] unseenInter;
    private final float[] tags;
    private final Pairs pairs;

    Probabilities() throws Exception {
        TagClass.of(POSTag.BOS);
        Map<String, Float> exp = taken(PDDictionary.class, "LNPR_POS_G_EXP");
        Map<String, Float> morph = taken(PDDictionary.class, "LNPR_MORP");
        Map<String, Float> intra = taken(PDDictionary.class, "LNPR_POS_G_MORP_INTRA");
        Map<String, Float> inter = taken(PDDictionary.class, "LNPR_POS_G_MORP_INTER");
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
        seen = new Texts(texts.keySet());
        unseenIntra = unseen(INTRA);
        unseenInter = unseen(INTER);
        Map<Long, Float> byTag = taken(PDDictionary.class, "LNPR_POS");
        tags = new float[TagClass.SIZE];
        Arrays.fill(tags, UNSEEN_TAG);
        for (Map.Entry<Long, Float> entry : byTag.entrySet()) {
            if (isAsked(entry.getKey())) {
                tags[TagClass.of(entry.getKey())] = entry.getValue();
            }
        }
        Map<String, float[]> spacing = taken(SpacingPDDictionary.class, "PROB_HASH");
        Field unseen = SpacingPDDictionary.class.getDeclaredField("DEFAULT_PROB");
        unseen.setAccessible(true);
        pairs = new Pairs(spacing.size(), unseen.getFloat(null));
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
            if (!isAsked(before)) continue;
            put(texts, key.substring(bar + 1, colon), kind, TagClass.of(before), key.substring(colon + 1),
                    entry.getValue());
        }
        map.clear();
    }

    private void put(Map<String, String> texts, String text, int kind, int before, String tag,
            float value) {
        long asked = Long.parseLong(tag);
        if (!isAsked(asked)) return;
        String one = texts.putIfAbsent(text, text);
        table.put(one == null ? text : one, kind, before, TagClass.of(asked), value);
    }

    /** Kkma asks for the class of a tag; entries of other tags are never asked for. */
    private static boolean isAsked(long tag) {
        return PDDictionary.getPrTag(tag) == tag;
    }

    /** A table that Kkma keeps to itself. */
    @SuppressWarnings("unchecked")
    private static <K, V> Map<K, V> taken(Class<?> owner, String name) throws Exception {
        Field field = owner.getDeclaredField(name);
        field.setAccessible(true);
        return (Map<K, V>) field.get(null);
    }

    /** log P(tag | text). */
    float exp(String text, int tagClass) {
        float found = table.get(text, EXP, 0, tagClass);
        return found == found ? found : tags[tagClass];
    }

    /** log P(morpheme | tag before), within an eojeol. */
    float intra(int before, String text, int tagClass) {
        return morph(INTRA, before, text, tagClass);
    }

    /** log P(morpheme | tag before), across a blank. */
    float inter(int before, String text, int tagClass) {
        return morph(INTER, before, text, tagClass);
    }

    /** Whether the tables hold anything of a text. */
    boolean isSeen(String text) {
        return seen.contains(text);
    }

    /** log P(any morpheme that no table holds | tag before), within an eojeol. */
    float unseenIntra(int before, int tagClass) {
        return unseenIntra[before * NUM_CLASSES + tagClass];
    }

    /** The same across a blank. */
    float unseenInter(int before, int tagClass) {
        return unseenInter[before * NUM_CLASSES + tagClass];
    }

    private float[] unseen(int kind) {
        float[] all = new float[NUM_CLASSES * NUM_CLASSES];
        for (int before = 0; before < NUM_CLASSES; before++) {
            for (int tag = 0; tag < NUM_CLASSES; tag++) {
                float found = table.get(ANY, kind, before, tag);
                all[before * NUM_CLASSES + tag] = found == found ? found : UNSEEN;
            }
        }
        return all;
    }

    private float morph(int kind, int before, String text, int tagClass) {
        float found = table.get(text, kind, before, tagClass);
        if (found == found) return found;
        float alone = table.get(text, MORPH, 0, tagClass);
        if (alone != alone || alone < RARE) found = table.get(ANY, kind, before, tagClass);
        return found == found ? found : UNSEEN;
    }

    /** log P(blank or none between two characters). */
    float spacing(char before, char after, boolean blank) {
        return pairs.get(before, after, blank);
    }

    /** A set of texts. */
    private static final class Texts {
        private final String[] slots;

        Texts(java.util.Collection<String> texts) {
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

    /** Open addressing by text and three small numbers. */
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

    /** Open addressing by two characters, for the two cases. */
    private static final class Pairs {
        private final int[] keys;
        private final float[] values;
        private final int mask;
        private final float unseen;

        Pairs(int entries, float unseen) {
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
