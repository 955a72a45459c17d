"""Check the text of a corpus before any slow work begins."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from korlm.config import CorpusConfig, UnicodeForm
from korlm.config.objective import SPLITS
from korlm.corpus.notes import Notes
from korlm.corpus.pieces import Piece
from korlm.corpus.reader import blank_file
from korlm.corpus.scan import MAX_DOCUMENTS, PieceScan, scan_piece, starts_of
from korlm.corpus.splits import ContiguousSplit
from korlm.utils.errors import CorpusError

logger = logging.getLogger(__name__)


def validate_corpus(
    corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan]
) -> tuple[int, ContiguousSplit | None]:
    """Check that the text can be read and fills the splits, and log remarks on it.

    Args:
        corpus: settings of the corpus.
        pieces: the pieces of the corpus.
        scans: the scans of all pieces, or of the first ones if the last of these found an error.

    Returns:
        The number of characters, counting one for each line end; and how the text is divided into
        blocks of lines, or None if its documents fill all splits.

    Raises:
        CorpusError: the text cannot be read, or cannot fill the splits.
    """
    check_scans(corpus, pieces, scans)
    notes, invisible = _remarks(corpus, pieces, scans)
    for line in notes.lines() + invisible.lines(corpus.unicode):
        logger.warning("corpus: %s", line)
    total_chars = sum(scan.num_chars for scan in scans)
    with_text = {split for scan in scans for split in scan.splits}
    missing = [split for split in _required_splits(corpus) if split not in with_text]
    if not missing:
        return total_chars, None
    num_documents = sum(scan.num_documents for scan in scans)
    if corpus.target_column:
        raise CorpusError(
            f"no text for {missing[0]}: {num_documents} pairs are too few to be split; give more, "
            f"or files for each split with corpus.{missing[0]}=[...]"
        )
    num_chars = sum(scan.undivided_chars for scan in scans)
    num_lines = sum(scan.undivided_lines for scan in scans)
    return total_chars, _split_by_blocks(corpus, missing, num_chars, num_lines, num_documents)


def check_scans(corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan]) -> None:
    """Raise an error if a scan has found one, or a file has no text.

    Raises:
        CorpusError: the text cannot be read.
    """
    for number, scan in enumerate(scans):
        if scan.error:
            raise CorpusError(_scan_again(corpus, pieces, scans, number).error or scan.error)
    _check_divided_files(pieces, scans)


def _check_divided_files(pieces: list[Piece], scans: list[PieceScan]) -> None:
    """Raise an error if a file of several pieces has no text; for other files, the scan does."""
    has_text: dict[Path, bool] = {}
    for piece, scan in zip(pieces, scans, strict=True):
        path = piece.sources[0].path
        has_text[path] = has_text.get(path, False) or bool(scan.splits)
    for path, file_has_text in has_text.items():
        if not file_has_text:
            raise blank_file(path)


def _scan_again(
    corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan], number: int
) -> PieceScan:
    """Return a scan whose locations are relative to the file instead of the piece."""
    piece = pieces[number]
    if piece.begin == 0:
        return scans[number]
    return scan_piece(
        corpus, piece, starts_of(corpus, pieces[: number + 1], scans[: number + 1])[-1]
    )


def _remarks(
    corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan]
) -> tuple[Notes, _InvisibleCharacters]:
    """Return the sums of the remarks of all pieces, each with its first location in the file."""
    notes, invisible = Notes(), _InvisibleCharacters()
    for number, scan in enumerate(scans):
        has_first = scan.notes.keys() - notes.counts.keys() or (
            scan.invisible and not invisible.counts
        )
        if has_first:
            scan = _scan_again(corpus, pieces, scans, number)
        for remark, (count, location) in scan.notes.items():
            notes.add(remark, location, count)
        invisible.add(scan.invisible, scan.first_invisible)
    return notes, invisible


def _required_splits(corpus: CorpusConfig) -> list[str]:
    """Return the splits that must have text."""
    if not (corpus.files or corpus.train or corpus.valid):
        return ["test"]  # a text to evaluate a trained model on
    has_test = bool(corpus.files) and corpus.test_fraction > 0 and not corpus.test
    return list(SPLITS) if has_test else ["train", "valid"]


def _split_by_blocks(
    corpus: CorpusConfig, missing: list[str], num_chars: int, num_lines: int, num_documents: int
) -> ContiguousSplit:
    """Return how to divide ``corpus.files`` into blocks, for documents that leave a split empty.

    Args:
        corpus: settings of the corpus.
        missing: the splits without text.
        num_chars: number of characters of the non-blank lines in ``corpus.files``, counting one for
            each line end.
        num_lines: number of these lines.
        num_documents: number of documents in ``corpus.files``.

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
        documents if num_documents < MAX_DOCUMENTS else "the documents",
        names,
        ", ".join(f"{split} {share:.0%}" for split, share in shares.items()),
    )
    return ContiguousSplit(shares, num_chars, num_lines)


class _InvisibleCharacters:
    """Counts the invisible characters of a corpus."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first = ""

    def add(self, counts: dict[str, int], first: str) -> None:
        """Add the invisible characters of a piece.

        Args:
            counts: character -> count.
            first: document of the first invisible character.
        """
        self.counts.update(counts)
        self._first = self._first or first

    def lines(self, unicode: UnicodeForm) -> list[str]:
        """Return a list of one line about all of them, or an empty list if there are none."""
        if not self.counts:
            return []
        kinds = [f"U+{ord(char):04X} {n:,}" for char, n in self.counts.most_common(5)]
        more = ", ..." * (len(self.counts) > 5)
        effect = (
            "kept in the tokens (corpus.unicode=nfc leaves them out)"
            if unicode is UnicodeForm.none
            else "left out of the tokens (corpus.unicode=none keeps them)"
        )
        total = f"{self.counts.total():,}"
        return [
            f"invisible characters, {effect}: {total}, {', '.join(kinds)}{more} "
            f"(first in {self._first})"
        ]
