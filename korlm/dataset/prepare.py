"""Find or make the prepared corpus of some settings (see README.md in this folder).

A folder is complete or absent: it is built under a temporary name and renamed. Corpora that differ
only in the vocabulary share their token files, and so do the pieces of a corpus that has grown. Of
processes that need the same tokens, one makes them and the others wait. An interrupted run leaves
its finished pieces for the next one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.config.stored import read_json
from korlm.corpus.pieces import Piece, digest_of, plan_pieces
from korlm.corpus.scan import PieceScan, scan_piece, starts_of
from korlm.corpus.sources import find_sources
from korlm.corpus.validation import check_scans, validate_corpus
from korlm.dataset.assemble import assemble
from korlm.dataset.executors.base import Executor
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
from korlm.dataset.storage.piece_files import (
    EarlierPiece,
    PieceRecord,
    TokenizedPieces,
    link_piece,
    read_record,
)
from korlm.dataset.tokenize import (
    PieceText,
    TokenizeSettings,
    source_columns,
    train_model,
    write_tokenizer_model,
)
from korlm.dataset.vocab import Vocab, read_given_vocab
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.errors import (
    CorpusError,
    OutputError,
    PreparedError,
    output_errors,
    require_extra,
)
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import atomic_write, locked
from korlm.utils.io.checksums import short_hash
from korlm.utils.io.urls import is_url, to_path, url_errors
from korlm.utils.progress import ProgressBar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class TextEncoding:
    """The vocabulary and the tokenizer model, if there is one, of a trained run."""

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
        corpus: the text.
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
    preparation = _Preparation(
        corpus=corpus,
        tokenizer=tokenizer,
        vocab=vocab,
        cluster=cluster,
        given_vocab=given_vocab,
        tokenizer_model=tokenizer_model,
        outputs=outputs,
        progress=progress,
        root=root,
        store=_absolute(to_path(cluster.folder, OutputError)) if cluster.folder else root,
        stem=f"{corpus.name}-{tokenizer.name}",
        pieces=plan_pieces(corpus, sources, round(cluster.piece_mb * 1e6)),
        token_key=token_settings(corpus, tokenizer, tokenizer_model),
    )
    return preparation.run()


@dataclass(frozen=True)
class _Preparation:
    """Finds or makes the prepared corpus of some settings; for the settings see ``prepare``."""

    corpus: CorpusConfig
    tokenizer: TokenizerConfig
    vocab: VocabConfig
    cluster: ClusterConfig
    given_vocab: Vocab | None  # used instead of a vocabulary of the text
    tokenizer_model: bytes | None  # of a trained run; None: train it if it is to be trained
    outputs: Path
    progress: bool
    root: Path  # folder of all prepared corpora
    store: Path  # folder or URL of the files of the pieces: ``prepare.folder`` or ``root``
    stem: str  # names of corpus and tokenizer, with which the names of folders begin
    pieces: list[Piece]
    token_key: dict[str, Any]  # the settings that decide the tokens of a piece

    def run(self) -> Prepared:
        """Return the prepared corpus; make it if it does not exist."""
        if not self._seems_prepared():
            with self._open_executor() as executor:
                digests, scans = self._read_text(executor)
                manifest = self._manifest(digests)
                return self._find(manifest) or self._make(manifest, digests, scans, executor)
        # A cluster may take minutes to start, which a corpus that is prepared does not need.
        digests, scans = self._read_text(Executor())
        manifest = self._manifest(digests)
        if (prepared := self._find(manifest)) is not None:
            return prepared
        with self._open_executor() as executor:
            return self._make(manifest, digests, scans, executor)

    def _read_text(self, executor: Executor) -> tuple[list[str], list[PieceScan] | None]:
        """Return the hashes of the pieces, and their scans if all of them must be tokenized."""
        if any(self._earlier_corpora()):
            hashes = self._run_all(executor, functools.partial(digest_of, self.corpus))
            return [digest for digest, _ in hashes], None
        scans = self._scan(executor)  # needed anyway, and hashes the text as well
        return [scan.digest for scan in scans], scans

    def _find(self, manifest: dict[str, Any]) -> Prepared | None:
        """Return the prepared corpus if it exists."""
        target, partial, lock = self._paths(manifest)
        if not target.exists():
            return None
        _remove_stale(partial, lock)
        if self.cluster.folder:
            logger.info("%s exists: prepare.folder has no effect", target)
        return open_prepared(target, manifest["fingerprint"])

    def _make(
        self,
        manifest: dict[str, Any],
        digests: list[str],
        scans: list[PieceScan] | None,
        executor: Executor,
    ) -> Prepared:
        """Make the prepared corpus, unless another process makes it meanwhile."""
        target, partial, lock = self._paths(manifest)
        with output_errors(self.root), _removed_if_empty(self.root), _exclusive(lock):
            if not target.exists():
                tokens = self._find_tokens(manifest["tokens_fingerprint"])
                if tokens is None:
                    # In ``prepare.folder`` the files of the pieces stay.
                    remote = self.store / f"{self.stem}-{manifest['tokens_fingerprint']}"
                    folder = partial if self.store == self.root else remote
                    tokens = self._make_tokens(folder, digests, scans, executor)
                options = (self.given_vocab, self.corpus.reverse)
                assemble(target, tokens, self.vocab, manifest, executor, *options)
                _log_statuses(target, manifest)
                shutil.rmtree(partial, ignore_errors=True)
        return open_prepared(target, manifest["fingerprint"])

    def _paths(self, manifest: dict[str, Any]) -> tuple[Path, Path, Path]:
        """Return three paths of a corpus.

        Its folder; the folder of the pieces' files until it is complete; the lock of its maker.
        """
        name = f".{self.stem}-{manifest['tokens_fingerprint']}"
        target = self.root / f"{self.stem}-{manifest['fingerprint']}"
        return target, self.root / f"{name}.partial", self.root / f"{name}.lock"

    def _open_executor(self) -> contextlib.AbstractContextManager[Executor]:
        if self.cluster.cluster is None:
            return contextlib.nullcontext(Executor())
        with require_extra("distributed"):
            from korlm.dataset.executors.dask_executor import DaskExecutor
        return DaskExecutor(self.cluster, self.tokenizer, self.outputs / "cluster")

    def _run_all(self, executor: Executor, function: Callable[[Piece], Result]) -> list[Result]:
        """Return the results of a function of all pieces, in their order."""
        results = executor.run_all(function, self.pieces)
        by_number = {piece.number: result for piece, result in results}
        return [by_number[piece.number] for piece in self.pieces]

    def _scan(self, executor: Executor) -> list[PieceScan]:
        """Read all pieces once; raise a ``CorpusError`` if the text cannot be read."""
        source_columns(self.corpus)  # raises if names are taken
        scans = self._run_all(executor, functools.partial(scan_piece, self.corpus))
        check_scans(self.corpus, self.pieces, scans)
        return scans

    def _manifest(self, digests: list[str]) -> dict[str, Any]:
        """Return the values of manifest.json that do not depend on the tokens."""
        text_key = text_settings(self.token_key, self.pieces, digests)
        configs = {"corpus": self.corpus, "tokenizer": self.tokenizer, "vocab": self.vocab}
        tokens_fingerprint = hash_json(text_key)
        digest = None if self.given_vocab is None else hash_json(self.given_vocab.tokens)
        return {
            "format": FORMAT,
            "fingerprint": prepared_fingerprint(
                tokens_fingerprint, self.vocab, digest, self.corpus.reverse
            ),
            "tokens_fingerprint": tokens_fingerprint,
            "text": text_key,
            "settings": {name: to_json_values(config) for name, config in configs.items()},
            **({} if digest is None else {"given_vocab": digest}),
        }

    def _seems_prepared(self) -> bool:
        """Return whether the tokens of the same files exist; their bytes may have changed."""
        expected = text_settings(self.token_key, self.pieces, [""] * len(self.pieces))
        for _, manifest in self._earlier_corpora():
            text = dict(manifest["text"])
            text["files"] = [[*file[:-1], ""] for file in text["files"]]
            if text == expected:
                return True
        return False

    def _earlier_corpora(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Yield the folder of the pieces and the manifest of other prepared corpora of this name.

        Corpora whose pieces cannot be read are left out: ``prepare.folder`` was moved or deleted,
        or is a URL that is not accessible now.
        """
        for path in sorted(self.root.glob(f"{glob.escape(self.stem)}-*/manifest.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, PreparedError):
                manifest = read_json(path)
                checksums.check_values(manifest)
                if manifest["format"] == FORMAT and (store := _store_of(path.parent, manifest)):
                    yield store, manifest

    def _find_tokens(self, tokens_fingerprint: str) -> TokenizedPieces | None:
        """Return the pieces of a prepared corpus that differs only in its vocabulary, if any."""
        for store, manifest in self._earlier_corpora():
            if manifest.get("tokens_fingerprint") == tokens_fingerprint:
                records = [PieceRecord.from_json(values) for values in manifest["pieces"]]
                return TokenizedPieces(store, records)
        return None

    def _make_tokens(
        self,
        folder: Path,
        digests: list[str],
        scans: list[PieceScan] | None,
        executor: Executor,
    ) -> TokenizedPieces:
        """Tokenize the pieces that neither an interrupted run nor an earlier corpus has.

        Args:
            folder: of the files of the pieces.
            digests: hashes of the bytes of the pieces.
            scans: of the pieces; None: not scanned yet.
            executor: reads and tokenizes the pieces.
        """
        if self.store != self.root:
            _check_store(self.store)
        if self.tokenizer_model is not None:
            write_tokenizer_model(folder, self.tokenizer, self.tokenizer_model)
        scans = scans or self._scan(executor)
        blocks = validate_corpus(self.corpus, self.pieces, scans)
        for piece, scan, digest in zip(self.pieces, scans, digests, strict=True):
            if scan.digest != digest:
                raise CorpusError(f"{piece}: has changed while it was read; run the command again")
        settings = TokenizeSettings(self.corpus, self.tokenizer, blocks, folder, self.token_key)
        starts = starts_of(self.corpus, self.pieces, scans, blocks)
        texts = [
            PieceText(piece, start, scan.digest, scan.num_chars)
            for piece, start, scan in zip(self.pieces, starts, scans, strict=True)
        ]
        if (model := train_model(settings, texts)) is not None:
            token_key = self.token_key | {"tokenizer_model": short_hash(model)}
            settings = dataclasses.replace(settings, token_key=token_key)
        records = self._find_pieces(settings, texts)
        missing = [text for text in texts if text.piece.number not in records]
        num_finished = sum(text.num_chars for text in texts if text.piece.number in records)
        num_chars = sum(text.num_chars for text in missing)
        name = self.tokenizer.name
        logger.info("tokenizing %s characters with %s", f"{num_chars:,}", name)
        title, total = f"tokenizing ({name})", num_chars + num_finished
        with ProgressBar(
            desc=title, total=total, unit="char", unit_scale=True, shown=self.progress
        ) as bar:
            bar.skip(num_finished)
            results = executor.tokenize(settings, missing, self.outputs / "cache", bar)
            records |= {text.piece.number: record for text, record in results}
        return TokenizedPieces(folder, [records[text.piece.number] for text in texts])

    def _find_pieces(
        self, settings: TokenizeSettings, texts: list[PieceText]
    ) -> dict[int, PieceRecord]:
        """Return the pieces that an interrupted run has made or an earlier corpus has, by number.

        Those of earlier corpora are linked.
        """
        earlier = {
            values["key"]: EarlierPiece(store, number, PieceRecord.from_json(values))
            for store, manifest in self._earlier_corpora()
            for number, values in enumerate(manifest["pieces"])
        }
        records = {}
        for text in texts:
            number, key = text.piece.number, text.key(settings)
            record = read_record(settings.folder, number)
            if record is not None and record.key == key:
                records[number] = record
            elif key in earlier and link_piece(earlier[key], settings.folder, number):
                records[number] = earlier[key].record
        return records


def _remove_stale(partial: Path, lock: Path) -> None:
    """Remove what a killed process left after its last step, unless another process uses it."""
    with contextlib.suppress(OSError, OutputError):  # the folder may be read-only
        if partial.exists() or lock.exists():
            with locked(lock, "in use"):
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock among processes; log when it has to wait for another one."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, "another process prepares the same corpus; waiting for it", wait=True):
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


def _store_of(folder: Path, manifest: dict[str, Any]) -> Path | None:
    """Return the folder or URL of the files of the pieces of a prepared corpus, if it is there."""
    if "remote" not in manifest:
        return folder
    store = to_path(manifest["remote"], PreparedError)
    with url_errors(store, PreparedError):
        return store if store.exists() else None


def _check_store(store: Path) -> None:
    """Raise an ``OutputError`` if files cannot be written to a folder or URL."""
    probe = store / ".korlm"
    with url_errors(store, OutputError), output_errors(store, "prepare.folder=FOLDER"):
        with atomic_write(probe, shared=True) as path:
            path.touch()
        probe.unlink()


def _absolute(path: Path) -> Path:
    return path if is_url(path) else path.absolute()


def _log_statuses(folder: Path, manifest: dict[str, Any]) -> None:
    statuses = manifest["status"]
    is_reported = set(statuses) - set(NORMAL_STATUSES) or manifest["num_dropped"]
    details = f"; details in {folder / 'report.tsv'}" if is_reported else ""
    logger.info("tokenized lines by status: %s%s", summary(statuses), details)
