package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import org.snu.ids.ha.constants.Condition;
import org.snu.ids.ha.ma.CharSetType;
import org.snu.ids.ha.ma.MCandidate;
import org.snu.ids.ha.ma.Morpheme;
import org.snu.ids.ha.ma.Window;

/**
 * One reading of a stretch of text: immutable, without a position, so that readings can be kept and
 * shared. Says in every number what Kkma's own candidate would say.
 */
final class Candidate {
    static final int[] NO_CUTS = {};

    final Morph[] morphs;
    /** Characters before each blank that the reading puts into the text, ascending. */
    final int[] cuts;
    /** Tags that may stand before it. */
    final Bits apndbl;
    /** Conditions that it offers to what follows. */
    final Bits having;
    /** Conditions that it asks of what stands before it, and those that it cannot bear there. */
    final Bits conds, excluded;
    /** Conditions that it offers to endings. */
    final long ending;
    /** Characters that the dictionary explains: for certain, and perhaps. Bytes as in Kkma. */
    final byte known, perhaps;
    /** log-probabilities. */
    final float spacing, tagging;
    /** Kkma's readings are equal when the hashes of their encodings are. */
    final int hash;
    /** Where the morphemes of the second and later tokens begin, or null: one token. */
    final int[] joints;

    Candidate(Morph[] morphs, int[] cuts, Bits apndbl, Bits having, Bits conds, Bits excluded,
            long ending, byte known, byte perhaps, float spacing, float tagging, int hash,
            int[] joints) {
        this.morphs = morphs;
        this.cuts = cuts;
        this.apndbl = apndbl;
        this.having = having;
        this.conds = conds;
        this.excluded = excluded;
        this.ending = ending;
        this.known = known;
        this.perhaps = perhaps;
        this.spacing = spacing;
        this.tagging = tagging;
        this.hash = hash;
        this.joints = joints;
    }

    /** A copy of what Kkma's dictionary holds for {@code text}. */
    static Candidate ofDictionary(MCandidate theirs, String text, Lexicon lexicon) {
        Morph[] morphs = morphsOf(theirs, lexicon);
        return new Candidate(morphs, NO_CUTS, Bits.of(theirs.getATLEnc()),
                Bits.of(theirs.getHCLEnc()), Bits.of(theirs.getCCLEnc()),
                Bits.of(theirs.getECLEnc()), Window.endingConditions(theirs),
                theirs.getRealDicLen(), theirs.getCandDicLen(), spacingOf(text, NO_CUTS, lexicon),
                taggingOf(morphs, lexicon.probabilities), theirs.hashCode(), null);
    }

    /** Hangul that the dictionary does not hold. */
    static Candidate unknown(String text, Lexicon lexicon) {
        Morph[] morphs = {Morph.unknown(text)};
        Bits having = lexicon.unknownHaving(text.charAt(text.length() - 1));
        int hash = hashOf(morphs, Bits.NONE, having, Bits.NONE, Bits.NONE);
        return new Candidate(morphs, NO_CUTS, Bits.NONE, having, Bits.NONE, Bits.NONE, 0, (byte) 0,
                (byte) 0, spacingOf(text, NO_CUTS, lexicon), lexicon.unknownTagging(text), hash,
                null);
    }

    /** A token that is not Hangul: no probabilities, no hash, as in Kkma. */
    static Candidate foreign(MCandidate theirs, Lexicon lexicon) {
        return new Candidate(morphsOf(theirs, lexicon), NO_CUTS, Bits.of(theirs.getATLEnc()),
                Bits.of(theirs.getHCLEnc()), Bits.of(theirs.getCCLEnc()),
                Bits.of(theirs.getECLEnc()), Window.endingConditions(theirs),
                theirs.getRealDicLen(), theirs.getCandDicLen(), 0, 0, theirs.hashCode(), null);
    }

