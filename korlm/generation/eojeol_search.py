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

Surfaces and typed text are compared as keystrokes; only the keys of a surface that no later token
can change may exclude a node (see ``korlm.generation.lexicon``).

To spell a node takes longer than all else, so children are pushed by their probability alone, one
after the other, and spelled when they are popped.

Axes: V vocabulary, N nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from korlm.generation.lexicon import Floats, Ints, Lexicon, StablePrefix
from korlm.generation.prompts import EncodedPrompt
from korlm.models.base import LanguageModel
from korlm.modules.base import State
from korlm.text.hangul import keys_of

BATCH_SIZE = 16  # a model step for 16 rows takes about twice as long as for one
# Children of a node that are tried:
MAX_CHILDREN = 64  # where every continuation is compatible with the typed keys
MAX_MATCHING = 48  # among the tokens that continue the typed keys
MAX_ALTERING = 16  # among the tokens that may alter the syllable before them
UNCERTAIN_WEIGHT = 0.1  # of nodes that match the typed keys only if a later token alters them


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


# Negative weight, tokens (unique, so the rest is not compared), parent, and the other siblings of a
# node that is not spelled yet; None: it is spelled and compatible.
_Entry = tuple[float, tuple[int, ...], Node, "Iterator[int] | None"]


@dataclass
class _Frontier:
    """State of one search.

    Attributes:
        typed: the typed keys.
        typed_probability: P(typed | c) of what the search has seen; a difference of sums in double
            precision, so that even those of tiny probability have correct digits.
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
        typed_probability: P(typed | c), the probability of all eojeols that start as typed, at
            least that of those found; for nodes that the search has not reached, as if no syllable
            were altered.
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

        The result does not depend on earlier searches, but for rounding.

        Args:
            typed: keys of the eojeol, may be empty.
            num_eojeols: k, 1 or more; the search ends when no node is more probable than the k-th
                eojeol.
            max_expansions: maximum number of nodes that this search expands, whether or not an
                earlier one has computed them.
        """
        eojeols: dict[str, tuple[float, Node]] = {}
        # Nothing typed: 1 if any eojeol is possible; all of them start as typed.
        frontier = _Frontier(typed, 0.0 if typed else float(self.root.child_probs.any()))
        self._push_children(frontier, self.root)
        while max_expansions > 0:
            top_probs = heapq.nlargest(num_eojeols, (p for p, _ in eojeols.values()))
            threshold = top_probs[-1] if len(top_probs) == num_eojeols else 0.0
            batch = self._pop_batch(frontier, min(BATCH_SIZE, max_expansions), threshold)
            if not batch:
                break
            max_expansions -= len(batch)
            self._expand([node for node in batch if node.state is None])
            for node in batch:
                matches = keys_of(node.surface).startswith(typed)
                if matches and node.surface and node.end_prob > 0:
                    prob, top_node = eojeols.get(node.surface, (0.0, node))
                    top_node = node if node.end_prob > top_node.end_prob else top_node
                    eojeols[node.surface] = prob + node.end_prob, top_node
                if matches and not node.stable.keys.startswith(typed):
                    frontier.typed_probability += node.end_prob
                self._push_children(frontier, node)
        found = sum(prob for prob, _ in eojeols.values())
        return SearchResult(eojeols, max(frontier.typed_probability, found))

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
                    surely_starts = node.stable.keys.startswith(typed)
                    was_counted = self._starts_if_unaltered(parent, ids[-1], typed)
                    change = int(surely_starts) - int(was_counted)
                    frontier.typed_probability += node.prob * change
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
            frontier.typed_probability += float(node.child_probs.sum(dtype=np.float64))
        elif typed.startswith(keys):
            rest = typed[len(keys) :]
            starting = lexicon.starting_with(rest)
            frontier.typed_probability += float(node.child_probs[starting].sum(dtype=np.float64))
            matching = np.concatenate([starting, lexicon.prefixes_of(rest)])
            candidates = _top(node.child_probs, matching, MAX_MATCHING)
        else:  # a later token may drop the last syllable: 영화+이+다 -> 영화다
            candidates = self._top_ids(node)[:MAX_ALTERING]
        if node.altering_ids is None:
            node.altering_ids = _top(node.child_probs, lexicon.altering_ids, MAX_ALTERING)
        candidates = np.union1d(candidates, node.altering_ids)
        frontier.push_next(node, iter(_descending(node.child_probs, candidates).tolist()))

    def _starts_if_unaltered(self, parent: Node, token_id: int, typed: str) -> bool:
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
