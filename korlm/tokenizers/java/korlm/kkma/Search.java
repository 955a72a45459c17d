package korlm.kkma;

import java.util.ArrayList;

/**
 * Kkma's search for the readings of one word of Hangul.
 *
 * <p>A chart by the end of the prefix: the readings of text[0:i] are the dictionary's, and those of
 * each shorter prefix followed by what the dictionary says of the rest. Where all readings agree on a
 * blank, the word is parted there for good. What Kkma does is kept to the letter; what is new is that
 * readings are never copied, and that an analysis made once is remembered (see Before).
 */
final class Search {
    /** Characters of an unknown stretch that cost as much as a pair of readings looked at. */
    static final int CHARS = 8;

    private final Lexicon lexicon;
    private final Memory memory;
    private final Budget budget;

    Search(Lexicon lexicon, Memory memory, Budget budget) {
        this.lexicon = lexicon;
        this.memory = memory;
        this.budget = budget;
    }

    /**
     * The readings of a word; more than one stretch where it was parted.
     *
     * @param before the word before, or null
     * @throws Budget.Spent when the word is too ambiguous
     */
    Expression[] analyze(String word, Expression before) {
        Memory.Entry known = memory.find(word, before);
        if (known == null) {
            Before asked = new Before(before);
            Expression[] found = null;
            budget.begin();
            try {
                found = search(word, asked);
            } catch (Budget.Spent spent) {
                // Known to be too much from now on.
            }
            memory.put(word, asked.asked(), found);
            if (found == null) throw Budget.Spent.IT;
            return found;
        }
        if (known.found == null) throw Budget.Spent.IT;
        return known.found;
    }

    private Expression[] search(String word, Before before) {
        ArrayList<Expression> parts = new ArrayList<>();
        // The part of the word from here on is still to be read; chart and end count from here.
        int from = 0;
        ArrayList<Expression> chart = new ArrayList<>();
        int end = 1;
        while (from + end <= word.length()) {
            Expression whole = readings(word, from, from + end);
            Expression.Builder current = new Expression.Builder(whole.text, Expression.NONE);
            for (Candidate candidate : whole.candidates) {
                if (before.takes(candidate)) current.add(candidate);
            }
            for (int middle = 1; middle < end; middle++) {
                Expression head = chart.get(middle - 1);
                Expression tail = readings(word, from + middle, from + end);
                Expression.Builder derived =
                        new Expression.Builder(whole.text, Expression.NONE);
                head.derive(tail, derived, false, lexicon, budget);
                for (int i = 0; i < derived.size; i++) {
                    if (before.takes(derived.items[i])) current.add(derived.items[i]);
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
                parts.add(now.divided(head, tail, lexicon)[0]);
                before = new Before(parts.get(parts.size() - 1));
                from += size;
                ArrayList<Expression> tails = new ArrayList<>();
                for (int i = 0; i < tail.length(); i++) {
                    String begin = tail.substring(0, i + 1);
                    tails.add(chart.get(size + i).divided(head, begin, lexicon)[1]);
                }
                chart = tails;
                end = tail.length();
            }
            end++;
        }
        parts.add(chart.get(chart.size() - 1));
        Expression[] found = new Expression[parts.size()];
        for (int i = 0; i < found.length; i++) {
            Expression part = parts.get(i);
            if (part.isEmpty() || part.candidates[0].known == 0) {
                Expression.Builder more = new Expression.Builder(part.text, part.candidates);
                more.add(Candidate.unknown(part.text, lexicon));
                part = more.build();
            }
            found[i] = part;
        }
        return found;
    }

    /** The readings of a stretch, paid for by its length: long ones are not in the dictionary. */
    private Expression readings(String word, int begin, int end) {
        budget.spend(1 + (end - begin) / CHARS);
        return lexicon.readings(word, begin, end);
    }
}