    private static Morph[] morphsOf(MCandidate theirs, Lexicon lexicon) {
        Morph[] morphs = new Morph[theirs.size()];
        for (int i = 0; i < morphs.length; i++) {
            Morpheme morpheme = theirs.get(i);
            long info = morpheme.getTagNum() | (morpheme.isComposed() ? Morph.COMPOSED : 0);
            morphs[i] = lexicon.morph(morpheme.getString(), info, morpheme.getCharSet());
        }
        return morphs;
    }

    Morph first() {
        return morphs[0];
    }

    Morph last() {
        return morphs[morphs.length - 1];
    }

    float logProb() {
        return spacing + tagging;
    }

    int explained() {
        return perhaps + known;
    }

    boolean isForeign() {
        return last().charSet != CharSetType.HANGUL;
    }

    /** Whether {@code next} may follow within an eojeol. */
    boolean takes(Candidate next) {
        return takes(next.apndbl.mask, next.conds.mask, next.excluded.mask,
                next.first().isTagOf(E));
    }

    boolean takes(long apndbl, long asked, long excluded, boolean isEnding) {
        long have = having.mask;
        if ((have & Condition.F) == Condition.F) return false;
        if (!last().isTagOf(apndbl)) return false;
        if ((have & asked) != asked) return false;
        if ((have & excluded) > 0) return false;
        return !isEnding || (asked & ending) == ending;
    }

    private static final long NEEDS_NEXT = V | EP | XP;
    private static final long NEEDS_BEFORE = E | XS | VCP | J;

    /** Whether {@code next} may follow after a blank. */
    boolean takesAfterBlank(Candidate next) {
        return takesAfterBlank(next.first().tag, next.shortens());
    }

    boolean takesAfterBlank(long nextTag, boolean nextShortens) {
        return !last().isTagOf(NEEDS_NEXT) && (nextTag & NEEDS_BEFORE) <= 0 && !nextShortens;
    }

    boolean shortens() {
        return (having.mask & Condition.SHORTEN) == Condition.SHORTEN;
    }

    /**
     * This reading of a text of {@code length} characters followed by another, or null.
     *
     * @param together log-probability of no blank between the two texts
     * @param apart the same of a blank
     */
    Candidate followedBy(Candidate next, int length, int nextLength, float together, float apart,
            boolean tellTokens, Lexicon lexicon) {
        boolean takes = takes(next);
        if (!takes && !takesAfterBlank(next)) return null;
        Morph last = last();
        Morph first = next.first();
        if (takes && (last.tag == XPN || first.tag == XSN)
                && lexicon.isNoun(last.text + first.text)) {
            return null;
        }
        int size = morphs.length;
        int nextSize = next.morphs.length;
        Morph[] all;
        int[] allCuts = cuts;
        if (!takes) {
            all = new Morph[size + 1 + nextSize];
            System.arraycopy(morphs, 0, all, 0, size);
            all[size] = new Morph.Blank(this, next);
            System.arraycopy(next.morphs, 0, all, size + 1, nextSize);
            allCuts = cutsWith(cuts, length, next.cuts);
        } else {
            Morph narrowed = lexicon.narrowed(last, next.apndbl.mask);
            boolean joins = last.isTagOf(EM) && first.isTagOf(EM) || first.isTagOf(XSM);
            int skipped = joins ? 1 : 0;
            all = new Morph[size + nextSize - skipped];
            System.arraycopy(morphs, 0, all, 0, size);
            all[size - 1] = joins ? lexicon.joined(narrowed, first) : narrowed;
            System.arraycopy(next.morphs, skipped, all, size, nextSize - skipped);
            if (next.cuts.length > 0) allCuts = shifted(cuts, length, next.cuts);
        }
        Bits offered = next.having;
        float nextSpacing = spacing + next.spacing + (takes ? together : apart);
        int hash = hashOf(all, apndbl, offered, conds, excluded);
        int lengths = explainedBy(all, allCuts, length + nextLength);
        int[] allJoints = tellTokens ? jointsWith(joints, size, next) : null;
        return new Candidate(all, allCuts, apndbl, offered, conds, excluded, next.ending,
                (byte) (lengths >> 8), (byte) lengths, nextSpacing,
                taggingOf(all, lexicon.probabilities), hash, allJoints);
    }

