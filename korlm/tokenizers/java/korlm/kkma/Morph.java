package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import java.util.Arrays;
import org.snu.ids.ha.constants.POSTag;
import org.snu.ids.ha.ma.CharSetType;

/**
 * A morpheme with its tag: immutable, shared by all readings that hold it.
 *
 * <p>Probabilities are asked for once and kept here.
 */
class Morph {
    static final long COMPOSED = Long.MIN_VALUE;
    /** What a morpheme does to the length that the dictionary explains (see Candidate). */
    static final byte VERB = 1, COPULA = 2, PRE_ENDING = 3, ENDING = 4, PARTICLE = 5, UNKNOWN = 6,
            OTHER = 7;
    private static final float[] NO_FLOATS = {};

    final String text;
    /** Tag bits, and COMPOSED. */
    final long info;
    final long tag;
    final CharSetType charSet;
    final byte kind;
    /** Number of the tag's class in the probabilities. */
    final int tagClass;
    /** Hash of the encoding "text/info", and 31 to the power of its length. */
    final int hash;
    final int power;
    /** log P(tag | text); NaN: not asked for yet. */
    private float exp = Float.NaN;
    /** log P(this | class of the morpheme before), within an eojeol and across a blank. */
    private float[] intra = NO_FLOATS;
    private float[] inter = NO_FLOATS;

    Morph(String text, long info, CharSetType charSet) {
        this(text, info, charSet, Bits.of(info));
    }

    private Morph(String text, long info, CharSetType charSet, Bits bits) {
        this.text = text;
        this.info = info;
        this.tag = info & ~COMPOSED;
        this.charSet = charSet;
        this.kind = kindOf(tag);
        this.tagClass = TagClass.of(tag);
        this.hash = text.hashCode() * bits.slashedPower + bits.slashed;
        this.power = Bits.power(text.length()) * bits.slashedPower;
    }

    private static final Bits UN_BITS = Bits.of(UN);

    /** Hangul that the dictionary does not hold. */
    static Morph unknown(String text) {
        return new Morph(text, UN, CharSetType.HANGUL, UN_BITS);
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

    /** log P(tag | text). */
    final float exp(Probabilities probabilities) {
        float known = exp;
        return known == known ? known : (exp = probabilities.exp(text, tagClass));
    }

    /** Whether the probabilities know the text: asked once, 0 until then, 1 no, 2 yes. */
    private byte seen;

    private boolean isUnseen(Probabilities probabilities) {
        if (seen == 0) seen = (byte) (probabilities.isSeen(text) ? 2 : 1);
        return seen == 1;
    }

    /** log P(this | the class of the morpheme before), in the same eojeol. */
    final float intra(int before, Probabilities probabilities) {
        if (isUnseen(probabilities)) return probabilities.unseenIntra(before, tagClass);
        float[] known = intra;
        if (before < known.length && known[before] == known[before]) return known[before];
        float found = probabilities.intra(before, text, tagClass);
        intra = with(known, before, found);
        return found;
    }

    /** log P(this | the class of the morpheme before), across a blank. */
    final float inter(int before, Probabilities probabilities) {
        if (isUnseen(probabilities)) return probabilities.unseenInter(before, tagClass);
        float[] known = inter;
        if (before < known.length && known[before] == known[before]) return known[before];
        float found = probabilities.inter(before, text, tagClass);
        inter = with(known, before, found);
        return found;
    }

    /** Threads that meet here may ask twice, and never see half a table. */
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

    /** One morpheme of two: endings, and the adverb-maker XSM. */
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

    /** The tag as Kkma writes it. */
    final String tagName() {
        return POSTag.getTag(tag);
    }

    /** A blank that a reading puts between morphemes; remembers the conditions on its sides. */
    static final class Blank extends Morph {
        private static final Bits BITS = Bits.of(SW);
        final Bits apndbl, having, conds, excluded;
        final long ending;

        Blank(Candidate head, Candidate tail) {
            super(" ", SW, CharSetType.SPACE, BITS);
            apndbl = tail.apndbl;
            having = head.having;
            ending = head.ending;
            conds = tail.conds;
            excluded = tail.excluded;
        }
    }
}
