"""Makes a prepared corpus, or finds one that fits the settings (see README.md in this folder).

A folder is complete or absent: it is built under a temporary name and renamed. Corpora that differ
only in the vocabulary share their token files. Of processes that need the same tokens, one makes
them and the others wait. An interrupted run leaves its finished shards for the next one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.config.objective import SPLITS
from korlm.config.stored import read_json
from korlm.corpus.sources import find_sources
from korlm.dataset.fingerprint import (
    FORMAT,
    hash_bytes,
    hash_json,
    prepared_fingerprint,
    to_json_values,
    token_settings,
)
from korlm.dataset.numericalize import count_tokens, encode_split, spelling_nats
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.statistics.tokenization_report import summary, write_report
from korlm.dataset.storage.labels import FOLDER as LABELS
from korlm.dataset.storage.shards import ShardCounts, shard_paths, split_counts
from korlm.dataset.tokenize import (
    TOKENIZER_MODEL_FILES,
    tokenize_corpus,
    write_tokenizer_model,
)
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab, read_given_vocab
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.errors import output_errors
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import fsync_file
from korlm.utils.io.locks import held

logger = logging.getLogger(__name__)


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
        cluster: Dask workers to tokenize with; None: this machine. The result is the same.
        encoding: of a trained model, with the settings ``tokenizer`` and ``vocab``; None: of the
            text.

    Raises:
        KorlmError: the text cannot be read, the tokenizer does not start, the disk is full.
    """
    sources = find_sources(corpus)
    given_vocab = read_given_vocab(vocab) if encoding is None else encoding.vocab
    tokenizer_model = None if encoding is None else encoding.tokenizer_model
    text_key = token_settings(corpus, tokenizer, sources, tokenizer_model)
    tokens_fingerprint = hash_json(text_key)
    digest = None if given_vocab is None else hash_json(given_vocab.tokens)
    fingerprint = prepared_fingerprint(tokens_fingerprint, vocab, digest, corpus.reverse)
    root = outputs / "prepared"
    stem = f"{corpus.name}-{tokenizer.name}"
    target = root / f"{stem}-{fingerprint}"
    partial = root / f".{stem}-{tokens_fingerprint}.partial"
    lock = partial.with_suffix(".lock")
    if target.exists():
        _remove_stale(partial, lock)
        return open_prepared(target, fingerprint)
    with output_errors(root), _removed_if_empty(root):
        root.mkdir(parents=True, exist_ok=True)
        with _exclusive(lock):
            if not target.exists():
                tokens = _find_tokens(root, stem, tokens_fingerprint)
                if tokens is None:
                    tokens = partial / "tokens"
                    if tokenizer_model is not None:
                        write_tokenizer_model(tokens, tokenizer, tokenizer_model)
                    cache = outputs / "cache"
                    tokenize_corpus(corpus, tokenizer, sources, tokens, cache, progress, cluster)
                configs = {"corpus": corpus, "tokenizer": tokenizer, "vocab": vocab}
                manifest: dict[str, Any] = {
                    "format": FORMAT,
                    "fingerprint": fingerprint,
                    "tokens_fingerprint": tokens_fingerprint,
                    "text": text_key,
                    "settings": {name: to_json_values(config) for name, config in configs.items()},
                }
                if digest is not None:
                    manifest["given_vocab"] = digest
                assemble(target, tokens, vocab, manifest, given_vocab, corpus.reverse)
                _log_statuses(target, manifest)
                shutil.rmtree(partial, ignore_errors=True)
    return open_prepared(target, fingerprint)


