package korlm.kkma;

import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.snu.ids.ha.ma.CharSetType;
import org.snu.ids.ha.ma.KkmaInternals;

/**
 * Splits a text into words of one character set each, as Kkma's tokenizer does.
 *
 * <p>Only the cost differs: a pattern is skipped if the text has none of the characters it needs,
 * runs of ㅋ ㅠ ㅜ ㅎ are matched without recursion, and the cost is linear in the text's length.
 */
final class WordSplitter {
    /** A word and its offset in the text. */
    static final class Word {
        final String text;
        final CharSetType kind;
        final int begin;

        Word(String text, CharSetType kind, int begin) {
            this.text = text;
            this.kind = kind;
            this.begin = begin;
        }
    }

    private static final CharSetType[] KINDS = kinds();
    private static final int NUM_PATTERNS = KkmaInternals.numPatterns();
    private static final String LAUGHTER = "(ㅋ|ㅠ|ㅜ|ㅎ){2,}";
    private static final String CARETS = "(\\^){3,}";
    private static final String COMBINED = "[a-zA-Z0-9]+[-][a-zA-Z0-9]+";
    /** For each pattern, characters of which every match has at least one; null: unknown. */
    private static final String[] NEEDED = needed();

    private WordSplitter() {}

    /** Returns the words of a text, including spaces, by their offsets. */
    static List<Word> split(String text) {
        int length = text.length();
        char[] chars = text.toCharArray();
        boolean[] matched = null;
        ArrayList<Word> words = new ArrayList<>();
        long seen = 0;
        for (char c : chars) seen |= bit(c);
        StringBuilder buffer = null;
        for (int number = 0; number < NUM_PATTERNS; number++) {
            if ((seen & MASKS[number]) == 0) continue;
            CharSetType kind = KkmaInternals.kind(number);
            Pattern pattern = KkmaInternals.pattern(number);
            String written = pattern.pattern();
            int before = words.size();
            if (written.equals(LAUGHTER)) {
                findRuns(chars, "ㅋㅠㅜㅎ", 2, kind, words);
            } else if (written.equals(CARETS)) {
                findRuns(chars, "^", 3, kind, words);
            } else if (written.equals(COMBINED)) {
                findCombined(chars, kind, words);
            } else {
                if (buffer == null) {
                    buffer = new StringBuilder(length).append(chars);
                }
                Matcher matcher = pattern.matcher(buffer);
                while (matcher.find()) {
                    words.add(new Word(matcher.group(), kind, matcher.start()));
                    for (int i = matcher.start(); i < matcher.end(); i++) buffer.setCharAt(i, ' ');
                }
            }
            for (int w = before; w < words.size(); w++) {
                Word word = words.get(w);
                if (matched == null) matched = new boolean[length];
                for (int i = 0; i < word.text.length(); i++) {
                    chars[word.begin + i] = ' ';
                    matched[word.begin + i] = true;
                    if (buffer != null) buffer.setCharAt(word.begin + i, ' ');
                }
            }
        }
        int numMatches = words.size();
        addRest(chars, matched, words);
        if (numMatches > 0) words.sort((a, b) -> a.begin - b.begin);
        return words;
    }

    private static void addRest(char[] chars, boolean[] matched, List<Word> words) {
        int begin = 0;
        CharSetType kind = CharSetType.ETC;
        for (int i = 0; i < chars.length; i++) {
            char c = chars[i];
            CharSetType before = kind;
            kind = matched != null && matched[i] ? CharSetType.EMOTICON : KINDS[c];
            if (i == 0) continue;
            boolean same = before == kind;
            if (same && (kind == CharSetType.ETC || kind == CharSetType.SYMBOL)) {
                same = chars[i - 1] == c;
            }
            if (!same) {
                if (before != CharSetType.EMOTICON) {
                    words.add(new Word(new String(chars, begin, i - begin), before, begin));
                }
                begin = i;
            }
        }
        String last = new String(chars, begin, chars.length - begin);
        if (!last.trim().isEmpty()) words.add(new Word(last, kind, begin));
    }

    private static void findRuns(char[] chars, String set, int least, CharSetType kind,
            List<Word> words) {
        int begin = 0;
        for (int i = 0; i <= chars.length; i++) {
            if (i < chars.length && set.indexOf(chars[i]) >= 0) continue;
            if (i - begin >= least) {
                words.add(new Word(new String(chars, begin, i - begin), kind, begin));
            }
            begin = i + 1;
        }
    }

