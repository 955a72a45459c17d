package korlm.kkma;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * The results of lines as columns, in the layout of Arrow: ends of lists and texts as little-endian
 * 32-bit numbers after a 0, texts in UTF-8. korlm/tokenizers/kkma/process.py reads them.
 */
final class Columns {
    private final Buffer lists = new Buffer(), spanLists = new Buffer();
    private final Strings morphs = new Strings(), tags = new Strings(), statuses = new Strings();
    private final Buffer eojeols = new Buffer(), dropped = new Buffer(), seconds = new Buffer();
    private final Buffer spans = new Buffer();
    private final Buffer[] all = {
        lists, morphs.ends, morphs.bytes, tags.ends, tags.bytes, eojeols, statuses.ends,
        statuses.bytes, dropped, seconds, spanLists, spans,
    };
    /** Sizes of the buffers at the end of the last complete line. */
    private final int[] complete = new int[all.length];

    Columns() {
        lists.add(0);
        spanLists.add(0);
        markComplete();
    }

    /** Adds a token to the current line. */
    void addToken(String morph, String tag, int eojeol) {
        morphs.add(morph);
        tags.add(tag);
        eojeols.add(eojeol);
    }

    /** Adds begin and end of a token to the current line. */
    void addSpan(int begin, int end) {
        spans.add(begin);
        spans.add(end);
    }

    void endLine(String status, int numDropped, long nanos) {
        lists.add(eojeols.size / 4);
        statuses.add(status);
        dropped.add(numDropped);
        seconds.add(Float.floatToIntBits((float) (nanos / 1000 / 1e6)));
        spanLists.add(spans.size / 4);
        markComplete();
    }

    private void markComplete() {
        for (int i = 0; i < all.length; i++) complete[i] = all[i].size;
    }

    /** Removes what was added since the end of the last line. */
    void clearLine() {
        for (int i = 0; i < all.length; i++) all[i].size = complete[i];
    }

    Buffer[] buffers() {
        return all;
    }

    /** The texts of a column. */
    private static final class Strings {
        final Buffer ends = new Buffer(), bytes = new Buffer();

        Strings() {
            ends.add(0);
        }

        void add(String text) {
            bytes.add(text.getBytes(StandardCharsets.UTF_8));
            ends.add(bytes.size);
        }
    }

    /** Bytes that grow. */
    static final class Buffer {
        private ByteBuffer bytes = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
        private int size;

        int size() {
            return size;
        }

        byte[] array() {
            return bytes.array();
        }

        private void add(int value) {
            reserve(4);
            bytes.putInt(size, value);
            size += 4;
        }

        private void add(byte[] values) {
            reserve(values.length);
            System.arraycopy(values, 0, bytes.array(), size, values.length);
            size += values.length;
        }

        private void reserve(int more) {
            int needed = Math.addExact(size, more);
            if (needed <= bytes.capacity()) return;
            int length = (int) Math.min(2L * needed, Integer.MAX_VALUE - 8);
            bytes = ByteBuffer.wrap(Arrays.copyOf(bytes.array(), Math.max(length, needed)))
                    .order(ByteOrder.LITTLE_ENDIAN);
        }
    }
}
