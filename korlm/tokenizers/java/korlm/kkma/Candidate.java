package korlm.kkma;

import static org.snu.ids.ha.constants.POSTag.*;

import org.snu.ids.ha.constants.Condition;
import org.snu.ids.ha.ma.CharSetType;
import org.snu.ids.ha.ma.MCandidate;
import org.snu.ids.ha.ma.Morpheme;
import org.snu.ids.ha.ma.KkmaInternals;

/**
 * One reading of a span of text: immutable and without a position, so that it can be cached and
 * shared. All its numbers equal those of Kkma's MCandidate.
 */
final class Candidate {
    static final int[] NO_CUTS = {};

    final Morph[] morphs;
    /** Offsets of the blanks that the reading inserts into the text, ascending. */
    final int[] cuts;
    /** Tags allowed for the previous morpheme. */
    final TagSet apndbl;
    /** Conditions that it fulfills for the next reading. */
    final TagSet having;
    /** Conditions required of the previous reading, and conditions excluded there. */
    final TagSet conds, excluded;
    /** Conditions that it fulfills for endings. */
    final long ending;
    /** Characters covered by the dictionary: certainly, and possibly. Bytes as in Kkma. */
    final byte known, perhaps;
    /** log-probabilities. */
    final float spacing, tagging;
    /** For Kkma, readings are equal if the hashes of their encodings are. */
    final int hash;
    /** Indices of the first morphemes of the second and later tokens; null: one token. */
    final int[] tokenStarts;
    /** Set after construction, in tracking searches only (see Places); null: not derived. */
    int[] places;

    Candidate(Morph[] morphs, int[] cuts, TagSet apndbl, TagSet having, TagSet conds,
            TagSet excluded, long ending, byte known, byte perhaps, float spacing, float tagging,
            int hash, int[] tokenStarts) {
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
        this.tokenStarts = tokenStarts;
    }

    /** Returns a reading that a user has added to the dictionary. */
    static Candidate ofUser(MCandidate original, String text, Lexicon lexicon) {
        return ofDictionary(morphsOf(original), TagSet.of(original.getATLEnc()),
                TagSet.of(original.getHCLEnc()), TagSet.of(original.getCCLEnc()),
                TagSet.of(original.getECLEnc()), KkmaInternals.endingConditions(original),
                original.getRealDicLen(), original.getCandDicLen(),
                spacingOf(text, NO_CUTS, lexicon), lexicon.probabilities);
    }

    /** Returns a reading of the dictionary. */
    static Candidate ofDictionary(Morph[] morphs, TagSet apndbl, TagSet having, TagSet conds,
            TagSet excluded, long ending, byte known, byte perhaps, float spacing,
            Probabilities probabilities) {
        return new Candidate(morphs, NO_CUTS, apndbl, having, conds, excluded, ending, known,
                perhaps, spacing, taggingOf(morphs, probabilities),
                hashOf(morphs, apndbl, having, conds, excluded), null);
    }

    /** Returns the reading of Hangul that is not in the dictionary. */
    static Candidate unknown(String text, Lexicon lexicon) {
        Morph[] morphs = {Morph.unknown(text)};
        TagSet having = lexicon.unknownHaving(text.charAt(text.length() - 1));
        int hash = hashOf(morphs, TagSet.NONE, having, TagSet.NONE, TagSet.NONE);
        return new Candidate(morphs, NO_CUTS, TagSet.NONE, having, TagSet.NONE, TagSet.NONE, 0,
                (byte) 0, (byte) 0, spacingOf(text, NO_CUTS, lexicon),
                lexicon.unknownTagging(text), hash, null);
    }

    /** Copies Kkma's candidate for a token that is not Hangul, which has no probabilities. */
    static Candidate foreign(MCandidate original) {
        return new Candidate(morphsOf(original), NO_CUTS, TagSet.of(original.getATLEnc()),
                TagSet.of(original.getHCLEnc()), TagSet.of(original.getCCLEnc()),
                TagSet.of(original.getECLEnc()), KkmaInternals.endingConditions(original),
                original.getRealDicLen(), original.getCandDicLen(), 0, 0, original.hashCode(),
                null);
    }

