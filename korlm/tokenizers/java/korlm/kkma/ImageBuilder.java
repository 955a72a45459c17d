package korlm.kkma;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.snu.ids.ha.constants.POSTag;
import org.snu.ids.ha.dic.KkmaTables;
import org.snu.ids.ha.dic.UNPDDictionary;
import org.snu.ids.ha.ma.CharSetType;
import org.snu.ids.ha.ma.KkmaInternals;
import org.snu.ids.ha.ma.MCandidate;
import org.snu.ids.ha.ma.MExpression;
import org.snu.ids.ha.ma.Morpheme;

/** Writes the file that {@code Image} reads: run by scripts/build_jar.py, not by users. */
final class ImageBuilder {
    /** Numbers of distinct values in the order of their first use. */
    private static final class Numbers<T> extends LinkedHashMap<T, Integer> {
        private static final long serialVersionUID = 1;

        int of(T value) {
            return computeIfAbsent(value, key -> size());
        }
    }

    private final ByteArrayOutputStream out = new ByteArrayOutputStream();
    private final Numbers<Long> infos = new Numbers<>();
    private final Numbers<List<Long>> sets = new Numbers<>();
    /** Morphemes, by text and number of the info. */
    private final Numbers<Map.Entry<String, Integer>> morphs = new Numbers<>();
    private final Numbers<Long> tags = new Numbers<>();
    /** Probabilities of each text, by key. */
    private final HashMap<String, TreeMap<Character, Float>> probabilities = new HashMap<>();

    private ImageBuilder() {}

    /** Writes the image to the path that is the only argument. */
    public static void main(String[] arguments) throws Exception {
        PrintStream console = System.out;
        System.setOut(new PrintStream(OutputStream.nullOutputStream()));
        Files.write(Path.of(arguments[0]), new ImageBuilder().build());
        System.setOut(console);
    }

    private byte[] build() throws Exception {
        Map<String, MExpression> entries = KkmaTables.readings();
        addProbabilities();
        ArrayList<String> texts = new ArrayList<>(new TreeMap<>(entries).keySet());
        HashMap<String, int[]> readings = new HashMap<>();
        Map<String, MExpression> first = KkmaTables.firstReadings();
        for (String text : texts) {
            MExpression before = first.get(text);
            int numBefore = before == null ? 0 : before.size();
            readings.put(text, readings(entries.get(text), numBefore));
        }
        for (Map.Entry<String, Integer> morph : morphs.keySet()) {
            if (!readings.containsKey(morph.getKey())) texts.add(morph.getKey());
        }
        texts.addAll(probabilities.keySet());
        texts = new ArrayList<>(new TreeMap<>(byText(texts)).keySet());
        texts.sort(Comparator.comparingInt(text -> Texts.bucketOf(Hash.of(text))));
        write(Image.VERSION);
        writeLongs(new ArrayList<>(tags.keySet()));
        writeLongs(new ArrayList<>(infos.keySet()));
        ArrayList<Long> flat = new ArrayList<>();
        for (List<Long> set : sets.keySet()) flat.addAll(set);
        writeLongs(flat);
        writeTexts(texts);
        writeSizes(texts, readings);
        Map<String, Integer> numbers = byText(texts);
        int[] morphTexts = new int[morphs.size()];
        byte[] morphInfos = new byte[morphs.size()];
        int at = 0;
        for (Map.Entry<String, Integer> morph : morphs.keySet()) {
            morphTexts[at] = numbers.get(morph.getKey());
            morphInfos[at++] = (byte) fit(morph.getValue(), 0xff);
        }
        write(morphTexts);
        write(morphInfos);
        ArrayList<Integer> all = new ArrayList<>();
        for (String text : texts) {
            for (int value : readings.getOrDefault(text, new int[0])) all.add(value);
        }
        write(all.stream().mapToInt(value -> value).toArray());
        writeProbabilities(texts);
        writeSpacing();
        writeNounChars();
        StringBuilder compounds = new StringBuilder();
        for (Map.Entry<String, String[]> entry : new TreeMap<>(KkmaTables.compounds()).entrySet()) {
            compounds.append(entry.getKey()).append('\t');
            compounds.append(String.join("+", entry.getValue())).append('\n');
        }
        write(compounds.toString().getBytes(StandardCharsets.UTF_8));
        return out.toByteArray();
    }

