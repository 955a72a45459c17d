"""Makes a prepared corpus, or finds one that fits the settings (see README.md in this folder).

A folder is complete or absent: it is built under a temporary name and renamed. Corpora that differ
only in the vocabulary share their token files, and so do the pieces of a corpus that has grown. Of
processes that need the same tokens, one makes them and the others wait. An interrupted run leaves
its finished pieces for the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from filelock import Timeout

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.config.stored import read_json
from korlm.corpus.pieces import Piece, digest_of, plan_pieces
from korlm.corpus.scan import PieceScan, scan_piece, starts_of
from korlm.corpus.sources import find_sources
from korlm.corpus.validation import check_scans, validate_corpus
from korlm.dataset.assemble import assemble
from korlm.dataset.executors.base import Executor
from korlm.dataset.executors.open_executor import open_executor
from korlm.dataset.fingerprint import (
    FORMAT,
    hash_json,
    prepared_fingerprint,
    text_settings,
    to_json_values,
    token_settings,
)
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.dataset.statistics.tokenization_report import summary
from korlm.dataset.storage.piece_files import EarlierPiece, PieceRecord, link_piece, read_record
from korlm.dataset.tokenize import (
    PieceText,
    TokenizeSettings,
    kept_columns,
    train_model,
    write_tokenizer_model,
)
from korlm.dataset.vocab import Vocab, read_given_vocab
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.errors import CorpusError, OutputError, PreparedError, output_errors
from korlm.utils.io import checksums
from korlm.utils.io.checksums import short_hash
from korlm.utils.io.locks import held
from korlm.utils.io.new_files import new_file
from korlm.utils.io.urls import is_url, to_path, url_errors
from korlm.utils.progress import progress_bar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class TextEncoding:
    """The vocabulary and the tokenizer model of a trained run.

    Attributes:
        vocab: of the run.
        tokenizer_model: of the run (``korlm.tokenizers.registry.train_tokenizer``), if it has one.
    """

    vocab: Vocab
    tokenizer_model: bytes | None = None


def prepare(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    vocab: VocabConfig,
    outputs: Path,
    progress: bool = True,
    cluster: ClusterConfig | None = None,
    encoding: TextEncoding | None = None,
) -> Prepared:
    """Return the prepared corpus of these settings; make it if it does not exist.

    Args:
        corpus: settings of the text.
        tokenizer: settings of the tokenizer.
        vocab: settings of the vocabulary.
        outputs: folder that contains ``prepared/`` and ``cache/``.
        progress: whether to show a progress bar.
        cluster: where to prepare, and the size of pieces; None: in this process.
        encoding: of a trained model, with the settings ``tokenizer`` and ``vocab``; None: of the
            text.

    Raises:
        KorlmError: the text cannot be read, the tokenizer does not start, the disk is full.
    """
    cluster = cluster or ClusterConfig()
    given_vocab = read_given_vocab(vocab) if encoding is None else encoding.vocab
    tokenizer_model = None if encoding is None else encoding.tokenizer_model
    sources = find_sources(corpus)
    root = outputs / "prepared"
    if cluster.cluster is not None:  # workers have other working directories
        root = root.absolute()
        sources = [dataclasses.replace(s, path=_absolute(s.path)) for s in sources]
    store = _absolute(to_path(cluster.folder, OutputError)) if cluster.folder else root
    pieces = plan_pieces(corpus, sources, round(cluster.piece_mb * 1e6))
    token_key = token_settings(corpus, tokenizer, tokenizer_model)
    stem = f"{corpus.name}-{tokenizer.name}"
    with contextlib.ExitStack() as stack:
        seems_prepared = _seems_prepared(root, stem, token_key, pieces)
        # A cluster may take minutes to start, which a corpus that is prepared does not need.
        executor = (
            Executor()
            if seems_prepared
            else stack.enter_context(open_executor(cluster, tokenizer, outputs / "cluster"))
        )
        scans = None
        if seems_prepared or any(_earlier(root, stem)):
            hashes = executor.run_all(functools.partial(_digest, corpus), pieces)
            digests = _in_order(pieces, hashes)
        else:  # the scan, which is needed anyway, hashes the text as well
            scans = _scan(corpus, pieces, executor)
            digests = [scan.digest for scan in scans]
        text_key = text_settings(token_key, pieces, digests)
        manifest = _manifest(corpus, tokenizer, vocab, text_key, given_vocab)
        tokens_fingerprint, fingerprint = manifest["tokens_fingerprint"], manifest["fingerprint"]
        folders = _Folders(root, store, stem, tokens_fingerprint, fingerprint)
        target = folders.target
        if target.exists():
            _remove_stale(folders.partial, folders.lock)
            if cluster.folder:
                logger.info("%s exists: prepare.folder has no effect", target)
            return open_prepared(target, fingerprint)
        if seems_prepared:
            executor = stack.enter_context(open_executor(cluster, tokenizer, outputs / "cluster"))
        with output_errors(root), _removed_if_empty(root), _exclusive(folders.lock):
            if not target.exists():
                settings = TokenizeSettings(corpus, tokenizer, None, folders.tokens, token_key)
                made = _find_tokens(folders) or _make_tokens(
                    *(folders, settings, tokenizer_model, pieces, digests, scans, executor),
                    *(outputs / "cache", progress),
                )
                assemble(target, *made, vocab, manifest, executor, given_vocab, corpus.reverse)
                _log_statuses(target, manifest)
                shutil.rmtree(folders.partial, ignore_errors=True)
    return open_prepared(target, fingerprint)


@dataclass(frozen=True)
class _Folders:
    """Paths of a corpus that is being prepared.

    Attributes:
        root: folder of all prepared corpora.
        store: folder or URL of the files of the pieces; ``root`` unless it is ``prepare.folder``.
        stem: names of corpus and tokenizer, with which the names of folders begin.
        tokens_fingerprint: of the text and all settings but those of the vocabulary.
        fingerprint: of the text and all settings.
    """

    root: Path
    store: Path
    stem: str
    tokens_fingerprint: str
    fingerprint: str

    @property
    def target(self) -> Path:
        """The prepared corpus."""
        return self.root / f"{self.stem}-{self.fingerprint}"

    @property
    def partial(self) -> Path:
        """Folder of the pieces' files until the corpus is complete."""
        return self.root / f".{self.stem}-{self.tokens_fingerprint}.partial"

    @property
    def lock(self) -> Path:
        """Lock file, held by the process that makes the tokens."""
        return self.partial.with_suffix(".lock")

    @property
    def tokens(self) -> Path:
        """The files of the pieces; in ``prepare.folder`` they stay."""
        if self.store == self.root:
            return self.partial
        return self.store / f"{self.stem}-{self.tokens_fingerprint}"


