"""Compute the surprisal of text files, window by window into tables, and of texts in memory.

Axes: M texts in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import (
    CorpusFormat,
    Encoding,
    ScoreContext,
    ScoredTextConfig,
    ScoreUnit,
    TextConfig,
    choice_of,
)
from korlm.config.commands.score import ALL
from korlm.corpus.containers import STDIN
from korlm.corpus.files import format_of, inspect_file, other_columns
from korlm.corpus.reader import read_corpus
from korlm.corpus.records import LineBlock, Notes
from korlm.corpus.sources import Source
from korlm.dataset.statistics.tokenization_report import summary as status_summary
from korlm.dataset.text_encoder import EncodedText, TextEncoder, checked_texts
from korlm.evaluation.surprisal.frequencies import TrainCounts, train_counts
from korlm.evaluation.surprisal.scorer import SurprisalBatch, SurprisalScorer, rebatch
from korlm.evaluation.surprisal.tables import kept_columns, rows_of, schema_of
from korlm.evaluation.token_scores import Floats, score_tokens, segment_sums
from korlm.runs.trained_run import TrainedRun
from korlm.utils.io.table_files import TableWriter
from korlm.utils.progress import ProgressBar

if TYPE_CHECKING:
    from korlm.evaluation.surprisal.plot import SentencePlot

logger = logging.getLogger(__name__)


def surprisal_table(
    run: TrainedRun,
    texts: str | Sequence[str],
    unit: ScoreUnit | str,
    context: ScoreContext | str,
    entropy: bool,
) -> pa.Table:
    """Return the surprisal of every morph, eojeol or sentence; see ``LanguageModelRun.surprisal``.

    ``texts`` are one line each, together one document; a str is a single line.

    Raises:
        ConfigError: there is no such unit or context.
        CorpusError: a text is not a str or has a lone surrogate.
    """
    unit, context = choice_of(ScoreUnit, "unit", unit), choice_of(ScoreContext, "context", context)
    entropy = entropy and unit is not ScoreUnit.sentence
    scorer = SurprisalScorer(run.inference_model(), run.start_id, context, entropy)
    counts = train_counts(run, unit is ScoreUnit.eojeol)
    tables = [rows_of(batch, unit, counts) for batch in scorer.score(_encoded(run, texts))]
    return pa.concat_tables([schema_of(unit, entropy).empty_table(), *tables]).combine_chunks()


def log_probs(run: TrainedRun, texts: str | Sequence[str], open_vocabulary: bool) -> Floats:
    """Return the natural log-probability of each text, (M,); see ``LanguageModelRun.score``.

    Raises:
        CorpusError: a text is not a str or has a lone surrogate.
    """
    model, scores = run.inference_model(), [np.zeros(0)]
    for window in rebatch(_encoded(run, texts)):
        ids, spelling_nats, lengths = window.with_blank_lines()
        nats = score_tokens(model, ids, lengths, run.start_id).nats
        scores.append(-segment_sums(nats + spelling_nats * open_vocabulary, lengths))
    return np.concatenate(scores) + 0.0  # turns -0 into 0


def _encoded(run: TrainedRun, texts: str | Sequence[str]) -> Iterator[EncodedText]:
    """Encode texts in batches, as one document."""
    return run.text_encoder().read([LineBlock("text", "", 1, checked_texts(texts))])


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
