"""Read minimal pairs from files, and compute the accuracy of a language model on them.

A pair counts as right if the model gives the acceptable sentence the higher probability (Marvin and
Linzen 2018; Warstadt et al. 2020), the spelling of unknown tokens included.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pyarrow as pa
import torch

from korlm.config import CorpusFormat, Encoding, Quoting, ScoreContext, TextConfig
from korlm.corpus.containers import STDIN
from korlm.corpus.files import format_of, read_lines
from korlm.corpus.formats.delimited import find_quoting, find_separator
from korlm.corpus.normalization import has_text
from korlm.dataset.text_encoder import EncodedText
from korlm.evaluation.bootstrap import LEVEL
from korlm.evaluation.pairs.templates import MinimalPair
from korlm.evaluation.surprisal.scorer import SurprisalScorer
from korlm.evaluation.token_scores import Floats, segment_sums
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import CorpusError
from korlm.utils.io.tables import unescape_tsv

logger = logging.getLogger(__name__)

COLUMNS = ("good", "bad")
CHUNK = 5000  # pairs that are scored at once


def read_pairs(paths: Sequence[str]) -> list[MinimalPair]:
    """Read files with the columns ``good`` and ``bad``, and perhaps ``phenomenon``.

    Args:
        paths: TSV or CSV files in UTF-8 with a header; ``-`` is standard input, as TSV. Without a
            column ``phenomenon``, the name of the file stands for it.

    Raises:
        CorpusError: a file cannot be read, a column is missing, a row has another number of
            columns, or its sentences are blank or equal.
    """
    pairs = [pair for path in paths for pair in _read(STDIN if path == "-" else Path(path))]
    if not pairs:
        raise CorpusError(f"input: {', '.join(paths)}: no pairs, only a header")
    return pairs


def _read(path: Path) -> list[MinimalPair]:
    rows = _rows(path)
    _, header = next(rows, (1, [""]))
    if missing := [name for name in COLUMNS if name not in header]:
        raise CorpusError(
            f"{path}: no column {missing[0]}; its columns are {', '.join(header)}; good and bad "
            "are needed, separated by tabs, or by commas in FILE.csv"
        )
    pairs = []
    for number, cells in rows:
        if len(cells) != len(header):
            raise CorpusError(
                f"{path}: line {number} has {len(cells)} columns, the header {len(header)}"
            )
        row = dict(zip(header, cells, strict=True))
        good, bad = row["good"].strip(), row["bad"].strip()
        if not (has_text(good) and has_text(bad)):
            raise CorpusError(f"{path}: line {number}: a sentence is blank; remove the pair")
        if good == bad:
            raise CorpusError(f"{path}: line {number}: both sentences are equal; remove the pair")
        pairs.append(MinimalPair(row.get("phenomenon") or path.stem, good, bad))
    return pairs


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    r"""Yield the number of the line, from 1, and the cells of each row that is not blank.

    Separator and quoting of a TSV file are found as those of a corpus are. Without quoting, tabs
    and line ends within cells are written as ``\t`` and ``\n``.
    """
    lines = list(read_lines(path, Encoding.utf8))
    file_format = CorpusFormat.csv if format_of(path) is CorpusFormat.csv else CorpusFormat.tsv
    columns = TextConfig(text_column=COLUMNS[0], keep_columns=[COLUMNS[1]])
    separator = find_separator(columns, file_format, lines[0] if lines else "")
    if file_format is CorpusFormat.tsv:
        quoting, num_quoted = find_quoting(lines, separator, has_header=True)
        if num_quoted:
            logger.warning(
                "%s: the double quotes around %d cells are read as text; remove them, or save the "
                "file as CSV",
                path,
                num_quoted,
            )
        if quoting is Quoting.none:
            for number, line in enumerate(lines, 1):
                if line:
                    yield number, [unescape_tsv(cell) for cell in line.split(separator)]
            return
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise CorpusError(f"{path}: line {reader.line_num}: {error}") from None


PAIRS = pa.schema(
    [
        ("run", pa.string()),
        ("phenomenon", pa.string()),
        ("good", pa.string()),
        ("bad", pa.string()),
        ("good_surprisal", pa.float64()),
        ("bad_surprisal", pa.float64()),
        ("good_tokens", pa.int64()),
        ("bad_tokens", pa.int64()),
        ("right", pa.float64()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Accuracy on the pairs of a phenomenon.

    Attributes:
        num_pairs: pairs that count.
        num_same: pairs left out, because the tokenizer makes the same tokens of both sentences.
        accuracy: share of right pairs; a tie counts half. NaN without pairs.
        low: lower end of the 95 % interval (Wilson 1927).
        high: upper end.
    """

    num_pairs: int
    num_same: int
    accuracy: float
    low: float
    high: float


