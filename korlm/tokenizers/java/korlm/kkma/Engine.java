package korlm.kkma;

import java.util.List;
import java.util.regex.Pattern;
import org.snu.ids.ha.constants.POSTag;

/** Analyzes lines for one thread; engines share a lexicon and a cache. */
public final class Engine {
    /** Data shared by the engines of all threads. */
    public static final class Shared {
        private final Lexicon lexicon;
        private final AnalysisCache cache;
        /** The same of readings with places, which take twice the memory. */
        private final AnalysisCache tracked;

        /**
         * Loads the dictionary.
         *
         * @param readings size of the cache in readings of words
         * @param words lines of a user's words (see UserWords)
         */
        public Shared(long readings, String words) throws Exception {
            lexicon = new Lexicon(Image.load(), new UserWords(words));
            cache = new AnalysisCache(readings);
            tracked = new AnalysisCache(readings / 2);
        }

        /** Returns the number of dictionary entries. */
        public int numEntries() {
            return lexicon.size();
        }
    }

    /** What is asked for. */
    private static final String TOKENS = "tokens", SPANS = "spans", SENTENCES = "sentences",
            NOUNS = "nouns";
    private static final Pattern SPLIT_PAIR =
            Pattern.compile("([\\ud800-\\udbff]) ([\\udc00-\\udfff])");

    private final Lexicon lexicon;
    private final Analyzer analyzer;
    private final Analyzer tracker;

    /**
     * Creates an engine.
     *
     * @param budget work allowed for each word
     * @param guard whether a word over budget is cut into pieces, or left as one unknown token
     */
    public Engine(Shared shared, long budget, boolean guard) {
        lexicon = shared.lexicon;
        analyzer = new Analyzer(lexicon, shared.cache, budget, guard, false);
        tracker = new Analyzer(lexicon, shared.tracked, budget, guard, true);
    }

    /**
     * Analyzes a line and adds a row to the columns. The output is
     *
     * <ul>
     *   <li>tokens: each with the index of its eojeol in the text;
     *   <li>spans: the same with the index of Kkma's eojeol, and with offsets in the line, where
     *       surrogate pairs are one character;
     *   <li>sentences, nouns: each is like a token without a tag.
     * </ul>
     *
     * @return null, or why the line could not be analyzed; then there is no row
     */
    String analyze(String text, String output, Columns columns) {
        long start = System.nanoTime();
        String trimmed = text.trim();
        if (trimmed.isEmpty()) {
            columns.endLine("empty", 0, 0);
            return null;
        }
        try {
            int begin = 0;
            while (text.charAt(begin) <= ' ') begin++;
            int numDropped = add(trimmed, text, begin, output, columns);
            Analyzer used = output.equals(TOKENS) ? analyzer : tracker;
            String status = used.numGivenUp > 0 ? "fallback: over budget"
                    : used.numCut > 0 ? "cut: over budget" : "ok";
            columns.endLine(status, numDropped, System.nanoTime() - start);
            return null;
        } catch (StackOverflowError | OutOfMemoryError | Exception error) {
            columns.clearLine();
            return error instanceof BudgetExceeded ? "over budget"
                    : error.getClass().getSimpleName();
        }
    }

    /** Adds what is asked for, and returns the number of characters in no token. */
    private int add(String trimmed, String text, int begin, String output, Columns columns)
            throws Exception {
        if (output.equals(TOKENS)) {
            Writer writer = new Writer(columns, text, begin);
            List<WordSplitter.Word> words = analyzer.analyze(trimmed, writer);
            writer.end();
            return numDropped(text, words);
        }
        List<TokenGroup> groups = tracker.groups(trimmed);
        switch (output) {
            case NOUNS:
                for (String noun : Nouns.of(groups, lexicon.compoundNouns())) {
                    columns.addToken(noun, "", 0);
                }
                return 0;
            case SENTENCES:
                for (List<Sentences.Eojeol> sentence : Sentences.of(groups)) {
                    StringBuilder joined = new StringBuilder();
                    for (Sentences.Eojeol eojeol : sentence) {
                        if (joined.length() > 0) joined.append(' ');
                        joined.append(eojeol.text);
                    }
                    // Kkma splits surrogate pairs: join them again.
                    columns.addToken(SPLIT_PAIR.matcher(joined).replaceAll("$1$2"), "", 0);
                }
                return 0;
            case SPANS:
                addSpans(groups, text, begin, columns);
                return 0;
            default:
                throw new IllegalArgumentException(output);
        }
    }

