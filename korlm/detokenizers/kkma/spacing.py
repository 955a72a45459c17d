"""Where a blank stands: a logistic regression over hashed features of the two morphs beside it.

Six features of a pair: the two morphs, each alone, each with the other's class, both classes. What
was never seen falls back on the others by itself. Weights lie in one table that hashes index
(Weinberger et al. 2009); AdaGrad (Duchi et al. 2011) learns them in seconds. The class
of a morph is the tag that it has most often; of a rare one, that of rare morphs of its shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.detokenizers.kkma.training_data import AlignedTokens

BITS = 19  # of the table's index


MIN_COUNT = 2  # of a morph that has features of its own


EPOCHS, RATE, BATCH = 2, 0.3, 2048


Ints = npt.NDArray[np.int64]


Floats = npt.NDArray[np.float32]


def shape_of(morph: str) -> str:
    """What a morph looks like, by its first character.

    >>> [shape_of(m) for m in ("가", "ㅋ", "3", "KBS", "韓", "…")]
    ['syllable', 'letter', 'digit', 'latin', 'hanja', 'mark']
    """
    char = morph[:1]
    if "가" <= char <= "힣":
        return "syllable"
    if "ㄱ" <= char <= "ㆎ":
        return "letter"
    if char.isdigit():
        return "digit"
    if char.isascii() and char.isalpha():
        return "latin"
    return "hanja" if "一" <= char <= "鿿" else "mark"


SHAPES = ("syllable", "letter", "digit", "latin", "hanja", "mark")


@dataclass
class SpacingModel:
    """P(a blank stands between two morphs).

    Attributes:
        morphs: those that have features of their own.
        classes: of these, uint8; shape (len(morphs),).
        shapes: the class of other morphs, by the place of their shape in ``SHAPES``, uint8.
        weights: float16 or float32; shape (2 ** bits,).
    """

    morphs: list[str]
    classes: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.uint8]
    weights: npt.NDArray[Any]
    _ids: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ids = {morph: number for number, morph in enumerate(self.morphs)}

    def encode(self, morphs: Sequence[str]) -> tuple[Ints, Ints]:
        """The ids and the classes of morphs; those without features share an id."""
        rare = len(self.morphs)
        ids = np.fromiter((self._ids.get(m, rare) for m in morphs), np.int64, len(morphs))
        known = ids < rare
        classes = np.zeros(len(ids), np.int64)
        classes[known] = self.classes[ids[known]]
        for place in np.flatnonzero(~known).tolist():
            classes[place] = self.shapes[SHAPES.index(shape_of(morphs[place]))]
        return ids, classes

    def between(self, left: tuple[Ints, Ints], right: tuple[Ints, Ints]) -> Floats:
        """P(blank) of pairs that ``encode`` gave; one left may stand beside many rights."""
        index = _features(left, right, len(self.weights))
        logits = sum(self.weights[column].astype(np.float32) for column in index)
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    @classmethod
    def train(cls, samples: AlignedTokens) -> SpacingModel:
        """Learns from text; the same text gives the same weights."""
        ids, counts = samples.morph_ids, np.bincount(samples.morph_ids)
        table = np.zeros((len(samples.morphs), len(samples.tags)), np.int64)
        np.add.at(table, (ids, samples.tag_ids), 1)
        kept = np.flatnonzero(counts >= MIN_COUNT)
        shapes = np.zeros((len(SHAPES), len(samples.tags)), np.int64)
        for number in np.flatnonzero(counts < MIN_COUNT):
            shapes[SHAPES.index(shape_of(samples.morphs[number]))] += table[number]
        model = cls(
            [samples.morphs[number] for number in kept],
            table[kept].argmax(1).astype(np.uint8),
            shapes.argmax(1).astype(np.uint8),
            np.zeros(1 << BITS, np.float32),
        )
        own_ids, own_classes = model.encode(samples.morphs)
        inside = np.flatnonzero(np.diff(samples.line_ids) == 0)
        left, right = ids[inside], ids[inside + 1]
        index = np.stack(
            _features(
                (own_ids[left], own_classes[left]), (own_ids[right], own_classes[right]), 1 << BITS
            ),
            1,
        )
        blank = (np.diff(samples.word_ids)[inside] > 0).astype(np.float32)
        _descend(model.weights, index, blank)
        model.weights = model.weights.astype(np.float16)
        return model


def _descend(weights: Floats, index: Ints, blank: Floats) -> None:
    """AdaGrad on the log loss; changes the weights in place."""
    squares = np.full(len(weights), 1e-2, np.float32)
    random = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = random.permutation(len(blank))
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            rows = index[batch]
            p = 1 / (1 + np.exp(-weights[rows].sum(1)))
            gradient = np.repeat(p - blank[batch], rows.shape[1]).astype(np.float32)
            flat = rows.ravel()
            np.add.at(squares, flat, gradient * gradient)
            np.subtract.at(weights, flat, RATE * gradient / np.sqrt(squares[flat]))


def _features(left: tuple[Ints, Ints], right: tuple[Ints, Ints], size: int) -> list[Ints]:
    """The places of the six features of each pair in a table of this size, a power of two."""
    (left_ids, left_classes), (right_ids, right_classes) = left, right
    pairs = [
        (left_classes, right_classes),
        (left_ids, right_classes),
        (left_classes, right_ids),
        (left_ids, right_ids),
        (left_ids, np.zeros(1, np.int64)),
        (np.zeros(1, np.int64), right_ids),
    ]
    count = max(len(left_ids), len(right_ids))
    return [np.broadcast_to(_hash(n, *pair, size), (count,)) for n, pair in enumerate(pairs)]


def _hash(kind: int, left: Ints, right: Ints, size: int) -> Ints:
    """A mixture of two numbers after splitmix64 (Steele et al. 2014), as a place in the table."""
    mixed = np.full(1, kind, np.uint64)
    for column in (left, right):
        mixed = (mixed ^ (column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))) * np.uint64(
            0xBF58476D1CE4E5B9
        )
        mixed = mixed ^ (mixed >> np.uint64(29))
    return (mixed & np.uint64(size - 1)).astype(np.int64)
