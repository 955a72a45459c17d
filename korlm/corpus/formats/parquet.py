"""Reads Parquet files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from korlm.config import TextConfig
from korlm.corpus.formats.records import Record
from korlm.corpus.notes import Notes
from korlm.utils.errors import CorpusError

ROWS = 4096  # read at a time


def read_parquet(path: Path, config: TextConfig, notes: Notes) -> Iterator[Record]:
    """Read the rows of a Parquet file.

    Args:
        path: of the file.
        config: names of the columns.
        notes: counts remarks.

    Raises:
        CorpusError: the file is not Parquet, lacks a column, or a cell is empty.
    """
    keys = config.column_keys
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for key in keys:
                if getattr(config, key) not in names:
                    raise CorpusError(
                        f"{path}: has no column {getattr(config, key)!r}, only "
                        f"{', '.join(names)}; give corpus.{key}=NAME"
                    )
            columns = [getattr(config, key) for key in keys]
            number = 0
            for batch in file.iter_batches(ROWS, columns=list(dict.fromkeys(columns))):
                rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
                for row in rows:
                    number += 1
                    cells = dict(zip(keys, row, strict=True))
                    text = cells["text_column"]
                    if not isinstance(text, str):
                        if not config.skip_without_text:
                            raise CorpusError(
                                f"{path}: row {number} has {text!r:.40} under "
                                f"{config.text_column!r}, not a string; correct it, or leave out "
                                "such rows with corpus.skip_without_text=true"
                            )
                        notes.add("rows without text that are left out", f"{path}, row {number}")
                        continue
                    yield Record(
                        text,
                        _cell(cells.get("document_column")),
                        _cell(cells.get(config.annotation_key)),
                    )
    except (OSError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise CorpusError(f"{path}: not a Parquet file that can be read ({reason})") from error


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