def _remove_stale(partial: Path, lock: Path) -> None:
    """Remove what a killed process left after its last step, unless another process uses it."""
    with contextlib.suppress(OSError, Timeout):  # the folder may be read-only
        if partial.exists() or lock.exists():
            with held(lock, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock among processes; log when it has to wait for another one."""
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


def _find_tokens(root: Path, stem: str, tokens_fingerprint: str) -> Path | None:
    """Return the tokens of a prepared corpus that differs only in its vocabulary, if any."""
    for path in sorted(root.glob(f"{stem}-*/manifest.json")):
        try:
            manifest = read_json(path)
            fits = (manifest["format"], manifest["tokens_fingerprint"]) == (
                FORMAT,
                tokens_fingerprint,
            )
            checksums.check_seal(manifest)
        except (OSError, ValueError, KeyError):
            continue
        if fits:
            return path.parent / "tokens"
    return None


def assemble(
    target: Path,
    tokens: Path,
    config: VocabConfig,
    manifest: dict[str, Any],
    given_vocab: Vocab | None = None,
    reverse: bool = False,
) -> None:
    """Make a prepared corpus of token shards: vocabulary, ids, spelling model, manifest.

    Args:
        target: the folder to make.
        tokens: folder of the shards, which are linked, not copied, where possible.
        config: settings of the vocabulary.
        manifest: values of ``manifest.json`` that do not depend on the tokens; the others are
            added.
        given_vocab: used instead of a vocabulary of the text.
        reverse: whether to reverse the tokens of each line.
    """
    building = target.with_name(f".{target.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    try:
        (building / "tokens").mkdir(parents=True)
        (building / "ids").mkdir()
        _link_tokens(tokens, building, manifest)
        counts = count_tokens(tokens, "train")
        vocab = Vocab(counts, config) if given_vocab is None else given_vocab.recounted(counts)
        vocab.counts[EOS_ID] = split_counts(tokens, "train").num_sentences
        vocab.save(building / "vocab.tsv")
        spelling = CharNgramModel.train(sorted(counts))
        np.savez(building / "spelling.npz", **spelling.arrays())  # type: ignore[arg-type]
        manifest["vocab_size"] = len(vocab)
        _encode_splits(tokens, building / "ids", vocab, spelling, manifest, reverse)
        files = [*building.glob("*/*"), *building.glob("*.*")]
        manifest = checksums.sealed(manifest, building, files)
        text = json.dumps(manifest, ensure_ascii=False, indent=2) + "\n"
        # A file name that is not UTF-8 is written as \\udc.., which JSON reads back.
        (building / "manifest.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        for path in building.rglob("*"):
            if path.is_file():
                fsync_file(path)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _link_tokens(tokens: Path, building: Path, manifest: dict[str, Any]) -> None:
    """Link the shards, the labels, the report and the tokenizer model into the new folder."""
    for shard in sorted(tokens.glob("*.parquet")):
        _link(shard, building / "tokens" / shard.name)
    if (labels := tokens.with_name(LABELS)).is_dir():
        (building / LABELS).mkdir()
        for path in sorted(labels.glob("*.parquet")):
            _link(path, building / LABELS / path.name)
    if (report := tokens.parent / "report.tsv").exists():
        _link(report, building / "report.tsv")
    else:
        write_report(tokens, building / "report.tsv")
    for name in TOKENIZER_MODEL_FILES:
        if (model := tokens.with_name(name)).exists():
            _link(model, building / name)
            manifest["learned"] = hash_bytes(model.read_bytes())


def _link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _encode_splits(
    tokens: Path,
    ids: Path,
    vocab: Vocab,
    spelling: CharNgramModel,
    manifest: dict[str, Any],
    reverse: bool,
) -> None:
    """Write the ids of all splits and add their counts to the manifest."""
    splits: dict[str, Any] = {}
    total = ShardCounts()
    for split in (name for name in SPLITS if shard_paths(tokens, name)):
        counts = split_counts(tokens, split)
        total.add(counts)
        lossy_tokens = encode_split(tokens, split, vocab, ids / f"{split}.npy", reverse)
        is_unknown = vocab.encode(list(lossy_tokens)) == UNK_ID
        splits[split] = {
            "num_tokens": counts.num_tokens,
            "num_unk": sum(
                n for n, unknown in zip(lossy_tokens.values(), is_unknown, strict=True) if unknown
            ),
            "num_eojeol": counts.num_eojeol,
            "num_chars": counts.num_chars,
            "num_lines": counts.num_lines,
            "spelling_nats": spelling_nats(spelling, lossy_tokens),
        }
    manifest |= {"splits": splits, "status": total.status, "num_dropped": total.num_dropped}


def _log_statuses(folder: Path, manifest: dict[str, Any]) -> None:
    statuses = manifest["status"]
    is_reported = set(statuses) - set(NORMAL_STATUSES) or manifest["num_dropped"]
    details = f"; details in {folder / 'report.tsv'}" if is_reported else ""
    logger.info("tokenized lines by status: %s%s", summary(statuses), details)
