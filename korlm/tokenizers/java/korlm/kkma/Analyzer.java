package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.snu.ids.ha.constants.Condition;
import org.snu.ids.ha.ma.CharSetType;

/** Analyzes one line: splits it into words, and returns the best path through their readings. */
final class Analyzer {
    /** Syllables per piece of a word over budget; a piece over budget is halved. */
    private static final int PIECE = 8;

    /** A span of the line with its readings: a word, a part of one, or several joined words. */
    private static final class Unit {
        Expression expression;
        /** Offsets of its tokens in the line, in order (see Candidate.tokenStarts). */
        int[] begins;

        Unit(Expression expression, int... begins) {
            this.expression = expression;
            this.begins = begins;
        }

        int numChars() {
            // As in Kkma, blanks inserted by the first reading count.
            return expression.text.length() + expression.candidates[0].cuts.length;
        }

        boolean isForeign() {
            return expression.candidates.length == 1 && expression.candidates[0].isForeign();
        }

        boolean isJoinable() {
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
    /** Whether a word over budget is cut into pieces; otherwise it becomes one unknown token. */
    private final boolean cut;
    /** Whether morphemes have places. */
    private final boolean track;
    /** Of the last line: numbers of words that were cut, and that were left unanalyzed. */
    int numCut, numGivenUp;

    Analyzer(Lexicon lexicon, AnalysisCache cache, long limit, boolean cut, boolean track) {
        this.lexicon = lexicon;
        this.cut = cut;
        this.track = track;
        this.budget = new Budget(limit);
        this.search = new Search(lexicon, cache, budget, track);
    }

    /** Receives the morphemes of a line with the offsets of their tokens. */
    interface Sink {
        void add(Morph morph, int begin);
    }

    /**
     * Analyzes one line.
     *
     * @param trimmed the line as String.trim leaves it, not empty
     * @return the words of the line, for counting lost characters
     */
    List<WordSplitter.Word> analyze(String trimmed, Sink sink) throws Exception {
        List<WordSplitter.Word> words = WordSplitter.split(trimmed);
        ArrayList<Unit> units = new ArrayList<>();
        Candidate[] best = bestReadings(words, units);
        for (int u = 0; u < best.length; u++) {
            Candidate candidate = best[u];
            int token = 0;
            int[] begins = units.get(u).begins;
            for (int i = 0; i < candidate.morphs.length; i++) {
                while (candidate.tokenStarts != null && token < candidate.tokenStarts.length
                        && candidate.tokenStarts[token] <= i) {
                    token++;
                }
                Morph morph = candidate.morphs[i];
                if (!(morph instanceof Morph.Blank)) sink.add(morph, begins[token]);
            }
        }
        return words;
    }

    /** Returns the morphemes of a line, not empty, with their places, grouped as by Kkma. */
    List<TokenGroup> groups(String trimmed) throws Exception {
        ArrayList<Unit> units = new ArrayList<>();
        Candidate[] best = bestReadings(WordSplitter.split(trimmed), units);
        ArrayList<TokenGroup> groups = new ArrayList<>();
        for (int u = 0; u < best.length; u++) {
            Unit unit = units.get(u);
            TokenGroup.addAll(groups, best[u], unit.expression.text, unit.begins[0]);
        }
        return groups;
    }

    /** Fills {@code units} and returns the reading of each on the best path. */
    private Candidate[] bestReadings(List<WordSplitter.Word> words, ArrayList<Unit> units)
            throws Exception {
        numCut = numGivenUp = 0;
        for (WordSplitter.Word word : words) {
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
        return bestPath(units);
    }

    private void addHangul(ArrayList<Unit> units, String word, int begin) {
        Expression before = units.isEmpty() ? null : units.get(units.size() - 1).expression;
        Expression[] parts;
        try {
            parts = search.analyze(word, before);
        } catch (BudgetExceeded exceeded) {
            addPieces(units, word, begin);
            return;
        }
        int at = begin;
        for (Expression part : parts) {
            addUnit(units, part, at);
            at += part.text.length();
        }
    }

    /** Analyzes the pieces of a word over budget like words; a single syllable stays unknown. */
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

    /** Joins units as Kkma does: numbers with the next unit, and split endings. */
    private void joinUnits(ArrayList<Unit> units) {
        // In place: size is the write index, i the read index.
        int size = 1;
        budget.reset();
        for (int i = 1; i < units.size(); i++) {
            Unit unit = units.get(i);
            Unit last = units.get(size - 1);
            boolean joins = false;
            try {
                joins = joins(last, unit);
            } catch (BudgetExceeded exceeded) {
                numCut++;
            }
            if (joins) continue;
            units.set(size++, unit);
            budget.reset();
        }
        units.subList(size, units.size()).clear();
    }

    private boolean joins(Unit last, Unit unit) {
        if (unit.expression.isComplete() && !last.isJoinable() && !unit.isJoinable()) return false;
        // Joining copies the joined text: long chains must pay for their quadratic cost.
        int copied = last.expression.text.length() + last.begins.length;
        budget.charge((long) last.expression.candidates.length * (1 + copied / Search.CHARS));
        Expression joint;
        if (last.isForeign()) {
            if (last.begins[0] + last.numChars() != unit.begins[0]) return false;
            if (unit.isForeign()) {
                Candidate head = last.expression.candidates[0];
                Candidate tail = unit.expression.candidates[0];
                Candidate both = head.with(tail);
                if (track) {
                    both.places = Places.joined(head, last.expression.text, tail,
                            unit.expression.text, unit.begins[0] - last.begins[0],
                            both.morphs.length);
                }
                joint = new Expression(last.expression.text + unit.expression.text, both);
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
        Expression before = last.expression;
        Expression.Builder joint =
                new Expression.Builder(before.text + unit.expression.text, Expression.NONE);
        int shift = track ? unit.begins[0] - last.begins[0] : -1;
        before.derive(unit.expression, joint, shift, true, lexicon, budget);
        return joint.build();
    }

    /** Removes readings that start with a particle, an ending or a suffix, if others are left. */
    private static void dropSuffixReadings(Unit first) {
        Candidate[] candidates = first.expression.candidates;
        ArrayList<Candidate> kept = new ArrayList<>(Arrays.asList(candidates));
        for (int i = 0; i < kept.size() && kept.size() > 1; i++) {
            Candidate candidate = kept.get(i);
            long required = candidate.conds.mask;
            if (required != 0 && required != Condition.ENG
                    || candidate.first().isTagOf(J | E | XS)) {
                kept.remove(i--);
            }
        }
        if (kept.size() < candidates.length) {
            first.expression = new Expression(first.expression.text, kept.toArray(new Candidate[0]));
        }
    }

    /** Viterbi search: most characters covered by the dictionary, then the highest probability. */
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
        // Kkma sorts the last readings with a comparator that returns 0: the first one wins.
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
