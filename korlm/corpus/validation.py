"""Check the text of a corpus before any slow work begins."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from korlm.config import CorpusConfig, UnicodeForm
from korlm.config.metrics import SPLITS
from korlm.corpus.pieces import Piece
from korlm.corpus.reader import blank_file
from korlm.corpus.records import Notes
from korlm.corpus.scan import MAX_DOCUMENTS, PieceScan, scan_piece, starts_of
from korlm.corpus.splits import ContiguousSplit
from korlm.utils.errors import CorpusError

logger = logging.getLogger(__name__)


def validate_corpus(
    corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan]
) -> ContiguousSplit | None:
    """Check that the text can be read and fills the splits, and log remarks on it.

    Returns:
        How the text is divided into blocks of lines; None: its documents fill all splits.

    Raises:
        CorpusError: the text cannot be read, or cannot fill the splits.
    """
    check_scans(corpus, pieces, scans)
    for line in _remarks(corpus, pieces, scans):
        logger.warning("corpus: %s", line)
    with_text = {split for scan in scans for split in scan.splits}
    missing = [split for split in _required_splits(corpus) if split not in with_text]
    if not missing:
        return None
    num_documents = sum(scan.num_documents for scan in scans)
    num_chars = sum(scan.undivided_chars for scan in scans)
    num_lines = sum(scan.undivided_lines for scan in scans)
    return _split_by_blocks(corpus, missing, num_chars, num_lines, num_documents)


def check_scans(corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan]) -> None:
    """Raise a ``CorpusError`` if a scan has found an error, or a file has no text."""
    for number, scan in enumerate(scans):
        if scan.error:
            raise CorpusError(_scan_again(corpus, pieces, scans, number).error or scan.error)
    # The scan of a piece reports whole files without text, but knows only a part of a divided one.
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
    if pieces[number].begin == 0:
        return scans[number]
    start = starts_of(corpus, pieces[: number + 1], scans[: number + 1])[-1]
    return scan_piece(corpus, pieces[number], start)


def _remarks(corpus: CorpusConfig, pieces: list[Piece], scans: list[PieceScan]) -> list[str]:
    """Return the remarks of all pieces, each with its count and its first location in the file."""
    notes, invisible, first_invisible = Notes(), Counter[str](), ""
    for number, scan in enumerate(scans):
        if scan.notes.keys() - notes.counts.keys() or (scan.invisible and not invisible):
            scan = _scan_again(corpus, pieces, scans, number)
        for remark, (count, location) in scan.notes.items():
            notes.add(remark, location, count)
        invisible.update(scan.invisible)
        first_invisible = first_invisible or scan.first_invisible
    if not invisible:
        return notes.lines()
    kinds = [f"U+{ord(char):04X} {n:,}" for char, n in invisible.most_common(5)]
    kinds += ["..."] * (len(invisible) > 5)
    effect = "left out of the tokens (corpus.unicode=none keeps them)"
    if corpus.unicode is UnicodeForm.none:
        effect = "kept in the tokens (corpus.unicode=nfc leaves them out)"
    return [
        *notes.lines(),
        f"invisible characters, {effect}: {invisible.total():,}, {', '.join(kinds)} "
        f"(first in {first_invisible})",
    ]


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
        num_chars: characters of the non-blank lines in ``corpus.files``, and one for each line end.
        num_lines: number of these lines.
        num_documents: number of documents in ``corpus.files``, at most ``MAX_DOCUMENTS`` a piece.

    Raises:
        CorpusError: a missing split has no share, there are fewer lines than splits, or the
            documents are pairs of texts, which blocks do not divide.
    """
    shares = {} if corpus.valid else {"valid": corpus.valid_fraction}
    shares |= {} if corpus.test else {"test": corpus.test_fraction}
    shares = {split: share for split, share in shares.items() if share > 0}
    shares = {"train": 1 - sum(shares.values())} | shares
    first = missing[0]
    if not num_lines or not shares.keys() >= set(missing):
        raise CorpusError(
            f"no text for {first}: no file is named for it, and corpus.valid_fraction="
            f"{corpus.valid_fraction} and corpus.test_fraction={corpus.test_fraction} of "
            f"corpus.files leave it none; name its files with corpus.{first}=[...]"
        )
    if corpus.target_column:
        raise CorpusError(
            f"no text for {first}: {num_documents} pairs are too few to be split; give more, or "
            f"files for each split with corpus.{first}=[...]"
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
