package korlm.kkma;

import java.util.ArrayList;

/**
 * Kkma's search for the readings of one Hangul word.
 *
 * <p>A chart over prefixes: the readings of text[0:i] are those of the dictionary, and those of
 * each shorter prefix combined with the dictionary's readings of the rest. Where all readings agree
 * on a blank, the word is split there. The algorithm is exactly Kkma's, except that readings are never
 * copied and analyses are cached (see PreviousWord).
 */
final class Search {
    /** Characters of an unknown span that cost as much as comparing a pair of readings. */
    static final int CHARS = 8;

    private final Lexicon lexicon;
    private final AnalysisCache cache;
    private final Budget budget;
    /** Whether the morphemes of derived readings have places. */
    private final boolean track;

    Search(Lexicon lexicon, AnalysisCache cache, Budget budget, boolean track) {
        this.lexicon = lexicon;
        this.cache = cache;
        this.budget = budget;
        this.track = track;
    }

    /**
     * Returns the readings of a word, one expression for each part.
     *
     * @param before the previous word, or null
     * @throws BudgetExceeded when the word is too ambiguous
     */
    Expression[] analyze(String word, Expression before) {
        AnalysisCache.Entry known = cache.find(word, before);
        if (known == null) {
            PreviousWord log = new PreviousWord(before);
            Expression[] result = null;
            budget.reset();
            try {
                result = search(word, log);
            } catch (BudgetExceeded exceeded) {
                // Cached as null.
            }
            cache.put(word, log.queries(), result);
            if (result == null) throw BudgetExceeded.INSTANCE;
            return result;
        }
        if (known.result == null) throw BudgetExceeded.INSTANCE;
        return known.result;
    }

    private Expression[] search(String word, PreviousWord before) {
        ArrayList<Expression> parts = new ArrayList<>();
        // Start of the rest of the word; chart and end are relative to it.
        int from = 0;
        ArrayList<Expression> chart = new ArrayList<>();
        int end = 1;
        while (from + end <= word.length()) {
            Expression whole = readings(word, from, from + end);
            Expression.Builder current = new Expression.Builder(whole.text, Expression.NONE);
            for (Candidate candidate : whole.candidates) {
                if (before.accepts(candidate)) current.add(candidate);
            }
            for (int middle = 1; middle < end; middle++) {
                Expression head = chart.get(middle - 1);
                Expression tail = readings(word, from + middle, from + end);
                Expression.Builder derived =
                        new Expression.Builder(whole.text, Expression.NONE);
                head.derive(tail, derived, track ? middle : -1, false, lexicon, budget);
                for (int i = 0; i < derived.size; i++) {
                    if (before.accepts(derived.items[i])) current.add(derived.items[i]);
                }
                current.prune();
            }
            Expression now = current.build();
            chart.add(now);
            String head = null;
            int length = word.length() - from;
            if (end < length && (now.isComplete() || end >= 11) && length > 5
                    && now.candidates.length > 3 && end > 4) {
                head = now.commonHead();
            }
            if (head != null) {
                int size = head.length();
                String tail = now.text.substring(size);
                // As in Kkma, where the first part is indexed once more from the start of the word.
                parts.add(now.splitAt(head, tail, lexicon, track, -from)[0]);
                before = new PreviousWord(parts.get(parts.size() - 1));
                ArrayList<Expression> tails = new ArrayList<>();
                for (int i = 0; i < tail.length(); i++) {
                    String begin = tail.substring(0, i + 1);
                    Expression tailReadings = chart.get(size + i);
                    // Kkma counts from the start of the word and the end of the tail.
                    tails.add(tailReadings.splitAt(head, begin, lexicon, track, i - from)[1]);
                }
                from += size;
                chart = tails;
                end = tail.length();
            }
            end++;
        }
        parts.add(chart.get(chart.size() - 1));
        Expression[] result = new Expression[parts.size()];
        int begin = 0;
        for (int i = 0; i < result.length; i++) {
            Expression part = parts.get(i);
            if (part.isEmpty() || part.candidates[0].known == 0) {
                Expression.Builder more = new Expression.Builder(part.text, part.candidates);
                Candidate unknown = Candidate.unknown(part.text, lexicon);
                if (track) unknown.places = Places.unknown(-begin, part.text);  // as in Kkma
                more.add(unknown);
                part = more.build();
            }
            result[i] = part;
            begin += part.text.length();
        }
        return result;
    }

    /** Returns the readings of a span and charges for its length. */
    private Expression readings(String word, int begin, int end) {
        budget.charge(1 + (end - begin) / CHARS);
        return lexicon.readings(word, begin, end);
    }
}
