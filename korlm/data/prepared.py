"""Prepared corpora: finds one that fits the settings, or makes it, once and whole.

    outputs/prepared/<corpus>-<tokenizer>-<fingerprint>/
        manifest.json           settings, fingerprints, counts of each split, checksums of all files
        tokens/*.parquet        analysed lines (korlm.data.shards)
        vocab.tsv               tokens and counts (korlm.data.vocab)
        ids/<split>.npy         the stream of ids (korlm.data.encode)
        spelling.npz            what unknown words cost (korlm.data.spelling)
        report.tsv              lines that did not go plainly (korlm.data.report)
        sentencepiece.model     what tokenizer=sentencepiece learned from train (korlm.data.pieces)
        statistics.json, frequencies.png   what the corpus is like (korlm.corpus_statistics)

The fingerprint is a hash of the text, the tokenizer and the vocabulary's settings. A folder is
complete or absent: it is made beside its place and renamed. Another vocabulary over the same tokens
shares their files, so that nothing is tokenized twice; two jobs that need the same tokens make them
once. Work that was broken off keeps its finished shards, and the journals of a slow tokenizer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import Timeout

from korlm import checksums
from korlm.config import (
    ClusterConfig,
    CorpusConfig,
    Encoding,
    TokenizerConfig,
    VocabConfig,
)
from korlm.data.analysis import LEARNED, tokenize_corpus
from korlm.data.arrays import read_arrays
from korlm.data.columns import PLAIN
from korlm.data.corpus import Source, content_digest, find_sources
from korlm.data.encode import count_tokens, encode_split, spelling_nats, split_counts
from korlm.data.registry import tokenizer_version
from korlm.data.report import summary, write_report
from korlm.data.shards import ShardCounts, shard_paths
from korlm.data.spelling import SpellingModel
from korlm.data.vocab import EOS_ID, UNK_ID, Vocab, id_dtype
from korlm.errors import PreparedError, writing
from korlm.locks import held
from korlm.metrics import SPLITS
from korlm.paths import mend_prepared
from korlm.stored import check_settings, read_json
from korlm.whole_files import to_disk

logger = logging.getLogger(__name__)

FORMAT = 3  # of the folder; goes into the fingerprint


@dataclass(frozen=True)
class SplitStats:
    """Counts of one split, as metrics.json names them, and what its unknown words cost."""

    num_tokens: int
    num_unk: int
    num_eojeol: int
    num_chars: int
    num_lines: int
    spelling_nats: float


@dataclass(frozen=True)
class Prepared:
    """A prepared corpus on disk, opened."""

    folder: Path
    fingerprint: str
    vocab: Vocab
    vocab_config: VocabConfig
    spelling: SpellingModel
    stats: dict[str, SplitStats]
    manifest: dict[str, Any]
    learned: bytes | None  # by the tokenizer, from train

    def ids(self, split: str) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The ids of a split, memory-mapped and checked; shape (num_tokens,)."""
        path = self.folder / "ids" / f"{split}.npy"
        try:
            checksums.check_file(path, self.folder, self.manifest[checksums.KEY])
            ids: npt.NDArray[np.unsignedinteger[Any]] = np.load(path, mmap_mode="r")
            if ids.dtype != id_dtype(len(self.vocab)):
                raise ValueError(f"holds {ids.dtype}, not {np.dtype(id_dtype(len(self.vocab)))}")
        except (OSError, ValueError, EOFError, SyntaxError, OverflowError) as error:
            raise PreparedError(
                f"{path}: damaged ({error}); {mend_prepared(self.folder)}"
            ) from error
        expected = self.stats[split].num_tokens
        if ids.ndim != 1 or len(ids) != expected:
            raise PreparedError(
                f"{path}: holds {ids.shape} ids, the manifest says {expected}; "
                + mend_prepared(self.folder)
            )
        largest = max((int(part.max()) for part in _blocks(ids)), default=0)
        if largest >= len(self.vocab):
            raise PreparedError(
                f"{path}: damaged: holds the id {largest}, the vocabulary ends at "
                f"{len(self.vocab) - 1}; {mend_prepared(self.folder)}"
            )
        return ids


def _blocks(ids: npt.NDArray[Any], size: int = 1 << 24) -> Iterator[npt.NDArray[Any]]:
    return (ids[begin : begin + size] for begin in range(0, len(ids), size))


