package korlm.kkma;

/**
 * Bounds the work on one word, so that a hostile one ends by an exception, at the same place every
 * time, and not by a clock or a full heap.
 */
final class Budget {
    /** A reading that is built costs as much as this many pairs that are only looked at. */
    private static final int READING = 8;

    /** Thrown when a word has used its budget up; carries no stack, it is no error of ours. */
    static final class Spent extends RuntimeException {
        private static final long serialVersionUID = 1;
        static final Spent IT = new Spent();

        private Spent() {
            super("over budget", null, false, false);
        }
    }

    private final long limit;
    private long left;

    Budget(long limit) {
        this.limit = limit;
        begin();
    }

    void begin() {
        left = limit;
    }

    void spend(long pairs) {
        left -= pairs;
        if (left < 0) throw Spent.IT;
    }

    void build() {
        left -= READING;
        if (left < 0) throw Spent.IT;
    }
}
