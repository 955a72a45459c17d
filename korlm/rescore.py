"""Command: run and n-best lists -> rescored lists, and weights tuned for the fewest errors."""

from __future__ import annotations

import logging
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config import RescoreSettings
from korlm.sweeps.command import command

if TYPE_CHECKING:
    from korlm.rescoring.formats.reader import ReadOptions
    from korlm.runs.trained_run import TrainedRun

logger = logging.getLogger(__name__)


@command("rescore")
def main(settings: RescoreSettings) -> None:
    """Sort the hypotheses of n-best lists by recognizer and language model scores."""
    from korlm.rescoring.features import ScoreWeights
    from korlm.rescoring.formats.reader import detect_format, open_lists
    from korlm.rescoring.formats.writer import check_output, open_writer
    from korlm.rescoring.lm_scorer import LMScorer
    from korlm.rescoring.pipeline import rescore_lists
    from korlm.rescoring.recordings import RecordingNames
    from korlm.runs.device import inference_device
    from korlm.utils.io.table_files import check_not_read
    from korlm.utils.torch_backend import tf32

    options = _read_options(settings)
    path = Path(settings.nbest)
    list_format = detect_format(path, settings.format)
    check_output(settings.output, list_format, settings.one_best)
    read = (path, *settings.scores, settings.tune, settings.reference)
    check_not_read({"output": settings.output}, read)
    lists = open_lists(path, options)
    references = _references(settings, lists.sizes.keys())
    runs = _runs(settings)
    linear = _is_linear(settings, runs)
    with (
        tf32(False),
        LMScorer(
            *(runs, linear, settings.mixture_weights),
            open_vocabulary=settings.open_vocabulary,
            device=inference_device(settings),
        ) as scorer,
        open_writer(
            *(settings.output, list_format, settings.one_best, options.sign),
            unit=settings.length_unit,
        ) as write,
    ):
        rescore_lists(
            *(lists, scorer, write, ScoreWeights.from_settings(settings), references),
            tune_metric=settings.tune_metric if settings.tune is not None else None,
            batch_size=settings.batch_size,
            recordings=RecordingNames.from_settings(settings),
        )


def _read_options(settings: RescoreSettings) -> ReadOptions:
    from korlm.config import ScoreKind
    from korlm.rescoring.formats.reader import ReadOptions
    from korlm.rescoring.formats.tables import CostFile

    scales = settings.score_scales or [1.0] * len(settings.scores)
    costs = [CostFile(Path(p), s) for p, s in zip(settings.scores, scales, strict=True)]
    sign = -1 if settings.score_kind is ScoreKind.cost else 1
    return ReadOptions(settings.format, sign, settings.score_field, settings.numbered, costs)


def _references(settings: RescoreSettings, utterances: Set[str]) -> dict[str, str]:
    """Return the references of the utterances; empty without ``tune`` and ``reference``."""
    from korlm.rescoring.formats.reader import read_references
    from korlm.rescoring.nbest import check_references

    given = settings.tune or settings.reference
    if not given:
        return {}
    references = read_references(Path(given))
    num_unused = check_references(utterances, references, Path(given))
    if num_unused:
        logger.warning("%s: ignoring %s references without a list", given, f"{num_unused:,}")
    return {utt: text for utt, text in references.items() if utt in utterances}


def _runs(settings: RescoreSettings) -> list[TrainedRun]:
    """Return the run and those that it is mixed with."""
    from korlm.runs.trained_run import TrainedRun, load_mixed_runs

    others = load_mixed_runs(settings.ngram, settings.mix, [settings.run])
    return [TrainedRun.load(Path(settings.run)), *others.values()]


def _is_linear(settings: RescoreSettings, runs: list[TrainedRun]) -> bool:
    """Return whether to mix linearly; a single model is a linear mixture of one."""
    from korlm.config import Mixing
    from korlm.rescoring.encoded_texts import same_vocab
    from korlm.runs.trained_run import check_same_vocab

    if settings.mixing is Mixing.linear:
        for run in runs[1:]:
            check_same_vocab(f"run={settings.run}", runs[0].vocab, f"run {run.folder}", run.vocab)
    if settings.mixing is not Mixing.auto:
        return settings.mixing is Mixing.linear
    return all(same_vocab(run, runs[0]) for run in runs)


if __name__ == "__main__":
    main()