def _manifest(
    corpus: CorpusConfig,
    tokenizer: TokenizerConfig,
    vocab: VocabConfig,
    text_key: dict[str, Any],
    given_vocab: Vocab | None,
) -> dict[str, Any]:
    """Return the values of manifest.json that do not depend on the tokens."""
    configs = {"corpus": corpus, "tokenizer": tokenizer, "vocab": vocab}
    tokens_fingerprint = hash_json(text_key)
    digest = None if given_vocab is None else hash_json(given_vocab.tokens)
    return {
        "format": FORMAT,
        "fingerprint": prepared_fingerprint(tokens_fingerprint, vocab, digest, corpus.reverse),
        "tokens_fingerprint": tokens_fingerprint,
        "text": text_key,
        "settings": {name: to_json_values(config) for name, config in configs.items()},
        **({} if digest is None else {"given_vocab": digest}),
    }


def _make_tokens(
    folders: _Folders,
    settings: TokenizeSettings,
    tokenizer_model: bytes | None,
    pieces: list[Piece],
    digests: list[str],
    scans: list[PieceScan] | None,
    executor: Executor,
    cache: Path,
    progress: bool,
) -> tuple[Path, list[PieceRecord]]:
    """Tokenize the text; return the folder of the pieces and their records.

    Args:
        folders: of the corpus.
        settings: of all pieces, without ``blocks``.
        tokenizer_model: of a trained run; None: train the tokenizer if it is to be trained.
        pieces: of the corpus.
        digests: hashes of their bytes.
        scans: of the pieces, if they have been scanned.
        executor: reads and tokenizes the pieces.
        cache: folder of the line cache.
        progress: whether to show a progress bar.
    """
    if folders.store != folders.root:
        _check_store(folders.store)
    if tokenizer_model is not None:
        write_tokenizer_model(settings.folder, settings.tokenizer, tokenizer_model)
    scans = scans or _scan(settings.corpus, pieces, executor)
    texts, settings = _settle(settings, pieces, digests, scans)
    earlier = _earlier_pieces(folders)
    return settings.folder, _make_pieces(settings, texts, earlier, executor, cache, progress)


