"""Error rates of hypotheses against references, counted by jiwer.

Spacing is often optional in Korean, so characters are counted with and without spaces; words are
eojeols. Errors are summed over a whole test set and divided once.

Axes: U utterances, M hypotheses of all of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from korlm.config import ErrorRate
from korlm.evaluation.token_scores import Ints
from korlm.rescoring.lm_scorer import normalize_spaces
from korlm.rescoring.nbest import NBest
from korlm.utils.errors import ConfigError, install_command

NAMES = {
    ErrorRate.cer: "CER",
    ErrorRate.cer_no_blanks: "CER without blanks",
    ErrorRate.wer: "WER (eojeols)",
}
VARIANTS = ("before", "after", "oracle")

Counts = dict[ErrorRate, Ints]


def check_jiwer(key: str) -> None:
    """Raise ``ConfigError`` if jiwer is missing; ``key`` is the setting that needs it."""
    if importlib.util.find_spec("jiwer") is None:
        raise ConfigError(f"{key}: error rates need jiwer: {install_command('jiwer')}")


def count_errors(batch: Sequence[NBest], references: Mapping[str, str]) -> tuple[Counts, Counts]:
    """Count substitutions, insertions and deletions of each hypothesis.

    Args:
        batch: U n-best lists.
        references: utterance -> reference text.

    Returns:
        Errors, (M,) for each error rate; lengths of the references, (U,) for each error rate.
    """
    references_of = [normalize_spaces(references[nbest.utt]) for nbest in batch]
    hyps = [normalize_spaces(hyp.text) for nbest in batch for hyp in nbest.hyps]
    utterance_of = [n for n, nbest in enumerate(batch) for _ in nbest.hyps]
    errors, lengths = {}, {}
    for rate in ErrorRate:
        texts = [_normalize(text, rate) for text in references_of]
        errors[rate] = _errors(
            [texts[n] for n in utterance_of], [_normalize(hyp, rate) for hyp in hyps], rate
        )
        units = [text.split() if rate is ErrorRate.wer else text for text in texts]
        lengths[rate] = np.array([len(unit) for unit in units], dtype=np.int64)
    return errors, lengths


def _normalize(text: str, rate: ErrorRate) -> str:
    return text.replace(" ", "") if rate is ErrorRate.cer_no_blanks else text


def _errors(references: list[str], hyps: list[str], rate: ErrorRate) -> Ints:
    import jiwer

    process = jiwer.process_words if rate is ErrorRate.wer else jiwer.process_characters
    errors = [
        sum(
            max(part.ref_end_idx - part.ref_start_idx, part.hyp_end_idx - part.hyp_start_idx)
            for part in alignment
            if part.type != "equal"
        )
        for alignment in process(references, hyps).alignments
    ]
    return np.array(errors, dtype=np.int64)


def _zeros() -> dict[ErrorRate, int]:
    return dict.fromkeys(ErrorRate, 0)


@dataclass
class ErrorTally:
    """Sums of errors of the first hypotheses before and after rescoring, and of the best ones.

    Attributes:
        errors: before, after, oracle -> errors for each error rate.
        lengths: of the references.
        num_utterances: U.
        num_hyps: M.
    """

    errors: dict[str, dict[ErrorRate, int]] = field(
        default_factory=lambda: {variant: _zeros() for variant in VARIANTS}
    )
    lengths: dict[ErrorRate, int] = field(default_factory=_zeros)
    num_utterances: int = 0
    num_hyps: int = 0

    def add(self, errors: Counts, lengths: Counts, sizes: Ints, chosen: Ints) -> None:
        """Add some utterances.

        Args:
            errors: (M,) for each error rate.
            lengths: (U,) for each error rate.
            sizes: (U,), number of hypotheses.
            chosen: (U,), index of the best hypothesis after rescoring among all M.
        """
        starts = np.cumsum(sizes) - sizes
        for rate in ErrorRate:
            batch_errors = errors[rate]
            self.errors["before"][rate] += int(batch_errors[starts].sum())
            self.errors["after"][rate] += int(batch_errors[chosen].sum())
            self.errors["oracle"][rate] += int(np.minimum.reduceat(batch_errors, starts).sum())
            self.lengths[rate] += int(lengths[rate].sum())
        self.num_utterances += len(sizes)
        self.num_hyps += int(sizes.sum())

    def rate(self, variant: str, rate: ErrorRate) -> float:
        """Return errors per reference unit; NaN if the references are empty."""
        length = self.lengths[rate]
        return self.errors[variant][rate] / length if length else float("nan")

    def table(self) -> str:
        """Format all error rates in percent, one line per variant."""
        size = self.num_hyps / self.num_utterances
        lines = [
            f"{self.num_utterances:,} utterances, {size:.1f} hypotheses each",
            f"{'':8}" + "".join(f"{NAMES[rate]:>20}" for rate in ErrorRate),
        ]
        for variant in VARIANTS:
            cells = [f"{100 * self.rate(variant, rate):18.2f} %" for rate in ErrorRate]
            lines.append(f"{variant:8}" + "".join(cells))
        return "\n".join(lines)
