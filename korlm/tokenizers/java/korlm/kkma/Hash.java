package korlm.kkma;

/**
 * Hashes of Korean text. String.hashCode gives thousands of pairs of syllables the same number: its
 * factor of 31 is small beside the 11,172 syllables that a character may be.
 */
final class Hash {
    private Hash() {}

    static int of(String text) {
        return of(text, 0, text.length());
    }

    static int of(String text, int begin, int end) {
        int hash = 0;
        for (int i = begin; i < end; i++) hash = with(hash, text.charAt(i));
        return hash;
    }

    /** The hash of a text and one more character. */
    static int with(int hash, char c) {
        hash = (hash + c) * 0x9E3779B1;
        return hash ^ hash >>> 15;
    }

    /** Size of an open table that is at most half full. */
    static int tableSize(int entries) {
        return Integer.highestOneBit(Math.max(1, entries)) * 4;
    }
}
