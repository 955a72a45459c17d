package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.util.ArrayList;
import java.util.List;

/** Kkma's division of a line into sentences of eojeols, exactly as its divideToSentences. */
final class Sentences {
    /** A word with its morphemes; punctuation that follows directly belongs to it. */
    static final class Eojeol {
        String text;
        final ArrayList<TokenGroup.Token> tokens;
        /** First and last morpheme when it was created: later changes do not count, as in Kkma. */
        private final TokenGroup.Token first, last;

        private Eojeol(String text, List<TokenGroup.Token> tokens) {
            this.text = text;
            this.tokens = new ArrayList<>(tokens);
            first = tokens.get(0);
            last = tokens.get(tokens.size() - 1);
        }

        private boolean isFollowedBy(TokenGroup next) {
            return first.index + text.length() == next.tokens.get(0).index;
        }

        private void append(TokenGroup next) {
            tokens.addAll(next.tokens);
            text += next.text;
        }

        /** Cuts off the words at its beginning that Kkma joined wrongly; null: there are none. */
        private Eojeol cutHead() {
            if (tokens.size() < 2) return null;
            TokenGroup.Token one = tokens.get(0);
            TokenGroup.Token two = tokens.get(1);
            if (one.isTagOf(MA) && two.isTagOf(VP) || one.isTagOf(MD) && two.isTagOf(N)) {
                return cutAt(1, one.text.length());
            }
            for (int i = 1; i < tokens.size(); i++) {
                two = tokens.get(i);
                if (tokens.get(i - 1).isTag(ECS) && two.isTagOf(VP)) {
                    return cutAt(i, two.index - tokens.get(0).index);
                }
            }
            return null;
        }

        private Eojeol cutAt(int size, int length) {
            // Kkma's index may lie outside of the text: there Kkma fails.
            int end = Math.max(0, Math.min(length, text.length()));
            List<TokenGroup.Token> before = tokens.subList(0, size);
            Eojeol result = new Eojeol(text.substring(0, end), before);
            text = text.substring(end);
            before.clear();
            return result;
        }
    }

    private static final String CLOSING = ".,!?;~)]}";

    private Sentences() {}

    /** Returns the sentences of a line, each a list of eojeols. */
    static List<List<Eojeol>> of(List<TokenGroup> groups) {
        ArrayList<List<Eojeol>> sentences = new ArrayList<>();
        List<Eojeol> sentence = null;
        Eojeol eojeol = null;
        boolean isContinued = false;
        for (int i = 0; i < groups.size(); i++) {
            if (sentence == null) sentence = new ArrayList<>();
            TokenGroup group = groups.get(i);
            boolean isSign = group.tokens.size() == 1 && group.tokens.get(0).isTagOf(S);
            if (isContinued && isSign && eojeol.isFollowedBy(group)) {
                eojeol.append(group);
            } else {
                eojeol = add(sentence, group);
                isContinued = true;
            }
            if (!eojeol.last.isTagOf(EF)) continue;
            for (; i + 1 < groups.size(); i++) {
                TokenGroup next = groups.get(i + 1);
                if (CLOSING.indexOf(next.text.charAt(0)) < 0) break;
                if (eojeol.isFollowedBy(next)) {
                    eojeol.append(next);
                } else {
                    add(sentence, next);
                }
            }
            sentences.add(sentence);
            sentence = null;
            isContinued = false;
        }
        if (sentence != null) sentences.add(sentence);
        return sentences;
    }

    private static Eojeol add(List<Eojeol> sentence, TokenGroup group) {
        Eojeol eojeol = new Eojeol(group.text, group.tokens);
        Eojeol head = eojeol.cutHead();
        if (head != null) sentence.add(head);
        sentence.add(eojeol);
        return eojeol;
    }
}