    /** Two tokens that are not Hangul, written together: one unit with the first one's conditions. */
    Candidate with(Candidate next) {
        Morph[] all = new Morph[morphs.length + next.morphs.length];
        System.arraycopy(morphs, 0, all, 0, morphs.length);
        System.arraycopy(next.morphs, 0, all, morphs.length, next.morphs.length);
        return new Candidate(all, NO_CUTS, apndbl, having, conds, excluded, ending, known, perhaps,
                spacing, tagging, hash, jointsWith(joints, morphs.length, next));
    }

    private static int[] jointsWith(int[] joints, int size, Candidate next) {
        int before = joints == null ? 0 : joints.length;
        int after = next.joints == null ? 0 : next.joints.length;
        int[] all = new int[before + 1 + after];
        if (before > 0) System.arraycopy(joints, 0, all, 0, before);
        all[before] = size;
        for (int i = 0; i < after; i++) all[before + 1 + i] = size + next.joints[i];
        return all;
    }

    private static int[] cutsWith(int[] cuts, int length, int[] next) {
        int[] all = new int[cuts.length + 1 + next.length];
        System.arraycopy(cuts, 0, all, 0, cuts.length);
        all[cuts.length] = length;
        for (int i = 0; i < next.length; i++) all[cuts.length + 1 + i] = length + next[i];
        return all;
    }

    private static int[] shifted(int[] cuts, int length, int[] next) {
        int[] all = new int[cuts.length + next.length];
        System.arraycopy(cuts, 0, all, 0, cuts.length);
        for (int i = 0; i < next.length; i++) all[cuts.length + i] = length + next[i];
        return all;
    }

    /** Whether the reading has a blank after {@code length} characters; its number, else -1. */
    int cutAt(int length) {
        for (int i = 0; i < cuts.length; i++) {
            if (cuts[i] == length) return i;
        }
        return -1;
    }

    /** Whether an unknown stretch stands on either side of a blank. */
    boolean isUnknownBeside(int cut) {
        int at = blankAt(cut);
        return at >= 0 && at < morphs.length - 1
                && (morphs[at + 1].tag == UN || morphs[at - 1].tag == UN);
    }

    private int blankAt(int cut) {
        int seen = 0;
        for (int i = 0; i < morphs.length; i++) {
            if (morphs[i] instanceof Morph.Blank && seen++ == cut) return i;
        }
        return -1;
    }

    /** The readings before and after a blank of this one. */
    Candidate[] divided(int cut, String head, String tail, Lexicon lexicon) {
        int at = blankAt(cut);
        Morph.Blank blank = (Morph.Blank) morphs[at];
        Morph[] before = java.util.Arrays.copyOfRange(morphs, 0, at);
        Morph[] after = java.util.Arrays.copyOfRange(morphs, at + 1, morphs.length);
        int[] cutsBefore = java.util.Arrays.copyOfRange(cuts, 0, cut);
        int[] cutsAfter = java.util.Arrays.copyOfRange(cuts, cut + 1, cuts.length);
        for (int i = 0; i < cutsAfter.length; i++) cutsAfter[i] -= head.length();
        // Kkma takes the conditions that the part behind asks from the part before: kept.
        Bits asked = Bits.of(blank.ending);
        return new Candidate[] {
            part(before, cutsBefore, head, apndbl, blank.having, conds, excluded, blank.ending, lexicon),
            part(after, cutsAfter, tail, blank.apndbl, having, asked, blank.excluded, ending, lexicon),
        };
    }

    private static Candidate part(Morph[] morphs, int[] cuts, String text, Bits apndbl,
            Bits having, Bits conds, Bits excluded, long ending, Lexicon lexicon) {
        int lengths = explainedBy(morphs, cuts, text.length());
        return new Candidate(morphs, cuts, apndbl, having, conds, excluded, ending,
                (byte) (lengths >> 8), (byte) lengths, spacingOf(text, cuts, lexicon),
                taggingOf(morphs, lexicon.probabilities),
                hashOf(morphs, apndbl, having, conds, excluded), null);
    }

