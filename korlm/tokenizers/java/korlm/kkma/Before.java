package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.E;

import java.util.Arrays;

/**
 * The word before the one that is analysed, as far as the analysis asks about it.
 *
 * <p>A reading is dropped unless some reading of the word before takes it. So the analysis of a word
 * depends on the word before through the answers to these questions alone; they are written down,
 * and wherever they are answered alike the analysis is the same and need not be done again.
 */
final class Before {
    /** What the answer depends on in a reading. */
    static final class Question {
        final long apndbl, conds, excluded, tag;
        final boolean shortens;
        final boolean answer;

        Question(long apndbl, long conds, long excluded, long tag, boolean shortens,
                boolean answer) {
            this.apndbl = apndbl;
            this.conds = conds;
            this.excluded = excluded;
            this.tag = tag;
            this.shortens = shortens;
            this.answer = answer;
        }
    }

    private final Expression expression;
    private Question[] asked = new Question[16];
    private int size;

    /** {@code expression} null: the beginning of the text. */
    Before(Expression expression) {
        this.expression = expression;
    }

    /** The questions so far, with their answers. */
    Question[] asked() {
        return Arrays.copyOf(asked, size);
    }

    /** Whether any reading of the word before takes the candidate, with a blank or without. */
    boolean takes(Candidate candidate) {
        long apndbl = candidate.apndbl.mask;
        long conds = candidate.conds.mask;
        long excluded = candidate.excluded.mask;
        long tag = candidate.first().tag;
        boolean shortens = candidate.shortens();
        for (int i = 0; i < size; i++) {
            Question known = asked[i];
            if (known.apndbl == apndbl && known.conds == conds && known.excluded == excluded
                    && known.tag == tag && known.shortens == shortens) {
                return known.answer;
            }
        }
        boolean answer = answer(expression, apndbl, conds, excluded, tag, shortens);
        if (size == asked.length) asked = Arrays.copyOf(asked, size * 2);
        asked[size++] = new Question(apndbl, conds, excluded, tag, shortens, answer);
        return answer;
    }

    private static boolean answer(Expression expression, long apndbl, long conds, long excluded,
            long tag, boolean shortens) {
        if (expression == null || expression.isEmpty()) return true;
        for (Candidate before : expression.candidates) {
            if (before.takesAfterBlank(tag, shortens)
                    || before.takes(apndbl, conds, excluded, (tag & E) > 0)) {
                return true;
            }
        }
        return false;
    }

    /** Whether this word before answers all the questions as another one did. */
    static boolean answersAlike(Expression expression, Question[] questions) {
        for (Question asked : questions) {
            if (asked.answer != answer(expression, asked.apndbl, asked.conds, asked.excluded,
                    asked.tag, asked.shortens)) {
                return false;
            }
        }
        return true;
    }
}