def _digest(corpus: CorpusConfig, piece: Piece) -> str:
    return digest_of(corpus, piece)[0]


def _in_order(pieces: list[Piece], results: Iterable[tuple[Piece, Result]]) -> list[Result]:
    """Return the results of all pieces, in their order."""
    by_number = {piece.number: result for piece, result in results}
    return [by_number[piece.number] for piece in pieces]


def _seems_prepared(root: Path, stem: str, token_key: dict[str, Any], pieces: list[Piece]) -> bool:
    """Return whether the tokens of the same files exist; their bytes may have changed."""
    unknown = [""] * len(pieces)
    wanted = text_settings(token_key, pieces, unknown)
    for _, manifest in _earlier(root, stem):
        text = dict(manifest["text"])
        text["files"] = [[*file[:-1], ""] for file in text["files"]]
        if text == wanted:
            return True
    return False


def _scan(corpus: CorpusConfig, pieces: list[Piece], executor: Executor) -> list[PieceScan]:
    """Read all pieces once.

    Raises:
        CorpusError: the text cannot be read.
    """
    kept_columns(corpus)  # raises if names are taken
    scans = _in_order(pieces, executor.run_all(functools.partial(scan_piece, corpus), pieces))
    check_scans(corpus, pieces, scans)
    return scans


def _settle(
    settings: TokenizeSettings, pieces: list[Piece], digests: list[str], scans: list[PieceScan]
) -> tuple[list[PieceText], TokenizeSettings]:
    """Decide how the text is split, and train the tokenizer, if it is to be trained.

    Args:
        settings: of all pieces, without ``blocks``.
        pieces: of the corpus.
        digests: hashes of their bytes.
        scans: of the pieces.

    Returns:
        The pieces, and the settings with ``blocks`` and with the model of the tokenizer in their
        key.

    Raises:
        CorpusError: the text has changed, or cannot fill the splits.
        TokenizerError: the tokenizer cannot be trained.
    """
    corpus = settings.corpus
    _, blocks = validate_corpus(corpus, pieces, scans)
    for piece, scan, digest in zip(pieces, scans, digests, strict=True):
        if scan.digest != digest:
            raise CorpusError(f"{piece}: has changed while it was read; run the command again")
    settings = dataclasses.replace(settings, blocks=blocks)
    starts = starts_of(corpus, pieces, scans, blocks)
    texts = [
        PieceText(piece, start, scan.digest, scan.num_chars)
        for piece, start, scan in zip(pieces, starts, scans, strict=True)
    ]
    if (model := train_model(settings, texts)) is not None:
        token_key = settings.token_key | {"tokenizer_model": short_hash(model)}
        settings = dataclasses.replace(settings, token_key=token_key)
    return texts, settings