    /** Sums left to right, as Kkma adds its floats. */
    static float taggingOf(Morph[] morphs, Probabilities probabilities) {
        float sum = 0;
        Morph before = null;
        boolean together = true;
        for (Morph morph : morphs) {
            if (morph instanceof Morph.Blank) {
                together = false;
                continue;
            }
            sum += morph.exp(probabilities);
            if (before != null) {
                if (!together) {
                    sum += morph.inter(before.tagClass, probabilities);
                    together = true;
                } else if (!(before.isTagOf(XS) && morph.isNieunMieumLieul())) {
                    sum += morph.intra(before.tagClass, probabilities);
                }
            }
            before = morph;
        }
        return sum;
    }

    /** Sums left to right over the characters; a blank counts between its neighbours as in Kkma. */
    static float spacingOf(String text, int[] cuts, Lexicon lexicon) {
        if (text.isEmpty()) return Float.MIN_VALUE;
        float sum = 0;
        int cut = 0;
        for (int i = 0; i + 1 < text.length(); i++) {
            if (cut < cuts.length && cuts[cut] == i + 1) {
                sum += lexicon.probabilities.spacing(text.charAt(i), ' ', true);
                cut++;
            } else {
                sum += lexicon.probabilities.spacing(text.charAt(i), text.charAt(i + 1), false);
            }
        }
        return sum;
    }

    /** Characters that the dictionary explains, eojeol by eojeol: known << 8 | perhaps, bytes. */
    private static int explainedBy(Morph[] morphs, int[] cuts, int length) {
        byte known = 0;
        byte perhaps = 0;
        int size = (byte) morphs.length;
        int segment = 0;
        int unknown = 0;
        boolean content = false, particle = false, verb = false, preEnding = false, ending = false;
        for (int i = 0; i <= size; i++) {
            Morph morph = i < size ? morphs[i] : null;
            if (morph == null || morph instanceof Morph.Blank) {
                int begin = segment == 0 ? 0 : cuts[segment - 1];
                int end = segment < cuts.length ? cuts[segment] : length;
                boolean whole = (!preEnding || verb == ending) && (!particle || content);
                if (whole) {
                    known = (byte) (known + (end - begin - unknown));
                } else {
                    perhaps = (byte) (perhaps + (end - begin - unknown));
                }
                if (morph == null && size == 2 && morphs[morphs.length - 1].isTagOf(J)
                        && morphs[0].tag == UN) {
                    perhaps = (byte) (perhaps + unknown - 1);
                }
                content = particle = verb = preEnding = ending = false;
                unknown = 0;
                segment++;
                continue;
            }
            switch (morph.kind) {
                case Morph.COPULA:
                    particle = true;
                    verb = true;
                    content = true;
                    break;
                case Morph.VERB:
                    verb = true;
                    content = true;
                    break;
                case Morph.PRE_ENDING:
                    preEnding = true;
                    content = true;
                    break;
                case Morph.ENDING:
                    ending = true;
                    content = true;
                    break;
                case Morph.PARTICLE:
                    particle = true;
                    break;
                case Morph.UNKNOWN:
                    unknown += morph.text.length();
                    content = true;
                    break;
                default:
                    content = true;
            }
        }
        return (known & 0xff) << 8 | perhaps & 0xff;
    }

    /** Hash of "m/i+m/i!a!h!c!e" without writing it: a String's hash is a polynomial in 31. */
    private static int hashOf(Morph[] morphs, Bits apndbl, Bits having, Bits conds, Bits excluded) {
        int hash = 0;
        for (int i = 0; i < morphs.length; i++) {
            if (i > 0) hash = hash * 31 + '+';
            hash = hash * morphs[i].power + morphs[i].hash;
        }
        hash = hash * apndbl.markedPower + apndbl.marked;
        hash = hash * having.markedPower + having.marked;
        hash = hash * conds.markedPower + conds.marked;
        return hash * excluded.markedPower + excluded.marked;
    }
}
