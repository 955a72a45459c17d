package korlm.kkma;

/** Thrown when a word exceeds its budget; has no stack trace, since it is no error. */
final class BudgetExceeded extends RuntimeException {
    private static final long serialVersionUID = 1;
    static final BudgetExceeded INSTANCE = new BudgetExceeded();

    private BudgetExceeded() {
        super("over budget", null, false, false);
    }
}
