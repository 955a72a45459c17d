package korlm.kkma;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Analyses of words, shared by all threads, within bounds.
 *
 * <p>Two generations: when the young one is full it becomes the old one, and the old one is
 * forgotten; what is used moves up again. Near enough to forgetting the least recently used, and
 * nothing is locked.
 */
final class Memory {
    /** What an analysis asked of the word before, and what it found; null: over budget. */
    static final class Entry {
        final Before.Question[] asked;
        final Expression[] found;
        final Entry next;

        Entry(Before.Question[] asked, Expression[] found, Entry next) {
            this.asked = asked;
            this.found = found;
            this.next = next;
        }
    }

    /** A word with a better hash than its own. */
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

    /** Words before that are told apart for one word. */
    private static final int MAX_ENTRIES = 16;

    private final long limit;
    private volatile ConcurrentHashMap<Key, Entry> young = new ConcurrentHashMap<>();
    private volatile ConcurrentHashMap<Key, Entry> old = new ConcurrentHashMap<>();
    private final AtomicLong weight = new AtomicLong();

    /** Remembers about {@code limit} readings. */
    Memory(long limit) {
        this.limit = limit / 2;
    }

    Entry find(String word, Expression before) {
        Key key = new Key(word);
        Entry entry = search(young.get(key), before);
        if (entry != null) return entry;
        entry = search(old.get(key), before);
        if (entry != null) put(word, entry.asked, entry.found);
        return entry;
    }

    private static Entry search(Entry entry, Expression before) {
        while (entry != null && !Before.answersAlike(before, entry.asked)) entry = entry.next;
        return entry;
    }

    void put(String word, Before.Question[] asked, Expression[] found) {
        if (limit == 0) return;
        long size = 4 + asked.length;
        if (found != null) {
            for (Expression part : found) size += 2 + 2 * part.candidates.length;
        }
        if (size > limit / 64) return;
        young.compute(new Key(word), (key, first) -> {
            int entries = 0;
            for (Entry entry = first; entry != null; entry = entry.next) entries++;
            return new Entry(asked, found, entries < MAX_ENTRIES ? first : null);
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
