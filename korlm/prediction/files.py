"""Predictions for the lines of text files, written as they come."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import pyarrow as pa

from korlm.config import TextConfig
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import Source
from korlm.dataset.text_encoder import TextEncoder
from korlm.tasks.base import Predictor
from korlm.utils.io.table_files import TableWriter
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


def output_schema(predictor: Predictor) -> pa.Schema:
    """Return the columns of the output: the text, and those of a prediction."""
    return pa.schema([("text", pa.string()), *predictor.schema])


def predict_files(
    sources: Sequence[Source],
    config: TextConfig,
    encoder: TextEncoder,
    predictor: Predictor,
    writer: TableWriter,
) -> int:
    """Write a row for each line of some files, in order; return their number.

    Args:
        sources: the files.
        config: how to read them.
        encoder: of the run.
        predictor: of the run.
        writer: of a table with the columns of ``output_schema``.

    Raises:
        CorpusError: the text cannot be read.
        OutputError: the table cannot be written.
        BrokenPipeError: standard output was closed.
    """
    notes, count = Notes(), 0
    shown = not (writer.is_stdout and sys.stdout.isatty())
    schema = output_schema(predictor)
    with ProgressBar(desc="predicting", unit="line", leave=False, shown=shown) as bar:
        for lines in encoder.read(read_corpus(config, list(sources), notes)):
            rows = predictor.predict(lines)
            texts = lines.table.column("text").to_pylist()
            pairs = zip(texts, rows, strict=True)
            table = pa.Table.from_pylist([{"text": t, **row} for t, row in pairs], schema=schema)
            writer.write(table)
            count += len(rows)
            bar.update(len(rows))
    for line in notes.lines():
        logger.warning("%s", line)
    return count
