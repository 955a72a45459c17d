"""Make a prepared corpus of tokenized pieces: vocabulary, spelling model, ids, manifest.

The executor does all work that grows with the text; this process reads no tokens and no counts.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from korlm.config import VocabConfig
from korlm.config.metrics import SPLITS
from korlm.dataset.executors.base import Executor
from korlm.dataset.numericalize import EncodedShard, encode_shard
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.statistics.tokenization_report import write_report
from korlm.dataset.storage.piece_files import (
    IDS,
    SHARD,
    TOKEN_COUNTS,
    EarlierPiece,
    PieceRecord,
    TokenizedPieces,
    link,
    link_files,
    piece_path,
)
from korlm.dataset.storage.token_counts import (
    CountFiles,
    add_up_counts,
    iterate_counts,
    merge_counts,
)
from korlm.dataset.tokenize import TOKENIZER_MODEL_FILES
from korlm.dataset.vocab import EOS_ID, NUMBER, SPECIALS, UNK_ID, Vocab
from korlm.utils.io import checksums
from korlm.utils.io.arrays import read_arrays, write_arrays
from korlm.utils.io.atomic_files import atomic_folder, atomic_write
from korlm.utils.io.urls import copy_file, local_copy, remove_tree

ENCODER_FILES = ("vocab.tsv", "spelling.npz")
MERGED_FILES = 8  # files of token counts that are added up at once


def assemble(
    target: Path,
    tokens: TokenizedPieces,
    config: VocabConfig,
    manifest: dict[str, Any],
    executor: Executor,
    given_vocab: Vocab | None = None,
    reverse: bool = False,
) -> None:
    """Make a prepared corpus of tokenized pieces.

    Args:
        target: the folder to make.
        tokens: the pieces. Their files are linked, not copied, where possible. Those in another
            folder than that of ``target`` (``prepare.folder``) stay there; the ids are made there
            and fetched.
        config: settings of the vocabulary.
        manifest: values of ``manifest.json`` that do not depend on the tokens.
        executor: counts and encodes.
        given_vocab: used instead of a vocabulary of the text.
        reverse: whether to reverse the tokens of each line.
    """
    is_remote = tokens.folder.parent != target.parent
    # Another machine may make the same corpus from the same tokens meanwhile.
    own = f"encoded-{target.name[-12:]}-{uuid.uuid4().hex[:8]}"
    with atomic_folder(target) as building:
        encoded_folder = tokens.folder / own if is_remote else building
        settings = EncodeSettings(tokens.folder, encoded_folder, config, reverse)
        try:
            _link_files(tokens, building, is_remote)
            merged = encoded_folder / "merged"
            build = functools.partial(
                build_encoder,
                counts=_merge_counts(tokens, merged, executor),
                num_sentences=tokens.counts("train").num_sentences,
                given_vocab=given_vocab,
            )
            ((_, vocab_size),) = executor.run_all(build, [settings])
            remove_tree(merged)  # not a part of the corpus
            encoded = _encode_pieces(settings, tokens.records, executor)
            ids = {
                _name(IDS.format(split=split), number): shard.crc32
                for number, shards in enumerate(encoded)
                for split, shard in shards.items()
            }
            if is_remote:
                (building / "ids").mkdir()
                for name in (*ENCODER_FILES, *ids):
                    copy_file(encoded_folder / name, building / name)
                manifest["remote"] = str(tokens.folder)
        finally:
            if is_remote:
                remove_tree(encoded_folder)
            release_encoder()  # of this process, which may train next
        manifest |= {"vocab_size": vocab_size, **_manifest_values(tokens, encoded)}
        _write_manifest(building, manifest, _token_checksums(tokens) | ids)


def _link_files(tokens: TokenizedPieces, building: Path, is_remote: bool) -> None:
    """Link the files of the pieces and of the tokenizer's model, and write the report."""
    (building / "tokens").mkdir(parents=True)
    for number, record in enumerate([] if is_remote else tokens.records):
        link_files(EarlierPiece(tokens.folder, number, record), building, number)
    for name in TOKENIZER_MODEL_FILES:
        if (model := tokens.folder / name).exists():
            link(model, building / name)
    write_report(tokens.folder / "reports", building / "report.tsv")


def _encode_pieces(
    settings: EncodeSettings, records: Sequence[PieceRecord], executor: Executor
) -> list[dict[str, EncodedShard]]:
    """Write the ids of all pieces; return the sums of each split, in the order of the pieces."""
    encode = functools.partial(encode_piece, settings)
    results = executor.run_all(encode, list(enumerate(records)))
    by_number = {number: shards for (number, _), shards in results}
    return [by_number[number] for number in range(len(records))]


def _token_checksums(tokens: TokenizedPieces) -> dict[str, str]:
    """Return the checksums of the files of all pieces by name."""
    return {
        _name(name, number): crc32
        for number, record in enumerate(tokens.records)
        for name, crc32 in record.files.items()
    }


def _manifest_values(
    tokens: TokenizedPieces, encoded: Sequence[dict[str, EncodedShard]]
) -> dict[str, Any]:
    """Return the values of manifest.json that count tokens and lines."""
    splits = {}
    for split in SPLITS:
        counts = tokens.counts(split)
        if counts.num_lines:
            shards = [shards[split] for shards in encoded if split in shards]
            splits[split] = {
                "num_tokens": counts.num_tokens,
                "num_unk": sum(shard.num_unk for shard in shards),
                "num_eojeol": counts.num_eojeol,
                "num_chars": counts.num_chars,
                "num_lines": counts.num_lines,
                "spelling_nats": sum(shard.spelling_nats for shard in shards),
            }
    total = tokens.counts()
    return {
        "splits": splits,
        "status": total.status,
        "num_dropped": total.num_dropped,
        "pieces": [dataclasses.asdict(record) for record in tokens.records],
    }


