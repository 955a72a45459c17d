package korlm.kkma;

import java.util.Arrays;

/** A span of text with its readings in Kkma's order; immutable. */
final class Expression {
    static final Candidate[] NONE = {};
    final String text;
    final Candidate[] candidates;

    Expression(String text, Candidate... candidates) {
        this.text = text;
        this.candidates = candidates;
    }

    boolean isEmpty() {
        return candidates.length == 0;
    }

    /** Returns whether the dictionary fully covers the best reading. */
    boolean isComplete() {
        return candidates.length > 0 && candidates[0].perhaps == 0;
    }

    /**
     * Adds the combined readings of this span and the next to a builder, pruned.
     *
     * @param shift offset of the next span in this one, for the places of morphemes; -1: without
     */
    void derive(Expression next, Builder into, int shift, boolean trackTokens, Lexicon lexicon,
            Budget budget) {
        if (isEmpty() || next.isEmpty()) return;
        budget.charge((long) candidates.length * next.candidates.length);
        char before = text.charAt(text.length() - 1);
        char after = next.text.charAt(0);
        float together = lexicon.probabilities.spacing(before, after, false);
        float apart = lexicon.probabilities.spacing(before, after, true);
        for (Candidate head : candidates) {
            for (Candidate tail : next.candidates) {
                Candidate result = head.followedBy(tail, text.length(), next.text.length(),
                        together, apart, trackTokens, lexicon);
                if (result != null) {
                    budget.chargeReading();
                    if (shift >= 0) {
                        result.places = Places.joined(head, text, tail, next.text, shift,
                                result.morphs.length);
                    }
                    into.add(result);
                }
            }
        }
        into.prune();
    }

    /** Removes readings that no reading of {@code next} may follow after a blank. */
    Expression prunedWithNext(Expression next) {
        if (next.isEmpty()) return this;
        Candidate[] kept = null;
        int size = 0;
        int left = candidates.length;
        for (int i = 0; i < candidates.length; i++) {
            boolean keep = false;
            for (Candidate tail : next.candidates) {
                if (candidates[i].acceptsAfterBlank(tail)) {
                    keep = true;
                    break;
                }
            }
            if (!keep && left > 1) {
                left--;
                if (kept == null) {
                    kept = Arrays.copyOf(candidates, candidates.length);
                    size = i;
                }
            } else if (kept != null) {
                kept[size++] = candidates[i];
            }
        }
        return kept == null ? this : new Expression(text, Arrays.copyOf(kept, size));
    }

    /** Returns a prefix that all readings separate by a blank, or null. */
    String commonHead() {
        Candidate best = candidates[0];
        for (int cut = best.cuts.length - 1; cut >= 0; cut--) {
            int length = best.cuts[cut];
            if (text.length() - length < 2) continue;
            boolean common = true;
            for (int i = 1; i < candidates.length; i++) {
                if (candidates[i].cutAt(length) < 0) {
                    common = false;
                    break;
                }
            }
            if (common && length > 1 && !best.isUnknownBeside(cut)) {
                return text.substring(0, length);
            }
        }
        return null;
    }

    /**
     * Splits the readings at a blank; those without one there become unknown.
     *
     * @param track whether morphemes have places
     * @param index Kkma's index of the first part, or of an unknown second part, relative to it
     */
    Expression[] splitAt(String head, String tail, Lexicon lexicon, boolean track, int index) {
        Builder heads = new Builder(head, NONE);
        Builder tails = new Builder(tail, NONE);
        for (Candidate candidate : candidates) {
            int cut = candidate.cutAt(head.length());
            if (cut < 0) {
                Candidate unknown = Candidate.unknown(tail, lexicon);
                if (track) unknown.places = Places.unknown(index, tail);
                heads.add(Candidate.unknown(head, lexicon));
                tails.add(unknown);
            } else {
                Candidate[] parts = candidate.splitAt(cut, head, tail, lexicon);
                if (track) Places.split(candidate, text, head.length(), parts, index);
                heads.add(parts[0]);
                tails.add(parts[1]);
            }
        }
        return new Expression[] {heads.build(), tails.build()};
    }

