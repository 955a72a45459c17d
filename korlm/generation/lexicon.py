"""Tokens of a model as pieces of eojeols: sorted by their keys, and where an eojeol may end.

Surfaces are compared with typed text as keystrokes (``korlm.text.hangul``), because the typed
text may end in a partial syllable (먹ㅇ). A later token may change the end of a surface (돕+아 ->
도와): only the keys that no token can change (``StablePrefix``) may exclude it.

Axes: V vocabulary.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from torch import Tensor

from korlm.dataset.vocab import EOS_ID
from korlm.detokenizers.base import Detokenizer
from korlm.text.hangul import keys_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CACHED_PROBS = 1 << 24  # probabilities that an eojeol ends, kept for later nodes, 64 MB
CACHED_PREFIXES = 4096  # sequences of keys whose matching tokens are kept

_TINY = float(np.finfo(np.float32).tiny)
# Vowels that the vowel of a stem's last syllable may become, besides itself.
_VOWEL_CHANGES = {
    **{"ㅏ": "ㅐㅓ", "ㅑ": "ㅒ", "ㅓ": "ㅔㅏ", "ㅕ": "ㅖ"},
    **{"ㅜ": "ㅓ", "ㅡ": "ㅓㅏ", "ㅣ": "ㅕ"},
}
# First keys of the tokens that may alter the syllable before them: 아, 으면, 는, ㄹ, ㅁ, ㅂ니다.
_ALTERING_KEYS = frozenset("ㅇㄴㄹㅁㅂ")


@dataclass(frozen=True)
class StablePrefix:
    """Keys of a surface that no later token can change.

    Attributes:
        keys: the stable keys.
        next_keys: the possible keys after them; None: any key.
    """

    keys: str
    next_keys: str | None

    def is_compatible(self, typed: str) -> bool:
        """Return whether an eojeol with this prefix may start with the typed keys."""
        if len(typed) <= len(self.keys):
            return self.keys.startswith(typed)
        if not typed.startswith(self.keys):
            return False
        return self.next_keys is None or typed[len(self.keys)] in self.next_keys


def stable_prefix(surface: str, num_unstable: int) -> StablePrefix:
    """Return the stable keys of a surface whose last ``num_unstable`` characters may change.

    The first consonant of the first unstable character is stable and its vowel has few
    alternatives. A few words are missed: 심상하+지 -> 심상치 (1 join of 900 in film reviews).

    >>> stable_prefix("아름답", 1)
    StablePrefix(keys='ㅇㅏㄹㅡㅁㄷ', next_keys='ㅏㅐㅓ')
    """
    end = len(surface) - num_unstable
    keys, unstable = keys_of(surface[:end]), keys_of(surface[end : end + 1])
    if len(unstable) < 2:
        return StablePrefix(keys, None)
    return StablePrefix(keys + unstable[0], unstable[1] + _VOWEL_CHANGES.get(unstable[1], ""))


class Lexicon:
    """Vocabulary of a model as pieces of eojeols.

    Args:
        tokens: the V tokens in the order of their ids.
        banned_ids: tokens that cannot be displayed; <eos> is not among them.

    Attributes:
        id_of: token -> id.
    """

    def __init__(
        self, tokens: Sequence[str], detokenizer: Detokenizer, banned_ids: Sequence[int]
    ) -> None:
        self.tokens, self.detokenizer = tokens, detokenizer
        self.id_of = {token: number for number, token in enumerate(tokens)}
        detokenizer.set_vocab(tokens)
        self._banned_ids = list(banned_ids)
        is_piece = np.ones(len(tokens), dtype=bool)
        is_piece[[*banned_ids, EOS_ID]] = False
        # Some tokenizers have space tokens.
        self._is_space = np.zeros(len(tokens), dtype=bool)
        self._stable: dict[int, StablePrefix] = {}
        for i in np.flatnonzero(is_piece).tolist():
            surface = detokenizer.join("", "", tokens[i])
            self._is_space[i] = surface.isspace()
            self._stable[i] = self.stable_prefix(surface, tokens[i])
        is_piece &= ~self._is_space
        self._space_tokens = {tokens[i] for i in np.flatnonzero(self._is_space).tolist()}
        # Sorted by their keys: tokens with a common prefix are a contiguous range.
        pairs = sorted((self._stable[i].keys, i) for i in np.flatnonzero(is_piece).tolist())
        self._sorted_keys = [keys for keys, _ in pairs]
        self._sorted_ids = np.array([i for _, i in pairs], dtype=np.int64)
        first_keys = [keys_of(token[:1])[:1] for token in tokens]
        is_altering = np.array([key in _ALTERING_KEYS for key in first_keys])
        self.altering_ids = np.flatnonzero(is_altering & is_piece)
        num_cached = max(1, CACHED_PROBS // max(1, len(tokens)))
        self.end_probs = lru_cache(maxsize=num_cached)(self._end_probs)
        self.prefixes_of = lru_cache(maxsize=CACHED_PREFIXES)(self._prefixes_of)

    def stable_prefix(self, surface: str, last_token: str) -> StablePrefix:
        """Return the stable keys of a surface that ends with ``last_token``."""
        return stable_prefix(surface, self.detokenizer.num_unstable_chars(surface, last_token))

    def _end_probs(self, token: str) -> Floats:
        """Return the probability that an eojeol ends between a token and each next one, (V,).

        Cached as ``end_probs``.
        """
        probs = self.detokenizer.space_probabilities(token)
        probs[self._is_space] = probs[EOS_ID] = 1.0
        probs.flags.writeable = False  # it is cached
        return probs

    def allowed_probs(self, log_probs: Tensor) -> Floats:
        """Return probabilities without the banned tokens, normalized; (..., V)."""
        probs = log_probs.exp().cpu().numpy()
        probs[..., self._banned_ids] = 0
        return _normalized(probs)

    def first_token_probs(self, context_token: str, probs: Floats) -> Floats:
        """Return the distribution of the first token of an eojeol, (V,).

        The token before it is empty at the start of a line; ``probs`` is from ``allowed_probs``.
        """
        probs = probs.copy()
        probs[EOS_ID] = 0.0
        if context_token and context_token not in self._space_tokens:
            probs *= self.end_probs(context_token)
        probs[self._is_space] = 0.0
        return _normalized(probs)

    def after_eojeol_probs(self, last_token: str, probs: Floats) -> Floats:
        """Return the distribution of the token after an eojeol: <eos>, a space, or a first token.

        ``probs`` is the distribution of the next token, from ``allowed_probs``.
        """
        return _normalized(probs * self.end_probs(last_token))

    def starts_with(self, token_id: int, keys: str) -> bool:
        """Return whether the stable keys of a token start with ``keys``."""
        return self._stable[token_id].keys.startswith(keys)

    def starting_with(self, keys: str) -> Ints:
        """Return the ids of the tokens whose stable keys start with ``keys``."""
        first = bisect.bisect_left(self._sorted_keys, keys)
        return self._sorted_ids[first : bisect.bisect_left(self._sorted_keys, keys + chr(0x10FFFF))]

    def _prefixes_of(self, keys: str) -> Ints:
        """Return the ids of the tokens shorter than ``keys`` that are compatible with them.

        Cached as ``prefixes_of``.
        """
        ids: list[int] = []
        for length in range(len(keys)):
            first = bisect.bisect_left(self._sorted_keys, keys[:length])
            last = bisect.bisect_right(self._sorted_keys, keys[:length])
            matching = self._sorted_ids[first:last].tolist()
            ids += [i for i in matching if self._stable[i].is_compatible(keys)]
        return np.array(ids, dtype=np.int64)


def _normalized(probs: npt.NDArray[np.float32]) -> Floats:
    """Return probabilities that sum to 1 over the last axis, or 0 if all of them are 0."""
    return np.asarray(probs / np.maximum(probs.sum(-1, keepdims=True), _TINY), np.float32)