    /** Adds letters and digits joined by a hyphen; the pattern is quadratic in runs without one. */
    private static void findCombined(char[] chars, CharSetType kind, List<Word> words) {
        int begin = 0;
        while (begin < chars.length) {
            int middle = endOfRun(chars, begin);
            int end = middle;
            if (middle > begin && middle < chars.length && chars[middle] == '-') {
                end = endOfRun(chars, middle + 1);
            }
            if (end > middle + 1) {
                words.add(new Word(new String(chars, begin, end - begin), kind, begin));
                begin = end;
            } else {
                begin = middle + 1;
            }
        }
    }

    /** Returns the end of the letters and digits that start at an offset. */
    private static int endOfRun(char[] chars, int begin) {
        int end = begin;
        while (end < chars.length && isLetterOrDigit(chars[end])) end++;
        return end;
    }

    private static boolean isLetterOrDigit(char c) {
        return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9';
    }

    private static CharSetType[] kinds() {
        CharSetType[] kinds = new CharSetType[1 << 16];
        for (int i = 0; i < kinds.length; i++) kinds[i] = kindOf((char) i);
        return kinds;
    }

    private static CharSetType kindOf(char c) {
        Character.UnicodeBlock block = Character.UnicodeBlock.of(c);
        if (block == Character.UnicodeBlock.HANGUL_SYLLABLES
                || block == Character.UnicodeBlock.HANGUL_COMPATIBILITY_JAMO) {
            return CharSetType.HANGUL;
        }
        if (block == Character.UnicodeBlock.CJK_COMPATIBILITY_IDEOGRAPHS
                || block == Character.UnicodeBlock.CJK_UNIFIED_IDEOGRAPHS) {
            return CharSetType.HANMUN;
        }
        if (c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') return CharSetType.ENGLISH;
        if (c >= '0' && c <= '9') return CharSetType.NUMBER;
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') return CharSetType.SPACE;
        if (block == Character.UnicodeBlock.LETTERLIKE_SYMBOLS
                || block == Character.UnicodeBlock.CJK_COMPATIBILITY
                || block == Character.UnicodeBlock.CJK_SYMBOLS_AND_PUNCTUATION
                || block == Character.UnicodeBlock.HALFWIDTH_AND_FULLWIDTH_FORMS
                || block == Character.UnicodeBlock.BASIC_LATIN) {
            return CharSetType.SYMBOL;
        }
        return CharSetType.ETC;
    }

    private static final String SIGNS = "-^0123456789ㅋㅠㅜㅎㅡ_.<>¬'~(,;)";
    private static final long[] MASKS = masks();

    private static long bit(char c) {
        int sign = c > 127 && c < 'ㄱ' && c != '¬' ? -1 : SIGNS.indexOf(c);
        return sign < 0 ? 0 : 1L << sign;
    }

    private static long[] masks() {
        long[] masks = new long[NUM_PATTERNS];
        for (int number = 0; number < NUM_PATTERNS; number++) {
            if (NEEDED[number] == null) {
                masks[number] = -1;
            } else {
                for (char c : NEEDED[number].toCharArray()) masks[number] |= bit(c);
            }
        }
        return masks;
    }

    private static String[] needed() {
        String[] needed = new String[NUM_PATTERNS];
        for (int number = 0; number < NUM_PATTERNS; number++) {
            String written = KkmaInternals.pattern(number).pattern();
            if (written.equals(LAUGHTER)) {
                needed[number] = "ㅋㅠㅜㅎ";
            } else if (written.startsWith("[-]?[0-9]+")) {
                needed[number] = "0123456789";
            } else if (written.contains("[-][a-zA-Z0-9]+") || written.startsWith("[-](")
                    || written.startsWith("[(][-]")) {
                needed[number] = "-";
            } else if (written.startsWith("[(]T")) {
                needed[number] = "(";
            } else if (written.contains("\\^")) {
                needed[number] = "^";
            } else if (written.startsWith("ㅜ") || written.startsWith("ㅡ[_.]?ㅜ")) {
                needed[number] = "ㅜ";
            } else if (written.startsWith("ㅠ") || written.startsWith("ㅡ[_.]?ㅠ")) {
                needed[number] = "ㅠ";
            } else if (written.startsWith("[ㅡ]")) {
                needed[number] = "ㅡ";
            } else if (written.startsWith("[>]") || written.startsWith("[(][>]")) {
                needed[number] = ">";
            } else if (written.startsWith("[¬]") || written.startsWith("[(][¬]")) {
                needed[number] = "¬";
            } else if (written.startsWith("[(]")) {
                needed[number] = "(";
            } else if (written.contains("[_.]")) {
                needed[number] = "_.";
            }
        }
        return needed;
    }
}