    private static Morph[] morphsOf(MCandidate original) {
        Morph[] morphs = new Morph[original.size()];
        for (int i = 0; i < morphs.length; i++) {
            Morpheme morpheme = original.get(i);
            long info = morpheme.getTagNum() | (morpheme.isComposed() ? Morph.COMPOSED : 0);
            morphs[i] = new Morph(morpheme.getString(), info, morpheme.getCharSet());
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

    /** Returns whether {@code next} may follow within an eojeol. */
    boolean accepts(Candidate next) {
        return accepts(next.apndbl.mask, next.conds.mask, next.excluded.mask,
                next.first().isTagOf(E));
    }

    boolean accepts(long apndbl, long required, long excluded, boolean isEnding) {
        long have = having.mask;
        if ((have & Condition.F) == Condition.F) return false;
        if (!last().isTagOf(apndbl)) return false;
        if ((have & required) != required) return false;
        if ((have & excluded) > 0) return false;
        return !isEnding || (required & ending) == ending;
    }

    private static final long NEEDS_NEXT = V | EP | XP;
    private static final long NEEDS_BEFORE = E | XS | VCP | J;

    /** Returns whether {@code next} may follow after a blank. */
    boolean acceptsAfterBlank(Candidate next) {
        return acceptsAfterBlank(next.first().tag, next.shortens());
    }

    boolean acceptsAfterBlank(long nextTag, boolean nextShortens) {
        return !last().isTagOf(NEEDS_NEXT) && (nextTag & NEEDS_BEFORE) <= 0 && !nextShortens;
    }

    boolean shortens() {
        return (having.mask & Condition.SHORTEN) == Condition.SHORTEN;
    }

    /**
     * Returns this reading, of {@code length} characters, followed by another; null: not allowed.
     *
     * @param together log-probability of no blank between the two texts
     * @param apart log-probability of a blank between them
     */
    Candidate followedBy(Candidate next, int length, int nextLength, float together, float apart,
            boolean trackTokens, Lexicon lexicon) {
        boolean takes = accepts(next);
        if (!takes && !acceptsAfterBlank(next)) return null;
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
            allCuts = concatBlanks(cuts, length, next.cuts);
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
        TagSet offered = next.having;
        float nextSpacing = spacing + next.spacing + (takes ? together : apart);
        int hash = hashOf(all, apndbl, offered, conds, excluded);
        int lengths = explainedBy(all, allCuts, length + nextLength);
        int[] allTokenStarts = trackTokens ? concatTokenStarts(tokenStarts, size, next) : null;
        return new Candidate(all, allCuts, apndbl, offered, conds, excluded, next.ending,
                (byte) (lengths >> 8), (byte) lengths, nextSpacing,
                taggingOf(all, lexicon.probabilities), hash, allTokenStarts);
    }

    /** Joins two adjacent tokens that are not Hangul; keeps the conditions of the first one. */
    Candidate with(Candidate next) {
        Morph[] all = new Morph[morphs.length + next.morphs.length];
        System.arraycopy(morphs, 0, all, 0, morphs.length);
        System.arraycopy(next.morphs, 0, all, morphs.length, next.morphs.length);
        return new Candidate(all, NO_CUTS, apndbl, having, conds, excluded, ending, known, perhaps,
                spacing, tagging, hash, concatTokenStarts(tokenStarts, morphs.length, next));
    }

    private static int[] concatTokenStarts(int[] tokenStarts, int size, Candidate next) {
        int before = tokenStarts == null ? 0 : tokenStarts.length;
        int after = next.tokenStarts == null ? 0 : next.tokenStarts.length;
        int[] all = new int[before + 1 + after];
        if (before > 0) System.arraycopy(tokenStarts, 0, all, 0, before);
        all[before] = size;
        for (int i = 0; i < after; i++) all[before + 1 + i] = size + next.tokenStarts[i];
        return all;
    }

    private static int[] concatBlanks(int[] cuts, int length, int[] next) {
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

    /** Returns the index of the blank after {@code length} characters; -1: none. */
    int cutAt(int length) {
        for (int i = 0; i < cuts.length; i++) {
            if (cuts[i] == length) return i;
        }
        return -1;
    }

    /** Returns whether an unknown morpheme is next to a blank. */
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

    /** Splits the reading at a blank. */
    Candidate[] splitAt(int cut, String head, String tail, Lexicon lexicon) {
        int at = blankAt(cut);
        Morph.Blank blank = (Morph.Blank) morphs[at];
        Morph[] before = java.util.Arrays.copyOfRange(morphs, 0, at);
        Morph[] after = java.util.Arrays.copyOfRange(morphs, at + 1, morphs.length);
        int[] cutsBefore = java.util.Arrays.copyOfRange(cuts, 0, cut);
        int[] cutsAfter = java.util.Arrays.copyOfRange(cuts, cut + 1, cuts.length);
        for (int i = 0; i < cutsAfter.length; i++) cutsAfter[i] -= head.length();
        // As in Kkma, the second part requires the conditions of the first part's ending.
        TagSet required = TagSet.of(blank.ending);
        return new Candidate[] {
            part(before, cutsBefore, head, apndbl, blank.having, conds, excluded, blank.ending,
                    lexicon),
            part(after, cutsAfter, tail, blank.apndbl, having, required, blank.excluded, ending,
                    lexicon),
        };
    }

    private static Candidate part(Morph[] morphs, int[] cuts, String text, TagSet apndbl,
            TagSet having, TagSet conds, TagSet excluded, long ending, Lexicon lexicon) {
        int lengths = explainedBy(morphs, cuts, text.length());
        return new Candidate(morphs, cuts, apndbl, having, conds, excluded, ending,
                (byte) (lengths >> 8), (byte) lengths, spacingOf(text, cuts, lexicon),
                taggingOf(morphs, lexicon.probabilities),
                hashOf(morphs, apndbl, having, conds, excluded), null);
    }

    /** Sums from left to right, in Kkma's order of float additions. */
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

    /** Sums over the characters from left to right; a blank counts as in Kkma. */
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

    /** Returns known << 8 | perhaps (see the fields), summed over eojeols in byte arithmetic. */
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

    /** Returns the hash of the string "m/i+m/i!a!h!c!e" without building it (see TagSet). */
    private static int hashOf(Morph[] morphs, TagSet apndbl, TagSet having, TagSet conds,
            TagSet excluded) {
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
