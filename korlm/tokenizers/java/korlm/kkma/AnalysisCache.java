package korlm.kkma;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * A bounded cache of the analyses of words, shared by all threads.
 *
 * <p>It has two generations: when the young one is full, it replaces the old one. An old entry that
 * is used is copied to the young generation. This approximates least-recently-used without locks.
 */
final class AnalysisCache {
    /** The queries of an analysis to the previous word, and its result; null: over budget. */
    static final class Entry {
        final PreviousWord.Query[] queries;
        final Expression[] result;
        final Entry next;

        Entry(PreviousWord.Query[] queries, Expression[] result, Entry next) {
            this.queries = queries;
            this.result = result;
            this.next = next;
        }
    }

    /** A word with a better hash than String.hashCode. */
    private static final class Key {
        final String word;
        final int hash;

        Key(String word) {
            this.word = word;
            hash = Hash.of(word);
        }

        @Override
        public int hashCode() {
            return hash;
        }

        @Override
        public boolean equals(Object other) {
            return hash == ((Key) other).hash && word.equals(((Key) other).word);
        }
    }

    /** Analyses kept for one word, which depend on the previous word. */
    private static final int MAX_ENTRIES = 16;

    private final long limit;
    private volatile ConcurrentHashMap<Key, Entry> young = new ConcurrentHashMap<>();
    private volatile ConcurrentHashMap<Key, Entry> old = new ConcurrentHashMap<>();
    private final AtomicLong weight = new AtomicLong();

    /** Creates a cache of about {@code limit} readings. */
    AnalysisCache(long limit) {
        this.limit = limit / 2;
    }

    Entry find(String word, Expression before) {
        Key key = new Key(word);
        Entry entry = search(young.get(key), before);
        if (entry != null) return entry;
        entry = search(old.get(key), before);
        if (entry != null) put(word, entry.queries, entry.result);
        return entry;
    }

    private static Entry search(Entry entry, Expression before) {
        while (entry != null && !PreviousWord.hasSameAnswers(before, entry.queries)) {
            entry = entry.next;
        }
        return entry;
    }

    void put(String word, PreviousWord.Query[] queries, Expression[] result) {
        if (limit == 0) return;
        long size = 4 + queries.length;
        if (result != null) {
            for (Expression part : result) size += 2 + 2 * part.candidates.length;
        }
        if (size > limit / 64) return;
        young.compute(new Key(word), (key, first) -> {
            int entries = 0;
            for (Entry entry = first; entry != null; entry = entry.next) entries++;
            return new Entry(queries, result, entries < MAX_ENTRIES ? first : null);
        });
        if (weight.addAndGet(size) > limit) {
            synchronized (this) {
                if (weight.get() > limit) {
                    old = young;
                    young = new ConcurrentHashMap<>();
                    weight.set(0);
                }
            }
        }
    }
}
