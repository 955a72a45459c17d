"""Prepared corpora: finds one that fits the settings, or makes it, once and whole.

    outputs/prepared/<corpus>-<tokenizer>-<fingerprint>/
        manifest.json           settings, fingerprints, counts of each split, checksums of all files
        tokens/*.parquet        analysed lines (korlm.dataset.shards)
        vocab.tsv               tokens and counts (korlm.dataset.vocab)
        ids/<split>.npy         the stream of ids (korlm.dataset.numericalize)
        spelling.npz            what unknown words cost (korlm.dataset.spelling_model)
        report.tsv              lines that did not go plainly (see statistics/)
        sentencepiece.model     what tokenizer=sentencepiece learned from train
        statistics.json, frequencies.png   what the corpus is like (korlm.dataset.statistics)

The fingerprint is a hash of the text, the tokenizer and the vocabulary's settings. A folder is
complete or absent: it is made beside its place and renamed. Another vocabulary over the same tokens
shares their files, so that nothing is tokenized twice; two jobs that need the same tokens make them
once. Work that was broken off keeps its finished shards, and the journals of a slow tokenizer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout

from korlm.config import ClusterConfig, CorpusConfig, TokenizerConfig, VocabConfig
from korlm.config.objective import SPLITS
from korlm.config.stored import read_json
from korlm.corpus.sources import find_sources
from korlm.dataset.fingerprint import FORMAT, _digest, _hash, _plain, _token_settings, _vocab_key
from korlm.dataset.numericalize import count_tokens, encode_split, spelling_nats, split_counts
from korlm.dataset.prepared import Prepared, open_prepared
from korlm.dataset.shards import ShardCounts, shard_paths
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.statistics.tokenization_report import summary, write_report
from korlm.dataset.tokenize import TOKENIZER_MODEL_FILE, tokenize_corpus
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab
from korlm.tokenizers.analysis import NORMAL_STATUSES
from korlm.utils.errors import output_errors
from korlm.utils.io import checksums
from korlm.utils.io.atomic_files import fsync_file
from korlm.utils.io.locks import held

logger = logging.getLogger(__name__)


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
    tokens_fingerprint = _hash(token_key)
    fingerprint = _hash({"tokens": tokens_fingerprint, "vocab": _vocab_key(vocab)})
    root = outputs / "prepared"
    stem = f"{corpus.name}-{tokenizer.name}"
    target = root / f"{stem}-{fingerprint}"
    partial = root / f".{stem}-{tokens_fingerprint}.partial"
    lock = partial.with_suffix(".lock")
    if target.exists():
        _remove_stale(partial, lock)
        return open_prepared(target, fingerprint)
    with output_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with _exclusive(lock):
            if not target.exists():
                tokens = _find_tokens(root, stem, tokens_fingerprint)
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
                    "tokens_fingerprint": tokens_fingerprint,
                    "text": token_key,
                    "settings": settings,
                }
                _assemble(target, tokens, vocab, manifest)
                odd = set(manifest["status"]) - set(NORMAL_STATUSES) or manifest["num_dropped"]
                where = f"; those that did not go plainly: {target / 'report.tsv'}" if odd else ""
                logger.info("lines: %s%s", summary(manifest["status"]), where)
                shutil.rmtree(partial, ignore_errors=True)
    return open_prepared(target, fingerprint)


def _remove_stale(partial: Path, lock: Path) -> None:
    """Removes what a process left that was killed when all was done, unless another is at it."""
    with contextlib.suppress(OSError, Timeout):  # a folder that may only be read stays as it is
        if partial.exists() or lock.exists():
            with held(lock, timeout=0):
                shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Holds a lock among processes; says so when it has to wait for another one."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(lock, timeout=0))
        except Timeout:
            logger.info("another process prepares the same corpus; waiting for it")
            stack.enter_context(held(lock))
        yield


def _find_tokens(root: Path, stem: str, tokens_fingerprint: str) -> Path | None:
    """The tokens of a prepared corpus that differs in its vocabulary alone."""
    for manifest in sorted(root.glob(f"{stem}-*/manifest.json")):
        try:
            found = read_json(manifest)
            is_whole = (
                found["format"] == FORMAT and found["tokens_fingerprint"] == tokens_fingerprint
            )
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
        if (learned := tokens.with_name(TOKENIZER_MODEL_FILE)).exists():
            _link(learned, building / TOKENIZER_MODEL_FILE)
            manifest["learned"] = _digest(learned.read_bytes())
        counts = count_tokens(tokens, "train")
        vocab = Vocab(counts, config)
        vocab.counts[EOS_ID] = split_counts(tokens, "train").num_sentences
        vocab.save(building / "vocab.tsv")
        spelling = CharNgramModel.train(sorted(counts))
        np.savez(building / "spelling.npz", **spelling.arrays())  # type: ignore[arg-type]
        splits: dict[str, Any] = {}
        status = ShardCounts()
        for split in SPLITS:
            if not shard_paths(tokens, split):
                continue
            stats = split_counts(tokens, split)
            status.add(stats)
            lossy_tokens = encode_split(tokens, split, vocab, building / "ids" / f"{split}.npy")
            unknown = vocab.encode(list(lossy_tokens)) == UNK_ID
            splits[split] = {
                "num_tokens": stats.num_tokens,
                "num_unk": sum(
                    n for n, is_unk in zip(lossy_tokens.values(), unknown, strict=True) if is_unk
                ),
                "num_eojeol": stats.num_eojeol,
                "num_chars": stats.num_chars,
                "num_lines": stats.num_lines,
                "spelling_nats": spelling_nats(spelling, lossy_tokens),
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
                fsync_file(path)
        os.replace(building, target)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """The same file under a second name where the file system can do that, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
