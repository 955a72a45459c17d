"""Stage: run -> a table of the ways to use its model, each tuned on valid."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm import cli
from korlm.config import EvaluateSettings
from korlm.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from korlm.data.batches import Ids
    from korlm.evaluation.comparison import Reader
    from korlm.runs import TrainedRun

logger = logging.getLogger(__name__)


@cli.stage("evaluate")
def main(settings: EvaluateSettings) -> None:
    """Judges the best model of a run on valid, and on test with what was chosen on valid."""
    from korlm.evaluation.comparison import ROWS, Comparison
    from korlm.evaluation.figures import comparison_table, figures_of
    from korlm.metrics import reset_peak_memory, write_figures
    from korlm.runs import check_same_vocab, load_run, open_text
    from korlm.training.device import device_of, tf32

    run = load_run(Path(settings.run))
    prepared = open_text(run, Path(settings.prepared) if settings.prepared else None)
    others: dict[str, TrainedRun] = {}
    for folder in [*([settings.ngram] if settings.ngram else []), *settings.mix]:
        other = load_run(Path(folder))
        check_same_vocab(f"run={settings.run}", run.vocab, f"run {folder}", other.vocab)
        name = "ngram" if folder == settings.ngram else Path(folder).name
        name = folder if name in others or name in ROWS else name
        if name in others:
            raise ConfigError(f"mix={folder}: is named twice; leave one out")
        others[name] = other
    ids = {split: prepared.ids(split) for split in prepared.stats}
    device = device_of(settings)
    readers = [_reader(name, other, ids, device) for name, other in others.items()]
    comparison = Comparison(
        _reader("model", run, ids, device), readers, settings.cache, settings.dynamic
    )
    splits = ["valid", *(["test"] if settings.test and "test" in ids else [])]
    if "test" not in ids:
        logger.info("there is no test split: settings are chosen on valid and reported on valid")
    found = {}
    for split in splits:
        counts = prepared.stats[split]
        reset_peak_memory()
        with tf32(False):
            rows = comparison.rows(split)
        found[split] = {name: figures_of(row, ids[split], counts) for name, row in rows.items()}
        head = f"{split}, {counts.num_tokens:,} tokens"
        logger.info("%s, each way with what is best on valid:", head)
        logger.info("%s", comparison_table(found[split]))
    write_figures(cli.output_dir() / "metrics.json", found)
    logger.info("%s: metrics.json", cli.output_dir())


def _reader(name: str, run: TrainedRun, ids: dict[str, Ids], device: torch.device) -> Reader:
    """A run's model on the device, and the texts as it knows them."""
    from korlm.evaluation.comparison import Reader
    from korlm.evaluation.scoring import Text

    texts = {split: Text(part, run.start_id, device) for split, part in ids.items()}
    return Reader(name, run.model.to(device), texts)


if __name__ == "__main__":
    main()
