package korlm.kkma;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.snu.ids.ha.ma.CharSetType;

/** A part of the best path without blanks: Kkma's MExpression after leaveJustBest. */
final class TokenGroup {
    /** A morpheme in a line. */
    static final class Token {
        String text;
        /** Tag bits, and COMPOSED. */
        long info;
        CharSetType charSet;
        /** Kkma's index (see Places). */
        int index;
        final int begin, end;

        Token(Morph morph, int index, int begin, int end) {
            text = morph.text;
            info = morph.info;
            charSet = morph.charSet;
            this.index = index;
            this.begin = begin;
            this.end = end;
        }

        Token(Token other) {
            text = other.text;
            info = other.info;
            charSet = other.charSet;
            index = other.index;
            begin = other.begin;
            end = other.end;
        }

        boolean isTagOf(long tags) {
            return (info & ~Morph.COMPOSED & tags) > 0;
        }

        boolean isTag(long tag) {
            return (info & ~Morph.COMPOSED) == tag;
        }

        void setTag(long tag) {
            info = info & Morph.COMPOSED | tag & ~Morph.COMPOSED;
        }
    }

    final String text;
    final List<Token> tokens;

    private TokenGroup(String text, List<Token> tokens) {
        this.text = text;
        this.tokens = tokens;
    }

    /**
     * Appends the groups of a reading.
     *
     * @param text of the reading
     * @param offset of the text in the line
     */
    static void addAll(List<TokenGroup> groups, Candidate candidate, String text, int offset) {
        int[] places = Places.of(candidate, text);
        int[] ends = Arrays.copyOf(candidate.cuts, candidate.cuts.length + 1);
        ends[ends.length - 1] = text.length();
        int from = 0;
        int morph = 0;
        for (int end : ends) {
            ArrayList<Token> tokens = new ArrayList<>();
            for (; morph < candidate.morphs.length; morph++) {
                if (candidate.morphs[morph] instanceof Morph.Blank) {
                    morph++;
                    break;
                }
                int at = Places.SIZE * morph;
                tokens.add(new Token(candidate.morphs[morph], places[at + Places.INDEX] + offset,
                        places[at + Places.BEGIN] + offset, places[at + Places.END] + offset));
            }
            groups.add(new TokenGroup(text.substring(from, end), tokens));
            from = end;
        }
    }
}
