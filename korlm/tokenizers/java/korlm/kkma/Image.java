package korlm.kkma;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;

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

    private Image(Reader in) throws IOException {
        if (in.ints()[0] != VERSION) throw new IOException("wrong version of " + NAME);
        tags = in.longs();
        infos = in.longs();
        sets = in.longs();
        bucketSizes = in.bytes();
        chars = in.chars();
        lengths = in.chars();
        readingSizes = in.chars();
        probabilitySizes = in.chars();
        morphTexts = in.ints();
        morphInfos = in.bytes();
        readings = in.ints();
        probabilityKeys = in.chars();
        probabilities = in.floats();
        spacingKeys = in.ints();
        spacing = in.floats();
        unseenSpacing = in.floats();
        nounChars = in.chars();
        nounValues = in.floats();
        compounds = in.bytes();
    }

    /** Reads the image that lies beside the classes. */
    static Image load() throws IOException {
        try (InputStream in = Image.class.getResourceAsStream(NAME)) {
            if (in == null) throw new IOException("there is no " + NAME);
            return new Image(new Reader(in));
        }
    }

    /** Reads arrays, which begin with their number of bytes, through a small buffer. */
    private static final class Reader {
        private final InputStream in;
        private final ByteBuffer bytes =
                ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);

        Reader(InputStream in) {
            this.in = in;
        }

        /** Returns the next bytes, at most as many as the buffer holds. */
        private ByteBuffer next(int size) throws IOException {
            bytes.clear().limit(Math.min(size, bytes.capacity()));
            fill(bytes.array(), bytes.limit());
            return bytes;
        }

        private void fill(byte[] array, int size) throws IOException {
            if (in.readNBytes(array, 0, size) < size) throw new IOException(NAME + " is incomplete");
        }

        byte[] bytes() throws IOException {
            byte[] result = new byte[next(4).getInt()];
            fill(result, result.length);
            return result;
        }

        char[] chars() throws IOException {
            CharBuffer result = CharBuffer.allocate(next(4).getInt() / Character.BYTES);
            while (result.hasRemaining()) {
                result.put(next(result.remaining() * Character.BYTES).asCharBuffer());
            }
            return result.array();
        }

        int[] ints() throws IOException {
            IntBuffer result = IntBuffer.allocate(next(4).getInt() / Integer.BYTES);
            while (result.hasRemaining()) {
                result.put(next(result.remaining() * Integer.BYTES).asIntBuffer());
            }
            return result.array();
        }

        long[] longs() throws IOException {
            LongBuffer result = LongBuffer.allocate(next(4).getInt() / Long.BYTES);
            while (result.hasRemaining()) {
                result.put(next(result.remaining() * Long.BYTES).asLongBuffer());
            }
            return result.array();
        }

        float[] floats() throws IOException {
            FloatBuffer result = FloatBuffer.allocate(next(4).getInt() / Float.BYTES);
            while (result.hasRemaining()) {
                result.put(next(result.remaining() * Float.BYTES).asFloatBuffer());
            }
            return result.array();
        }
    }
}
