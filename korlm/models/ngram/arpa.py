r"""Read and write ARPA files, the text format for n-gram models of SRILM and KenLM.

    \data\
    ngram 1=5                   how many of each order
    \1-grams:
    -0.7       집      -0.3     log10 of the probability, the tokens, log10 of the backoff weight
    ...
    \end\

<eos> is written as <s> at the start of an n-gram and as </s> at the end; <pad> and <bos> are left
out. The log of probability 0 is -99. ARPA separates tokens by whitespace: whitespace within a token
is written as its code point, ``\u0020``, and so is the first character of a token that looks like
<s>, </s> or <UNK>; a backslash is doubled. Files ending in .gz are compressed.

The reader accepts what SRILM and IRSTLM write: text before \data\, a byte-order mark, <UNK>, blanks
around lines.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from korlm.dataset.vocab import BOS_ID, EOS_ID, PAD_ID, SPECIALS, UNK_ID
from korlm.models.ngram.smoothing import NgramTable
from korlm.utils.errors import ConfigError, output_errors
from korlm.utils.io.atomic_files import atomic_write

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
ZERO = -99.0  # log10 of probability 0
BLOCK_LINES = 100_000  # lines that are formatted at once
_USE_ANOTHER = "damaged or not an ARPA file, use another one"
_BLANKS = " \t\r\n"  # other white space may be part of a token
_KENLM_BINARY = b"mmap lm http://kheafield.com/code"  # at the beginning of .binary and .klm files
_SIZE = re.compile(r"ngram[ \t]+(\d{1,9})[ \t]*=[ \t]*(\d{1,18})")


def arpa_word(token: str) -> str:
    r"""Return a token as it is written in an ARPA file.

    >>> arpa_word("New York"), arpa_word("<s>"), arpa_word("ㅠㅠ")
    ('New\\u0020York', '\\u003cs>', 'ㅠㅠ')
    """
    if token in (BEGIN, END, "<UNK>"):  # KenLM reads <UNK> as <unk>
        return f"\\u{ord('<'):04x}" + token[1:]
    if token.isalnum():  # the fast path for most tokens
        return token
    escaped = token.replace("\\", "\\\\")
    return "".join(f"\\u{ord(c):04x}" if c.isspace() or c == "\0" else c for c in escaped)


def _words(tokens: Sequence[str]) -> list[str]:
    """Return the words of all ids; <eos> as at the end of an n-gram."""
    words = [arpa_word(token) for token in tokens]
    words[UNK_ID], words[EOS_ID] = UNKNOWN, END
    return words


# --- writing -------------------------------------------------------------------------------------


def write_arpa(
    path: Path,
    tables: Sequence[NgramTable],
    tokens: Sequence[str],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a model atomically; equal models give equal files.

    Args:
        path: .gz for a compressed file.
        tables: of all orders, without the row of ``NO_KEY``, as ``NgramLM.tables`` returns them.
        tokens: the V tokens, in the order of their ids.
        check: called between blocks of lines; it may raise to stop.
    """
    with output_errors(path), atomic_write(path) as temporary, open(temporary, "wb") as plain:
        compressed: Any = contextlib.nullcontext(plain)
        if path.suffix == ".gz":  # without the name of the temporary file and the time
            compressed = gzip.GzipFile("", "wb", 6, plain, mtime=0)
        with compressed as file:
            for block in _arpa_blocks(tables, _words(tokens)):
                check()
                file.write(block)


def _arpa_blocks(tables: Sequence[NgramTable], words: Sequence[str]) -> Iterator[bytes]:
    """Yield the content of an ARPA file in blocks of lines."""
    # Without <pad> and <bos>, but with a line for <s>.
    sizes = [len(words) - 1, *(len(table.keys) for table in tables[1:])]
    counts = (f"ngram {k}={size}\n" for k, size in enumerate(sizes, start=1))
    yield ("\\data\\\n" + "".join(counts)).encode()
    last_words = pa.array(words, pa.string())
    first_words = pa.array([BEGIN if i == EOS_ID else w for i, w in enumerate(words)], pa.string())
    for k, table in enumerate(tables, start=1):
        yield f"\n\\{k}-grams:\n".encode()
        has_backoffs = k < len(tables)
        backoffs = table.backoffs
        if k == 1:
            # No context ends in </s>; korlm's backoff weight of <eos> is that of <s>.
            backoffs = backoffs.copy()
            end = f"\t{_log10(backoffs[EOS_ID])[0]}" if has_backoffs else ""
            yield f"0\t{BEGIN}{end}\n".encode()
            backoffs[EOS_ID] = 0
        for first in range(0, len(table.keys), BLOCK_LINES):
            ids = np.arange(first, min(first + BLOCK_LINES, len(table.keys)))
            if k == 1:
                ids = ids[(ids != PAD_ID) & (ids != BOS_ID)]
            ngrams = _ngram_text(tables, k, ids, first_words if k > 1 else last_words, last_words)
            fields = [_log10(table.log_probs[ids]), ngrams]
            if has_backoffs:
                fields.append(_log10(backoffs[ids]))
            yield _lines(fields)
    yield b"\n\\end\\\n"


