"""Write the surprisal of text files to tables, window by window."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from korlm.config import CorpusFormat, Encoding, ScoredTextConfig, ScoreUnit, TextConfig
from korlm.config.commands.score import ALL
from korlm.corpus.containers import STDIN
from korlm.corpus.files import format_of, inspect_file, other_columns
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import Source
from korlm.dataset.statistics.tokenization_report import summary as status_summary
from korlm.dataset.text_encoder import TextEncoder
from korlm.evaluation.surprisal.frequencies import TrainCounts
from korlm.evaluation.surprisal.scorer import SurprisalBatch, SurprisalScorer
from korlm.evaluation.surprisal.tables import kept_columns, rows_of
from korlm.utils.io.table_files import TableWriter
from korlm.utils.progress import ProgressBar

if TYPE_CHECKING:
    from korlm.evaluation.surprisal.plot import SentencePlot

logger = logging.getLogger(__name__)


@dataclass
class Summary:
    """Sums over everything that was scored.

    Attributes:
        status: tokenizer status -> number of lines.
        num_tokens: <eos> included.
        num_unk: number of unknown tokens.
        surprisal: sum over all tokens, in bits.
    """

    status: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0
    num_unk: int = 0
    surprisal: float = 0.0

    def add(self, batch: SurprisalBatch) -> None:
        """Add a window."""
        self.status += batch.lines.status_counts()
        self.num_tokens += len(batch.unknown)
        self.num_unk += int(batch.unknown.sum())
        self.surprisal += float(batch.surprisal.sum())

    def __str__(self) -> str:
        mean = self.surprisal / max(self.num_tokens, 1)
        return (
            f"{self.status.total():,} lines ({status_summary(self.status)}), "
            f"{self.num_tokens:,} tokens, {self.num_unk:,} unknown, {mean:.4f} bits a token"
        )


def resolve_kept_columns(
    config: ScoredTextConfig, sources: Sequence[Source]
) -> tuple[list[tuple[Source, TextConfig]], dict[str, str]]:
    """Return each file with its own settings, and the columns that the tables keep.

    ``all`` columns are those of each file.

    Returns:
        The files with the names of their columns in the settings; the result of ``kept_columns``.

    Raises:
        CorpusError: the beginning of a file cannot be read.
    """
    inputs: list[tuple[Source, TextConfig]] = []
    for source in sources:
        names = config.keep_columns
        if names == [ALL]:
            names = other_columns(source.path, config)
        inputs.append((source, dataclasses.replace(config, keep_columns=names)))
    return inputs, kept_columns(name for _, own in inputs for name in own.keep_columns)


def score_files(
    inputs: Sequence[tuple[Source, TextConfig]],
    kept: Mapping[str, str],
    encoder: TextEncoder,
    scorer: SurprisalScorer,
    counts: TrainCounts,
    writers: Sequence[tuple[ScoreUnit, TableWriter]],
    plot: SentencePlot | None = None,
) -> Summary:
    """Score files in their order and write the tables.

    Raises:
        CorpusError: the text cannot be read.
        OutputError: a table cannot be written.
        BrokenPipeError: standard output was closed.
    """
    summary, notes = Summary(), Notes()
    on_terminal = any(writer.is_stdout for _, writer in writers) and sys.stdout.isatty()
    bar = ProgressBar(
        total=_num_bytes(inputs),
        desc="scoring",
        unit="B",
        unit_scale=True,
        leave=False,
        shown=not on_terminal,
    )
    with bar:
        lines = (read_corpus(config, [source], notes) for source, config in inputs)
        encoded = encoder.read(itertools.chain.from_iterable(lines), kept)
        for batch in scorer.score(encoded):
            rows = functools.cache(functools.partial(rows_of, batch, counts=counts))
            for unit, writer in writers:
                writer.write(rows(unit))
            if plot is not None:
                plot.add(rows)
            summary.add(batch)
            text = batch.lines.table.column("text")
            bar.update((pc.sum(pc.binary_length(text)).as_py() or 0) + len(text))
    if plot is not None:
        plot.save()
    for line in notes.lines():
        logger.warning("%s", line)
    return summary


def _num_bytes(inputs: Sequence[tuple[Source, TextConfig]]) -> int | None:
    """Return the number of bytes of text; None if it is unknown before reading."""
    for source, config in inputs:
        info = inspect_file(source.path, Encoding(config.encoding), config.format)
        is_plain = not info.compression and info.encoding is Encoding.utf8
        is_text = format_of(source.path, config.format) is CorpusFormat.txt
        if source.path == STDIN or not (is_plain and is_text):
            return None
    return sum(source.size for source, _ in inputs)