def _make_pieces(
    settings: TokenizeSettings,
    texts: list[PieceText],
    earlier: Mapping[str, EarlierPiece],
    executor: Executor,
    cache: Path,
    progress: bool,
) -> list[PieceRecord]:
    """Return the records of all pieces; make those that no earlier run has made.

    Args:
        settings: of all pieces.
        texts: the pieces.
        earlier: pieces of other prepared corpora.
        executor: tokenizes.
        cache: folder of the line cache.
        progress: whether to show a progress bar.
    """
    records: dict[int, PieceRecord] = {}
    for text in texts:
        number, key = text.piece.number, text.key(settings)
        record = read_record(settings.folder, number)
        if record is not None and record.key == key:
            records[number] = record
        elif key in earlier and link_piece(earlier[key], settings.folder, number):
            records[number] = earlier[key].record
    missing = [text for text in texts if text.piece.number not in records]
    num_finished = sum(text.num_chars for text in texts if text.piece.number in records)
    num_chars = sum(text.num_chars for text in missing)
    name = settings.tokenizer.name
    logger.info("tokenizing %s characters with %s", f"{num_chars:,}", name)
    with progress_bar(num_chars + num_finished, f"tokenizing ({name})", progress) as bar:
        bar.skip(num_finished)
        for text, record in executor.tokenize(settings, missing, cache, bar):
            records[text.piece.number] = record
    return [records[text.piece.number] for text in texts]


def _remove_stale(partial: Path, lock: Path) -> None:
    """Remove what a killed process left after its last step, unless another process uses it."""
    with contextlib.suppress(OSError, Timeout):  # the folder may be read-only
        if partial.exists() or lock.exists():
            with held(lock, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock among processes; log when it has to wait for another one."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(lock, timeout=0))
        except Timeout:
            logger.info("another process prepares the same corpus; waiting for it")
            stack.enter_context(held(lock))
        yield


@contextlib.contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """On failure, remove a folder and its parents if they are empty and did not exist before."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for path in created:
                path.rmdir()
        raise


def _earlier(root: Path, stem: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the folder of the pieces and the manifest of other prepared corpora of this name.

    Corpora whose pieces are gone, as ``prepare.folder`` was moved or deleted, are left out.
    """
    for path in sorted(root.glob(f"{stem}-*/manifest.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            manifest = read_json(path)
            checksums.check_seal(manifest)
            if manifest["format"] == FORMAT and (store := _store_of(path.parent, manifest)):
                yield store, manifest


def _store_of(folder: Path, manifest: dict[str, Any]) -> Path | None:
    """Return the folder or URL of the files of the pieces of a prepared corpus, if it is there."""
    if "remote" not in manifest:
        return folder
    store = to_path(manifest["remote"], PreparedError)
    with url_errors(store, PreparedError):
        return store if store.exists() else None


def _check_store(store: Path) -> None:
    """Check that files can be written to a folder or URL.

    Raises:
        OutputError: they cannot.
    """
    probe = store / ".korlm"
    with url_errors(store, OutputError), output_errors(store, "prepare.folder=FOLDER"):
        with new_file(probe) as path:
            path.touch()
        probe.unlink()


def _absolute(path: Path) -> Path:
    return path if is_url(path) else path.absolute()


def _find_tokens(folders: _Folders) -> tuple[Path, list[PieceRecord]] | None:
    """Return the pieces of a prepared corpus that differs only in its vocabulary, if any."""
    for store, manifest in _earlier(folders.root, folders.stem):
        if manifest.get("tokens_fingerprint") == folders.tokens_fingerprint:
            return store, [PieceRecord.from_json(values) for values in manifest["pieces"]]
    return None


def _earlier_pieces(folders: _Folders) -> dict[str, EarlierPiece]:
    """Return the pieces of all prepared corpora of this name, by their keys."""
    return {
        values["key"]: EarlierPiece(store, number, PieceRecord.from_json(values))
        for store, manifest in _earlier(folders.root, folders.stem)
        for number, values in enumerate(manifest["pieces"])
    }


def _log_statuses(folder: Path, manifest: dict[str, Any]) -> None:
    statuses = manifest["status"]
    is_reported = set(statuses) - set(NORMAL_STATUSES) or manifest["num_dropped"]
    details = f"; details in {folder / 'report.tsv'}" if is_reported else ""
    logger.info("tokenized lines by status: %s%s", summary(statuses), details)
