"""Error rates of hypotheses against references, counted by jiwer.

Korean blanks are a matter of taste, so characters are counted with and without them; words are
eojeols. Counts are summed over a whole test set and divided once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from korlm.config import ErrorRate
from korlm.rescoring.lm_scorer import normalize_spaces
from korlm.rescoring.nbest import NBest
from korlm.rescoring.prefix_tree import Ints
from korlm.utils.errors import ConfigError, install_command

RATES = tuple(ErrorRate)


NAMES = {
    ErrorRate.cer: "CER",
    ErrorRate.cer_no_blanks: "CER without blanks",
    ErrorRate.wer: "WER (eojeols)",
}


Counts = dict[ErrorRate, Ints]


def check_jiwer(key: str) -> None:
    """Refuses to count errors where jiwer is not installed.

    Args:
        key: the setting that asks for it.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("jiwer") is None:
        raise ConfigError(f"{key}: errors are counted by jiwer: {install_command('jiwer')}")


def count_errors(batch: Sequence[NBest], references: Mapping[str, str]) -> tuple[Counts, Counts]:
    """Substitutions, insertions and deletions of each hypothesis.

    Args:
        batch: lists with M hypotheses of U utterances.
        references: utterance -> what was said.

    Returns:
        Errors, (M,) of each kind; lengths of the references, (U,) of each kind.
    """
    said = [normalize_spaces(references[nbest.utt]) for nbest in batch]
    hyps = [normalize_spaces(hyp.text) for nbest in batch for hyp in nbest.hyps]
    owners = [at for at, nbest in enumerate(batch) for _ in nbest.hyps]
    errors, lengths = {}, {}
    for rate in RATES:
        shown = [_shown(text, rate) for text in said]
        errors[rate] = _errors([shown[at] for at in owners], [_shown(h, rate) for h in hyps], rate)
        units = [text.split() if rate is ErrorRate.wer else text for text in shown]
        lengths[rate] = np.array([len(part) for part in units], dtype=np.int64)
    return errors, lengths


def _shown(text: str, rate: ErrorRate) -> str:
    return text.replace(" ", "") if rate is ErrorRate.cer_no_blanks else text


def _errors(references: list[str], hyps: list[str], rate: ErrorRate) -> Ints:
    import jiwer

    process = jiwer.process_words if rate is ErrorRate.wer else jiwer.process_characters
    found = [
        sum(
            max(part.ref_end_idx - part.ref_start_idx, part.hyp_end_idx - part.hyp_start_idx)
            for part in alignment
            if part.type != "equal"
        )
        for alignment in process(references, hyps).alignments
    ]
    return np.array(found, dtype=np.int64)


@dataclass
class ErrorTally:
    """Sums of errors: as the recogniser had it, as it is now, and at best.

    Attributes:
        ways: before, after, oracle -> errors of each kind.
        lengths: of the references.
        num_utterances: U.
        num_hyps: M.
    """

    ways: dict[str, dict[ErrorRate, int]] = field(
        default_factory=lambda: {
            way: dict.fromkeys(RATES, 0) for way in ("before", "after", "oracle")
        }
    )
    lengths: dict[ErrorRate, int] = field(default_factory=lambda: dict.fromkeys(RATES, 0))
    num_utterances: int = 0
    num_hyps: int = 0

    def add(self, errors: Counts, lengths: Counts, sizes: Ints, chosen: Ints) -> None:
        """Counts some utterances.

        Args:
            errors: (M,) of each kind.
            lengths: (U,) of each kind.
            sizes: (U,), hypotheses of each utterance.
            chosen: (U,), where the best one now stands among all.
        """
        begins = np.cumsum(sizes) - sizes
        for rate in RATES:
            mine = errors[rate]
            self.ways["before"][rate] += int(mine[begins].sum())
            self.ways["after"][rate] += int(mine[chosen].sum())
            self.ways["oracle"][rate] += int(np.minimum.reduceat(mine, begins).sum())
            self.lengths[rate] += int(lengths[rate].sum())
        self.num_utterances += len(sizes)
        self.num_hyps += int(sizes.sum())

    def rate(self, way: str, rate: ErrorRate) -> float:
        """Errors per unit of the references; nan where these are empty."""
        length = self.lengths[rate]
        return self.ways[way][rate] / length if length else float("nan")

    def table(self) -> str:
        """A line for each way, in per cent."""
        size = self.num_hyps / self.num_utterances
        lines = [
            f"{self.num_utterances:,} utterances, {size:.1f} hypotheses each",
            f"{'':8}" + "".join(f"{NAMES[rate]:>20}" for rate in RATES),
        ]
        for way in self.ways:
            cells = [f"{100 * self.rate(way, rate):18.2f} %" for rate in RATES]
            lines.append(f"{way:8}" + "".join(cells))
        return "\n".join(lines)
