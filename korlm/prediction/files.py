"""Predict for the lines of text files, and write the predictions batch by batch."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import pyarrow as pa

from korlm.config import TextConfig
from korlm.corpus.reader import read_corpus
from korlm.corpus.records import Notes
from korlm.corpus.sources import Source
from korlm.dataset.text_encoder import TextEncoder
from korlm.tasks.base import Predictor
from korlm.utils.io.table_files import TableWriter
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)


def output_schema(predictor: Predictor) -> pa.Schema:
    """Return the columns of the output: ``text`` and those of a prediction."""
    return pa.schema([("text", pa.string()), *predictor.schema])


def predict_files(
    sources: Sequence[Source],
    config: TextConfig,
    encoder: TextEncoder,
    predictor: Predictor,
    writer: TableWriter,
) -> int:
    """Write a row for each line of some files, in order, and return the number of rows.

    ``writer`` writes a table with the columns of ``output_schema``.

    Raises:
        CorpusError: the text cannot be read.
        OutputError: the table cannot be written.
        BrokenPipeError: standard output is a pipe that was closed.
    """
    notes, num_rows = Notes(), 0
    show_bar = not (writer.is_stdout and sys.stdout.isatty())  # it would mix with the rows
    schema = output_schema(predictor)
    with ProgressBar(desc="predicting", unit="line", leave=False, shown=show_bar) as bar:
        for batch in encoder.read(read_corpus(config, list(sources), notes)):
            predictions = predictor.predict(batch)
            texts = batch.table.column("text").to_pylist()
            pairs = zip(texts, predictions, strict=True)
            rows = [{"text": text, **prediction} for text, prediction in pairs]
            writer.write(pa.Table.from_pylist(rows, schema=schema))
            num_rows += len(rows)
            bar.update(len(rows))
    for note in notes.lines():
        logger.warning("%s", note)
    return num_rows
