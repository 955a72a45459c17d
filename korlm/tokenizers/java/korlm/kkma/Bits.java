package korlm.kkma;

import java.util.concurrent.ConcurrentHashMap;

/**
 * A set of tags or conditions as a bit mask, with hashes of its decimal digits.
 *
 * <p>Kkma calls two readings equal when their encodings as strings have equal hashes. A String's hash
 * is a polynomial in 31, so the hash of a whole is made of the hashes of its parts.
 */
final class Bits {
    private static final ConcurrentHashMap<Long, Bits> ALL = new ConcurrentHashMap<>();
    private static final int[] POWERS = new int[64];

    static {
        POWERS[0] = 1;
        for (int i = 1; i < POWERS.length; i++) POWERS[i] = POWERS[i - 1] * 31;
    }

    static final Bits NONE = of(0);

    final long mask;
    /** Hash of "!mask", and 31 to the power of its length. */
    final int marked;
    final int markedPower;
    /** The same of "/mask". */
    final int slashed;
    final int slashedPower;

    private Bits(long mask) {
        this.mask = mask;
        String digits = Long.toString(mask);
        marked = ("!" + digits).hashCode();
        slashed = ("/" + digits).hashCode();
        markedPower = slashedPower = power(digits.length() + 1);
    }

    static Bits of(long mask) {
        Bits found = ALL.get(mask);
        return found != null ? found : ALL.computeIfAbsent(mask, Bits::new);
    }

    /** 31 to the power of n, as int arithmetic has it. */
    static int power(int n) {
        if (n < POWERS.length) return POWERS[n];
        int power = 1;
        for (int i = 0; i < n; i++) power *= 31;
        return power;
    }
}
