package korlm.kkma;

/**
 * Kkma's search for the readings of one word of Hangul.
 *
 * <p>A chart by the end of the prefix: the readings of text[0:i] are the dictionary's, and those of
 * each shorter prefix followed by what the dictionary says of the rest. Where all readings agree on a
 * blank, the word is parted there for good. What Kkma does is kept to the letter; what is new is that
 * readings are never copied, and that an analysis made once is remembered (see Before).
 */
final class Search {
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
        java.util.ArrayList<Expression> parts = new java.util.ArrayList<>();
        String rest = word;
        Expression[] chart = new Expression[rest.length()];
        int end = 1;
        while (end <= rest.length()) {
            Expression whole = lexicon.readings(rest, 0, end);
            Expression.Builder current = new Expression.Builder(whole.text, Expression.NONE);
            for (Candidate candidate : whole.candidates) {
                if (before.takes(candidate)) current.add(candidate);
            }
            for (int middle = 1; middle < end; middle++) {
                Expression head = chart[middle - 1];
                Expression tail = lexicon.readings(rest, middle, end);
                Expression.Builder derived =
                        new Expression.Builder(whole.text, Expression.NONE);
                head.derive(tail, derived, false, lexicon, budget);
                for (int i = 0; i < derived.size; i++) {
                    if (before.takes(derived.items[i])) current.add(derived.items[i]);
                }
                current.prune();
            }
            Expression now = current.build();
            chart[end - 1] = now;
            String head = null;
            if (end < rest.length() && (now.isComplete() || end >= 11) && rest.length() > 5
                    && now.candidates.length > 3 && end > 4) {
                head = now.commonHead();
            }
            if (head != null) {
                int size = head.length();
                String tail = now.text.substring(size);
                parts.add(now.divided(head, tail, lexicon)[0]);
                before = new Before(parts.get(parts.size() - 1));
                rest = rest.substring(size);
                Expression[] tails = new Expression[rest.length()];
                for (int i = 0; i < tail.length(); i++) {
                    tails[i] = chart[size + i].divided(head, tail.substring(0, i + 1), lexicon)[1];
                }
                chart = tails;
                end = tail.length();
            }
            end++;
        }
        parts.add(chart[chart.length - 1]);
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
}
