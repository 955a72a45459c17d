package org.snu.ids.ha.ma;

/** A window on what Kkma keeps private to its package; reads, and changes nothing. */
public final class Window {
    private Window() {}

    /** The conditions that an ending finds at the end of a candidate. */
    public static long endingConditions(MCandidate candidate) {
        return candidate.bclEnc;
    }

    /** What Kkma makes of Hangul that its dictionary does not hold. */
    public static MCandidate unknown(String text) throws Exception {
        return new MCandidate(text, 0);
    }

    /** What Kkma makes of a token that is not Hangul. */
    public static MCandidate foreign(String text, CharSetType charSet) throws Exception {
        return new MCandidate(new Token(text, charSet, 0));
    }

    /** The pattern of one of Kkma's predefined tokens. */
    public static java.util.regex.Pattern pattern(int number) {
        return Tokenizer.PREDEFINED_TOKEN_PATTERN[number].pattern;
    }

    /** The kind of one of Kkma's predefined tokens. */
    public static CharSetType kind(int number) {
        return Tokenizer.PREDEFINED_TOKEN_PATTERN[number].charSetType;
    }

    /** How many predefined tokens there are. */
    public static int numPatterns() {
        return Tokenizer.PREDEFINED_TOKEN_PATTERN.length;
    }
}
