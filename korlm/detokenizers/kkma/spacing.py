"""Predict spaces by logistic regression over hashed features of two adjacent morphs.

A pair has six features: each morph alone, both morphs, each morph with the class of the other, and
both classes. For unseen pairs the coarser features decide. Weights are in one table indexed by hash
(Weinberger et al. 2009) and trained by AdaGrad (Duchi et al. 2011) in seconds. The class of a morph
is its most frequent tag; the class of a rare morph is the most frequent tag of all rare morphs of
the same shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from korlm.detokenizers.kkma.training_data import AlignedTokens

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Hashable = npt.NDArray[np.uint64]  # result of ``_hashable``

HASH_BITS = 19  # the table has 2 ** HASH_BITS weights
MIN_COUNT = 2  # smallest count of a morph that is not rare
EPOCHS, LEARNING_RATE, BATCH_SIZE = 2, 0.3, 2048
_NONE = np.zeros(1, np.int64)  # beside a feature of one morph alone
SHAPES = ("syllable", "letter", "digit", "latin", "hanja", "mark")


def shape_of(morph: str) -> str:
    """Return the shape of a morph, by its first character.

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


@dataclass
class SpacingModel:
    """P(space) between two morphs.

    Attributes:
        morphs: the morphs that are not rare.
        classes: class of each of these morphs, uint8 (len(morphs),).
        shapes: class of rare morphs of each shape, uint8 (len(SHAPES),).
        weights: table of weights, float16 or float32; its size is a power of two.
    """

    morphs: list[str]
    classes: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.uint8]
    weights: npt.NDArray[Any]
    _ids: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._ids = {morph: number for number, morph in enumerate(self.morphs)}

    def encode(self, morphs: Sequence[str]) -> tuple[Ints, Ints]:
        """Return the ids and the classes of N morphs, (N,) each; all rare morphs have one id."""
        rare_id = len(self.morphs)
        ids = np.fromiter((self._ids.get(m, rare_id) for m in morphs), np.int64, len(morphs))
        is_rare = ids == rare_id
        classes = np.zeros(len(ids), np.int64)
        classes[~is_rare] = self.classes[ids[~is_rare]]
        for index in np.flatnonzero(is_rare).tolist():
            classes[index] = self.shapes[SHAPES.index(shape_of(morphs[index]))]
        return ids, classes

    def predict(self, left: tuple[Ints, Ints], right: tuple[Ints, Ints]) -> Floats:
        """Return P(space) between pairs of morphs, (N,), float32.

        ``left`` and ``right`` are results of ``encode`` for N morphs, or for one that all pairs
        have.
        """
        indices = _feature_indices(left, right, len(self.weights))
        logits = sum(self.weights[column].astype(np.float32) for column in indices)
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    @classmethod
    def train(cls, tokens: AlignedTokens) -> SpacingModel:
        """Train on tokens with their eojeols; the same tokens give the same model."""
        ids, counts = tokens.morph_ids, np.bincount(tokens.morph_ids)
        tag_counts = np.zeros((len(tokens.morphs), len(tokens.tags)), np.int64)
        np.add.at(tag_counts, (ids, tokens.tag_ids), 1)
        kept = np.flatnonzero(counts >= MIN_COUNT)
        shape_counts = np.zeros((len(SHAPES), len(tokens.tags)), np.int64)
        for morph_id in np.flatnonzero(counts < MIN_COUNT):
            shape_counts[SHAPES.index(shape_of(tokens.morphs[morph_id]))] += tag_counts[morph_id]
        model = cls(
            [tokens.morphs[morph_id] for morph_id in kept],
            tag_counts[kept].argmax(1).astype(np.uint8),
            shape_counts.argmax(1).astype(np.uint8),
            np.zeros(1 << HASH_BITS, np.float32),
        )
        feature_ids, classes = model.encode(tokens.morphs)
        within_line = np.flatnonzero(np.diff(tokens.line_ids) == 0)
        left, right = ids[within_line], ids[within_line + 1]
        encoded_left = feature_ids[left], classes[left]
        encoded_right = feature_ids[right], classes[right]
        indices = np.stack(_feature_indices(encoded_left, encoded_right, 1 << HASH_BITS), 1)
        is_space = (np.diff(tokens.eojeol_ids)[within_line] > 0).astype(np.float32)
        _train_adagrad(model.weights, indices, is_space)
        model.weights = model.weights.astype(np.float16)
        return model