def score_pairs(
    run: TrainedRun,
    name: str,
    pairs: Sequence[MinimalPair],
    device: torch.device | None = None,
    batch_tokens: int = 4096,
) -> Iterator[pa.Table]:
    """Yield a row for each pair, in order, with the columns of ``PAIRS``.

    Surprisals are in bits, of the whole sentence with its end (<eos>) and of the spelling of
    unknown tokens. ``right`` is 1, 0, 0.5 for a tie, or null if the tokens of
    both sentences are the same.

    Args:
        run: the language model.
        name: name of the run, for the first column.
        pairs: the pairs.
        device: where to compute; None: where the model is.
        batch_tokens: largest batch, padding included.

    Raises:
        CorpusError: a sentence has a lone surrogate.
        TokenizerError: the tokenizer of the run does not start.
    """
    scorer = SurprisalScorer(
        run.inference_model(device), run.start_id, ScoreContext.line, False, batch_tokens
    )
    text_encoder = run.text_encoder()
    for begin in range(0, len(pairs), CHUNK):
        chunk = pairs[begin : begin + CHUNK]
        good = text_encoder.read_texts([pair.good for pair in chunk])
        bad = text_encoder.read_texts([pair.bad for pair in chunk])
        good_bits, bad_bits = _sentence_bits(scorer, good), _sentence_bits(scorer, bad)
        is_right = [
            None if same else (g < b) + 0.5 * (g == b)
            for g, b, same in zip(good_bits, bad_bits, _same_tokens(good, bad), strict=True)
        ]
        yield pa.table(
            [
                [name] * len(chunk),
                *(list(column) for column in zip(*chunk, strict=True)),
                good_bits,
                bad_bits,
                good.lengths,
                bad.lengths,
                pa.array(is_right, pa.float64()),
            ],
            schema=PAIRS,
        )


def _sentence_bits(scorer: SurprisalScorer, text: EncodedText) -> Floats:
    """Return the surprisal of each line, none of which is blank, with spelling."""
    bits = np.concatenate([batch.open_surprisal for batch in scorer.score([text])])
    return segment_sums(bits, text.lengths)


def _same_tokens(good: EncodedText, bad: EncodedText) -> list[bool]:
    """Return for each pair of lines whether the tokens are the same."""
    columns = (text.table.column("morphs").to_pylist() for text in (good, bad))
    return [a == b for a, b in zip(*columns, strict=True)]


def accuracies(rows: pa.Table) -> dict[str, Accuracy]:
    """Return the accuracy on each phenomenon, in the order of the rows, and on ``all``."""
    by_phenomenon: dict[str, list[float | None]] = {}
    columns = (rows.column(name).to_pylist() for name in ("phenomenon", "right"))
    for phenomenon, right in zip(*columns, strict=True):
        by_phenomenon.setdefault(phenomenon, []).append(right)
    results = {name: _accuracy(values) for name, values in by_phenomenon.items()}
    return results | {"all": _accuracy(list(itertools.chain(*by_phenomenon.values())))}


def _accuracy(right: Sequence[float | None]) -> Accuracy:
    counted = [value for value in right if value is not None]
    n = len(counted)
    if not n:
        return Accuracy(0, len(right), math.nan, math.nan, math.nan)
    share = sum(counted) / n
    low, high = wilson_interval(share, n)
    return Accuracy(n, len(right) - n, share, low, high)


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927).

    ``n`` must be at least 1.

    >>> [round(end, 3) for end in wilson_interval(0.5, 100)]
    [0.404, 0.596]
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    center = share + z * z / (2 * n)
    width = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return (center - width) / scale, (center + width) / scale
