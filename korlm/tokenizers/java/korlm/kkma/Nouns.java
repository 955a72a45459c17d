package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.snu.ids.ha.constants.POSTag;
import org.snu.ids.ha.index.WordDic;
import org.snu.ids.ha.ma.CharSetType;

/** Kkma's nouns of a line, exactly as those of its KeywordExtractor. */
final class Nouns {
    private static final HashSet<String> UNITS = new WordDic("/dic/ecat/UOM.dic");
    private static final HashSet<String> FORMULAS = new WordDic("/dic/ecat/ChemFormula.dic");
    private static final HashSet<String> COMPOUNDS = new WordDic("/dic/ecat/CompNoun.dic");
    private static final HashSet<String> JUNK = new WordDic("/dic/ecat/JunkWord.dic");
    /** Morphemes of a unit, formula or compound. */
    private static final int MAX_MORPHEMES = 8;
    /** Adjacent nouns that are joined to a compound. */
    private static final int MAX_NOUNS = 4;

    private Nouns() {}

    /**
     * Returns the nouns of a line in their order, each once.
     *
     * @param compounds parts of the compound nouns of the dictionary
     */
    static List<String> of(List<TokenGroup> groups, Map<String, String[]> compounds) {
        ArrayList<TokenGroup.Token> tokens = new ArrayList<>();
        for (TokenGroup group : groups) {
            if (group.tokens.size() == 1) group.tokens.get(0).text = group.text;
            tokens.addAll(group.tokens);
        }
        mergeTerms(tokens);
        ArrayList<TokenGroup.Token> nouns = new ArrayList<>();
        for (TokenGroup.Token token : tokens) {
            token.text = token.text.toLowerCase(Locale.ROOT);
            if (token.isTagOf(N) && !JUNK.contains(token.text)) {
                nouns.add(new TokenGroup.Token(token));
            }
        }
        addCompounds(nouns, tokens);
        // In Kkma a last word that is junk removes all of them.
        if (JUNK.contains(tokens.get(tokens.size() - 1).text)) nouns.clear();
        nouns.removeIf(noun -> noun.isTagOf(XP | XS | VX));
        addParts(nouns, compounds);
        nouns.sort(Comparator.<TokenGroup.Token>comparingInt(noun -> noun.index)
                .thenComparingInt(noun -> noun.text.length()));
        ArrayList<String> texts = new ArrayList<>();
        LinkedHashSet<String> seen = new LinkedHashSet<>();
        for (TokenGroup.Token noun : nouns) {
            String tag = POSTag.getTag(noun.info & ~Morph.COMPOSED);
            if (seen.add(noun.text + ":" + tag)) texts.add(noun.text);
        }
        return texts;
    }

    /** Merges morphemes that together are a unit of measure, a formula or a compound noun. */
    private static void mergeTerms(List<TokenGroup.Token> tokens) {
        for (int last = tokens.size() - 1; last > 0; last--) {
            for (int first = Math.max(last - MAX_MORPHEMES + 1, 0); first < last; first++) {
                StringBuilder joined = new StringBuilder();
                for (int i = first; i <= last; i++) joined.append(tokens.get(i).text);
                String text = joined.toString();
                boolean isUnit = UNITS.contains(text);
                boolean isFormula = !isUnit && FORMULAS.contains(text);
                if (!isUnit && !isFormula && !COMPOUNDS.contains(text)) continue;
                tokens.subList(first + 1, last + 1).clear();
                last = first;
                if (!isUnit && !isFormula && JUNK.contains(text)) continue;
                TokenGroup.Token token = tokens.get(first);
                token.text = text;
                token.charSet = CharSetType.COMBINED;
                token.setTag(isUnit ? NNM : isFormula ? UN : NNG);
                if (!isUnit && !isFormula) token.info |= Morph.COMPOSED;
            }
        }
    }

    /** Adds compounds of two to four nouns without a blank between them. */
    private static void addCompounds(List<TokenGroup.Token> nouns, List<TokenGroup.Token> tokens) {
        for (int i = 0; i < tokens.size(); i++) {
            int end = i + 1;
            StringBuilder text = new StringBuilder(tokens.get(i).text);
            while (end < tokens.size() && end - i < MAX_NOUNS && areAdjacent(tokens, end - 1)) {
                text.append(tokens.get(end++).text);
            }
            if (end == i + 1) continue;
            TokenGroup.Token compound = new TokenGroup.Token(tokens.get(i));
            compound.info |= Morph.COMPOSED;
            compound.text = text.toString();
            nouns.add(compound);
            i = end - 1;
        }
    }

    private static boolean areAdjacent(List<TokenGroup.Token> tokens, int i) {
        TokenGroup.Token one = tokens.get(i);
        TokenGroup.Token two = tokens.get(i + 1);
        return one.isTagOf(NN) && two.isTagOf(NN) && one.index + one.text.length() == two.index;
    }

    /** Adds the parts of compound nouns that the dictionary lists. */
    private static void addParts(List<TokenGroup.Token> nouns, Map<String, String[]> compounds) {
        int size = nouns.size();
        for (int i = 0; i < size; i++) {
            TokenGroup.Token noun = nouns.get(i);
            String[] parts = noun.info < 0 ? compounds.get(noun.text) : null;
            if (parts == null) continue;
            int index = noun.index;
            for (String part : parts) {
                if (JUNK.contains(part)) continue;
                TokenGroup.Token added = new TokenGroup.Token(noun);
                added.text = part;
                added.info &= ~Morph.COMPOSED;
                added.index = index;
                index += part.length();
                nouns.add(added);
            }
        }
    }
}
