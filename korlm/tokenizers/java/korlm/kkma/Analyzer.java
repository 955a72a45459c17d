package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.snu.ids.ha.constants.Condition;
import org.snu.ids.ha.ma.CharSetType;

/** The analysis of one line: words, their readings, and the best path through these. */
final class Analyzer {
    /** Syllables of the pieces into which a word is cut that is over budget; then each half. */
    private static final int PIECE = 8;

    /** A stretch of the line with its readings: a word, part of one, or several made one. */
    private static final class Unit {
        Expression expression;
        /** Where its tokens begin in the line, the first one first (see Candidate.joints). */
        int[] begins;

        Unit(Expression expression, int... begins) {
            this.expression = expression;
            this.begins = begins;
        }

        int numChars() {
            // Blanks that the first reading puts into the text count, as in Kkma.
            return expression.text.length() + expression.candidates[0].cuts.length;
        }

        boolean isForeign() {
            return expression.candidates.length == 1 && expression.candidates[0].isForeign();
        }

        boolean mayJoin() {
            if (expression.candidates.length != 1) return false;
            Candidate only = expression.candidates[0];
            CharSetType kind = only.first().charSet;
            return only.morphs.length == 1 && (kind == CharSetType.NUMBER
                    || kind == CharSetType.ENGLISH || kind == CharSetType.COMBINED);
        }
    }

    private final Lexicon lexicon;
    private final Search search;
    private final Budget budget;
    /** Whether a word over budget is cut into pieces; if not, it is left as it is. */
    private final boolean cut;
    /** Of the last line: words that were cut, and words left as they were. */
    int numCut, numGivenUp;

    Analyzer(Lexicon lexicon, Memory memory, long limit, boolean cut) {
        this.lexicon = lexicon;
        this.cut = cut;
        this.budget = new Budget(limit);
        this.search = new Search(lexicon, memory, budget);
    }

    /** What receives the morphemes of a line, with the place of their token in it. */
    interface Sink {
        void add(Morph morph, int begin);
    }

    /**
     * Analyses one line.
     *
     * @param trimmed the line as String.trim leaves it, not empty
     * @return the words that were found, for counting what got lost
     */
    List<Words.Word> analyze(String trimmed, Sink sink) throws Exception {
        numCut = numGivenUp = 0;
        List<Words.Word> words = Words.of(trimmed);
        ArrayList<Unit> units = new ArrayList<>();
        for (Words.Word word : words) {
            if (word.kind == CharSetType.SPACE) continue;
            if (word.kind == CharSetType.HANGUL) {
                addHangul(units, word.text, word.begin);
            } else {
                Candidate only = lexicon.foreign(word.text, word.kind);
                addUnit(units, new Expression(word.text, only), word.begin);
            }
        }
        if (units.isEmpty()) throw new IllegalArgumentException("no words");
        joinUnits(units);
        dropSuffixReadings(units.get(0));
        Candidate[] best = bestPath(units);
        for (int u = 0; u < best.length; u++) {
            Candidate candidate = best[u];
            int token = 0;
            int[] begins = units.get(u).begins;
            for (int i = 0; i < candidate.morphs.length; i++) {
                while (candidate.joints != null && token < candidate.joints.length
                        && candidate.joints[token] <= i) {
                    token++;
                }
                Morph morph = candidate.morphs[i];
                if (!(morph instanceof Morph.Blank)) sink.add(morph, begins[token]);
            }
        }
        return words;
    }

    private void addHangul(ArrayList<Unit> units, String word, int begin) {
        Expression before = units.isEmpty() ? null : units.get(units.size() - 1).expression;
        Expression[] parts;
        try {
            parts = search.analyze(word, before);
        } catch (Budget.Spent spent) {
            addPieces(units, word, begin);
            return;
        }
        int at = begin;
        for (Expression part : parts) {
            addUnit(units, part, at);
            at += part.text.length();
        }
    }

    /** A word over budget: its pieces, as if it had blanks; a syllable that is too much is left. */
    private void addPieces(ArrayList<Unit> units, String word, int begin) {
        int length = word.length();
        if (!cut || length == 1) {
            numGivenUp++;
            addUnit(units, new Expression(word, Candidate.unknown(word, lexicon)), begin);
            return;
        }
        numCut++;
        int size = length > PIECE ? PIECE : (length + 1) / 2;
        for (int at = 0; at < length; at += size) {
            addHangul(units, word.substring(at, Math.min(length, at + size)), begin + at);
        }
    }

    private static void addUnit(ArrayList<Unit> units, Expression expression, int begin) {
        if (!units.isEmpty()) {
            Unit last = units.get(units.size() - 1);
            last.expression = last.expression.prunedWithNext(expression);
        }
        units.add(new Unit(expression, begin));
    }

