"""Command: run of a task and text -> labels, spans or texts."""

from __future__ import annotations

import logging
from pathlib import Path

from korlm.config import OutputFormat, PredictSettings
from korlm.sweeps.command import command
from korlm.utils.errors import OutputError

logger = logging.getLogger(__name__)


@command("predict")
def main(settings: PredictSettings) -> None:
    """Write the predictions for all lines of the input."""
    from korlm.corpus.sources import find_inputs
    from korlm.prediction.files import output_schema, predict_files
    from korlm.prediction.task_run import load_task_run
    from korlm.runs.device import inference_device
    from korlm.utils.io.table_files import TableWriter, check_not_read

    sources = find_inputs(settings.inputs, "input")
    check_not_read({"output": settings.output}, [source.path for source in sources])
    run = load_task_run(Path(settings.run)).to(inference_device(settings))
    predictor = run.predictor
    predictor.set_num_best(settings.num_best)
    is_json = settings.format is OutputFormat.jsonl
    try:
        with (
            TableWriter(settings.output, output_schema(predictor), "output", is_json) as writer,
            run.text_encoder() as encoder,
        ):
            count = predict_files(sources, settings.corpus, encoder, predictor, writer)
    except BrokenPipeError:  # as with `| head`: an error only if a file is lost
        if settings.output != "-":
            raise OutputError(
                f"standard output was closed: {settings.output} not written"
            ) from None
        return
    logger.info("%s lines", f"{count:,}")


if __name__ == "__main__":
    main()
