"""Command: run -> a folder for other programs: safetensors, ONNX."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config import ExportSettings
from korlm.sweeps.command import command
from korlm.utils.errors import PreparedError

if TYPE_CHECKING:
    from korlm.dataset.storage.id_stream import Ids
    from korlm.runs.trained_run import Run

logger = logging.getLogger(__name__)


@command("export")
def main(settings: ExportSettings) -> None:
    """Export the best model of a run; log size, speed and perplexity of the exported files."""
    from korlm.api.runs import load_any
    from korlm.exporting.export_run import export_run, export_table, formats_of
    from korlm.runs.device import inference_device

    run = load_any(settings.run)
    inference_device(settings)  # sets the number of threads
    folder = Path(settings.output) if settings.output else run.folder / "export"
    formats = settings.formats or formats_of(run)
    ids = _valid(run, settings)
    tokens = Path(settings.recognizer_tokens) if settings.recognizer_tokens else None
    results = export_run(run, folder, formats, ids, settings.threads, tokens, settings.license)
    if any(name.endswith(".onnx") for name in results["models"]):
        text = "random tokens" if ids is None else "lines of valid"
        if results["num_tokens"]:
            text = f"{results['num_tokens']:,} tokens of valid"
        logger.info("on %s, threads: %s", text, settings.threads or "all")
    logger.info("%s", export_table(results))
    logger.info("%s: %s", folder, ", ".join(sorted(path.name for path in folder.iterdir())))


def _valid(run: Run, settings: ExportSettings) -> Ids | None:
    """Return the first token ids of valid; None if its prepared corpus no longer exists."""
    from korlm.runs.trained_run import open_text

    try:
        prepared = open_text(run, Path(settings.prepared) if settings.prepared else None)
    except PreparedError as error:
        if settings.prepared:
            raise
        logger.info("no text to verify on (perplexity not measured): %s", error)
        return None
    return prepared.ids("valid")[: settings.tokens]


if __name__ == "__main__":
    main()
