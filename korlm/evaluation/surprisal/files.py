"""Surprisal of text files, written to tables window by window."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow.compute as pc

from korlm.config import CorpusFormat, Encoding, ScoreUnit, TextConfig
from korlm.corpus.files import STDIN, inspect_file
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import Source
from korlm.dataset.statistics.tokenization_report import summary as status_summary
from korlm.dataset.text_encoder import TextEncoder
from korlm.evaluation.surprisal.scorer import SurprisalBatch, SurprisalScorer
from korlm.evaluation.surprisal.tables import rows_of
from korlm.utils.io.table_files import TableWriter
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


@dataclass
class Summary:
    """Sums over everything that was scored.

    Attributes:
        status: tokenizer status -> number of lines.
        num_tokens: <eos> included.
        num_unk: number of unknown tokens.
        surprisal: of all tokens, in bits.
    """

    status: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0
    num_unk: int = 0
    surprisal: float = 0.0

    def add(self, batch: SurprisalBatch) -> None:
        """Add a window."""
        for status in pc.value_counts(batch.lines.table.column("status")).to_pylist():
            self.status[status["values"]] += status["counts"]
        self.num_tokens += len(batch.unknown)
        self.num_unk += int(batch.unknown.sum())
        self.surprisal += float(batch.surprisal.sum())

    def __str__(self) -> str:
        mean = self.surprisal / max(self.num_tokens, 1)
        return (
            f"{self.status.total():,} lines ({status_summary(self.status)}), "
            f"{self.num_tokens:,} tokens, {self.num_unk:,} unknown, {mean:.4f} bits a token"
        )


def score_files(
    sources: Sequence[Source],
    config: TextConfig,
    encoder: TextEncoder,
    scorer: SurprisalScorer,
    writers: Sequence[tuple[ScoreUnit, TableWriter]],
) -> Summary:
    """Score files in their order and write the tables.

    Args:
        sources: the files.
        config: how to read them.
        encoder: of the run.
        scorer: with the run's model.
        writers: tables to write, with the unit of their rows.

    Raises:
        CorpusError: the text cannot be read.
        OutputError: a table cannot be written.
        BrokenPipeError: standard output was closed.
    """
    summary, notes = Summary(), Notes()
    on_terminal = any(writer.is_stdout for _, writer in writers) and sys.stdout.isatty()
    bar = ProgressBar(
        total=_num_bytes(sources, config),
        desc="scoring",
        unit="B",
        unit_scale=True,
        leave=False,
        shown=not on_terminal,
    )
    with bar:
        for batch in scorer.score(encoder.read(read_corpus(config, list(sources), notes))):
            for unit, writer in writers:
                writer.write(rows_of(batch, unit))
            summary.add(batch)
            text = batch.lines.table.column("text")
            bar.update((pc.sum(pc.binary_length(text)).as_py() or 0) + len(text))
    for line in notes.lines():
        logger.warning("%s", line)
    return summary


def _num_bytes(sources: Sequence[Source], config: TextConfig) -> int | None:
    """Return the number of bytes of text; None if it is unknown before reading."""
    for source in sources:
        info = inspect_file(source.path, Encoding(config.encoding), config.format)
        is_plain = not info.packer and info.encoding is Encoding.utf8
        if source.path == STDIN or not is_plain or info.layout is not CorpusFormat.txt:
            return None
    return sum(source.size for source in sources)
