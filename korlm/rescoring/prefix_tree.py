"""Score many texts, and compute common prefixes once.

The hypotheses of an utterance differ in a few places: as a prefix tree they have about half as many
tokens (20 hypotheses of film reviews each, measured 2026-11-21). All trees are processed together,
breadth first.

Axes: M texts, L tokens of all texts, N nodes, n nodes of one level, H hidden units.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from korlm.evaluation.token_scores import Floats, Ints
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM
from korlm.modules.base import State

SOFTMAX_ROWS = 4096  # hidden states collected before a softmax


@dataclass(frozen=True)
class TreeLevel:
    """Nodes of one depth, sorted by parent.

    Attributes:
        parents: (n,), index of the parent in the level above, of the root in the first level.
        ids: (n,), token ids.
    """

    parents: Ints
    ids: Ints

    def inner(self) -> tuple[Ints, Ints]:
        """Return indices of inner nodes one level up, and each node's parent among these.

        Returns:
            The nodes of the level above that have children, (inner,); for each node of this level
            the position of its parent in that array, (n,).
        """
        is_first = np.diff(self.parents, prepend=-1) > 0
        return self.parents[is_first], np.cumsum(is_first) - 1


@dataclass(frozen=True)
class PrefixTree:
    """Texts as a tree of tokens, or as several trees if their contexts differ.

    Attributes:
        levels: from the first tokens on.
        node_of: (L,), the node of each token; nodes are numbered level by level.
    """

    levels: list[TreeLevel]
    node_of: Ints

    @classmethod
    def build(cls, ids: Ints, lengths: Ints, roots: Ints | None = None) -> PrefixTree:
        """Build the tree of some texts.

        Args:
            ids: (L,), concatenated texts.
            lengths: (M,), 1 or more each.
            roots: (M,), number of the context of each text, all from 0 on; None: one context.
        """
        order = np.argsort(-lengths, kind="stable")
        starts, negative_lengths = (np.cumsum(lengths) - lengths)[order], -lengths[order]
        num_ids = int(ids.max(initial=0)) + 1
        levels: list[TreeLevel] = []
        node_of, num_nodes = np.zeros_like(ids), 0
        # Of each text, longest first.
        parents = np.zeros(len(lengths), dtype=np.int64) if roots is None else roots[order]
        for depth in range(int(lengths.max(initial=0))):
            num_longer = int(np.searchsorted(negative_lengths, -depth))  # texts with more tokens
            tokens = starts[:num_longer] + depth
            keys = parents[:num_longer] * num_ids + ids[tokens]
            keys, parents = np.unique(keys, return_inverse=True)
            levels.append(TreeLevel(keys // num_ids, keys % num_ids))
            node_of[tokens] = num_nodes + parents
            num_nodes += len(keys)
        return cls(levels, node_of)


@torch.inference_mode()
def tree_nats(
    model: LanguageModel, tree: PrefixTree, start_id: int, state: State | None = None
) -> Floats:
    """Return -ln p of every node's token given its prefix, (N,).

    ``state`` has a row for each root; None: one root with the initial state.
    """
    state = model.initial_state(1) if state is None else state
    starts = torch.full((len(state[0]),), start_id, device=state[0].device)
    if isinstance(model, NeuralLM):
        parts = _score_neural(model, tree, starts, state)
    else:
        parts = _score_any(model, tree, starts, state)
    return torch.cat(list(parts)).cpu().double().numpy()


def _score_any(
    model: LanguageModel, tree: PrefixTree, previous: Tensor, state: State
) -> Iterator[Tensor]:
    """Score level by level with one row per node; siblings repeat the forward pass."""
    device = previous.device
    for level in tree.levels:
        parents, ids = (torch.from_numpy(part).to(device) for part in (level.parents, level.ids))
        parent_state = tuple(part[parents] for part in state)
        nats, state = model.token_nll(previous[parents, None], ids[:, None], parent_state)
        previous = ids
        yield nats[:, 0]


def _score_neural(
    model: NeuralLM, tree: PrefixTree, previous: Tensor, state: State
) -> Iterator[Tensor]:
    """Score with one forward pass per inner node; the softmax waits for many hidden states."""
    device = previous.device
    hidden_parts: list[Tensor] = []
    targets: list[Tensor] = []
    num_pending = 0
    for depth, level in enumerate(tree.levels, 1):
        inner, parent = (torch.from_numpy(part).to(device) for part in level.inner())
        ids = torch.from_numpy(level.ids).to(device)
        parent_state = tuple(part[inner] for part in state)
        _, hidden, new_state, output_weight = model.encode(previous[inner, None], parent_state)
        state, previous = tuple(part[parent] for part in new_state), ids
        hidden_parts.append(hidden[parent, 0])
        targets.append(ids)
        num_pending += len(ids)
        if num_pending >= SOFTMAX_ROWS or depth == len(tree.levels):
            yield model.output.token_nll(torch.cat(hidden_parts), torch.cat(targets), output_weight)
            hidden_parts, targets, num_pending = [], [], 0
