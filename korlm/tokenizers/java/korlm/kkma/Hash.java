package korlm.kkma;

/**
 * Hashes of Korean text. String.hashCode is the same for thousands of pairs of syllables, since its
 * factor of 31 is small compared to the 11,172 syllables.
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

    /** Returns the hash of a text extended by one character. */
    static int with(int hash, char c) {
        hash = (hash + c) * 0x9E3779B1;
        return hash ^ hash >>> 15;
    }

    /** Returns the size of an open-addressing table that is at most half full. */
    static int tableSize(int entries) {
        return Integer.highestOneBit(Math.max(1, entries)) * 4;
    }
}
