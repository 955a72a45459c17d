"""What the tokens of many texts cost, each beginning that texts share read once.

Hypotheses of an utterance differ in a few places. As a tree whose nodes are tokens behind different
beginnings they are about half as many (2026-11-21, 20 hypotheses of film reviews each); the tree is
read breadth first, all texts at once. Axes: B rows read at once, T time, H hidden, N nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.evaluation.token_scores import Nats
from korlm.models.base import LanguageModel
from korlm.models.neural import NeuralLM

Ints = npt.NDArray[np.int64]


ROWS = 4096  # hidden states kept before they are predicted from


@dataclass(frozen=True)
class Level:
    """The nodes at one depth, sorted by parent.

    Attributes:
        parents: (n,), their places in the level above; the root is 0.
        ids: (n,), their tokens.
    """

    parents: Ints
    ids: Ints

    def inner(self) -> tuple[Ints, Ints]:
        """Which nodes above have children, and for each node which of these is its parent."""
        is_first = np.diff(self.parents, prepend=-1) > 0
        return self.parents[is_first], np.cumsum(is_first) - 1


@dataclass(frozen=True)
class PrefixTree:
    """Texts as a tree of tokens, N nodes in all.

    Attributes:
        levels: from the first tokens on.
        node_of: (tokens,), the node of each token of each text; nodes are numbered level by level.
    """

    levels: list[Level]
    node_of: Ints

    @classmethod
    def of(cls, ids: Ints, lengths: Ints) -> PrefixTree:
        """Puts texts together.

        Args:
            ids: (tokens,) of all texts, one behind the other.
            lengths: (texts,), 1 or more each.
        """
        order = np.argsort(-lengths, kind="stable")
        begins, falling = (np.cumsum(lengths) - lengths)[order], -lengths[order]
        width = int(ids.max(initial=0)) + 1
        levels: list[Level] = []
        node_of, number = np.zeros_like(ids), 0
        above = np.zeros(len(lengths), dtype=np.int64)  # of each text, longest first
        for depth in range(int(lengths.max(initial=0))):
            alive = int(np.searchsorted(falling, -depth))  # texts longer than that
            at = begins[:alive] + depth
            keys, above = np.unique(above[:alive] * width + ids[at], return_inverse=True)
            levels.append(Level(keys // width, keys % width))
            node_of[at] = number + above
            number += len(keys)
        return cls(levels, node_of)


@torch.inference_mode()
def tree_nats(model: LanguageModel, tree: PrefixTree, start_id: int, device: torch.device) -> Nats:
    """-ln p of every node's token after what leads to it, (N,).

    Args:
        model: on the device.
        tree: of the texts.
        start_id: what the model is given before the first token.
        device: where to compute.
    """
    parts = _neural(model, tree, start_id, device) if isinstance(model, NeuralLM) else None
    found = torch.cat(list(parts or _plain(model, tree, start_id, device)))
    return found.cpu().double().numpy()


def _plain(
    model: LanguageModel, tree: PrefixTree, start_id: int, device: torch.device
) -> Iterator[Tensor]:
    """Level by level, by what all models can do: a row for each child, who share their state."""
    state, read = model.initial_state(1), torch.tensor([start_id], device=device)
    for level in tree.levels:
        parents, ids = (torch.from_numpy(part).to(device) for part in (level.parents, level.ids))
        before = tuple(part[parents] for part in state)
        nats, state = model.token_nll(read[parents, None], ids[:, None], before)
        read = ids
        yield nats[:, 0]


def _neural(
    model: NeuralLM, tree: PrefixTree, start_id: int, device: torch.device
) -> Iterator[Tensor]:
    """A row for each parent; what is read is one thing, what is predicted another.

    Reading goes level by level. Predictions, which cost more, wait for many rows at once.
    """
    state, read = model.initial_state(1), torch.tensor([start_id], device=device)
    vectors: list[Tensor] = []
    targets: list[Tensor] = []
    waiting = 0
    for depth, level in enumerate(tree.levels, 1):
        inner, parent = (torch.from_numpy(part).to(device) for part in level.inner())
        ids = torch.from_numpy(level.ids).to(device)
        before = tuple(part[inner] for part in state)
        hidden, after, matrix = model.hidden(read[inner, None], before)
        state, read = tuple(part[parent] for part in after), ids
        vectors.append(hidden[parent, 0])
        targets.append(ids)
        waiting += len(ids)
        if waiting >= ROWS or depth == len(tree.levels):
            yield model.output.token_nll(torch.cat(vectors), torch.cat(targets), matrix)
            vectors, targets, waiting = [], [], 0
