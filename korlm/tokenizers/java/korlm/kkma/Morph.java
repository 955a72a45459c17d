package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.util.Arrays;
import org.snu.ids.ha.constants.POSTag;
import org.snu.ids.ha.ma.CharSetType;

/**
 * A morpheme with its tag: immutable, shared by all readings that contain it.
 *
 * <p>Its probabilities are looked up once and kept here.
 */
class Morph {
    static final long COMPOSED = Long.MIN_VALUE;
    /** Role of a morpheme in the length covered by the dictionary (see Candidate). */
    static final byte VERB = 1, COPULA = 2, PRE_ENDING = 3, ENDING = 4, PARTICLE = 5, UNKNOWN = 6,
            OTHER = 7;
    private static final float[] NO_FLOATS = {};

    final String text;
    /** Tag bits, and COMPOSED. */
    final long info;
    final long tag;
    final CharSetType charSet;
    final byte kind;
    /** Index of the tag's class in the probabilities. */
    final int tagClass;
    /** Hash of the encoding "text/info", and 31 to the power of its length. */
    final int hash;
    final int power;
    /** log P(tag | text); NaN: not looked up yet. */
    private float exp = Float.NaN;
    /** log P(this | class of the previous morpheme), within an eojeol and across a blank. */
    private float[] intra = NO_FLOATS;
    private float[] inter = NO_FLOATS;

    Morph(String text, long info, CharSetType charSet) {
        this(text, info, charSet, TagSet.of(info));
    }

    private Morph(String text, long info, CharSetType charSet, TagSet bits) {
        this.text = text;
        this.info = info;
        this.tag = info & ~COMPOSED;
        this.charSet = charSet;
        this.kind = kindOf(tag);
        this.tagClass = TagClass.of(tag);
        this.hash = text.hashCode() * bits.slashedPower + bits.slashed;
        this.power = TagSet.power(text.length()) * bits.slashedPower;
    }

    private static final TagSet UN_SET = TagSet.of(UN);

    /** Returns a morpheme for Hangul that is not in the dictionary. */
    static Morph unknown(String text) {
        return new Morph(text, UN, CharSetType.HANGUL, UN_SET);
    }

    private static byte kindOf(long tag) {
        if (tag == UN) return UNKNOWN;
        if ((tag & V) > 0) return tag == VCP ? COPULA : VERB;
        if ((tag & EP) > 0) return PRE_ENDING;
        if ((tag & EM) > 0) return ENDING;
        if ((tag & J) > 0) return PARTICLE;
        return OTHER;
    }

    final boolean isTagOf(long tags) {
        return (tag & tags) > 0;
    }

    final boolean isNieunMieumLieul() {
        if (text.length() != 1) return false;
        char c = text.charAt(0);
        return c == 'ㄴ' || c == 'ㅁ' || c == 'ㄹ';
    }

    /** Returns log P(tag | text). */
    final float exp(Probabilities probabilities) {
        float known = exp;
        return known == known ? known : (exp = probabilities.exp(text, tagClass));
    }

    /** Whether the probabilities contain the text: 0 not looked up yet, 1 no, 2 yes. */
    private byte seen;

    private boolean isUnseen(Probabilities probabilities) {
        if (seen == 0) seen = (byte) (probabilities.isSeen(text) ? 2 : 1);
        return seen == 1;
    }

    /** Returns log P(this | class of the previous morpheme), in the same eojeol. */
    final float intra(int before, Probabilities probabilities) {
        if (isUnseen(probabilities)) return probabilities.unseenIntra(before, tagClass);
        float[] known = intra;
        if (before < known.length && known[before] == known[before]) return known[before];
        float result = probabilities.intra(before, text, tagClass);
        intra = with(known, before, result);
        return result;
    }

    /** Returns log P(this | class of the previous morpheme), across a blank. */
    final float inter(int before, Probabilities probabilities) {
        if (isUnseen(probabilities)) return probabilities.unseenInter(before, tagClass);
        float[] known = inter;
        if (before < known.length && known[before] == known[before]) return known[before];
        float result = probabilities.inter(before, text, tagClass);
        inter = with(known, before, result);
        return result;
    }

    /** Concurrent threads may look a value up twice, but never see an incomplete table. */
    private float[] with(float[] known, int number, float value) {
        if (number < known.length) {
            known[number] = value;
            return known;
        }
        float[] more = Arrays.copyOf(known, Math.max(8, Integer.highestOneBit(number) * 2));
        Arrays.fill(more, known.length, more.length, Float.NaN);
        more[number] = value;
        return more;
    }

    /** Merges two morphemes into one: endings, and the adverb suffix XSM. */
    final Morph joined(Morph next) {
        long joint = tag;
        if (next.tag == XSM) {
            joint = MAG;
        } else if (next.tag != EFR) {
            joint = next.tag;
        } else if (isTagOf(EC) && (text.equals("아") || text.equals("어") || text.equals("구")
                || text.equals("고"))) {
            joint = EFN;
        }
        return new Morph(text + next.text, joint, charSet);
    }

    /** Returns the name of the tag. */
    final String tagName() {
        return POSTag.getTag(tag);
    }

    /** A blank inserted between morphemes, with the conditions on both sides. */
    static final class Blank extends Morph {
        private static final TagSet SW_SET = TagSet.of(SW);
        final TagSet apndbl, having, conds, excluded;
        final long ending;

        Blank(Candidate head, Candidate tail) {
            super(" ", SW, CharSetType.SPACE, SW_SET);
            apndbl = tail.apndbl;
            having = head.having;
            ending = head.ending;
            conds = tail.conds;
            excluded = tail.excluded;
        }
    }
}