def _log10(logs: Any) -> pa.StringArray:
    """Return logs to the base 10 as text, the shortest that stands for the same 32-bit float."""
    values = np.maximum(np.atleast_1d(logs) / math.log(10), ZERO).astype(np.float32)
    return pc.cast(pa.array(values), pa.string())


def _ngram_text(
    tables: Sequence[NgramTable],
    k: int,
    ids: npt.NDArray[np.int64],
    first_words: pa.StringArray,
    last_words: pa.StringArray,
) -> pa.StringArray:
    """Return the n-grams of order k with these ids as text."""
    columns = []
    for order in range(k, 1, -1):
        ids, last = np.divmod(tables[order - 1].keys[ids], len(last_words))
        columns.append(last_words.take(pa.array(last)))
    columns.append(first_words.take(pa.array(ids)))
    return pc.binary_join_element_wise(*columns[::-1], " ")


def _lines(fields: Sequence[pa.StringArray]) -> bytes:
    """Return lines of fields separated by tabs."""
    lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*fields, "\t"), "", "\n")
    _, offsets, data = lines.buffers()
    size = int(np.frombuffer(offsets, np.int32)[len(lines)])
    text: bytes = data.slice(0, size).to_pybytes()
    return text


# --- reading -------------------------------------------------------------------------------------


def read_arpa(path: Path, tokens: Sequence[str], order: int) -> list[NgramTable]:
    """Read a model of a given order over a vocabulary; the file may be compressed, with any suffix.

    Raises:
        ConfigError: the file is missing, damaged, of another order or of another vocabulary.
    """
    source = f"model.arpa={path}"
    try:
        with open(path, "rb") as file:
            head = file.read(len(_KENLM_BINARY))
        is_compressed = head[:2] == b"\x1f\x8b"
        if head == _KENLM_BINARY:
            raise ConfigError(
                f"{source}: KenLM's binary format, which has hashes instead of words; use the ARPA "
                "file that it was built from"
            )
        opener: Any = gzip.open if is_compressed else open
        # utf-8-sig skips a byte-order mark.
        with opener(path, "rt", encoding="utf-8-sig", newline="\n") as text:
            return _Reader(source, text, tokens, order).tables()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or f"damaged or not an ARPA file ({error})"
        raise ConfigError(f"{source}: {reason}: use another file") from error