def _write_manifest(building: Path, manifest: dict[str, Any], known: dict[str, str]) -> None:
    """Write manifest.json with the checksums of all files.

    ``known``: file name -> checksum, of files that need not be read.
    """
    paths = (path for path in building.rglob("*") if path.is_file())
    manifest = checksums.with_checksums(manifest, building, paths, known)
    text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
    # A file name that is not UTF-8 is written as \\udc.., which JSON reads back.
    (building / "manifest.json").write_text(text, encoding="utf-8", errors="backslashreplace")


def _name(name: str, number: int) -> str:
    return piece_path(Path(), name, number).as_posix()


def _merge_counts(tokens: TokenizedPieces, merged: Path, executor: Executor) -> list[Path]:
    """Add up the counts of the tokens of train; return at most ``MERGED_FILES`` files.

    The sums of as many files each are in the folder ``merged``.
    """
    paths = [
        piece_path(tokens.folder, TOKEN_COUNTS, number)
        for number, record in enumerate(tokens.records)
        if TOKEN_COUNTS in record.files
    ]
    level = 0
    while len(paths) > MERGED_FILES:
        groups = [
            CountFiles(paths[begin : begin + MERGED_FILES], merged / f"{level}-{begin:05d}.parquet")
            for begin in range(0, len(paths), MERGED_FILES)
        ]
        list(executor.run_all(merge_counts, groups))
        paths, level = [group.target for group in groups], level + 1
    return paths


@dataclass(frozen=True)
class EncodeSettings:
    """Settings of encoding, the same for all pieces."""

    folder: Path  # of the files of the pieces
    target: Path  # folder of the ids, the vocabulary and the spelling model
    vocab: VocabConfig
    reverse: bool

    def __str__(self) -> str:
        """Return what ``build_encoder`` makes, for messages."""
        return f"the vocabulary in {self.target}"


def build_encoder(
    settings: EncodeSettings, counts: list[Path], num_sentences: int, given_vocab: Vocab | None
) -> int:
    """Write the vocabulary and the spelling model; return the size of the vocabulary.

    Args:
        settings: of encoding.
        counts: files with the counts of the tokens of train.
        num_sentences: number of <eos> in train.
        given_vocab: used instead of a vocabulary of the text.
    """
    table = add_up_counts(counts)
    if given_vocab is None:
        vocab = build_vocab(table, settings.vocab)
    else:
        vocab = given_vocab.recounted(iterate_counts(table))
    vocab.counts[EOS_ID] = num_sentences
    spelling = CharNgramModel.train(token for token, _ in iterate_counts(table))
    vocab_file, spelling_file = (settings.target / name for name in ENCODER_FILES)
    with atomic_write(vocab_file, shared=True) as path:
        vocab.save(path)
    with atomic_write(spelling_file, shared=True) as path:
        write_arrays(path, spelling.arrays())
    return len(vocab)


def build_vocab(counts: pa.Table, config: VocabConfig) -> Vocab:
    """Build the vocabulary of some token counts.

    It equals ``Vocab(dict(iterate_counts(counts)), config)``, but takes less memory: tokens that
    are too rare do not become Python objects.
    """
    frequent = counts
    if not (config.lowercase or config.normalize_numbers):  # which may merge rare tokens
        frequent = frequent.filter(pc.field("count") >= config.min_freq)
        if config.max_size is not None:
            order = [("count", "descending"), ("token", "ascending")]
            num_excluded = len((*SPECIALS, NUMBER))  # tokens that never get an id of their own
            frequent = frequent.sort_by(order).slice(0, config.max_size + num_excluded)
    vocab = Vocab(dict(iterate_counts(frequent)), config)
    vocab.counts[UNK_ID] = 0
    vocab.counts[UNK_ID] = (pc.sum(counts["count"]).as_py() or 0) - sum(vocab.counts)
    return vocab


def encode_piece(
    settings: EncodeSettings, piece: tuple[int, PieceRecord]
) -> dict[str, EncodedShard]:
    """Write the ids of a piece, given its number and record; return the sums of each split."""
    number, record = piece
    config = settings.vocab
    vocab, spelling = _load_encoder(settings.target, config.lowercase, config.normalize_numbers)
    result = {}
    for split in record.splits:
        ids = piece_path(settings.target, IDS.format(split=split), number)
        with local_copy(piece_path(settings.folder, SHARD.format(split=split), number)) as shard:
            result[split] = encode_shard(shard, ids, vocab, spelling, settings.reverse)
    return result


@functools.lru_cache(maxsize=1)
def _load_encoder(
    folder: Path, lowercase: bool, normalize_numbers: bool
) -> tuple[Vocab, CharNgramModel]:
    config = VocabConfig(lowercase=lowercase, normalize_numbers=normalize_numbers)
    vocab_file, spelling_file = (folder / name for name in ENCODER_FILES)
    with local_copy(vocab_file) as path:
        vocab = Vocab.load(path, config)
    with local_copy(spelling_file) as path:
        return vocab, CharNgramModel.from_arrays(read_arrays(path))


def release_encoder() -> None:
    """Free the vocabulary and the spelling model that ``encode_piece`` keeps in this process."""
    _load_encoder.cache_clear()
