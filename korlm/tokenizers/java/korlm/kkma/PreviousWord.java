package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.E;

import java.util.Arrays;

/**
 * The previous word, with a log of what the analysis of a word asks about it.
 *
 * <p>A reading is dropped unless some reading of the previous word accepts it. The analysis of a
 * word depends on the previous word only through these queries: if another previous word has the
 * same answers, the analysis is the same and can come from the cache.
 */
final class PreviousWord {
    /** The properties of a reading on which the answer depends, and the answer. */
    static final class Query {
        final long apndbl, conds, excluded, tag;
        final boolean shortens;
        final boolean answer;

        Query(long apndbl, long conds, long excluded, long tag, boolean shortens,
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
    private Query[] log = new Query[16];
    private int size;

    /** Creates a log; {@code expression} is null at the beginning of the text. */
    PreviousWord(Expression expression) {
        this.expression = expression;
    }

    /** Returns the queries so far with their answers. */
    Query[] queries() {
        return Arrays.copyOf(log, size);
    }

    /** Returns whether any reading accepts the candidate, with or without a blank. */
    boolean accepts(Candidate candidate) {
        long apndbl = candidate.apndbl.mask;
        long conds = candidate.conds.mask;
        long excluded = candidate.excluded.mask;
        long tag = candidate.first().tag;
        boolean shortens = candidate.shortens();
        for (int i = 0; i < size; i++) {
            Query known = log[i];
            if (known.apndbl == apndbl && known.conds == conds && known.excluded == excluded
                    && known.tag == tag && known.shortens == shortens) {
                return known.answer;
            }
        }
        boolean answer = answer(expression, apndbl, conds, excluded, tag, shortens);
        if (size == log.length) log = Arrays.copyOf(log, size * 2);
        log[size++] = new Query(apndbl, conds, excluded, tag, shortens, answer);
        return answer;
    }

    private static boolean answer(Expression expression, long apndbl, long conds, long excluded,
            long tag, boolean shortens) {
        if (expression == null || expression.isEmpty()) return true;
        for (Candidate before : expression.candidates) {
            if (before.acceptsAfterBlank(tag, shortens)
                    || before.accepts(apndbl, conds, excluded, (tag & E) > 0)) {
                return true;
            }
        }
        return false;
    }

    /** Returns whether a previous word has the same answers to all queries. */
    static boolean hasSameAnswers(Expression expression, Query[] queries) {
        for (Query query : queries) {
            if (query.answer != answer(expression, query.apndbl, query.conds, query.excluded,
                    query.tag, query.shortens)) {
                return false;
            }
        }
        return true;
    }
}
