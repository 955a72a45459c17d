"""Stage: run and n-best lists -> lists in a better order, and weights that are best for them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config import RescoreSettings
from korlm.config.paths import run_directory
from korlm.sweeps.command import stage
from korlm.utils.errors import ConfigError

if TYPE_CHECKING:
    from korlm.rescoring.formats.reader import Layout
    from korlm.runs.trained_run import TrainedRun

logger = logging.getLogger(__name__)


@stage("rescore")
def main(settings: RescoreSettings) -> None:
    """Puts the hypotheses of n-best lists in the order that a trained model would have them."""
    from korlm.rescoring.formats.reader import format_of, open_lists, read_references
    from korlm.rescoring.formats.writer import check_output, writer
    from korlm.rescoring.lm_scorer import LMScorer
    from korlm.rescoring.nbest import check_references
    from korlm.rescoring.pipeline import RescoringJob, rescore_lists
    from korlm.rescoring.rescore import ScoreWeights
    from korlm.runs.device import inference_device
    from korlm.utils.torch_backend import tf32

    layout = _layout(settings)
    path = Path(settings.nbest)
    found = format_of(path, settings.format)
    check_output(settings.output, found, settings.one_best)
    lists = open_lists(path, layout)
    utterances, num_hyps = lists.size()
    references: dict[str, str] = {}
    if reference := settings.tune or settings.reference:
        from korlm.rescoring.error_rates import check_jiwer

        check_jiwer("tune" if settings.tune else "reference")
        references = read_references(Path(reference))
        left = check_references(utterances, references, Path(reference))
        if left:
            logger.warning(
                "%s: %s references have no list and do not count", reference, f"{left:,}"
            )
        references = {utt: text for utt, text in references.items() if utt in utterances}
    runs = _runs(settings)
    linear = _is_linear(settings, runs)
    combination = ScoreWeights(
        settings.lm_weight,
        settings.length_bonus,
        settings.mixture_weights,
        settings.length_unit,
        settings.normalize,
    )
    job = RescoringJob(combination, settings.tune_metric, settings.batch_size, references, num_hyps)
    device = inference_device(settings)
    with (
        tf32(False),
        LMScorer(
            runs, linear, settings.mixture_weights, settings.open_vocabulary, device
        ) as scorer,
        writer(
            settings.output, found, settings.one_best, layout.sign, settings.length_unit
        ) as target,
    ):
        rescore_lists(lists, scorer, job, target, tuning=settings.tune is not None)


def _layout(settings: RescoreSettings) -> Layout:
    """How the lists are to be read."""
    from korlm.config import ScoreKind
    from korlm.rescoring.formats.kaldi import CostFile
    from korlm.rescoring.formats.reader import Layout

    scales = settings.score_scales or [1.0] * len(settings.scores)
    costs = [CostFile(Path(p), s) for p, s in zip(settings.scores, scales, strict=True)]
    sign = -1 if settings.score_kind is ScoreKind.cost else 1
    return Layout(settings.format, sign, settings.score_field, settings.numbered, costs)


def _runs(settings: RescoreSettings) -> list[TrainedRun]:
    """The run, and those it is mixed with."""
    from korlm.runs.trained_run import load_run

    others = [*([settings.ngram] if settings.ngram else []), *settings.mix]
    folders = [settings.run, *others]
    places = [run_directory(Path(folder)).resolve() for folder in folders]
    for folder, place in zip(others, places[1:], strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"mix={folder}: is named twice; leave one out")
    return [load_run(Path(folder)) for folder in folders]


def _is_linear(settings: RescoreSettings, runs: list[TrainedRun]) -> bool:
    """Whether models are mixed token by token; one alone is a mixture of one."""
    from korlm.config import Mixing
    from korlm.rescoring.lm_scorer import same_vocab
    from korlm.runs.trained_run import check_same_vocab

    if settings.mixing is Mixing.linear:
        for run in runs[1:]:
            check_same_vocab(f"run={settings.run}", runs[0].vocab, f"run {run.folder}", run.vocab)
    if settings.mixing is not Mixing.auto:
        return settings.mixing is Mixing.linear
    return all(same_vocab(run, runs[0]) for run in runs)


if __name__ == "__main__":
    main()
