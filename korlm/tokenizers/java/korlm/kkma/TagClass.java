package korlm.kkma;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.snu.ids.ha.constants.POSTag;

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

    private static final long[][] CLASSES = {
        {POSTag.NNA | POSTag.UN, POSTag.NNA}, {POSTag.NNM | POSTag.NNB, POSTag.NNB},
        {POSTag.VX, POSTag.VX}, {POSTag.MD, POSTag.MD}, {POSTag.EP, POSTag.EP},
        {POSTag.EF, POSTag.EF}, {POSTag.EC, POSTag.EC},
    };

    private TagClass() {}

    /** Returns the tag whose probabilities Kkma uses (getPrTag there, which loads all of them). */
    static long classOf(long tag) {
        for (long[] pair : CLASSES) if ((pair[0] & tag) > 0) return pair[1];
        return tag;
    }

    /** Gives the tags of an image the numbers that its probabilities have; must come first. */
    static void register(long[] tags) {
        for (int i = 0; i < tags.length; i++) {
            if (of(tags[i]) != i) throw new IllegalStateException("tags have other numbers");
        }
    }

    static int of(long tag) {
        if (Long.bitCount(tag) != 1) return number(tag);
        int bit = Long.numberOfTrailingZeros(tag);
        int known = BY_BIT[bit];
        return known >= 0 ? known : (BY_BIT[bit] = number(tag));
    }

    private static int number(long tag) {
        Integer number = BY_TAG.get(tag);
        if (number == null) {
            number = NUMBERS.computeIfAbsent(classOf(tag), t -> NEXT.getAndIncrement());
            if (number >= SIZE) throw new IllegalStateException("too many tags");
            BY_TAG.put(tag, number);
        }
        return number;
    }
}