    private static Map<String, Integer> byText(List<String> texts) {
        HashMap<String, Integer> numbers = new HashMap<>();
        for (String text : texts) numbers.put(text, numbers.size());
        return numbers;
    }

    private static int fit(int value, int max) {
        if (value < 0 || value > max) throw new IllegalStateException(value + " is too large");
        return value;
    }

    private int[] readings(MExpression entry, int numBefore) {
        ArrayList<Integer> result = new ArrayList<>();
        result.add(entry.size() - numBefore);
        for (MCandidate candidate : entry) {
            int size = fit(candidate.size(), 0xff);
            result.add((candidate.getRealDicLen() & 0xff) << 16
                    | (candidate.getCandDicLen() & 0xff) << 8 | size);
            result.add(sets.of(List.of(candidate.getATLEnc(), candidate.getHCLEnc(),
                    candidate.getCCLEnc(), candidate.getECLEnc(),
                    KkmaInternals.endingConditions(candidate))));
            for (Morpheme morpheme : candidate) {
                if (morpheme.getCharSet() != CharSetType.HANGUL) {
                    throw new IllegalStateException(morpheme.getString() + " is not Hangul");
                }
                long info = morpheme.getTagNum() | (morpheme.isComposed() ? Morph.COMPOSED : 0);
                result.add(morphs.of(Map.entry(morpheme.getString(), infos.of(info))));
            }
        }
        return result.stream().mapToInt(value -> value).toArray();
    }

    private int tagClass(long tag) {
        return fit(tags.of(tag), Probabilities.NUM_CLASSES - 1);
    }

    /** Lookups replace a tag by its class first, so that other tags' values are never read. */
    private static boolean isUsed(long tag) {
        return TagClass.classOf(tag) == tag;
    }

    private void addProbabilities() throws Exception {
        tagClass(POSTag.BOS);
        // Sorted, so that equal tables get equal numbers.
        for (Map.Entry<Long, Float> e
                : new TreeMap<>(KkmaTables.<Long>probabilities("LNPR_POS")).entrySet()) {
            if (isUsed(e.getKey())) put("", Probabilities.MORPH, 0, e.getKey(), e.getValue());
        }
        for (Map.Entry<String, Float> e : sorted("LNPR_POS_G_EXP")) {
            int bar = e.getKey().indexOf('|');
            long tag = Long.parseLong(e.getKey().substring(0, bar));
            put(e.getKey().substring(bar + 1), Probabilities.EXP, 0, tag, e.getValue());
        }
        for (Map.Entry<String, Float> e : sorted("LNPR_MORP")) {
            int colon = e.getKey().lastIndexOf(':');
            long tag = Long.parseLong(e.getKey().substring(colon + 1));
            put(e.getKey().substring(0, colon), Probabilities.MORPH, 0, tag, e.getValue());
        }
        addPairs(Probabilities.INTRA, "LNPR_POS_G_MORP_INTRA");
        addPairs(Probabilities.INTER, "LNPR_POS_G_MORP_INTER");
    }

    private static Iterable<Map.Entry<String, Float>> sorted(String name) throws Exception {
        return new TreeMap<>(KkmaTables.<String>probabilities(name)).entrySet();
    }

    private void addPairs(int kind, String name) throws Exception {
        for (Map.Entry<String, Float> e : sorted(name)) {
            int bar = e.getKey().indexOf('|');
            int colon = e.getKey().lastIndexOf(':');
            long before = Long.parseLong(e.getKey().substring(0, bar));
            long tag = Long.parseLong(e.getKey().substring(colon + 1));
            if (isUsed(before)) {
                put(e.getKey().substring(bar + 1, colon), kind, tagClass(before), tag,
                        e.getValue());
            }
        }
    }

    private void put(String text, int kind, int before, long tag, float value) {
        if (!isUsed(tag)) return;
        char key = Probabilities.key(kind, before, tagClass(tag));
        Float old = probabilities.computeIfAbsent(text, t -> new TreeMap<>()).put(key, value);
        if (old != null) throw new IllegalStateException("two probabilities of " + text);
    }

