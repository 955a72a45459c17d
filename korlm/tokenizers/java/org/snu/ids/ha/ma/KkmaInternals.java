package org.snu.ids.ha.ma;

/** Read access to members of Kkma that are private to its package. */
public final class KkmaInternals {
    private KkmaInternals() {}

    /** Returns the conditions that a candidate offers to an ending. */
    public static long endingConditions(MCandidate candidate) {
        return candidate.bclEnc;
    }

    /** Returns Kkma's candidate for Hangul that is not in its dictionary, without probabilities. */
    public static MCandidate unknown(String text) throws Exception {
        return new MCandidate(text, "UN");
    }

    /** Returns Kkma's candidate for a token that is not Hangul. */
    public static MCandidate foreign(String text, CharSetType charSet) throws Exception {
        return new MCandidate(new Token(text, charSet, 0));
    }

    /** Returns the pattern of one of Kkma's predefined tokens. */
    public static java.util.regex.Pattern pattern(int number) {
        return Tokenizer.PREDEFINED_TOKEN_PATTERN[number].pattern;
    }

    /** Returns the character set of one of Kkma's predefined tokens. */
    public static CharSetType kind(int number) {
        return Tokenizer.PREDEFINED_TOKEN_PATTERN[number].charSetType;
    }

    /** Returns the number of predefined tokens. */
    public static int numPatterns() {
        return Tokenizer.PREDEFINED_TOKEN_PATTERN.length;
    }
}
