package org.snu.ids.ha.dic;

import java.lang.reflect.Field;
import java.util.Map;
import org.snu.ids.ha.ma.MExpression;

/** Kkma's private tables, for building the image. */
public final class KkmaTables {
    private KkmaTables() {}

    /** The part of the dictionary that is loaded before the words that users add. */
    private static final class Head extends Dictionary {
        @Override
        protected void loadDic() throws Exception {
            for (String name : new String[] {"noun", "verb", "simple", "person"}) {
                loadSimple("/dic/" + name + ".dic");
            }
        }
    }

    /** Returns the readings of all texts. */
    public static Map<String, MExpression> readings() throws Exception {
        return table(Dictionary.class, "table", Dictionary.getInstance());
    }

    /** Returns the readings that Kkma loads before those of kcc.dic and raw.dic. */
    public static Map<String, MExpression> firstReadings() throws Exception {
        return table(Dictionary.class, "table", new Head());
    }

    /** Returns the parts of compound nouns. */
    public static Map<String, String[]> compounds() throws Exception {
        return table(Dictionary.class, "compNounTable", Dictionary.getInstance());
    }

    /** Returns a table of PDDictionary. */
    public static <K> Map<K, Float> probabilities(String name) throws Exception {
        return table(PDDictionary.class, name, null);
    }

    /** Returns the log-probabilities of a blank, and of none, between two characters. */
    public static Map<String, float[]> spacing() throws Exception {
        return table(SpacingPDDictionary.class, "PROB_HASH", null);
    }

    /** Returns the value of pairs of characters that {@code spacing} lacks. */
    public static float unseenSpacing() throws Exception {
        Field field = SpacingPDDictionary.class.getDeclaredField("DEFAULT_PROB");
        field.setAccessible(true);
        return field.getFloat(null);
    }

    @SuppressWarnings("unchecked")
    private static <T> T table(Class<?> owner, String name, Object object) throws Exception {
        Field field = owner.getDeclaredField(name);
        field.setAccessible(true);
        return (T) field.get(object);
    }
}