    /** Makes one unit of two where Kkma does: numbers with what follows, torn endings. */
    private void joinUnits(ArrayList<Unit> units) {
        // Written into the same list, behind the place that is read: what is joined moves up.
        int size = 1;
        budget.begin();
        for (int i = 1; i < units.size(); i++) {
            Unit unit = units.get(i);
            Unit last = units.get(size - 1);
            boolean joins = false;
            try {
                joins = joins(last, unit);
            } catch (Budget.Spent spent) {
                numCut++;
            }
            if (joins) continue;
            units.set(size++, unit);
            budget.begin();
        }
        units.subList(size, units.size()).clear();
    }

    private boolean joins(Unit last, Unit unit) {
        if (unit.expression.isComplete() && !last.mayJoin() && !unit.mayJoin()) return false;
        // What is joined already is copied: without this, a long chain would cost its square.
        int copied = last.expression.text.length() + last.begins.length;
        budget.spend((long) last.expression.candidates.length * (1 + copied / Search.CHARS));
        Expression joint;
        if (last.isForeign()) {
            if (last.begins[0] + last.numChars() != unit.begins[0]) return false;
            if (unit.isForeign()) {
                joint = new Expression(last.expression.text + unit.expression.text,
                        last.expression.candidates[0].with(unit.expression.candidates[0]));
            } else {
                joint = derived(last, unit);
            }
        } else {
            joint = derived(last, unit);
            if (joint.isEmpty() || joint.candidates[0].cuts.length > 0) return false;
        }
        last.expression = joint;
        int size = last.begins.length;
        last.begins = Arrays.copyOf(last.begins, size + unit.begins.length);
        System.arraycopy(unit.begins, 0, last.begins, size, unit.begins.length);
        return true;
    }

    private Expression derived(Unit last, Unit unit) {
        return last.expression.followedBy(unit.expression, true, lexicon, budget);
    }

    /** A line does not begin with a particle, an ending or a suffix, if anything else will do. */
    private static void dropSuffixReadings(Unit first) {
        Candidate[] candidates = first.expression.candidates;
        ArrayList<Candidate> kept = new ArrayList<>(Arrays.asList(candidates));
        for (int i = 0; i < kept.size() && kept.size() > 1; i++) {
            Candidate candidate = kept.get(i);
            long asked = candidate.conds.mask;
            if (asked != 0 && asked != Condition.ENG || candidate.first().isTagOf(J | E | XS)) {
                kept.remove(i--);
            }
        }
        if (kept.size() < candidates.length) {
            first.expression = new Expression(first.expression.text, kept.toArray(new Candidate[0]));
        }
    }

    /** Viterbi: most characters explained by the dictionary, then the highest probability. */
    private Candidate[] bestPath(List<Unit> units) {
        int size = units.size();
        int[][] from = new int[size][];
        int[] explained = null;
        float[] spacing = null;
        float[] tagging = null;
        Expression before = null;
        for (int u = 0; u < size; u++) {
            Expression now = units.get(u).expression;
            int count = now.candidates.length;
            if (count == 0) throw new IllegalStateException("no reading");
            int[] nowExplained = new int[count];
            float[] nowSpacing = new float[count];
            float[] nowTagging = new float[count];
            from[u] = new int[count];
            float together = 0;
            float apart = 0;
            if (before != null) {
                char last = before.text.charAt(before.text.length() - 1);
                char first = now.text.charAt(0);
                together = lexicon.probabilities.spacing(last, first, false);
                apart = lexicon.probabilities.spacing(last, first, true);
            }
            for (int c = 0; c < count; c++) {
                Candidate candidate = now.candidates[c];
                Morph first = candidate.first();
                if (before == null) {
                    nowExplained[c] = candidate.explained();
                    nowSpacing[c] = candidate.spacing;
                    nowTagging[c] = first.inter(BEGINNING, lexicon.probabilities) + candidate.tagging;
                    continue;
                }
                for (int b = 0; b < before.candidates.length; b++) {
                    Morph last = before.candidates[b].last();
                    boolean ends = last.isTagOf(EF) && first.isTagOf(SF);
                    int sum = explained[b] + candidate.explained();
                    float space = spacing[b] + candidate.spacing;
                    space += ends ? together : apart;
                    float tag = tagging[b] + candidate.tagging;
                    tag += ends ? first.intra(last.tagClass, lexicon.probabilities)
                            : first.inter(last.tagClass, lexicon.probabilities);
                    if (b == 0 || sum > nowExplained[c]
                            || sum == nowExplained[c]
                                    && space + tag > nowSpacing[c] + nowTagging[c]) {
                        from[u][c] = b;
                        nowExplained[c] = sum;
                        nowSpacing[c] = space;
                        nowTagging[c] = tag;
                    }
                }
            }
            before = now;
            explained = nowExplained;
            spacing = nowSpacing;
            tagging = nowTagging;
        }
        // Kkma means to sort the last readings; its comparator calls all equal: the first one wins.
        Candidate[] best = new Candidate[size];
        int at = 0;
        for (int u = size - 1; u >= 0; u--) {
            best[u] = units.get(u).expression.candidates[at];
            at = from[u][at];
        }
        return best;
    }

    private static final int BEGINNING = TagClass.of(BOS);
}
