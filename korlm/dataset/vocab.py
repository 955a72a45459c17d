"""Vocabulary: maps tokens to ids, built from the tokens of train only.

Wraps torchtext's Vocab, which orders tokens by decreasing count, then by code points. The file
``vocab.tsv`` has a line for every id from 0: token, tab, count in train; tokens are escaped as in
``korlm.utils.io.tables.escape_tsv``.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torchtext.vocab import Vocab as TorchtextVocab

from korlm.config import VocabConfig
from korlm.utils.errors import VocabError, reading
from korlm.utils.io.tables import escape_tsv, unescape_tsv

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"
SPECIALS = (PAD, UNK, BOS, EOS)
PAD_ID, UNK_ID, BOS_ID, EOS_ID = range(4)

NUMBER = "<num>"  # replaces all numbers if vocab.normalize_numbers is set
_NUMBER = re.compile(r"[0-9０-９]+(?:[.,][0-9０-９]+)*")


def normalize_token(token: str, lowercase: bool, normalize_numbers: bool) -> str:
    """Return the vocabulary entry of a token: lower-cased, or ``<num>``, if the settings say so.

    >>> normalize_token("KBS", lowercase=True, normalize_numbers=False)
    'kbs'
    >>> normalize_token("1,234.5", lowercase=False, normalize_numbers=True)
    '<num>'
    """
    if normalize_numbers and _NUMBER.fullmatch(token):
        return NUMBER
    return token.lower() if lowercase else token


class Vocab:
    """Maps tokens to ids; ``<pad> <unk> <bos> <eos>`` come first.

    It is built from the count of each token in train. A token of the text that is spelt like a
    special token is unknown.

    Raises:
        VocabError: no token is frequent enough.

    >>> vocab = Vocab(Counter({"가": 3, "나": 2, "다": 1}), VocabConfig(min_freq=2))
    >>> vocab.tokens
    ['<pad>', '<unk>', '<bos>', '<eos>', '가', '나']
    >>> vocab.encode(["나", "다", "<eos>"]).tolist()
    [5, 1, 1]
    """

    def __init__(self, counts: Mapping[str, int], config: VocabConfig) -> None:
        self.lowercase = config.lowercase
        self.normalize_numbers = config.normalize_numbers
        merged: Counter[str] = Counter()
        num_special = 0  # tokens of the text that are spelt like a special token
        for token, count in counts.items():
            entry = self._normalize(token)
            if entry is None:
                num_special += count
            else:
                merged[entry] += count
        self._vocab = TorchtextVocab(
            merged, max_size=config.max_size, min_freq=config.min_freq, specials=list(SPECIALS)
        )
        self.counts = [0] * len(SPECIALS)
        self.counts += [merged[token] for token in self.tokens[len(SPECIALS) :]]
        self.counts[UNK_ID] = sum(merged.values()) + num_special - sum(self.counts)
        if len(self) == len(SPECIALS):
            raise VocabError(
                f"no token occurs {config.min_freq} times in train (vocab.min_freq="
                f"{config.min_freq}): lower vocab.min_freq or give more text"
            )

    def _normalize(self, token: str) -> str | None:
        """Return the entry of a token of the text; None if it is spelt like a special token."""
        if (token.lower() if self.lowercase else token) in (*SPECIALS, NUMBER):
            return None
        return normalize_token(token, self.lowercase, self.normalize_numbers)

    def __len__(self) -> int:
        return len(self._vocab.itos)

    @property
    def tokens(self) -> list[str]:
        """All tokens in the order of their ids."""
        tokens: list[str] = self._vocab.itos
        return tokens

    def encode(self, tokens: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return the ids of tokens of a text, (len(tokens),); ``<unk>`` for unknown ones."""
        if not self._merges:
            return np.fromiter(map(self._text_ids.get, tokens, itertools.repeat(UNK_ID)), np.int64)
        stoi: Mapping[str, int] = self._vocab.stoi
        entries = (self._normalize(token) for token in tokens)
        # stoi[token] would insert an unseen token; get does not.
        ids = [UNK_ID if entry is None else stoi.get(entry, UNK_ID) for entry in entries]
        return np.asarray(ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of ids."""
        return [self.tokens[token_id] for token_id in ids]

    @property
    def _merges(self) -> bool:
        """True if different tokens of a text may have the same id."""
        return self.lowercase or self.normalize_numbers

    @functools.cached_property
    def _text_ids(self) -> dict[str, int]:
        """Token of a text -> id, without the special tokens; used where nothing is merged."""
        specials = {*SPECIALS, NUMBER}
        return {token: i for token, i in self._vocab.stoi.items() if token not in specials}

    def is_lossless(
        self, tokens: Sequence[str], ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Return a mask of the tokens that their ids determine exactly, (len(tokens),)."""
        lossless: npt.NDArray[np.bool_] = ids != UNK_ID
        if self._merges:
            entries = self.tokens
            pairs = zip(tokens, ids.tolist(), strict=True)
            lossless &= np.fromiter((entries[i] == token for token, i in pairs), np.bool_)
        return lossless

    def save(self, path: Path) -> None:
        """Write vocab.tsv."""
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            for token, count in zip(self.tokens, self.counts, strict=True):
                file.write(f"{escape_tsv(token)}\t{count}\n")

    @classmethod
    def load(cls, path: Path, config: VocabConfig) -> Vocab:
        """Read vocab.tsv; ``reading`` turns its exceptions into one of korlm."""
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        rows = [line.rsplit("\t", 1) for line in lines]
        tokens = [unescape_tsv(token) for token, _ in rows]
        return cls.restore(tokens, [int(count) for _, count in rows], config)

    def recounted(self, counts: Iterable[tuple[str, int]]) -> Vocab:
        """Return a vocabulary of the same tokens with the counts of another text."""
        stoi: Mapping[str, int] = self._vocab.stoi
        numbers = [0] * len(self)
        for token, count in counts:
            entry = self._normalize(token)
            numbers[UNK_ID if entry is None else stoi.get(entry, UNK_ID)] += count
        copy = Vocab.__new__(Vocab)
        copy.lowercase, copy.normalize_numbers = self.lowercase, self.normalize_numbers
        copy._vocab, copy.counts = self._vocab, numbers
        return copy

    @classmethod
    def restore(cls, tokens: Sequence[str], counts: Sequence[int], config: VocabConfig) -> Vocab:
        """Build a vocabulary of exactly these tokens, as stored in files and checkpoints.

        Raises:
            ValueError: the tokens do not begin with the special tokens, occur twice, or do not
                match the counts.
        """
        if tuple(tokens[: len(SPECIALS)]) != SPECIALS or len(set(tokens)) != len(tokens):
            raise ValueError(f"must begin with {' '.join(SPECIALS)} and have no duplicate tokens")
        if not all(isinstance(token, str) for token in tokens) or len(counts) != len(tokens):
            raise ValueError("must have a string and a count for each token")
        vocab = cls.__new__(cls)
        vocab.lowercase, vocab.normalize_numbers = config.lowercase, config.normalize_numbers
        vocab._vocab = TorchtextVocab(Counter(), specials=list(SPECIALS))
        vocab._vocab.itos = list(tokens)
        vocab._vocab.stoi.update({token: index for index, token in enumerate(tokens)})
        vocab.counts = list(counts)
        return vocab


def read_given_vocab(config: VocabConfig) -> Vocab | None:
    """Return the vocabulary of ``vocab.file``, without counts; None if there is no such file.

    The file has one token on each line, or is a vocab.tsv, whose counts are ignored. The special
    tokens may be left out.

    Raises:
        VocabError: the file is missing or not UTF-8, or has a line that is not a token of its own.
    """
    if config.file is None:
        return None
    name = f"vocab.file={config.file}"
    with reading(name, VocabError, "convert it, or name another file", "cannot be read"):
        lines = Path(config.file).read_text(encoding="utf-8-sig").split("\n")
    lines = [line.removesuffix("\r") for line in lines]
    if lines and not lines[-1]:  # after the last line end
        lines.pop()
    is_table = any("\t" in line for line in lines)
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        token, tab, count = line.rpartition("\t") if is_table else (line, "", "")
        token = unescape_tsv(token) if is_table else token
        if is_table and not (tab and count.isdecimal()):
            raise VocabError(f"{name}: line {number} must be a token, a tab and its count")
        if not token:
            raise VocabError(f"{name}: line {number} is blank; remove it")
        if token in line_of:
            first = line_of[token]
            raise VocabError(
                f"{name}: line {number} has {token!r} of line {first} again; remove it"
            )
        entry = normalize_token(token, config.lowercase, config.normalize_numbers)
        if token not in (*SPECIALS, NUMBER) and entry != token:
            raise VocabError(
                f"{name}: line {number} has {token!r}, which tokens never are with "
                f"vocab.lowercase={str(config.lowercase).lower()} vocab.normalize_numbers="
                f"{str(config.normalize_numbers).lower()}; write {entry!r} or change the settings"
            )
        line_of[token] = number
    tokens = [token for token in line_of if token not in SPECIALS]
    if not tokens:
        raise VocabError(f"{name}: is empty; write one token on each line")
    tokens = [*SPECIALS, *tokens]
    return Vocab.restore(tokens, [0] * len(tokens), config)


def id_dtype(vocab_size: int) -> npt.DTypeLike:
    """Return uint16 if it holds every id, else uint32."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32
