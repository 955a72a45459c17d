package korlm.kkma;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.StringTokenizer;
import org.snu.ids.ha.constants.POSTag;
import org.snu.ids.ha.dic.Dictionary;
import org.snu.ids.ha.ma.MCandidate;

/**
 * Words that users add to the dictionary, in the format of Kkma's dic/noun.dic.
 *
 * <p>The result is the same as if they were the lines of dic/person.dic, which is empty in Kkma and
 * loaded between simple.dic and kcc.dic. korlm/tokenizers/kkma/user_dictionary.py checks the lines.
 */
final class UserWords {
    /** Readings by text; a verb has several texts. */
    final Map<String, List<MCandidate>> readings = new LinkedHashMap<>();
    /** Parts of compound nouns. */
    final Map<String, String[]> compounds = new HashMap<>();

    UserWords(String lines) {
        for (String line : lines.split("\n")) if (!line.isEmpty()) add(line);
    }

    private void add(String line) {
        int semicolon = line.indexOf(';');
        String morpheme = semicolon < 0 ? line : line.substring(0, semicolon);
        String word = morpheme.substring(0, morpheme.indexOf('/'));
        HashMap<String, String> conditions = new HashMap<>();
        if (semicolon >= 0) {
            StringTokenizer tokens =
                    new StringTokenizer(line.substring(semicolon + 1), "#&@\uffe2$", true);
            while (tokens.hasMoreTokens()) {
                String sign = tokens.nextToken();
                String list = tokens.nextToken();
                conditions.put(sign, list.substring(1, list.length() - 1));
            }
        }
        MCandidate candidate = MCandidate.create(word, morpheme, conditions.get("#"),
                conditions.get("&"), conditions.get("@"), conditions.get("\uffe2"));
        put(word, candidate);
        if (candidate.isTagOf(POSTag.V | POSTag.XSV | POSTag.XSA)) {
            for (MCandidate form : Dictionary.getVerbExtendedMC(candidate)) {
                put(form.getExp(), form);
            }
        } else if (conditions.containsKey("$")) {
            compounds.put(word, conditions.get("$").split("[+]"));
        }
    }

    private void put(String text, MCandidate candidate) {
        readings.computeIfAbsent(text, key -> new ArrayList<>()).add(candidate);
    }
}
