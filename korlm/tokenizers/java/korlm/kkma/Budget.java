package korlm.kkma;

/**
 * Limits the work on one word by a count of steps, so that the result does not depend on the speed
 * or memory of the machine.
 */
final class Budget {
    /** Cost of building a reading, in pairs of readings that are only compared. */
    private static final int READING = 8;

    private final long limit;
    private long left;

    Budget(long limit) {
        this.limit = limit;
        reset();
    }

    void reset() {
        left = limit;
    }

    void charge(long pairs) {
        left -= pairs;
        if (left < 0) throw BudgetExceeded.INSTANCE;
    }

    void chargeReading() {
        left -= READING;
        if (left < 0) throw BudgetExceeded.INSTANCE;
    }
}
