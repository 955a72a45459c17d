"""Command: run and text -> surprisal of every morph, eojeol or sentence."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

from korlm.config import ScoreSettings, ScoreUnit
from korlm.sweeps.command import command
from korlm.utils.errors import OutputError

logger = logging.getLogger(__name__)


@command("score")
def main(settings: ScoreSettings) -> None:
    """Write the tables of the settings and log a summary."""
    try:
        _score(settings)
    except BrokenPipeError:  # as with `| head`: an error only if files are lost
        files = [*(target for target, _ in settings.tables().values()), settings.plot]
        if lost := [file for file in files if file not in ("-", None)]:
            raise OutputError(
                f"standard output was closed: {', '.join(lost)} not written; give output=FILE"
            ) from None


def _score(settings: ScoreSettings) -> None:
    from korlm.corpus.sources import find_inputs
    from korlm.evaluation.surprisal.frequencies import train_counts
    from korlm.evaluation.surprisal.score import resolve_kept_columns, score_files
    from korlm.evaluation.surprisal.scorer import SurprisalScorer
    from korlm.evaluation.surprisal.tables import schema_of
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import TrainedRun
    from korlm.utils.io.table_files import TableWriter, check_not_read
    from korlm.utils.torch_backend import tf32

    sources = find_inputs(settings.inputs, "input")
    outputs = {key: target for key, (target, _) in settings.tables().items()}
    check_not_read(outputs, [source.path for source in sources])
    inputs, kept = resolve_kept_columns(settings.corpus, sources)
    run = TrainedRun.load(Path(settings.run))
    device = inference_device(settings)
    with contextlib.ExitStack() as stack:
        writers = []
        for key, (target, unit) in settings.tables().items():
            writer = TableWriter(target, schema_of(unit, settings.entropy, kept), key)
            writers.append((unit, stack.enter_context(writer)))
        # Tables of sentences have no entropy.
        entropy = settings.entropy and any(unit is not ScoreUnit.sentence for unit, _ in writers)
        scorer = SurprisalScorer(
            run.inference_model(device),
            run.start_id,
            settings.context,
            entropy,
            settings.batch_tokens,
        )
        counts = train_counts(run, any(unit is ScoreUnit.eojeol for unit, _ in writers))
        plot = None
        if settings.plot is not None:
            from korlm.evaluation.surprisal.plot import SentencePlot

            plot = SentencePlot(Path(settings.plot), settings.unit)
        encoder = stack.enter_context(run.text_encoder())
        stack.enter_context(tf32(False))
        summary = score_files(inputs, kept, encoder, scorer, counts, writers, plot)
    logger.info("%s", summary)


if __name__ == "__main__":
    main()
