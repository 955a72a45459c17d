package korlm.kkma;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/**
 * Kkma's dictionary and probabilities as flat arrays, read from the jar in one sweep.
 *
 * <p>Kkma parses 33 MB of text into millions of objects. Here readings become objects when their
 * text is looked up for the first time. {@code ImageBuilder} makes the file from Kkma's own tables.
 *
 * <p>All texts of dictionary and probabilities have a number. They are sorted by the low bits of
 * their hash, so that a text is found in a list of about one.
 */
final class Image {
    static final String NAME = "dictionary.bin";
    static final int VERSION = 1;
    static final int BUCKET_BITS = 19;

    /** Tags in the order of their class numbers (see TagClass). */
    final long[] tags;
    /** Tag bits of morphemes; apndbl, having, conds, excluded and ending of readings. */
    final long[] infos, sets;
    /** For each bucket, the number of its texts. */
    final byte[] bucketSizes;
    /** Of all texts: characters, lengths, numbers of ints in readings, numbers of probabilities. */
    final char[] chars, lengths, readingSizes, probabilitySizes;
    /** Text number and info of each morpheme. */
    final int[] morphTexts;
    final byte[] morphInfos;
    /**
     * Readings of the texts in the dictionary: the number of those that Kkma loads after user words,
     * then for each reading known << 16 | perhaps << 8 | number of morphemes, its set, morphemes.
     */
    final int[] readings;
    /** Keys of probabilities (Probabilities.key), sorted for each text, and values. */
    final char[] probabilityKeys;
    final float[] probabilities;
    /** An open-addressing table of pairs of characters, and two values for each. */
    final int[] spacingKeys;
    final float[] spacing;
    /** The value of pairs that the table lacks. */
    final float[] unseenSpacing;
    /** Characters of unknown nouns and their values. */
    final char[] nounChars;
    final float[] nounValues;
    /** Lines of a compound noun, a tab, and its parts joined by plus signs. */
    final byte[] compounds;

    private Image(InputStream in) throws IOException {
        if (ints(in)[0] != VERSION) throw new IOException("wrong version of " + NAME);
        tags = longs(in);
        infos = longs(in);
        sets = longs(in);
        bucketSizes = bytes(in);
        chars = chars(in);
        lengths = chars(in);
        readingSizes = chars(in);
        probabilitySizes = chars(in);
        morphTexts = ints(in);
        morphInfos = bytes(in);
        readings = ints(in);
        probabilityKeys = chars(in);
        probabilities = floats(in);
        spacingKeys = ints(in);
        spacing = floats(in);
        unseenSpacing = floats(in);
        nounChars = chars(in);
        nounValues = floats(in);
        compounds = bytes(in);
    }

    /** Reads the image that lies beside the classes. */
    static Image load() throws IOException {
        try (InputStream in = Image.class.getResourceAsStream(NAME)) {
            if (in == null) throw new IOException("there is no " + NAME);
            return new Image(in);
        }
    }

    /** Returns the next array's bytes, which begin with their number. */
    private static ByteBuffer next(InputStream in) throws IOException {
        byte[] size = in.readNBytes(4);
        int length = ByteBuffer.wrap(size).order(ByteOrder.LITTLE_ENDIAN).getInt();
        byte[] bytes = in.readNBytes(length);
        if (bytes.length < length) throw new IOException(NAME + " is incomplete");
        return ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    }

    private static byte[] bytes(InputStream in) throws IOException {
        return next(in).array();
    }

    private static char[] chars(InputStream in) throws IOException {
        ByteBuffer bytes = next(in);
        char[] result = new char[bytes.capacity() / Character.BYTES];
        bytes.asCharBuffer().get(result);
        return result;
    }

    private static int[] ints(InputStream in) throws IOException {
        ByteBuffer bytes = next(in);
        int[] result = new int[bytes.capacity() / Integer.BYTES];
        bytes.asIntBuffer().get(result);
        return result;
    }

    private static long[] longs(InputStream in) throws IOException {
        ByteBuffer bytes = next(in);
        long[] result = new long[bytes.capacity() / Long.BYTES];
        bytes.asLongBuffer().get(result);
        return result;
    }

    private static float[] floats(InputStream in) throws IOException {
        ByteBuffer bytes = next(in);
        float[] result = new float[bytes.capacity() / Float.BYTES];
        bytes.asFloatBuffer().get(result);
        return result;
    }
}