    private static void addSpans(List<TokenGroup> groups, String text, int offset,
            Columns columns) {
        // Python counts a surrogate pair as one character.
        int[] offsets = new int[text.length() + 1];
        for (int i = 0; i < text.length(); i++) {
            boolean isSecond = Character.isLowSurrogate(text.charAt(i)) && i > 0
                    && Character.isHighSurrogate(text.charAt(i - 1));
            offsets[i + 1] = isSecond ? offsets[i] : offsets[i] + 1;
            if (isSecond) offsets[i] = offsets[i - 1];
        }
        int number = 0;
        TokenGroup.Token high = null;
        for (List<Sentences.Eojeol> sentence : Sentences.of(groups)) {
            for (Sentences.Eojeol eojeol : sentence) {
                for (TokenGroup.Token token : eojeol.tokens) {
                    String morph = token.text;
                    int begin = token.begin;
                    if (morph.length() == 1 && Character.isHighSurrogate(morph.charAt(0))) {
                        high = token;
                        continue;
                    }
                    if (high != null) {
                        morph = high.text + morph;
                        begin = high.begin;
                        high = null;
                    }
                    String tag = POSTag.getTag(token.info & ~Morph.COMPOSED);
                    columns.addToken(morph, tag, number);
                    columns.addSpan(offsets[begin + offset], offsets[token.end + offset]);
                }
                number++;
            }
        }
    }

    /** Returns the number of characters of the text, except white space, that are in no word. */
    private static int numDropped(String text, List<WordSplitter.Word> words) {
        int dropped = 0;
        for (int i = 0; i < text.length(); i++) if (!isBlank(text.charAt(i))) dropped++;
        for (WordSplitter.Word word : words) {
            for (int i = 0; i < word.text.length(); i++) {
                if (!isBlank(word.text.charAt(i))) dropped--;
            }
        }
        return Math.max(0, dropped);
    }

    /** Returns whether Python's str.split treats a character as white space. */
    static boolean isBlank(char c) {
        return c <= ' ' ? c == ' ' || c >= 9 && c <= 13 || c >= 0x1c && c <= 0x1f
                : c == 0x85 || c == 0xa0 || c == 0x1680 || c >= 0x2000 && c <= 0x200a
                || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
    }

    /** Writes morphemes with the index of the eojeol in which their token starts. */
    private static final class Writer implements Analyzer.Sink {
        private final Columns columns;
        private final int offset;
        /** Eojeol index of each character of the text; for a blank, that of the eojeol before it. */
        private final int[] eojeols;
        private Morph high;
        private int highEojeol;

        Writer(Columns columns, String text, int offset) {
            this.columns = columns;
            this.offset = offset;
            eojeols = eojeolsOf(text);
        }

        @Override
        public void add(Morph morph, int begin) {
            int now = eojeols[Math.min(begin + offset, eojeols.length - 1)];
            String string = morph.text;
            // Kkma splits surrogate pairs: join them again.
            if (high != null && string.length() == 1
                    && Character.isLowSurrogate(string.charAt(0))) {
                columns.addToken(high.text + string, high.tagName(), highEojeol);
                high = null;
                return;
            }
            end();
            if (string.length() == 1 && Character.isHighSurrogate(string.charAt(0))) {
                high = morph;
                highEojeol = now;
                return;
            }
            columns.addToken(string, morph.tagName(), now);
        }

        void end() {
            if (high != null) columns.addToken(high.text, high.tagName(), highEojeol);
            high = null;
        }

        private static int[] eojeolsOf(String text) {
            int[] eojeols = new int[text.length()];
            int count = 0;
            boolean inside = false;
            for (int i = 0; i < eojeols.length; i++) {
                boolean blank = isBlank(text.charAt(i));
                if (!blank && !inside) count++;
                inside = !blank;
                eojeols[i] = Math.max(0, count - 1);
            }
            return eojeols;
        }
    }
}
