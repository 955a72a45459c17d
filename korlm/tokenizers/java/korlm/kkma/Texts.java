package korlm.kkma;

/** The texts of an image by their numbers, and the other way round. */
final class Texts {
    private static final int MASK = (1 << Image.BUCKET_BITS) - 1;

    private final char[] chars;
    /** Begin of each text in {@code chars}, and one end. */
    private final int[] begins;
    /** First text of each bucket, and one end. */
    private final int[] buckets;

    Texts(Image image) {
        chars = image.chars;
        begins = sums(image.lengths);
        buckets = new int[image.bucketSizes.length + 1];
        for (int i = 0; i < image.bucketSizes.length; i++) {
            buckets[i + 1] = buckets[i] + image.bucketSizes[i];
        }
    }

    /** Returns the begin of each of consecutive lists of these sizes, and the end of the last. */
    static int[] sums(char[] sizes) {
        int[] sums = new int[sizes.length + 1];
        for (int i = 0; i < sizes.length; i++) sums[i + 1] = sums[i] + sizes[i];
        return sums;
    }

    static int bucketOf(int hash) {
        return hash & MASK;
    }

    int size() {
        return begins.length - 1;
    }

    /** Returns the number of a text; -1: unknown. */
    int find(String text) {
        return find(text, 0, text.length(), Hash.of(text));
    }

    /** Returns the number of a part of a text with this hash; -1: unknown. */
    int find(String text, int begin, int end, int hash) {
        int bucket = bucketOf(hash);
        for (int i = buckets[bucket]; i < buckets[bucket + 1]; i++) {
            if (begins[i + 1] - begins[i] == end - begin && isAt(begins[i], text, begin, end)) {
                return i;
            }
        }
        return -1;
    }

    private boolean isAt(int at, String text, int begin, int end) {
        for (int i = begin; i < end; i++) {
            if (chars[at++] != text.charAt(i)) return false;
        }
        return true;
    }

    String get(int number) {
        return new String(chars, begins[number], begins[number + 1] - begins[number]);
    }
}