    /** Collects distinct readings and prunes them as Kkma does. */
    static final class Builder {
        private static final int SCANNED = 24;
        final String text;
        Candidate[] items;
        int size;
        /** Hash set of the items' hashes if they are too many to scan; 0 marks free slots. */
        private int[] table;
        private boolean hasZero;

        Builder(String text, Candidate[] begin) {
            this.text = text;
            this.items = Arrays.copyOf(begin, Math.max(8, begin.length));
            this.size = begin.length;
        }

        void add(Candidate candidate) {
            if (isHeld(candidate.hash)) return;
            if (size == items.length) items = Arrays.copyOf(items, size * 2);
            items[size++] = candidate;
            if (table != null) hold(candidate.hash);
        }

        private boolean isHeld(int hash) {
            if (table == null) {
                if (size < SCANNED) {
                    for (int i = 0; i < size; i++) {
                        if (items[i].hash == hash) return true;
                    }
                    return false;
                }
                table = new int[SCANNED * 8];
                hasZero = false;
                for (int i = 0; i < size; i++) hold(items[i].hash);
            }
            if (hash == 0) return hasZero;
            for (int at = slot(hash); table[at] != 0; at = at + 1 == table.length ? 0 : at + 1) {
                if (table[at] == hash) return true;
            }
            return false;
        }

        private int slot(int hash) {
            return (int) ((hash * 0x9E3779B97F4A7C15L >>> 33) % table.length);
        }

        private void hold(int hash) {
            if (hash == 0) {
                hasZero = true;
                return;
            }
            if (size * 3 > table.length) {
                int[] old = table;
                table = new int[old.length * 4];
                for (int held : old) if (held != 0) insert(held);
            }
            insert(hash);
        }

        private void insert(int hash) {
            int at = slot(hash);
            while (table[at] != 0) at = at + 1 == table.length ? 0 : at + 1;
            table[at] = hash;
        }

        /** Sorts the readings and keeps those close to the best, exactly as Kkma does. */
        void prune() {
            int count = size;
            if (count < 2) return;
            sort();
            Candidate best = items[0];
            float bound = best.logProb() - 5f;
            boolean open = best.perhaps > 0 || text.length() > best.explained();
            if (!open && count < 12) return;
            int keep = 1;
            while (keep < count) {
                Candidate candidate = items[keep];
                if (!(open && candidate.perhaps == 0 && keep < 12)) {
                    if (candidate.logProb() < bound || candidate.explained() < -1) break;
                }
                keep++;
            }
            if (keep == count) return;
            Candidate last = items[count - 1];
            // Kkma keeps the last reading if no part of it is in the dictionary.
            boolean sparesLast = open && last.known == 0 && text.length() + last.cuts.length < 10;
            size = keep;
            if (sparesLast) items[size++] = last;
            Arrays.fill(items, size, count, null);
            table = null;
        }

        private void sort() {
            for (int i = 1; i < size; i++) {
                if (compare(items[i - 1], items[i]) > 0) {
                    if (size <= 32) {
                        insertionSort(i);
                    } else {
                        Arrays.sort(items, 0, size, Builder::compare);
                    }
                    return;
                }
            }
        }

        private void insertionSort(int from) {
            for (int i = from; i < size; i++) {
                Candidate item = items[i];
                int low = 0;
                int high = i;
                while (low < high) {
                    int middle = (low + high) >>> 1;
                    if (compare(item, items[middle]) < 0) high = middle;
                    else low = middle + 1;
                }
                System.arraycopy(items, low, items, low + 1, i - low);
                items[low] = item;
            }
        }

        private static int compare(Candidate a, Candidate b) {
            int difference = b.explained() - a.explained();
            if (difference != 0) return difference;
            return a.logProb() > b.logProb() ? -1 : a.logProb() < b.logProb() ? 1 : 0;
        }

        Expression build() {
            return new Expression(text, Arrays.copyOf(items, size));
        }
    }
}
