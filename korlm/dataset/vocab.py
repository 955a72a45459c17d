r"""Vocabulary: tokens and their ids, counted on train only.

Wraps torchtext's Vocab, which orders tokens by falling count and then by code points. Its file,
``vocab.tsv``, has a line for every id from 0: token, tab, count in train. Backslash, tab and line
ends within a token are written ``\\``, ``\t``, ``\n`` and ``\r``.
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
from korlm.config.paths import mend_prepared
from korlm.utils.errors import VocabError

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<bos>", "<eos>"


SPECIALS = (PAD, UNK, BOS, EOS)


PAD_ID, UNK_ID, BOS_ID, EOS_ID = range(4)


NUMBER = "<num>"


_NUMBER = re.compile(r"[0-9０-９]+(?:[.,][0-9０-９]+)*")


_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


_UNESCAPES = {escaped: char for char, escaped in _ESCAPES.items()}


def normalize_token(token: str, lowercase: bool, normalize_numbers: bool) -> str:
    """A token as the vocabulary sees it.

    >>> normalize_token("KBS", lowercase=True, normalize_numbers=False)
    'kbs'
    >>> normalize_token("1,234.5", lowercase=False, normalize_numbers=True)
    '<num>'
    """
    if normalize_numbers and _NUMBER.fullmatch(token):
        return NUMBER
    return token.lower() if lowercase else token


class Vocab:
    """Tokens in the order of their ids, ``<pad> <unk> <bos> <eos>`` first.

    Args:
        counts: how often each token stands in train, as the text has it; counts of tokens spelt
            like a special token are ignored, since such a token is no special one.
        config: which tokens get an id.

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
        hidden = 0
        for token, count in counts.items():
            normal = self._normalize(token)
            if normal is None:
                hidden += count
            else:
                merged[normal] += count
        self._vocab = TorchtextVocab(
            merged, max_size=config.max_size, min_freq=config.min_freq, specials=list(SPECIALS)
        )
        self.counts = [0] * len(SPECIALS)
        self.counts += [merged[token] for token in self.tokens[len(SPECIALS) :]]
        self.counts[UNK_ID] = sum(merged.values()) + hidden - sum(self.counts)
        if len(self) == len(SPECIALS):
            raise VocabError(
                f"no token stands {config.min_freq} times in train (vocab.min_freq="
                f"{config.min_freq}): lower vocab.min_freq or give more text"
            )

    def _normalize(self, token: str) -> str | None:
        """The entry that a token of the text may have; None if it merely looks like a special."""
        spelt = token.lower() if self.lowercase else token
        if spelt in SPECIALS or spelt == NUMBER:
            return None
        return normalize_token(token, self.lowercase, self.normalize_numbers)

    def __len__(self) -> int:
        return len(self._vocab.itos)

    @property
    def tokens(self) -> list[str]:
        """All tokens; a token's place is its id."""
        tokens: list[str] = self._vocab.itos
        return tokens

    def encode(self, tokens: Iterable[str]) -> npt.NDArray[np.int64]:
        """Ids of tokens as the text has them; ``<unk>`` where there is none."""
        if not self._merges:
            return np.fromiter(map(self._plain_ids.get, tokens, itertools.repeat(UNK_ID)), np.int64)
        stoi: Mapping[str, int] = self._vocab.stoi
        found = (self._normalize(token) for token in tokens)
        # stoi[token] would insert an unseen token; get does not.
        ids = [UNK_ID if token is None else stoi.get(token, UNK_ID) for token in found]
        return np.asarray(ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Tokens of ids."""
        return [self.tokens[token_id] for token_id in ids]

    @property
    def _merges(self) -> bool:
        """Whether different tokens may have the same id."""
        return self.lowercase or self.normalize_numbers

    @functools.cached_property
    def _plain_ids(self) -> dict[str, int]:
        """Token of the text -> id, where nothing is merged; specials are none of the text."""
        found = dict(self._vocab.stoi)
        for name in (*SPECIALS, NUMBER):
            found.pop(name, None)
        return found

    def is_lossless(
        self, tokens: Sequence[str], ids: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether ids give tokens back to the letter; the others must pay for their spelling."""
        known: npt.NDArray[np.bool_] = ids != UNK_ID
        if self._merges:
            own = self.tokens
            pairs = zip(tokens, ids.tolist(), strict=True)
            known &= np.fromiter((own[at] == token for token, at in pairs), np.bool_, len(tokens))
        return known

    def save(self, path: Path) -> None:
        """Writes vocab.tsv."""
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            for token, count in zip(self.tokens, self.counts, strict=True):
                file.write("".join(_ESCAPES.get(c, c) for c in token) + f"\t{count}\n")

    @classmethod
    def load(cls, path: Path, config: VocabConfig) -> Vocab:
        """Reads vocab.tsv.

        Raises:
            VocabError: the file is missing or damaged.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")[:-1]
            rows = [line.rsplit("\t", 1) for line in lines]
            tokens = [
                re.sub(r"\\.", lambda m: _UNESCAPES.get(m.group(), m.group()), t) for t, _ in rows
            ]
            return cls.restore(tokens, [int(count) for _, count in rows], config)
        except (OSError, ValueError) as error:
            raise VocabError(
                f"{path}: damaged or missing ({error}); {mend_prepared(path.parent)}"
            ) from error

    @classmethod
    def restore(cls, tokens: Sequence[str], counts: Sequence[int], config: VocabConfig) -> Vocab:
        """The vocabulary with just these tokens, as files and checkpoints hold it."""
        if tuple(tokens[: len(SPECIALS)]) != SPECIALS or len(set(tokens)) != len(tokens):
            raise ValueError(f"must begin with {' '.join(SPECIALS)} and have no token twice")
        if not all(isinstance(token, str) for token in tokens) or len(counts) != len(tokens):
            raise ValueError("must have a text and a count for each token")
        vocab = cls.__new__(cls)
        vocab.lowercase, vocab.normalize_numbers = config.lowercase, config.normalize_numbers
        vocab._vocab = TorchtextVocab(Counter(), specials=list(SPECIALS))
        vocab._vocab.itos = list(tokens)
        vocab._vocab.stoi.update({token: index for index, token in enumerate(tokens)})
        vocab.counts = list(counts)
        return vocab


def id_dtype(vocab_size: int) -> npt.DTypeLike:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32
