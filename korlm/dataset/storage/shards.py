"""Read and write token shards: Parquet files of tokenized lines.

A shard is ``tokens/<split>-<number>.parquet`` with the columns of ``SCHEMA``, one row per line,
and further columns of the source (``corpus.keep_columns``); the number is that of the piece of the
corpus. Pandas, DuckDB and Spark can read it.
``text`` is the line as read, so that nothing is lost. The metadata of a shard holds its counts. The
same text yields the same bytes, however often the work was interrupted; measured times are
therefore kept elsewhere (``statistics/tokenization_report.py``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from korlm.config.paths import mend_prepared
from korlm.config.stored import read_json
from korlm.utils.errors import PreparedError, reading
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import atomic_write
from korlm.utils.io.urls import copy_file, to_path

SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("line", pa.int64()),
        ("text", pa.string()),
        ("morphs", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())),
        ("eojeol", pa.list_(pa.int32())),
        ("status", pa.string()),
    ]
)
LABEL = "label"  # column of ``corpus.label_column``
# Lines hardly ever repeat: a dictionary of texts would cost time and save no space.
_LISTS = [f"{name}.list.element" for name in ("morphs", "tags", "eojeol")]
_DICTIONARIES = ["doc_id", *_LISTS, "status"]
_COUNTS = b"korlm"  # key of the counts in the metadata


@dataclass
class ShardCounts:
    """Counts of one shard or, added up, of one split.

    Blank lines count in ``num_lines`` and ``status`` only: no token is predicted there.
    """

    num_lines: int = 0
    num_sentences: int = 0  # lines that are not blank
    num_morphs: int = 0  # tokens without <eos>
    num_eojeol: int = 0  # units between blanks
    num_chars: int = 0  # of the normalized lines, one for each line end included
    status: dict[str, int] = field(default_factory=dict)  # of the tokenizer -> number of lines
    num_dropped: int = 0  # characters that are part of no token

    @property
    def num_tokens(self) -> int:
        """Length of the id stream: all morphs, and <eos> after each line that is not blank."""
        return self.num_morphs + self.num_sentences

    def add(self, other: ShardCounts) -> None:
        """Add the counts of another shard."""
        for name in (f.name for f in dataclasses.fields(self) if f.name.startswith("num_")):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.status = dict(sorted((Counter(self.status) + Counter(other.status)).items()))


def non_blank_mask(status: pa.StringArray) -> npt.NDArray[np.bool_]:
    """Return a mask of the non-blank lines, (lines,); blank ones have the status ``empty``."""
    mask: npt.NDArray[np.bool_] = pc.not_equal(status, "empty").to_numpy(zero_copy_only=False)
    return mask


def shard_paths(folder: Path, split: str) -> list[Path]:
    """Return the paths of the shards of a split, in order; some may not be fetched yet."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        remote, sums = _manifest_values(folder.parent)
        if remote:
            names = (name.removeprefix("tokens/") for name in sums if name.startswith("tokens/"))
            return in_piece_order(folder / name for name in names if name.startswith(f"{split}-"))
    return in_piece_order(folder.glob(f"{split}-*.parquet"))


def in_piece_order(paths: Iterable[Path]) -> list[Path]:
    """Sort files that differ only in the number of their piece, of five digits or more."""
    return sorted(paths, key=lambda path: (len(path.name), path.name))


def open_parquet_writer(path: Path, schema: pa.Schema = SCHEMA) -> pq.ParquetWriter:
    """Open a Parquet file for writing with the encoding of a shard."""
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=_DICTIONARIES,
        write_statistics=["doc_id", "line"],  # minima and maxima of words are of no use
        write_page_checksum=True,
    )


def write_counts(file: pq.ParquetWriter, counts: ShardCounts) -> None:
    """Store counts in the metadata of an open shard."""
    text = json.dumps(dataclasses.asdict(counts), ensure_ascii=False)
    file.add_key_value_metadata({_COUNTS: text.encode()})


def read_counts(path: Path) -> ShardCounts:
    """Read the counts of a shard from its metadata.

    Raises:
        PreparedError: the file is damaged or not a shard of korlm.
    """
    with reading(path, PreparedError, mend_prepared(path.parents[1])):
        _verify(path)
        metadata = pq.read_metadata(path).metadata or {}
        return ShardCounts(**json.loads(metadata[_COUNTS]))


def split_counts(folder: Path, split: str) -> ShardCounts:
    """Return the summed counts of all shards of a split; see ``read_counts``."""
    counts = ShardCounts()
    for path in shard_paths(folder, split):
        counts.add(read_counts(path))
    return counts


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read some columns of a shard, one row group at a time.

    Raises:
        PreparedError: the file is damaged.
    """
    with reading(path, PreparedError, mend_prepared(path.parents[1])):
        _verify(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(columns))
                yield from table.combine_chunks().to_batches()


def _verify(path: Path) -> None:
    """Verify a shard of a prepared corpus against the checksum in the manifest; fetch it first.

    The page checksums of Parquet do not cover the rest of the file, such as its counts. Shards of
    an unfinished corpus have no manifest and are not verified.

    Raises:
        OSError: a file cannot be read.
        PreparedError: the shard cannot be fetched.
        ValueError: the shard has changed.
    """
    folder = path.parent.parent
    if path.parent.name == "tokens" and (folder / "manifest.json").is_file():
        remote, sums = _manifest_values(folder)
        if remote and not path.exists():
            _fetch(path, remote)
        checksums.check_file(path, folder, sums)


def _fetch(path: Path, remote: str) -> None:
    """Copy a shard from ``prepare.folder``, where the tokens of a prepared corpus have stayed."""
    source = to_path(remote, PreparedError) / "tokens" / path.name
    advice = (
        "prepare.folder had the tokens of this corpus written there: move them back, or "
        + mend_prepared(path.parents[1])
    )
    with (
        reading(source, PreparedError, advice, "cannot be fetched"),
        atomic_write(path, shared=True) as temporary,
    ):
        copy_file(source, temporary)


def _manifest_values(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the URL of the shards, empty if they are here, and the checksums of all files."""
    manifest = folder / "manifest.json"
    stat = manifest.stat()
    return _read_manifest(manifest, stat.st_mtime_ns, stat.st_ino)


@functools.lru_cache(maxsize=8)
def _read_manifest(manifest: Path, *_stat: int) -> tuple[str, dict[str, str]]:
    """Read a manifest; cached until the file changes."""
    values = read_json(manifest)
    checksums.check_values(values)
    return values.get("remote", ""), dict(values[checksums.CRC32_KEY])