def prepare(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    vocab: VocabConfig,
    outputs: Path,
    progress: bool = True,
    cluster: ClusterConfig | None = None,
) -> Prepared:
    """The prepared corpus of these settings: the one that is there, or a new one.

    Args:
        corpus: which text.
        tokenizer: what makes tokens of it.
        vocab: which tokens get an id.
        outputs: the folder under which ``prepared/`` lies.
        progress: whether to draw a progress bar when stderr is a terminal.
        cluster: who tokenizes; None: this machine. The result is the same.

    Raises:
        KorlmError: text that cannot be read, an analyzer that does not start, a full disk.
    """
    sources = find_sources(corpus)
    token_key = _token_settings(corpus, tokenizer, sources)
    token_print = _hash(token_key)
    fingerprint = _hash({"tokens": token_print, "vocab": _plain(vocab)})
    root = outputs / "prepared"
    stem = f"{corpus.name}-{tokenizer.name}"
    target = root / f"{stem}-{fingerprint}"
    partial = root / f".{stem}-{token_print}.partial"
    lock = partial.with_suffix(".lock")
    if target.exists():
        _remove_left(partial, lock)
        return open_prepared(target, fingerprint)
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        with _only_one(lock):
            if not target.exists():
                tokens = _find_tokens(root, stem, token_print)
                if tokens is None:
                    tokens = partial / "tokens"
                    tokenize_corpus(
                        corpus,
                        tokenizer,
                        sources,
                        tokens,
                        outputs / "cache",
                        progress,
                        cluster,
                    )
                settings = {
                    "corpus": _plain(corpus),
                    "tokenizer": _plain(tokenizer),
                    "vocab": _plain(vocab),
                }
                manifest: dict[str, Any] = {
                    "format": FORMAT,
                    "fingerprint": fingerprint,
                    "tokens_fingerprint": token_print,
                    "text": token_key,
                    "settings": settings,
                }
                _assemble(target, tokens, vocab, manifest)
                odd = set(manifest["status"]) - set(PLAIN) or manifest["num_dropped"]
                where = f"; those that did not go plainly: {target / 'report.tsv'}" if odd else ""
                logger.info("lines: %s%s", summary(manifest["status"]), where)
                shutil.rmtree(partial, ignore_errors=True)
    return open_prepared(target, fingerprint)