    private void writeTexts(List<String> texts) {
        byte[] sizes = new byte[1 << Image.BUCKET_BITS];
        StringBuilder chars = new StringBuilder();
        char[] lengths = new char[texts.size()];
        for (int i = 0; i < lengths.length; i++) {
            String text = texts.get(i);
            int bucket = Texts.bucketOf(Hash.of(text));
            sizes[bucket] = (byte) fit(sizes[bucket] + 1, Byte.MAX_VALUE);
            chars.append(text);
            lengths[i] = (char) text.length();
        }
        write(sizes);
        write(chars.toString().toCharArray());
        write(lengths);
    }

    private void writeSizes(List<String> texts, Map<String, int[]> readings) {
        char[] readingSizes = new char[texts.size()];
        char[] probabilitySizes = new char[texts.size()];
        for (int i = 0; i < readingSizes.length; i++) {
            int[] values = readings.get(texts.get(i));
            if (values != null) readingSizes[i] = (char) fit(values.length, Character.MAX_VALUE);
            TreeMap<Character, Float> own = probabilities.get(texts.get(i));
            if (own != null) probabilitySizes[i] = (char) fit(own.size(), Character.MAX_VALUE);
        }
        write(readingSizes);
        write(probabilitySizes);
    }

    private void writeProbabilities(List<String> texts) {
        StringBuilder keys = new StringBuilder();
        ArrayList<Float> values = new ArrayList<>();
        for (String text : texts) {
            if (!probabilities.containsKey(text)) continue;
            probabilities.get(text).forEach((key, value) -> {
                keys.append((char) key);
                values.add(value);
            });
        }
        write(keys.toString().toCharArray());
        write(values);
    }

    private void writeSpacing() throws Exception {
        Map<String, float[]> pairs = new TreeMap<>(KkmaTables.spacing());
        int[] keys = new int[Hash.tableSize(pairs.size())];
        Float[] values = new Float[keys.length * 2];
        java.util.Arrays.fill(values, 0f);
        for (Map.Entry<String, float[]> pair : pairs.entrySet()) {
            if (pair.getKey().length() != 2) continue;
            int key = pair.getKey().charAt(0) << 16 | pair.getKey().charAt(1);
            int at = Probabilities.spacingSlot(key) & keys.length - 1;
            while (keys[at] != 0) at = at + 1 & keys.length - 1;
            keys[at] = key;
            values[2 * at] = pair.getValue()[0];
            values[2 * at + 1] = pair.getValue()[1];
        }
        write(keys);
        write(List.of(values));
        write(List.of(KkmaTables.unseenSpacing()));
    }

    private void writeNounChars() {
        StringBuilder chars = new StringBuilder();
        ArrayList<Float> values = new ArrayList<>();
        for (int c = 0; c <= Character.MAX_VALUE; c++) {
            float value = UNPDDictionary.getProb(String.valueOf((char) c));
            if (value == Lexicon.UNSEEN_CHAR) continue;
            chars.append((char) c);
            values.add(value);
        }
        write(chars.toString().toCharArray());
        write(values);
    }

    private void write(int... values) {
        ByteBuffer bytes = buffer(values.length * Integer.BYTES);
        for (int value : values) bytes.putInt(value);
        write(bytes.array());
    }

    private void write(char[] values) {
        ByteBuffer bytes = buffer(values.length * Character.BYTES);
        for (char value : values) bytes.putChar(value);
        write(bytes.array());
    }

    private void write(List<Float> values) {
        ByteBuffer bytes = buffer(values.size() * Float.BYTES);
        for (float value : values) bytes.putFloat(value);
        write(bytes.array());
    }

    private void writeLongs(List<Long> values) {
        ByteBuffer bytes = buffer(values.size() * Long.BYTES);
        for (long value : values) bytes.putLong(value);
        write(bytes.array());
    }

    private void write(byte[] bytes) {
        try {
            out.write(buffer(Integer.BYTES).putInt(bytes.length).array());
            out.write(bytes);
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    private static ByteBuffer buffer(int size) {
        return ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
    }
}
