package korlm.kkma;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.snu.ids.ha.dic.PDDictionary;

/** Indices of the tags that Kkma's probabilities distinguish. */
final class TagClass {
    /** Upper bound: a tag is one of 64 bits or, rarely, two of them. */
    static final int SIZE = 1 << 7;
    private static final ConcurrentHashMap<Long, Integer> NUMBERS = new ConcurrentHashMap<>();
    private static final ConcurrentHashMap<Long, Integer> BY_TAG = new ConcurrentHashMap<>();
    private static final AtomicInteger NEXT = new AtomicInteger();
    /** By the index of the single bit of the tag; -1: not looked up yet. */
    private static final int[] BY_BIT = new int[64];

    static {
        java.util.Arrays.fill(BY_BIT, -1);
    }

    private TagClass() {}

    static int of(long tag) {
        if (Long.bitCount(tag) != 1) return number(tag);
        int bit = Long.numberOfTrailingZeros(tag);
        int known = BY_BIT[bit];
        return known >= 0 ? known : (BY_BIT[bit] = number(tag));
    }

    private static int number(long tag) {
        Integer number = BY_TAG.get(tag);
        if (number == null) {
            number = NUMBERS.computeIfAbsent(PDDictionary.getPrTag(tag), t -> NEXT.getAndIncrement());
            if (number >= SIZE) throw new IllegalStateException("too many tags");
            BY_TAG.put(tag, number);
        }
        return number;
    }
}