class _Reader:
    """Parser of one file; every error names the line.

    Axes: V tokens of the vocabulary, N n-grams of one order k.
    """

    def __init__(self, source: str, file: TextIO, tokens: Sequence[str], order: int) -> None:
        self._source, self._order, self._tokens = source, order, tokens
        self._lines = enumerate(file, start=1)
        self._number, self._line = 1, ""
        self._expected = "\\data\\"
        ordinary = range(len(SPECIALS), len(tokens))
        self._ids = {tokens[token_id]: token_id for token_id in ordinary}
        # With the escapes that korlm writes; other programs have none.
        self._ids |= {arpa_word(tokens[token_id]): token_id for token_id in ordinary}
        self._ids |= {UNKNOWN: UNK_ID, END: EOS_ID, BEGIN: BOS_ID}
        self._ids.setdefault(UNKNOWN.upper(), UNK_ID)  # as some programs write it

    def tables(self) -> list[NgramTable]:
        """Return the tables of all orders."""
        sizes = self._header()
        tables: list[NgramTable] = []
        for k, size in enumerate(sizes, start=1):
            if self._line != f"\\{k}-grams:":
                self._fail(f"expected \\{k}-grams:")
            numbers, grams, values = self._section(k, k < len(sizes))
            if len(grams) != size:
                self._fail(f"{len(grams):,} n-grams of order {k}, but the header says {size:,}")
            tables.append(
                self._unigrams(grams, values)
                if k == 1
                else self._table(tables, numbers, grams, values)
            )
        if self._line != "\\end\\":
            self._fail("expected \\end\\")
        return tables

    def _fail(self, reason: str, number: int | None = None, advice: str = _USE_ANOTHER) -> NoReturn:
        raise ConfigError(f"{self._source}: line {number or self._number}: {reason}: {advice}")

    def _next(self) -> str:
        """Advance to the next non-empty line and return it."""
        for number, line in self._lines:
            self._number = number
            self._line = line.strip(_BLANKS)
            if self._line:
                return self._line
        self._fail(f"the file ends before {self._expected}")

    def _header(self) -> list[int]:
        """Return the number of n-grams of each order."""
        while self._next() != "\\data\\":  # a comment before it
            if self._line.split()[:1] in (["iARPA"], ["qARPA"]):
                advice = "convert it with compile-lm --text=yes"
                self._fail("IRSTLM's own format", advice=advice)
        self._expected = "\\end\\"
        sizes: list[int] = []
        while match := _SIZE.fullmatch(self._next()):
            if int(match[1]) != len(sizes) + 1:
                self._fail(f"expected the number of n-grams of order {len(sizes) + 1}")
            sizes.append(int(match[2]))
        if not sizes:
            self._fail("expected ngram 1=SIZE")
        if len(sizes) != self._order:
            self._fail(
                f"the model has order {len(sizes)}, but model.order={self._order}",
                advice=f"set model.order={len(sizes)} or use another file",
            )
        return sizes

    def _section(
        self, k: int, may_back_off: bool
    ) -> tuple[list[int], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Return line numbers, ids (N, k), and log10 of probability and backoff weight (N, 2)."""
        numbers, rows, values, ids = [], [], [], self._ids
        while not self._next().startswith("\\"):
            fields = self._line.replace("\t", " ").split(" ")
            if len(fields) != k + 1 and not (may_back_off and len(fields) == k + 2):
                self._fail(f"expected a probability and {k} tokens")
            row = [ids.get(word, -1) for word in fields[1 : k + 1]]
            if -1 in row:
                self._fail_vocab(f"{fields[1 + row.index(-1)]!r} is not in the run's vocabulary")
            if k > 1:
                if BOS_ID in row[1:] or EOS_ID in row[:-1]:
                    self._fail(
                        f"{BEGIN} is allowed only at the start of an n-gram, {END} at its end"
                    )
                row = [EOS_ID if token_id == BOS_ID else token_id for token_id in row]
            try:
                log_prob = float(fields[0])
                backoff = float(fields[k + 1]) if len(fields) == k + 2 else 0.0
            except ValueError:
                self._fail("expected numbers before and after the tokens")
            if not log_prob <= 1e-6:  # allows for rounding
                self._fail("the log10 of a probability must be at most 0")
            if not math.isfinite(backoff):
                self._fail("the log10 of a backoff weight must be finite")
            numbers.append(self._number)
            rows.append(row)
            values.append((min(log_prob, 0.0), backoff))
        grams = np.array(rows, dtype=np.int64).reshape(-1, k)
        return numbers, grams, np.array(values, dtype=np.float64).reshape(-1, 2)

    def _fail_vocab(self, reason: str) -> NoReturn:
        advice = (
            "use a file made with the same vocabulary, or set corpus, tokenizer and vocab to those "
            "of the file"
        )
        self._fail(reason, advice=advice)

    def _unigrams(
        self, grams: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
    ) -> NgramTable:
        """Return the table of order 1, with a row for each token of the vocabulary.

        ``grams`` are ids (N, 1), ``values`` log10 of probability and backoff weight, (N, 2).
        """
        token_ids = grams[:, 0]
        if len(np.unique(token_ids)) != len(token_ids):
            self._fail("duplicate token in the unigrams above")
        logs = np.full((len(self._tokens), 2), -np.inf)
        logs[:, 1] = 0
        logs[token_ids] = _natural(values)
        if BOS_ID not in token_ids:
            self._fail(
                f"{BEGIN} is missing in the unigrams above, so sentence starts have no probability"
            )
        missing = np.setdiff1d(np.arange(EOS_ID, len(self._tokens)), token_ids)
        if len(missing):
            self._fail_vocab(
                f"{len(missing):,} tokens of the run's vocabulary are missing above, such as "
                f"{_words(self._tokens)[missing[0]]!r}"
            )
        # A context that starts with <s> starts with <eos> in korlm.
        logs[EOS_ID, 1], logs[BOS_ID] = logs[BOS_ID, 1], (-np.inf, 0)
        return NgramTable(np.arange(len(self._tokens)), logs[:, 0], logs[:, 1])

    def _table(
        self,
        shorter: Sequence[NgramTable],
        numbers: Sequence[int],
        grams: npt.NDArray[np.int64],
        values: npt.NDArray[np.float64],
    ) -> NgramTable:
        """Return the table of order k, 2 or more, from those of the shorter ones.

        ``numbers`` are the lines of the n-grams, ``grams`` their ids, (N, k), ``values`` see above.
        """
        vocab_size, prefixes = len(self._tokens), grams[:, 0]
        for column, table in enumerate(shorter[1:], start=1):
            keys = prefixes * vocab_size + grams[:, column]
            prefixes = np.searchsorted(table.keys, keys)
            is_known = np.append(table.keys, -1)[prefixes] == keys
            if not is_known.all():
                self._fail(
                    "the n-gram without its last token is missing in the shorter ones",
                    numbers[int(np.argmin(is_known))],
                )
        keys = prefixes * vocab_size + grams[:, -1]
        by_key = np.argsort(keys, kind="stable")
        keys = keys[by_key]
        duplicates = np.flatnonzero(keys[1:] == keys[:-1])
        if len(duplicates):
            self._fail("duplicate n-gram", numbers[by_key[duplicates[0] + 1]])
        logs = _natural(values[by_key])
        return NgramTable(keys, logs[:, 0], logs[:, 1])


def _natural(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convert log10 to natural logs; ZERO or less is -inf."""
    return np.where(values <= ZERO, -np.inf, values * math.log(10))
