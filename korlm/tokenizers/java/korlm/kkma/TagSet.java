package korlm.kkma;

import java.util.concurrent.ConcurrentHashMap;

/**
 * A set of tags or conditions as a bit mask, with hashes of its decimal digits.
 *
 * <p>For Kkma, readings are equal if the hashes of their encodings as strings are. A String's hash
 * is a polynomial in 31, so it can be computed from the hashes of its parts.
 */
final class TagSet {
    private static final ConcurrentHashMap<Long, TagSet> ALL = new ConcurrentHashMap<>();
    private static final int[] POWERS = new int[64];

    static {
        POWERS[0] = 1;
        for (int i = 1; i < POWERS.length; i++) POWERS[i] = POWERS[i - 1] * 31;
    }

    static final TagSet NONE = of(0);

    final long mask;
    /** Hash of "!mask", and 31 to the power of its length. */
    final int marked;
    final int markedPower;
    /** The same of "/mask". */
    final int slashed;
    final int slashedPower;

    private TagSet(long mask) {
        this.mask = mask;
        String digits = Long.toString(mask);
        marked = ("!" + digits).hashCode();
        slashed = ("/" + digits).hashCode();
        markedPower = slashedPower = power(digits.length() + 1);
    }

    static TagSet of(long mask) {
        TagSet result = ALL.get(mask);
        return result != null ? result : ALL.computeIfAbsent(mask, TagSet::new);
    }

    /** Returns 31 to the power of n in int arithmetic. */
    static int power(int n) {
        if (n < POWERS.length) return POWERS[n];
        int power = 1;
        for (int i = 0; i < n; i++) power *= 31;
        return power;
    }
}
