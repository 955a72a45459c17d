"""Command: prepares a corpus (tokens, vocabulary, ids) and prints its statistics."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from korlm.config import PrepareSettings
from korlm.sweeps.command import command

if TYPE_CHECKING:
    from korlm.dataset.prepared import Prepared

logger = logging.getLogger(__name__)


@command("prepare")
def main(settings: PrepareSettings) -> None:
    """Prepare the corpus of the settings; log its counts and folder."""
    from korlm.dataset.prepare import prepare
    from korlm.detokenizers.registry import ensure_trained
    from korlm.tasks.advice import on_unknown

    prepared = prepare(
        settings.corpus,
        settings.tokenizer,
        settings.vocab,
        Path(settings.outputs),
        cluster=settings.prepare,
    )
    ensure_trained(settings.tokenizer.name, prepared.folder)
    for split, stats in prepared.stats.items():
        logger.info(
            "%-5s %10s tokens  %9s eojeol  %10s characters  %.2f %% unknown",
            split,
            f"{stats.num_tokens:,}",
            f"{stats.num_eojeol:,}",
            f"{stats.num_chars:,}",
            100 * stats.num_unk / max(stats.num_tokens, 1),
        )
    if advice := on_unknown(prepared.stats["valid"], prepared.vocab_config):
        logger.warning("%s", advice)
    if settings.report:
        _report(prepared)
    logger.info("%s: a vocabulary of %s", prepared.folder, f"{len(prepared.vocab):,}")


def _report(prepared: Prepared) -> None:
    """Log the statistics of the corpus and write them into its folder."""
    from korlm.dataset.statistics.collect import collect, write
    from korlm.dataset.statistics.text_report import describe

    statistics, frequencies = collect(prepared)
    logger.info("\n%s\n", describe(statistics))
    write(prepared, statistics, frequencies)


if __name__ == "__main__":
    main()
