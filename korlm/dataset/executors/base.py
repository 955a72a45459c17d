"""Runs a function for each piece of a corpus, in this process."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from korlm.config import WorkerConfig
from korlm.dataset.storage.piece_files import PieceRecord
from korlm.dataset.tokenize import (
    Analyze,
    PieceText,
    TokenizeSettings,
    read_tokenizer_model,
    tokenize_piece,
)
from korlm.tokenizers.registry import tokenizer_version
from korlm.tokenizers.workers.line_cache import LineCache, map_cached
from korlm.tokenizers.workers.pool import TokenizerPool
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor:
    """Runs functions in this process."""

    def run_all(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result]]:
        """Yield each item with the result of the function, in any order."""
        for item in items:
            yield item, function(item)

    def tokenize(
        self, settings: TokenizeSettings, texts: list[PieceText], cache: Path, bar: ProgressBar
    ) -> Iterator[tuple[PieceText, PieceRecord]]:
        """Tokenize pieces and write their files; yield the record of each one, in any order.

        ``cache`` is the folder of the line cache; ``bar`` counts characters.

        Raises:
            CorpusError: the text has changed since it was scanned.
            TokenizerError: the tokenizer does not start.
            ClusterError: some pieces could not be made.
        """
        tokenizer = settings.tokenizer
        model = read_tokenizer_model(settings.folder, tokenizer)
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(TokenizerPool(tokenizer, model))
            analyze: Analyze = pool.map
            lines = None
            if isinstance(tokenizer, WorkerConfig) and tokenizer.cache_size_mb:
                version = tokenizer_version(tokenizer, model)
                lines = stack.enter_context(LineCache(cache, version, tokenizer.cache_size_mb))
                analyze = functools.partial(map_cached, pool, lines)
            function = functools.partial(
                tokenize_piece, settings, analyze=analyze, on_progress=bar.update
            )
            yield from self.run_all(function, texts)
            if lines is not None:
                bar.clear()
                hits, misses = f"{lines.hits:,}", f"{lines.misses:,}"
                logger.info("line cache: %s hits, %s misses (%s)", hits, misses, tokenizer.name)
