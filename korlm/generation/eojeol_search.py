"""The likeliest eojeols that begin as typed: a best-first search over rows of tokens.

The model writes tokens t1, t2, ...; between two of them stands a blank with the probability
b(t, t') of the recomposer, which also spells them. So an eojeol e after a context c has

    P(e | c) = sum over t1..tn that spell e of  p'(t1 | c) prod_i p(t_i+1 | ..) (1 - b(t_i, t_i+1))
               * [p(<eos> | ..) + sum_v p(v | ..) b(tn, v)]

where p' = p(t1 | c) b(last of c, t1), without <eos>, normalised: a blank was typed, and an eojeol
follows. Tokens that nobody can read are left out and the rest is normalised; so the P(e | c) of all
e add up to 1, and those that begin as typed to P(typed | c).

What is typed and what a row of tokens spells are compared key by key (``korlm.text.keyboard``), as
far as the latter cannot change any more. Axes: V vocabulary, N rows of tokens.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.dataset.vocab import EOS_ID
from korlm.detokenizers.base import Detokenizer
from korlm.generation.context import Context
from korlm.models.base import LanguageModel
from korlm.modules.state import State
from korlm.text.keyboard import keys_of

Floats = npt.NDArray[np.float32]


Ints = npt.NDArray[np.int64]


_NONE = np.zeros(0, dtype=np.int64)


_TINY = float(np.finfo(np.float32).tiny)


_NO_MASSES = np.zeros(0, dtype=np.float32)


BATCH = 16  # rows read at once: a step of so many takes about twice as long as one of a single row


LIKELY = 64  # next tokens tried where any fits


FITTING = 48  # next tokens tried of those that go on as typed


CHANGING = 16  # next tokens tried since they may change what stands before them


DOUBTFUL = 0.1  # weight of rows that a change alone can make fit


# What the vowel of a last syllable may become by the ending that follows, besides itself.
_CHANGES = {
    **{"ㅏ": "ㅐㅓ", "ㅑ": "ㅒ", "ㅓ": "ㅔㅏ", "ㅕ": "ㅖ"},
    **{"ㅜ": "ㅓ", "ㅡ": "ㅓㅏ", "ㅣ": "ㅕ"},
}


# The first keys of tokens that may change what stands before them: 아, 으면, 는, ㄹ, ㅁ, ㅂ니다.
_CHANGERS = frozenset("ㅇㄴㄹㅁㅂ")


@dataclass(frozen=True)
class StablePrefix:
    """The keys of an eojeol so far that stay whatever follows, and those that may come next.

    ``after`` is None where any may.
    """

    keys: str
    after: str | None

    def is_compatible(self, typed: str) -> bool:
        """Whether some eojeol may begin so and begin as typed."""
        if len(typed) <= len(self.keys):
            return self.keys.startswith(typed)
        if not typed.startswith(self.keys):
            return False
        return self.after is None or typed[len(self.keys)] in self.after


def fixed_part(surface: str, num_unstable: int) -> StablePrefix:
    """What of an eojeol so far can no more change, if its last ``num_unstable`` characters may.

    The first consonant of the first of them stays, and its vowel has few ways to change; 심상하+지
    -> 심상치 is among the few words (1 join of 900 in film reviews) that are missed for that.

    >>> fixed_part("아름답", 1)
    StablePrefix(keys='ㅇㅏㄹㅡㅁㄷ', after='ㅏㅐㅓ')
    """
    end = len(surface) - num_unstable
    keys, rest = keys_of(surface[:end]), keys_of(surface[end : end + 1])
    if len(rest) < 2:
        return StablePrefix(keys, None)
    return StablePrefix(keys + rest[0], rest[1] + _CHANGES.get(rest[1], ""))


@dataclass(eq=False)
class Node:
    """A row of tokens that an eojeol may begin with.

    Attributes:
        ids: the tokens.
        surface: what they spell.
        mass: the probability of all eojeols that begin with these tokens.
        fixed: what of it stays.
        parent: without the last token; None before the first.
        state: after the last token, each tensor (1, ...); None until it is read.
        ends: the probability that the eojeol is these tokens.
        onwards: the masses of these and one token more, (V,).
        likely: the likeliest of those tokens, falling.
        children: with one token more, as far as they were looked at.
    """

    ids: tuple[int, ...]
    surface: str
    mass: float
    fixed: StablePrefix
    parent: Node | None
    state: State | None = None
    ends: float = 0.0
    next_token_mass: Floats = field(default_factory=lambda: _NO_MASSES)
    likely: Ints | None = None
    children: dict[int, Node] = field(default_factory=dict)


class Lexicon:
    """The vocabulary as pieces of eojeols.

    Args:
        tokens: of all ids.
        recomposer: spells rows of them and tells blanks.
        unwritable: ids that spell nothing; <eos> is none of them.
    """

    def __init__(
        self, tokens: Sequence[str], detokenizer: Detokenizer, banned_token_ids: Sequence[int]
    ) -> None:
        self.tokens, self.detokenizer = tokens, detokenizer
        detokenizer.over(tokens)
        self.readable = np.ones(len(tokens), dtype=bool)
        self.readable[list(banned_token_ids)] = False
        inner = self.readable.copy()
        inner[EOS_ID] = False
        # Some tokenizers have tokens that are blanks themselves.
        self.is_blank = np.zeros(len(tokens), dtype=bool)
        self._fixed: dict[int, StablePrefix] = {}
        for i in np.flatnonzero(inner).tolist():
            surface = detokenizer.join("", "", tokens[i])
            self.is_blank[i] = surface.isspace()
            self._fixed[i] = self.fixed(surface, tokens[i])
        inner &= ~self.is_blank
        self._blank_tokens = {tokens[i] for i in np.flatnonzero(self.is_blank).tolist()}
        # By their beginnings, so that those that begin alike lie together.
        pairs = sorted((self._fixed[i].keys, i) for i in np.flatnonzero(inner).tolist())
        self._sorted = [keys for keys, _ in pairs]
        self._ids = np.array([i for _, i in pairs], dtype=np.int64)
        first_keys = [keys_of(token[:1])[:1] for token in tokens]
        self.changing = np.flatnonzero(np.array([k in _CHANGERS for k in first_keys]) & inner)

    def fixed(self, surface: str, left: str) -> StablePrefix:
        """What of an eojeol so far, whose last token is ``left``, can no more change."""
        return fixed_part(surface, self.detokenizer.num_unstable_chars(surface, left))

    def blanks(self, left: str) -> Floats:
        """The probability that an eojeol ends between a token and each other, (V,)."""
        found = np.array(self.detokenizer.boundaries(left), dtype=np.float32)
        found[self.is_blank] = found[EOS_ID] = 1.0
        return found

    def first(self, left: str, probs: Floats) -> Floats:
        """The probabilities of the first token of an eojeol, (V,).

        Args:
            left: the token before it; empty at the start of a line.
            probs: of all tokens, as the model says.
        """
        first = probs.copy()
        first[EOS_ID] = 0.0
        if left and left not in self._blank_tokens:
            first *= self.blanks(left)
        first[self.is_blank] = 0.0
        return np.asarray(first / max(float(first.sum()), _TINY), dtype=np.float32)

    def behind(self, left: str, probs: Floats) -> Floats:
        """The probabilities of what follows an eojeol: <eos>, a blank, the next one's first token.

        Args:
            left: the eojeol's last token.
            probs: of all tokens, as the model says, (V,).
        """
        found = probs * self.blanks(left)
        return np.asarray(found / max(float(found.sum()), _TINY), dtype=np.float32)

    def probs(self, log_probs: Tensor) -> Floats:
        """Probabilities of the tokens that can be read, normalised; float32 (..., V)."""
        probs = log_probs.exp().cpu().numpy() * self.readable
        return np.asarray(probs / np.maximum(probs.sum(-1, keepdims=True), _TINY), np.float32)

    def beginning_with(self, keys: str) -> Ints:
        """Ids of the tokens that begin with these keys for sure."""
        first = bisect.bisect_left(self._sorted, keys)
        return self._ids[first : bisect.bisect_left(self._sorted, keys + chr(0x10FFFF))]

    def prefixes_of(self, keys: str) -> Ints:
        """Ids of the tokens after which, or after a change of which, these keys may go on."""
        parts = []
        for length in range(len(keys)):
            first = bisect.bisect_left(self._sorted, keys[:length])
            last = bisect.bisect_right(self._sorted, keys[:length])
            ids = self._ids[first:last].tolist()
            parts += [i for i in ids if self._fixed[i].is_compatible(keys)]
        return np.array(parts, dtype=np.int64)


# Minus the weight, the tokens (no two rows have the same), the row, its place among its siblings.
_Entry = tuple[float, tuple[int, ...], Node, int | None]


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        eojeols: their probabilities P(e | c), and for each the likeliest row of tokens that spells
            it.
        mass: P(typed | c), of all eojeols that begin as typed.
    """

    eojeols: dict[str, tuple[float, Node]]
    mass: float


