"""Stage: corpus -> prepared corpus (tokens, vocabulary, ids). Kkma runs in child processes."""

from __future__ import annotations

import logging
from pathlib import Path

from korlm import cli
from korlm.config import PrepareSettings

logger = logging.getLogger(__name__)


@cli.stage("prepare")
def main(settings: PrepareSettings) -> None:
    """Prepares the corpus of the settings and tells where it lies."""
    from korlm.data.prepared import prepare
    from korlm.recomposition.build import provide

    prepared = prepare(settings.corpus, settings.tokenizer, settings.vocab, Path(settings.outputs))
    provide(settings.tokenizer.name, prepared.folder)
    for split, stats in prepared.stats.items():
        logger.info(
            "%-5s %10s tokens  %9s eojeol  %10s characters  %.2f %% unknown",
            split,
            f"{stats.num_tokens:,}",
            f"{stats.num_eojeol:,}",
            f"{stats.num_chars:,}",
            100 * stats.num_unk / max(stats.num_tokens, 1),
        )
    logger.info("%s: a vocabulary of %s", prepared.folder, f"{len(prepared.vocab):,}")


if __name__ == "__main__":
    main()
