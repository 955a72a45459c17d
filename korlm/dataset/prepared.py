"""Open prepared corpora and verify them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from korlm.config import VocabConfig
from korlm.config.paths import mend_prepared
from korlm.config.stored import check_settings, read_json
from korlm.dataset.fingerprint import FORMAT, prepared_fingerprint
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.storage.id_stream import Ids, IdStream, join_shards, map_shard
from korlm.dataset.storage.shards import (
    LABEL,
    in_piece_order,
    non_blank_mask,
    read_columns,
    shard_paths,
)
from korlm.dataset.tokenize import TOKENIZER_MODEL_FILES
from korlm.dataset.vocab import Vocab, id_dtype
from korlm.utils.errors import PreparedError, reading
from korlm.utils.io import checksums
from korlm.utils.io.arrays import read_arrays

BLOCK = 1 << 24  # ids that are checked at once


@dataclass(frozen=True)
class SplitStats:
    """Counts of one split, under the names of metrics.json."""

    num_tokens: int  # <eos> included
    num_unk: int
    num_eojeol: int  # units between blanks
    num_chars: int  # of the normalized lines, one for each line end included
    num_lines: int  # blank ones included
    spelling_nats: float  # cost of spelling the lossy tokens (``CharNgramModel``)


@dataclass(frozen=True)
class Prepared:
    """A prepared corpus on disk."""

    folder: Path
    fingerprint: str  # of the text and all settings
    vocab: Vocab
    vocab_config: VocabConfig
    spelling: CharNgramModel  # the cost of spelling the lossy tokens
    stats: dict[str, SplitStats]  # of each split
    manifest: dict[str, Any]  # values of manifest.json
    tokenizer_model: bytes | None  # of a trained tokenizer

    def ids(self, split: str) -> Ids | IdStream:
        """Return the ids of a split, memory-mapped and verified; shape (num_tokens,).

        Raises:
            PreparedError: a file is missing or damaged, or does not fit the manifest.
        """
        names = self.manifest[checksums.CRC32_KEY]
        paths = (self.folder / name for name in names if name.startswith(f"ids/{split}-"))
        shards = [self._ids_of(path) for path in in_piece_order(paths)]
        num_ids, expected = sum(map(len, shards)), self.stats[split].num_tokens
        if num_ids != expected:
            raise PreparedError(
                f"{self.folder / 'ids'}: holds {num_ids} ids of {split}, the manifest says "
                f"{expected}; {mend_prepared(self.folder)}"
            )
        return join_shards(shards)

    def _ids_of(self, path: Path) -> Ids:
        with _verified(path, self.folder, self.manifest):
            ids: Ids = map_shard(path)
            if ids.dtype != id_dtype(len(self.vocab)):
                raise ValueError(f"holds {ids.dtype}, not {np.dtype(id_dtype(len(self.vocab)))}")
            if ids.ndim != 1:
                raise ValueError(f"holds {ids.shape} ids")
            blocks = (ids[begin : begin + BLOCK] for begin in range(0, len(ids), BLOCK))
            largest = max((int(block.max()) for block in blocks), default=0)
            if largest > (last := len(self.vocab) - 1):
                raise ValueError(f"holds the id {largest}, the vocabulary ends at {last}")
        return ids

    def labels(self, split: str) -> list[str]:
        """Return the label of each non-blank line of a split, as many as sentences of ids.

        Raises:
            PreparedError: the corpus has no labels, or a file is damaged.
        """
        if not self.manifest["settings"]["corpus"].get("label_column"):
            raise PreparedError(
                f"{self.folder}: has no labels; prepare it with corpus.label_column=COLUMN"
            )
        return self._column(LABEL, split)

    def texts(self, split: str) -> list[str]:
        """Return each line of a split as it was read, as many as sentences of ids."""
        return self._column("text", split)

    def _column(self, name: str, split: str) -> list[str]:
        """Return a column of the lines of a split that are not blank."""
        values: list[str] = []
        for shard in shard_paths(self.folder / "tokens", split):
            for batch in read_columns(shard, [name, "status"]):
                non_blank = pa.array(non_blank_mask(batch.column("status")))
                values += batch.column(name).filter(non_blank).to_pylist()
        return values


def open_prepared(folder: Path, fingerprint: str | None = None) -> Prepared:
    """Open a prepared corpus and verify it; shards and ids are verified when they are read.

    Raises:
        PreparedError: it is missing, damaged, of another format or of another fingerprint.
    """
    if not folder.is_dir():
        raise PreparedError(f"{folder}: no such prepared corpus")
    advice = mend_prepared(folder)
    if not (folder / "manifest.json").is_file():
        raise PreparedError(
            f"{folder}: not a complete prepared corpus: it holds no manifest.json; {advice}"
        )
    with reading(folder, PreparedError, advice, "not a complete prepared corpus"):
        manifest = read_json(folder / "manifest.json")
        if (version := manifest["format"]) != FORMAT:
            raise PreparedError(f"{folder}: format {version}, this korlm reads {FORMAT}; {advice}")
        checksums.check_values(manifest)
        manifest["settings"] = check_settings(
            manifest["settings"], str(folder / "manifest.json"), PreparedError
        )
        actual = manifest["fingerprint"]
        vocab_config = VocabConfig(**manifest["settings"]["vocab"])
        str(manifest["settings"]["tokenizer"]["name"])
        stats = {name: SplitStats(**split) for name, split in dict(manifest["splits"]).items()}
        computed = prepared_fingerprint(
            manifest.get("tokens_fingerprint"),
            vocab_config,
            manifest.get("given_vocab"),
            bool(manifest["settings"]["corpus"].get("reverse")),
        )
    for expected in (fingerprint or computed, computed):
        if actual != expected:
            raise PreparedError(
                f"{folder}: its fingerprint is {actual}, {expected} is needed; {advice}"
            )
    with _verified(folder / "vocab.tsv", folder, manifest) as path:
        vocab = Vocab.load(path, vocab_config)
        if len(vocab) != (expected := manifest["vocab_size"]):
            raise ValueError(f"{len(vocab)} tokens, the manifest says {expected}")
    with _verified(folder / "spelling.npz", folder, manifest) as path:
        spelling = CharNgramModel.from_arrays(read_arrays(path))
    tokenizer_model = None
    for name in TOKENIZER_MODEL_FILES:
        if name in manifest[checksums.CRC32_KEY]:
            with _verified(folder / name, folder, manifest) as path:
                tokenizer_model = path.read_bytes()
    return Prepared(folder, actual, vocab, vocab_config, spelling, stats, manifest, tokenizer_model)


@contextmanager
def _verified(path: Path, folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Yield the path of a file of a prepared corpus, after its checksum has been verified.

    The block reads the file; see ``reading``.
    """
    with reading(path, PreparedError, mend_prepared(folder)):
        checksums.check_file(path, folder, manifest[checksums.CRC32_KEY])
        yield path
