"""Command: runs and minimal pairs -> accuracy on each phenomenon."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from typing import TYPE_CHECKING

from korlm.config import PairsSettings
from korlm.runs.directories import run_folders
from korlm.sweeps.command import command
from korlm.utils.errors import ConfigError, not_a_choice

if TYPE_CHECKING:
    from korlm.evaluation.pairs.accuracy import Accuracy
    from korlm.evaluation.pairs.templates import MinimalPair

logger = logging.getLogger(__name__)


@command("pairs")
def main(settings: PairsSettings) -> None:
    """Score the pairs with each run, log the accuracies and write the pairs if wanted."""
    import pyarrow as pa

    from korlm.evaluation.pairs.accuracy import PAIRS, accuracies, read_pairs, score_pairs
    from korlm.runs.device import inference_device
    from korlm.runs.trained_run import TrainedRun, short_names
    from korlm.utils.io.table_files import TableWriter, check_not_read
    from korlm.utils.progress import ProgressBar
    from korlm.utils.torch_backend import tf32

    check_not_read({"output": settings.output}, settings.inputs)
    pairs = read_pairs(settings.inputs) if settings.inputs else _template_pairs(settings)
    runs = [TrainedRun.load(folder) for folder in run_folders(settings.run)]
    device = inference_device(settings)
    results: dict[str, dict[str, Accuracy]] = {}
    total = len(runs) * len(pairs)
    with (
        tf32(False),
        TableWriter(settings.output, PAIRS, "output") if settings.output else nullcontext() as file,
        ProgressBar(total=total, desc="scoring", unit=" pairs", leave=False) as bar,
    ):
        for name, run in zip(short_names([run.folder for run in runs]), runs, strict=True):
            with run:
                tables = []
                for table in score_pairs(run, name, pairs, device, settings.batch_tokens):
                    tables.append(table)
                    bar.update(len(table))
                    if file is not None:
                        file.write(table)
            results[name] = accuracies(pa.concat_tables(tables))
    logger.info("%s", _table(results))


def _template_pairs(settings: PairsSettings) -> list[MinimalPair]:
    """Return the pairs of korlm's templates."""
    from korlm.evaluation.pairs.templates import pairs_of, phenomena

    names = settings.phenomena or list(phenomena())
    for name in names:
        if name not in phenomena():
            raise ConfigError(not_a_choice(f"phenomena: {name}", name, phenomena()))
    try:
        return [pair for name in names for pair in pairs_of(name, settings.pairs)]
    except ValueError as error:
        raise ConfigError(f"pairs={settings.pairs}: {error}; give a smaller number") from error


def _table(results: dict[str, dict[str, Accuracy]]) -> str:
    """Return the accuracies in percent, with a column for each run."""
    from korlm.utils.io.tables import text_table

    first = next(iter(results.values()))
    rows = [["phenomenon", "pairs", *results]]
    for name, accuracy in first.items():
        cells = [rows_of_run[name] for rows_of_run in results.values()]
        rows.append([name, f"{accuracy.num_pairs + accuracy.num_same:,}", *map(_cell, cells)])
    return text_table(rows)


def _cell(accuracy: Accuracy) -> str:
    same = f", {accuracy.num_same} same" if accuracy.num_same else ""
    if math.isnan(accuracy.accuracy):
        return f"-{same}"
    share, low, high = (100 * v for v in (accuracy.accuracy, accuracy.low, accuracy.high))
    return f"{share:.1f} ({low:.1f} to {high:.1f}{same})"


if __name__ == "__main__":
    main()
