package korlm.kkma;

/**
 * Where the morphemes of a reading are in its text: three numbers for each.
 *
 * <p>The first is Kkma's index, which counts the characters of morphemes, not those of the text; its
 * sentences and nouns depend on it. The others are begin and end in the text. All are relative to
 * the beginning of the text. Only tracking searches compute them.
 */
final class Places {
    static final int INDEX = 0, BEGIN = 1, END = 2, SIZE = 3;

    private Places() {}

    /** Returns the places of a reading's morphemes in its text. */
    static int[] of(Candidate candidate, String text) {
        return candidate.places != null ? candidate.places : aligned(candidate.morphs, text);
    }

    /** Returns the place of an unknown word. */
    static int[] unknown(int index, String text) {
        return new int[] {index, 0, text.length()};
    }

    /**
     * Aligns the morphemes of a dictionary entry. Those written as they are, from the left and from
     * the right, have their own characters; the others share what is left, at least one character
     * (가 and 았 in 갔).
     */
    private static int[] aligned(Morph[] morphs, String text) {
        int size = morphs.length;
        int[] places = new int[SIZE * size];
        int index = 0;
        for (int i = 0; i < size; i++) {
            places[SIZE * i + INDEX] = index;
            index += morphs[i].text.length();
        }
        int first = 0;
        int begin = 0;
        for (; first < size && text.startsWith(morphs[first].text, begin); first++) {
            begin = set(places, first, begin, begin + morphs[first].text.length());
        }
        int last = size;
        int end = text.length();
        while (last > first && end - morphs[last - 1].text.length() > begin
                && text.startsWith(morphs[last - 1].text, end - morphs[last - 1].text.length())) {
            last--;
            set(places, last, end - morphs[last].text.length(), end);
            end -= morphs[last].text.length();
        }
        if (begin == end && begin > 0) begin--;
        for (int i = first; i < last; i++) set(places, i, begin, end);
        return places;
    }

    private static int set(int[] places, int i, int begin, int end) {
        places[SIZE * i + BEGIN] = begin;
        places[SIZE * i + END] = end;
        return end;
    }

    /**
     * Returns the places of two readings combined into {@code size} morphemes: one more than they
     * have together for a blank between them, one less if two of them were merged.
     */
    static int[] joined(Candidate head, String text, Candidate tail, String nextText, int shift,
            int size) {
        int[] before = of(head, text);
        int[] after = of(tail, nextText);
        int[] all = new int[SIZE * size];
        System.arraycopy(before, 0, all, 0, before.length);
        int from = all.length - after.length;
        int skipped = 0;
        if (from < before.length) {
            all[before.length - SIZE + END] = after[END] + shift;
            skipped = SIZE;
        }
        for (int i = skipped; i < after.length; i++) all[from + i] = after[i] + shift;
        return all;
    }

    /** Sets the places of both parts of a reading that was split at a blank; see splitAt. */
    static void split(Candidate whole, String text, int length, Candidate[] parts, int index) {
        int[] places = of(whole, text);
        int[] before = java.util.Arrays.copyOf(places, SIZE * parts[0].morphs.length);
        for (int i = 0; i < parts[0].morphs.length; i++) {
            if (parts[0].morphs[i] instanceof Morph.Blank) continue;
            before[SIZE * i + INDEX] = index;
            index += parts[0].morphs[i].text.length();
        }
        int[] after = java.util.Arrays.copyOfRange(places, before.length + SIZE, places.length);
        for (int i = 0; i < after.length; i++) after[i] -= length;
        parts[0].places = before;
        parts[1].places = after;
    }
}
