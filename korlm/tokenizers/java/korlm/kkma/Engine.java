package korlm.kkma;

import java.util.List;
import java.util.regex.Pattern;
import org.snu.ids.ha.constants.POSTag;

/** Analyzes batches of lines for one thread; engines share a lexicon and a cache. */
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

    /** What {@code analyze} returns of a line. */
    private static final String TOKENS = "tokens", SPANS = "spans", SENTENCES = "sentences",
            NOUNS = "nouns";
    private static final Pattern SPLIT_PAIR =
            Pattern.compile("([\\ud800-\\udbff]) ([\\udc00-\\udfff])");

    private final Lexicon lexicon;
    private final Analyzer analyzer;
    private final Analyzer tracker;
    /** Start time of the current line, in nanoseconds; reported, never used to limit the work. */
    private long since;

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
     * Analyzes lines. Returns one line of tab-separated fields for each; no morpheme has a tab.
     *
     * <p>Fields: status (o: ok; c: words were cut; f: parts were left unanalyzed; e: blank; !NAME:
     * exception), number of characters in no token, microseconds, then morpheme, tag and eojeol
     * index of each token. This is the output "tokens"; others are
     *
     * <ul>
     *   <li>spans: the third field is "EOJEOL BEGIN END": the index of Kkma's eojeol, and offsets in
     *       the line, with surrogate pairs as one character;
     *   <li>sentences, nouns: each is like a token without a tag.
     * </ul>
     */
    public String analyze(String[] lines, String output) {
        StringBuilder out = new StringBuilder(1 << 16);
        for (int i = 0; i < lines.length; i++) {
            since = System.nanoTime();
            int begin = out.length();
            try {
                analyze(lines[i], output, out);
            } catch (StackOverflowError | OutOfMemoryError | Exception error) {
                out.setLength(begin);
                String name = error instanceof BudgetExceeded ? "over budget"
                        : error.getClass().getSimpleName();
                out.append('!').append(name).append("\t0\t").append(micros());
            }
            out.append('\n');
        }
        return out.toString();
    }

    private long micros() {
        return (System.nanoTime() - since) / 1000;
    }

    private void analyze(String text, String output, StringBuilder out) throws Exception {
        int begin = 0;
        while (begin < text.length() && text.charAt(begin) <= ' ') begin++;
        String trimmed = text.trim();
        if (trimmed.isEmpty()) {
            out.append("e\t0\t0");
            return;
        }
        boolean isPlain = output.equals(TOKENS);
        Analyzer used = isPlain ? analyzer : tracker;
        StringBuilder fields;
        int numDropped = 0;
        if (isPlain) {
            Writer writer = new Writer(text, begin);
            numDropped = numDropped(text, analyzer.analyze(trimmed, writer));
            writer.end();
            fields = writer.out;
        } else {
            fields = fieldsOf(tracker.groups(trimmed), text, begin, output);
        }
        out.append(used.numGivenUp > 0 ? 'f' : used.numCut > 0 ? 'c' : 'o').append('\t');
        out.append(numDropped).append('\t').append(micros()).append(fields);
    }

    private StringBuilder fieldsOf(List<TokenGroup> groups, String text, int offset,
            String output) {
        StringBuilder out = new StringBuilder();
        switch (output) {
            case NOUNS:
                for (String noun : Nouns.of(groups, lexicon.compoundNouns())) write(out, noun);
                return out;
            case SENTENCES:
                for (List<Sentences.Eojeol> sentence : Sentences.of(groups)) {
                    StringBuilder joined = new StringBuilder();
                    for (Sentences.Eojeol eojeol : sentence) {
                        if (joined.length() > 0) joined.append(' ');
                        joined.append(eojeol.text);
                    }
                    // Kkma splits surrogate pairs: join them again.
                    write(out, SPLIT_PAIR.matcher(joined).replaceAll("$1$2"));
                }
                return out;
            case SPANS:
                writeSpans(groups, text, offset, out);
                return out;
            default:
                throw new IllegalArgumentException(output);
        }
    }

    private static void write(StringBuilder out, String text) {
        out.append('\t').append(text).append("\t\t0");
    }

    private static void writeSpans(List<TokenGroup> groups, String text, int offset,
            StringBuilder out) {
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
                    out.append('\t').append(morph).append('\t');
                    out.append(POSTag.getTag(token.info & ~Morph.COMPOSED)).append('\t');
                    out.append(number).append(' ').append(offsets[begin + offset]);
                    out.append(' ').append(offsets[token.end + offset]);
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
        final StringBuilder out = new StringBuilder();
        private final int offset;
        /** Eojeol index of each character of the text; for a blank, that of the eojeol before it. */
        private final int[] eojeols;
        private Morph high;
        private int highEojeol;

        Writer(String text, int offset) {
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
                write(high.text + string, high.tagName(), highEojeol);
                high = null;
                return;
            }
            end();
            if (string.length() == 1 && Character.isHighSurrogate(string.charAt(0))) {
                high = morph;
                highEojeol = now;
                return;
            }
            write(string, morph.tagName(), now);
        }

        void end() {
            if (high != null) write(high.text, high.tagName(), highEojeol);
            high = null;
        }

        private void write(String morph, String tag, int number) {
            out.append('\t').append(morph).append('\t').append(tag).append('\t').append(number);
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
