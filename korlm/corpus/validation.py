"""Checks the text of a corpus before any slow work begins."""

from __future__ import annotations

import logging
from collections import Counter

from korlm.config import CorpusConfig, UnicodeForm
from korlm.config.objective import SPLITS
from korlm.corpus.normalization import INVISIBLE, has_text
from korlm.corpus.notes import Notes
from korlm.corpus.reader import read_corpus
from korlm.corpus.sources import Source
from korlm.corpus.splits import BlockSplit
from korlm.utils.errors import CorpusError

logger = logging.getLogger(__name__)

_MAX_DOCUMENTS = 100  # counted for the message on documents that are too few


def validate_corpus(corpus: CorpusConfig, sources: list[Source]) -> tuple[int, BlockSplit | None]:
    """Read a corpus once, to report bad text and empty splits early; log what is remarkable.

    Returns:
        The number of characters, one for each line end included; and how contiguous blocks split
        the text, or None where the documents fill all splits.

    Raises:
        CorpusError: the text cannot be read, or cannot fill the splits.
    """
    notes, invisible = Notes(), _InvisibleCharacters()
    total_chars = 0
    num_chars = num_lines = 0  # of the lines with text that have no split yet
    filled: set[str] = set()
    documents: set[int] = set()
    for source in sources:
        for block in read_corpus(corpus, [source], notes):
            total_chars += sum(map(len, block.texts)) + len(block.texts)
            if block.split not in filled and any(map(has_text, block.texts)):
                filled.add(block.split)
            if source.split is None:
                sizes = [len(text) + 1 for text in block.texts if has_text(text)]
                num_chars, num_lines = num_chars + sum(sizes), num_lines + len(sizes)
                if len(documents) < _MAX_DOCUMENTS:
                    documents.add(hash(block.doc_id))
            joined = "\n".join(block.texts)
            if "\r" in joined:
                remark = "carriage returns within lines, read as blanks"
                notes.add(remark, block.doc_id, joined.count("\r"))
            invisible.count(joined, block.doc_id)
    for line in notes.lines() + invisible.lines(corpus.unicode):
        logger.warning("corpus: %s", line)
    missing = [split for split in _required_splits(corpus) if split not in filled]
    if not missing:
        return total_chars, None
    if corpus.target_column:
        raise CorpusError(
            f"no text for {missing[0]}: {len(documents)} pairs are too few to be split; give more, "
            f"or files for each split with corpus.{missing[0]}=[...]"
        )
    return total_chars, _split_by_blocks(corpus, missing, num_chars, num_lines, len(documents))


def _required_splits(corpus: CorpusConfig) -> list[str]:
    if not (corpus.files or corpus.train or corpus.valid):
        return ["test"]  # a text to evaluate a trained model on
    has_test = bool(corpus.files) and corpus.test_fraction > 0 and not corpus.test
    return list(SPLITS) if has_test else ["train", "valid"]


def _split_by_blocks(
    corpus: CorpusConfig, missing: list[str], num_chars: int, num_lines: int, num_documents: int
) -> BlockSplit:
    """Return the split of ``corpus.files`` by blocks, used where documents leave a split empty.

    Args:
        corpus: settings of the text.
        missing: the splits without text.
        num_chars: of the lines with text in ``corpus.files``, one for each line end included.
        num_lines: lines with text in ``corpus.files``.
        num_documents: of ``corpus.files``, counted up to ``_MAX_DOCUMENTS``.

    Raises:
        CorpusError: a missing split has no share, or there are fewer lines than splits.
    """
    options = {
        "valid": (corpus.valid_fraction, corpus.valid),
        "test": (corpus.test_fraction, corpus.test),
    }
    shares = {split: share for split, (share, files) in options.items() if share > 0 and not files}
    shares = {"train": 1 - sum(shares.values())} | shares
    first = missing[0]
    if not num_lines or not shares.keys() >= set(missing):
        raise CorpusError(
            f"no text for {first}: no file is named for it, and corpus.valid_fraction="
            f"{corpus.valid_fraction} and corpus.test_fraction={corpus.test_fraction} of "
            f"corpus.files leave it none; name its files with corpus.{first}=[...]"
        )
    names = " and ".join([", ".join(list(shares)[:-1]), list(shares)[-1]])
    documents = f"{num_documents} document{'s' * (num_documents != 1)}"
    if num_lines < len(shares):
        raise CorpusError(
            f"no text for {first}: {documents} with {num_lines} line{'s' * (num_lines != 1)} of "
            f"text cannot fill {names}; give more text, shorter lines, or files for each with "
            f"corpus.{first}=[...]"
        )
    logger.warning(
        "corpus.files: %s cannot fill %s: split by contiguous blocks of lines instead, %s of the "
        "text in this order",
        documents if num_documents < _MAX_DOCUMENTS else "the documents",
        names,
        ", ".join(f"{split} {share:.0%}" for split, share in shares.items()),
    )
    return BlockSplit(shares, num_chars, num_lines)


class _InvisibleCharacters:
    """Counts the invisible characters of a corpus."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first = ""

    def count(self, text: str, doc_id: str) -> None:
        """Count those of some lines."""
        if not text.isascii() and (characters := INVISIBLE.findall(text)):
            self._counts.update(characters)
            self._first = self._first or doc_id

    def lines(self, unicode: UnicodeForm) -> list[str]:
        """Return one line about all of them, none if there are none."""
        if not self._counts:
            return []
        kinds = [f"U+{ord(char):04X} {n:,}" for char, n in self._counts.most_common(5)]
        more = ", ..." * (len(self._counts) > 5)
        effect = (
            "kept in the tokens (corpus.unicode=nfc leaves them out)"
            if unicode is UnicodeForm.none
            else "left out of the tokens (corpus.unicode=none keeps them)"
        )
        total = f"{self._counts.total():,}"
        return [
            f"invisible characters, {effect}: {total}, {', '.join(kinds)}{more} "
            f"(first in {self._first})"
        ]
