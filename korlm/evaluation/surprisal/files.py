"""Files of text -> tables of surprisal, window by window, with progress and a summary."""

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
from korlm.dataset.statistics.tokenization_report import summary as lines_by_status
from korlm.dataset.text_encoder import TextEncoder
from korlm.evaluation.surprisal.scorer import SurprisalBatch, SurprisalScorer
from korlm.evaluation.surprisal.tables import rows_of
from korlm.utils.io.table_files import TableWriter
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


@dataclass
class Summary:
    """What was read, added up.

    Attributes:
        status: of lines, with their numbers.
        num_tokens: <eos> included.
        num_unk: unknown ones among them.
        surprisal: sum over all tokens, in bits.
        open_surprisal: the same with the bits that spell what ids do not give back.
    """

    status: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0
    num_unk: int = 0
    surprisal: float = 0.0
    open_surprisal: float = 0.0

    def add(self, costs: SurprisalBatch) -> None:
        """Adds a window."""
        kinds = pc.value_counts(costs.reading.table.column("status"))
        self.status.update({kind["values"]: kind["counts"] for kind in kinds.to_pylist()})
        self.num_tokens += len(costs.unknown)
        self.num_unk += int(costs.unknown.sum())
        self.surprisal += float(costs.surprisal.sum())
        self.open_surprisal += float(costs.open_surprisal.sum())

    def __str__(self) -> str:
        mean = self.surprisal / max(self.num_tokens, 1)
        return (
            f"{self.status.total():,} lines ({lines_by_status(self.status)}), "
            f"{self.num_tokens:,} tokens, {self.num_unk:,} unknown, {mean:.4f} bits a token"
        )


def score_files(
    sources: Sequence[Source],
    config: TextConfig,
    reader: TextEncoder,
    scorer: SurprisalScorer,
    writers: Sequence[tuple[ScoreUnit, TableWriter]],
) -> Summary:
    """Scores all files in their order and writes the rows.

    Args:
        sources: the files, all of one split.
        config: how they are read.
        reader: of the run.
        scorer: with the run's model.
        writers: tables to write, and what has a row in each.

    Raises:
        CorpusError: text that cannot be read.
        OutputError: a table that cannot be written.
        BrokenPipeError: nobody reads standard output any more.
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
        for costs in scorer.score(reader.read(read_corpus(config, list(sources), notes))):
            for level, writer in writers:
                writer.write(rows_of(costs, level))
            summary.add(costs)
            text = costs.reading.table.column("text")
            bar.update((pc.sum(pc.binary_length(text)).as_py() or 0) + len(text))
    for line in notes.lines():
        logger.warning("%s", line)
    return summary


def _num_bytes(sources: Sequence[Source], config: TextConfig) -> int | None:
    """How much text there is, where that can be told without reading it."""
    for source in sources:
        found = inspect_file(source.path, Encoding(config.encoding), config.format)
        is_plain = not found.packer and found.encoding is Encoding.utf8
        if source.path == STDIN or not is_plain or found.layout is not CorpusFormat.txt:
            return None
    return sum(source.size for source in sources)