class EojeolSearch:
    """Everything that is known of the eojeols after one context; grows with each search.

    Args:
        model: frozen, in evaluation mode.
        lexicon: its vocabulary.
        context: what goes before.
    """

    def __init__(self, model: LanguageModel, lexicon: Lexicon, context: Context) -> None:
        self._model, self._lexicon = model, lexicon
        first = lexicon.first(context.left, lexicon.probs(context.log_probs))
        self.root = Node(
            (), "", 1.0, StablePrefix("", None), None, context.state, next_token_mass=first
        )
        self.num_read = 0

    def search(self, typed: str, num_eojeols: int, effort: int) -> SearchResult:
        """The likeliest eojeols that begin as typed.

        What it finds does not depend on the searches before, only its time does.

        Args:
            typed: keys.
            num_eojeols: the search is over when no row of tokens that is left weighs more than the
                so many-th of the eojeols found.
            effort: rows of tokens that are looked at, at most.
        """
        found: dict[str, tuple[float, Node]] = {}
        heap: list[_Entry] = []
        mass = float(self.root.next_token_mass.any())
        if typed:
            mass = self._open(self.root, typed, heap)
        else:
            self._push(heap, self.root, 0)
        while heap and effort > 0:
            best = heapq.nlargest(num_eojeols, (p for p, _ in found.values()))
            enough = best[-1] if len(best) == num_eojeols else 0.0
            batch = self._pop(heap, min(BATCH, effort), enough)
            effort -= len(batch)
            self._read([node for node in batch if node.state is None])
            for node in batch:
                matches = keys_of(node.surface).startswith(typed)
                if matches and node.surface and node.ends > 0:
                    before, spelt_by = found.get(node.surface, (0.0, node))
                    spelt_by = node if node.ends > spelt_by.ends else spelt_by
                    found[node.surface] = before + node.ends, spelt_by
                if node.fixed.keys.startswith(typed):
                    self._push(heap, node, 0)
                else:
                    mass += node.ends * matches + self._open(node, typed, heap)
            if not batch:
                break
        return SearchResult(found, mass)

    def _pop(self, heap: list[_Entry], count: int, enough: float) -> list[Node]:
        """The heaviest rows, at most ``count`` of them and each heavier than ``enough``."""
        batch: list[Node] = []
        while heap and len(batch) < count and -heap[0][0] > enough:
            _, _, node, place = heapq.heappop(heap)
            if place is not None:  # its siblings stand in line behind it
                assert node.parent is not None
                self._push(heap, node.parent, place + 1)
            batch.append(node)
        return batch

    def _push(self, heap: list[_Entry], node: Node, place: int) -> None:
        """Puts a row with one token more on the heap, where whatever follows fits.

        Args:
            heap: of the search.
            node: was read.
            place: of the token, among the likeliest.
        """
        likely = self._likely(node)
        if place < len(likely):
            child = self._child(node, int(likely[place]))
            heapq.heappush(heap, (-child.mass, child.ids, child, place))

    def _open(self, node: Node, typed: str, heap: list[_Entry]) -> float:
        """Puts rows with one token more on the heap, where only some of what follows fits.

        Args:
            node: was read.
            typed: keys.
            heap: of the search.

        Returns:
            The mass of what begins as typed for sure.
        """
        lexicon, keys = self._lexicon, keys_of(node.surface)
        surely = tried = _NONE
        if keys.startswith(typed):
            surely, tried = np.flatnonzero(node.next_token_mass), self._likely(node)
        elif typed.startswith(keys):
            rest = typed[len(keys) :]
            surely = lexicon.beginning_with(rest)
            fitting = np.concatenate([surely, lexicon.prefixes_of(rest)])
            tried = _largest(node.next_token_mass, fitting, FITTING)
        else:  # 이 of 영화+이+다 goes, whatever follows
            tried = self._likely(node)[:CHANGING]
        tried = np.union1d(tried, _largest(node.next_token_mass, lexicon.changing, CHANGING))
        mass = float(
            node.next_token_mass[surely].sum()
            - node.next_token_mass[np.intersect1d(surely, tried)].sum()
        )
        for token_id in tried.tolist():
            child = self._child(node, token_id)
            if child.fixed.is_compatible(typed):
                mass += child.mass * child.fixed.keys.startswith(typed)
                keys = keys_of(child.surface)
                fits = keys.startswith(typed) or typed.startswith(keys)
                weight = child.mass if fits else child.mass * DOUBTFUL
                heapq.heappush(heap, (-weight, child.ids, child, None))
        return mass

    def _likely(self, node: Node) -> Ints:
        """The likeliest next tokens, falling."""
        if node.likely is None:
            ids = _largest(node.next_token_mass, np.arange(len(node.next_token_mass)), LIKELY)
            node.likely = ids[np.argsort(-node.next_token_mass[ids], kind="stable")]
        return node.likely

    def _child(self, node: Node, token_id: int) -> Node:
        """A row with one token more."""
        child = node.children.get(token_id)
        if child is None:
            left = self._lexicon.tokens[node.ids[-1]] if node.ids else ""
            right = self._lexicon.tokens[token_id]
            surface = self._lexicon.detokenizer.join(node.surface, left, right)
            mass, fixed = float(node.next_token_mass[token_id]), self._lexicon.fixed(surface, right)
            child = node.children[token_id] = Node(
                (*node.ids, token_id), surface, mass, fixed, node
            )
        return child

    @torch.inference_mode()
    def _read(self, nodes: list[Node]) -> None:
        """Lets the model read the last tokens of rows, all at once."""
        if not nodes:
            return
        lexicon = self._lexicon
        self.num_read += len(nodes)
        states = [node.parent.state for node in nodes if node.parent and node.parent.state]
        state = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        ids = torch.tensor([node.ids[-1] for node in nodes], device=state[0].device)
        log_probs, state = self._model.step(ids, state)
        for row, (node, probs) in enumerate(zip(nodes, lexicon.probs(log_probs), strict=True)):
            blanks = lexicon.blanks(lexicon.tokens[node.ids[-1]])
            node.ends = node.mass * float(probs @ blanks)
            node.next_token_mass = node.mass * probs * (1 - blanks)
            node.state = tuple(part[row : row + 1] for part in state)


def _largest(values: Floats, ids: Ints, count: int) -> Ints:
    """Those of the ids whose values are largest and not 0, in any order."""
    if len(ids) > count:
        ids = ids[np.argpartition(values[ids], -count)[-count:]]
    return ids[values[ids] > 0]