def open_prepared(folder: Path, fingerprint: str | None = None) -> Prepared:
    """Opens a prepared corpus and checks that it is whole and what it should be.

    Raises:
        PreparedError: it is missing, damaged, of another format or of another fingerprint.
    """
    if not folder.is_dir():
        raise PreparedError(f"{folder}: there is no such prepared corpus")
    advice = mend_prepared(folder)
    if not (folder / "manifest.json").is_file():
        raise PreparedError(
            f"{folder}: no whole prepared corpus: it holds no manifest.json; {advice}"
        )
    try:
        manifest = read_json(folder / "manifest.json")
        if (version := manifest["format"]) != FORMAT:
            raise PreparedError(f"{folder}: format {version}, this korlm reads {FORMAT}; {advice}")
        checksums.check_seal(manifest)
        check_settings(manifest["settings"], str(folder / "manifest.json"), PreparedError)
        found = manifest["fingerprint"]
        vocab_config = VocabConfig(**manifest["settings"]["vocab"])
        str(manifest["settings"]["tokenizer"]["name"])
        stats = {name: SplitStats(**split) for name, split in manifest["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PreparedError(f"{folder}: no whole prepared corpus ({error!r}); {advice}") from error
    _check_file(folder / "vocab.tsv", folder, manifest)
    computed = _hash({"tokens": manifest.get("tokens_fingerprint"), "vocab": _plain(vocab_config)})
    for expected in (fingerprint or computed, computed):
        if found != expected:
            raise PreparedError(
                f"{folder}: its fingerprint {found} does not fit, {expected} is needed; {advice}"
            )
    vocab = Vocab.load(folder / "vocab.tsv", vocab_config)
    if len(vocab) != manifest.get("vocab_size"):
        raise PreparedError(
            f"{folder / 'vocab.tsv'}: {len(vocab)} tokens, the manifest says "
            f"{manifest.get('vocab_size')}; {advice}"
        )
    _check_file(folder / "spelling.npz", folder, manifest)
    try:
        spelling = SpellingModel.from_arrays(read_arrays(folder / "spelling.npz"))
    except (OSError, ValueError, LookupError, MemoryError) as error:
        raise PreparedError(f"{folder / 'spelling.npz'}: damaged ({error}); {advice}") from error
    learned = _read_learned(folder, manifest.get("learned"))
    return Prepared(folder, found, vocab, vocab_config, spelling, stats, manifest, learned)


def _check_file(path: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Check a file of a prepared corpus against its checksum.

    Raises:
        PreparedError: it is missing or has changed.
    """
    try:
        checksums.check_file(path, folder, manifest[checksums.KEY])
    except (OSError, ValueError) as error:
        raise PreparedError(
            f"{path}: damaged or missing ({error}); {mend_prepared(folder)}"
        ) from error


def _read_learned(folder: Path, digest: str | None) -> bytes | None:
    """What the tokenizer learned, which must be what the manifest says."""
    if digest is None:
        return None
    path = folder / LEARNED
    try:
        learned = path.read_bytes()
    except OSError as error:
        raise PreparedError(f"{path}: {error.strerror}; {mend_prepared(folder)}") from error
    if _digest(learned) != digest:
        raise PreparedError(f"{path}: damaged, or of other text; {mend_prepared(folder)}")
    return learned


def _plain(config: Any) -> dict[str, Any]:
    """A settings dataclass as JSON can hold it."""
    plain: dict[str, Any] = json.loads(
        json.dumps(
            dataclasses.asdict(config),
            default=lambda value: value.value if isinstance(value, enum.Enum) else str(value),
        )
    )
    return plain


def _hash(value: Any) -> str:
    return _digest(json.dumps(value, sort_keys=True, ensure_ascii=True).encode())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=6).hexdigest()


def _token_settings(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, sources: list[Source]
) -> dict[str, Any]:
    """All that decides the tokens: text, documents, splits, tokenizer. Speed and paths do not."""
    settings: dict[str, Any] = {
        "format": FORMAT,
        "tokenizer": [tokenizer.name, tokenizer_version(tokenizer)],
        "encoding": Encoding(corpus.encoding).value,
        "layout": corpus.layout.value,
        "document": corpus.document.value,
        "columns": [corpus.text_column, corpus.document_column],
        "separator": corpus.separator.value,
        "quoting": corpus.quoting.value,
        "skip_without_text": corpus.skip_without_text,
        "unicode": corpus.unicode.value,
        "files": [[source.name, source.split, content_digest(source)] for source in sources],
    }
    if any(source.split is None for source in sources):
        settings["shares"] = [corpus.valid_share, corpus.test_share]
    return settings


def _remove_left(partial: Path, lock: Path) -> None:
    """Removes what a process left that was killed when all was done, unless another is at it."""
    with contextlib.suppress(OSError, Timeout):  # a folder that may only be read stays as it is
        if partial.exists() or lock.exists():
            with held(lock, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    """Holds a lock among processes; says so when it has to wait for another one."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(lock, timeout=0))
        except Timeout:
            logger.info("another process prepares the same corpus; waiting for it")
            stack.enter_context(held(lock))
        yield


def _find_tokens(root: Path, stem: str, token_print: str) -> Path | None:
    """The tokens of a prepared corpus that differs in its vocabulary alone."""
    for manifest in sorted(root.glob(f"{stem}-*/manifest.json")):
        try:
            found = read_json(manifest)
            is_whole = found["format"] == FORMAT and found["tokens_fingerprint"] == token_print
            checksums.check_seal(found)
        except (OSError, ValueError, KeyError):
            continue
        if is_whole:
            return manifest.parent / "tokens"
    return None


def _assemble(target: Path, tokens: Path, config: VocabConfig, manifest: dict[str, Any]) -> None:
    """Makes vocabulary, ids and manifest beside the tokens, then gives the folder its name."""
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        (building / "tokens").mkdir(parents=True)
        (building / "ids").mkdir()
        for shard in sorted(tokens.glob("*.parquet")):
            _link(shard, building / "tokens" / shard.name)
        if (report := tokens.parent / "report.tsv").exists():
            _link(report, building / "report.tsv")  # of the prepared corpus that the tokens are of
        else:
            write_report(tokens, building / "report.tsv")
        if (learned := tokens.with_name(LEARNED)).exists():
            _link(learned, building / LEARNED)
            manifest["learned"] = _digest(learned.read_bytes())
        counts = count_tokens(tokens, "train")
        vocab = Vocab(counts, config)
        vocab.counts[EOS_ID] = split_counts(tokens, "train").num_sentences
        vocab.save(building / "vocab.tsv")
        spelling = SpellingModel.train(sorted(counts))
        np.savez(building / "spelling.npz", **spelling.arrays())  # type: ignore[arg-type]
        splits: dict[str, Any] = {}
        status = ShardCounts()
        for split in SPLITS:
            if not shard_paths(tokens, split):
                continue
            stats = split_counts(tokens, split)
            status.add(stats)
            unspelt = encode_split(tokens, split, vocab, building / "ids" / f"{split}.npy")
            unknown = vocab.encode(list(unspelt)) == UNK_ID
            splits[split] = {
                "num_tokens": stats.num_tokens,
                "num_unk": sum(
                    n for n, is_unk in zip(unspelt.values(), unknown, strict=True) if is_unk
                ),
                "num_eojeol": stats.num_eojeol,
                "num_chars": stats.num_chars,
                "num_lines": stats.num_lines,
                "spelling_nats": spelling_nats(spelling, unspelt),
            }
        manifest |= {"vocab_size": len(vocab), "splits": splits, "status": status.status}
        manifest["num_dropped"] = status.num_dropped
        files = [*building.glob("*/*"), *building.glob("*.*")]
        manifest = checksums.sealed(manifest, building, files)
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        # A file name in another encoding becomes \\udc.., which JSON reads back as it was.
        (building / "manifest.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        for path in building.rglob("*"):
            if path.is_file():
                to_disk(path)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """The same file under a second name where the file system can do that, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