def _train_adagrad(weights: Floats, indices: Ints, is_space: Floats) -> None:
    """Minimize the log loss by updating ``weights`` in place.

    ``indices`` (N, 6) are those of the features of N pairs; ``is_space`` (N,) is 1 or 0.
    """
    squares = np.full(len(weights), 1e-2, np.float32)
    random = np.random.default_rng(0)
    for _ in range(EPOCHS):
        order = random.permutation(len(is_space))
        for start in range(0, len(order), BATCH_SIZE):
            batch = order[start : start + BATCH_SIZE]
            rows = indices[batch]
            p = 1 / (1 + np.exp(-weights[rows].sum(1)))
            gradient = np.repeat(p - is_space[batch], rows.shape[1]).astype(np.float32)
            flat = rows.ravel()
            np.add.at(squares, flat, gradient * gradient)
            np.subtract.at(weights, flat, LEARNING_RATE * gradient / np.sqrt(squares[flat]))


class FollowingMorphs:
    """P(space) between one morph and each of a fixed list of R morphs that may follow it.

    Equal to ``SpacingModel.predict``, in a fraction of the time: what depends on the list alone is
    computed once, and what depends on classes for each class.
    """

    def __init__(self, model: SpacingModel, morphs: Sequence[str]) -> None:
        self._model = model
        self._weights = model.weights.astype(np.float32)
        ids, classes = model.encode(morphs)
        classes, self._class_of = np.unique(classes, return_inverse=True)
        self._ids, self._classes, self._none = map(_hashable, (ids, classes, _NONE))
        self._alone = self._weights_of(5, self._none, self._ids)
        self._of_class = lru_cache(maxsize=None)(self._weights_of_class)

    def predict(self, left: str) -> Floats:
        """Return P(space) between a morph and each of the list, (R,)."""
        left_id, left_class = map(_hashable, self._model.encode([left]))
        # The features in the order of SpacingModel.predict, so that sums are equal.
        by_class = self._weights_of(0, left_class, self._classes)
        by_class = by_class + self._weights_of(1, left_id, self._classes)
        logits = by_class[self._class_of]
        logits += self._of_class(left_class.item())
        logits += self._weights_of(3, left_id, self._ids)
        logits += self._weights_of(4, left_id, self._none)
        logits += self._alone
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    def _weights_of_class(self, left_class: int) -> Floats:
        return self._weights_of(2, np.array([left_class], np.uint64), self._ids)

    def _weights_of(self, feature: int, left: Hashable, right: Hashable) -> Floats:
        return self._weights[_hash(feature, left, right, len(self._weights))]


def _feature_indices(
    left: tuple[Ints, Ints], right: tuple[Ints, Ints], table_size: int
) -> list[Ints]:
    """Return the table indices of the N pairs for each of the six features, six arrays (N,)."""
    (left_ids, left_classes), (right_ids, right_classes) = left, right
    pairs = [
        (left_classes, right_classes),
        (left_ids, right_classes),
        (left_classes, right_ids),
        (left_ids, right_ids),
        (left_ids, _NONE),
        (_NONE, right_ids),
    ]
    indices = [_hash(n, _hashable(a), _hashable(b), table_size) for n, (a, b) in enumerate(pairs)]
    count = max(len(left_ids), len(right_ids))
    return [np.broadcast_to(column, (count,)) for column in indices]


def _hashable(ids: Ints) -> Hashable:
    return ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)


def _hash(feature: int, left: Hashable, right: Hashable, table_size: int) -> Ints:
    """Return table indices, given ``_hashable`` ids.

    Mixes by multiplication and shift, with constants of splitmix64 (Steele et al. 2014). Weights
    are stored by index: another function would make stored models useless.
    """
    mixed = np.full(1, feature, np.uint64)
    for column in (left, right):
        mixed = (mixed ^ column) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return (mixed & np.uint64(table_size - 1)).view(np.int64)
