"""Search for the most probable eojeols that start with typed keys: best first, on a prefix tree.

The model generates tokens, the detokenizer spells them and predicts with probability b(t, t')
whether a space separates t and t'. The probability of an eojeol e after a context c is

    P(e | c) = sum over all t1..tn that spell e of
               p'(t1 | c) * prod_i p(t_i+1 | ..) (1 - b(t_i, t_i+1))
               * [p(<eos> | ..) + sum_v p(v | ..) b(tn, v)]

where p'(t1 | c) is p(t1 | c) b(last token of c, t1), without <eos> and normalized: the context ends
in a space, so an eojeol must follow. Tokens that cannot be displayed are excluded and the rest is
normalized. So the P(e | c) of all e sum to 1, those that start with the typed keys to P(typed | c).

The token sequences that spell the beginning of an eojeol form a tree (``Node``). Its frontier is a
heap ordered by the probability of all eojeols below a node:

    push the children of the root
    while the frontier is not empty and fewer than max_expansions nodes are expanded:
        pop up to BATCH_SIZE nodes that are compatible with the typed keys and more probable than
            the k-th best eojeol
        expand them: one model step for all nodes that no earlier search has expanded
        for each node:
            if its surface starts with the typed keys: results[surface] += P(eojeol ends here)
            push its children

Surfaces and typed text are compared as keystrokes (``korlm.text.keyboard``), because the typed text
may end in a partial syllable (먹ㅇ). A later token may change the end of a surface (돕+아 -> 도와):
only the keys that no token can change (``StablePrefix``) may exclude a node.

To spell a node takes longer than all else, so children are pushed by their probability alone, one
after the other, and spelled when they are popped.

Axes: V vocabulary, N nodes.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.dataset.vocab import EOS_ID
from korlm.detokenizers.base import Detokenizer
from korlm.generation.context import EncodedPrompt
from korlm.models.base import LanguageModel
from korlm.modules.state import State
from korlm.text.keyboard import keys_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BATCH_SIZE = 16  # a model step for 16 rows takes about twice as long as for one
# Children of a node that are tried:
MAX_CHILDREN = 64  # where every continuation is compatible with the typed keys
MAX_MATCHING = 48  # among the tokens that continue the typed keys
MAX_ALTERING = 16  # among the tokens that may alter the syllable before them
CACHED_PROBS = 1 << 24  # probabilities that an eojeol ends, kept for later nodes, 64 MB
CACHED_PREFIXES = 4096  # sequences of keys whose matching tokens are kept
UNCERTAIN_WEIGHT = 0.1  # of nodes that match the typed keys only if a later token alters them

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


@dataclass(eq=False)
class Node:
    """A token sequence that spells the beginning of an eojeol.

    Attributes:
        ids: the tokens.
        surface: their spelling.
        prob: the probability of all eojeols that start with these tokens.
        stable: the keys of the surface that no later token can change.
        parent: the node without the last token; None for the root.
        state: model state after the last token, each tensor (1, ...); None before expansion.
        end_prob: the probability that the eojeol ends here; known after expansion.
        child_probs: ``prob`` of each child, (V,); known after expansion.
        top_ids: the most probable next tokens in descending order; None: not computed yet.
        altering_ids: the most probable ones of those that may alter the last syllable; None: not
            computed yet.
    """

    ids: tuple[int, ...]
    surface: str
    prob: float
    stable: StablePrefix
    parent: Node | None
    state: State | None = None
    end_prob: float = 0.0
    child_probs: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    top_ids: Ints | None = None
    altering_ids: Ints | None = None


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


# Negative weight, tokens (unique, so the rest is not compared), parent, and the other siblings of a
# node that is not spelled yet; None: it is spelled and compatible.
_Entry = tuple[float, tuple[int, ...], Node, "Iterator[int] | None"]


@dataclass
class _Frontier:
    """State of one search.

    Attributes:
        typed: the typed keys.
        typed_probability: P(typed | c) of what the search has seen.
        heap: nodes to expand, and the most probable child of each expanded node that is left.
    """

    typed: str
    typed_probability: float
    heap: list[_Entry] = field(default_factory=list)

    def push_next(self, parent: Node, children: Iterator[int]) -> None:
        """Push the next child of an expanded node, if there is one."""
        if (token_id := next(children, None)) is not None:
            weight = float(parent.child_probs[token_id])
            heapq.heappush(self.heap, (-weight, (*parent.ids, token_id), parent, children))


@dataclass(frozen=True)
class SearchResult:
    """Eojeols found by a search.

    Attributes:
        eojeols: P(e | c) of each eojeol, and its most probable token sequence.
        typed_probability: P(typed | c), the probability of all eojeols that start as typed; without
            altered syllables where the search does not get to.
    """

    eojeols: dict[str, tuple[float, Node]]
    typed_probability: float


class EojeolSearch:
    """Search tree after one context; later searches reuse the nodes of earlier ones."""

    def __init__(self, model: LanguageModel, lexicon: Lexicon, context: EncodedPrompt) -> None:
        self._model, self._lexicon = model, lexicon
        first = lexicon.first_token_probs(
            context.last_token, lexicon.allowed_probs(context.log_probs)
        )
        self.root = Node(
            (), "", 1.0, StablePrefix("", None), None, context.state, child_probs=first
        )
        # Spelled nodes by their tokens. Nodes do not refer to their children: a tree without cycles
        # is freed at once, not by a garbage collection that takes longer than a keystroke.
        self._nodes: dict[tuple[int, ...], Node] = {}
        self.num_expanded = 0

    def search(self, typed: str, num_eojeols: int, max_expansions: int) -> SearchResult:
        """Return the most probable eojeols that start with the typed keys.

        The result does not depend on earlier searches.

        Args:
            typed: keys of the eojeol, may be empty.
            num_eojeols: k; the search ends when no node is more probable than the k-th eojeol.
            max_expansions: maximum number of nodes that this search expands, whether or not an
                earlier one has computed them.
        """
        eojeols: dict[str, tuple[float, Node]] = {}
        frontier = _Frontier(typed, 0.0 if typed else float(self.root.child_probs.any()))
        self._push_children(frontier, self.root)
        while max_expansions > 0:
            best = heapq.nlargest(num_eojeols, (p for p, _ in eojeols.values()))
            threshold = best[-1] if len(best) == num_eojeols else 0.0
            batch = self._pop_batch(frontier, min(BATCH_SIZE, max_expansions), threshold)
            if not batch:
                break
            max_expansions -= len(batch)
            self._expand([node for node in batch if node.state is None])
            for node in batch:
                matches = keys_of(node.surface).startswith(typed)
                if matches and node.surface and node.end_prob > 0:
                    prob, best_node = eojeols.get(node.surface, (0.0, node))
                    best_node = node if node.end_prob > best_node.end_prob else best_node
                    eojeols[node.surface] = prob + node.end_prob, best_node
                if matches and not node.stable.keys.startswith(typed):
                    frontier.typed_probability += node.end_prob
                self._push_children(frontier, node)
        return SearchResult(eojeols, frontier.typed_probability)

    def _pop_batch(self, frontier: _Frontier, size: int, threshold: float) -> list[Node]:
        """Pop up to ``size`` compatible nodes above the threshold in descending order of weight."""
        batch: list[Node] = []
        heap, typed = frontier.heap, frontier.typed
        while heap and len(batch) < size and -heap[0][0] > threshold:
            _, ids, parent, siblings = heapq.heappop(heap)
            node = self._node(parent, ids[-1])
            if siblings is not None:
                frontier.push_next(parent, siblings)
                if not parent.stable.keys.startswith(typed):
                    starts = node.stable.keys.startswith(typed)
                    starts_as_expected = self._is_expected(parent, ids[-1], typed)
                    frontier.typed_probability += node.prob * (starts - starts_as_expected)
                    if not node.stable.is_compatible(typed):
                        continue
                    keys = keys_of(node.surface)
                    if not (keys.startswith(typed) or typed.startswith(keys)):
                        entry = (-node.prob * UNCERTAIN_WEIGHT, ids, parent, None)
                        heapq.heappush(heap, entry)
                        continue
            batch.append(node)
        return batch

    def _push_children(self, frontier: _Frontier, node: Node) -> None:
        """Push the children of an expanded node that may be compatible with the typed keys.

        Adds to P(typed | c) those that start as typed if their tokens alter no syllable;
        ``_pop_batch`` corrects it for those that it pops.
        """
        typed = frontier.typed
        if node.stable.keys.startswith(typed):  # so do all children
            frontier.push_next(node, iter(self._top_ids(node).tolist()))
            return
        lexicon, keys = self._lexicon, keys_of(node.surface)
        if keys.startswith(typed):
            candidates = self._top_ids(node)
            frontier.typed_probability += float(node.child_probs.sum())
        elif typed.startswith(keys):
            rest = typed[len(keys) :]
            starting = lexicon.starting_with(rest)
            frontier.typed_probability += float(node.child_probs[starting].sum())
            matching = np.concatenate([starting, lexicon.prefixes_of(rest)])
            candidates = _top(node.child_probs, matching, MAX_MATCHING)
        else:  # a later token may drop the last syllable: 영화+이+다 -> 영화다
            candidates = self._top_ids(node)[:MAX_ALTERING]
        if node.altering_ids is None:
            node.altering_ids = _top(node.child_probs, lexicon.altering_ids, MAX_ALTERING)
        candidates = np.union1d(candidates, node.altering_ids)
        frontier.push_next(node, iter(_descending(node.child_probs, candidates).tolist()))

    def _is_expected(self, parent: Node, token_id: int, typed: str) -> bool:
        """Return whether a child starts as typed if its token alters no syllable."""
        keys = keys_of(parent.surface)
        if typed.startswith(keys):
            return self._lexicon.starts_with(token_id, typed[len(keys) :])
        return keys.startswith(typed)

    def _top_ids(self, node: Node) -> Ints:
        """Return the most probable next tokens of an expanded node in descending order."""
        if node.top_ids is None:
            node.top_ids = _descending(node.child_probs, _top(node.child_probs, None, MAX_CHILDREN))
        return node.top_ids

    def _node(self, parent: Node, token_id: int) -> Node:
        """Return the child of an expanded node, created at the first call."""
        ids = (*parent.ids, token_id)
        node = self._nodes.get(ids)
        if node is None:
            left = self._lexicon.tokens[parent.ids[-1]] if parent.ids else ""
            right = self._lexicon.tokens[token_id]
            surface = self._lexicon.detokenizer.join(parent.surface, left, right)
            stable = self._lexicon.stable_prefix(surface, right)
            prob = float(parent.child_probs[token_id])
            node = self._nodes[ids] = Node(ids, surface, prob, stable, parent)
        return node

    @torch.inference_mode()
    def _expand(self, nodes: list[Node]) -> None:
        """Run one model step for the last tokens of N nodes; fills in their probabilities."""
        if not nodes:
            return
        lexicon = self._lexicon
        self.num_expanded += len(nodes)
        states = [node.parent.state for node in nodes if node.parent and node.parent.state]
        state = tuple(torch.cat(tensors) for tensors in zip(*states, strict=True))
        ids = torch.tensor([node.ids[-1] for node in nodes], device=state[0].device)
        log_probs, state = self._model.step(ids, state)
        all_probs = lexicon.allowed_probs(log_probs)
        for row, (node, probs) in enumerate(zip(nodes, all_probs, strict=True)):
            end_probs = lexicon.end_probs(lexicon.tokens[node.ids[-1]])
            node.end_prob = node.prob * float(probs @ end_probs)
            node.child_probs = node.prob * probs * (1 - end_probs)
            node.state = tuple(tensor[row : row + 1] for tensor in state)


def _normalized(probs: npt.NDArray[np.float32]) -> Floats:
    """Return probabilities that sum to 1 over the last axis, or 0 if all of them are 0."""
    return np.asarray(probs / np.maximum(probs.sum(-1, keepdims=True), _TINY), np.float32)


def _top(values: Floats, ids: Ints | None, count: int) -> Ints:
    """Return the ids of the ``count`` largest values without zeros.

    Of equal values, those that come first in ``ids`` (None: all) are taken; none is negative.
    """
    candidates = values if ids is None else values[ids]
    kept = _largest(candidates, count)
    kept = kept[candidates[kept] > 0]
    return kept if ids is None else ids[kept]


def _largest(values: Floats, count: int) -> Ints:
    """Return the indices of the ``count`` largest values that are not negative, ascending."""
    if len(values) <= count:
        return np.arange(len(values))
    # At most 16 * count values exceed this limit; if count do, the others are not looked at again.
    large = np.flatnonzero(values > values.sum() / (16 * count))
    if count <= len(large) < len(values):
        return np.asarray(large[_largest(values[large], count)])
    limit = np.partition(values, -count)[-count]
    equal = np.flatnonzero(values == limit)
    above = np.flatnonzero(values > limit)
    return np.union1d(above, equal[: count - len(above)])


def _descending(values: Floats, ids: Ints) -> Ints:
    """Return ids in descending order of their values, equal ones in ascending order."""
    ids = np.sort(ids)
    return ids[np.argsort(-values[ids], kind="stable")]
