"""Detokenize Kkma's morphs: rules and a decision list spell eojeols, a model inserts spaces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.kkma.decision_list import LITERAL, Join, choose_operation
from korlm.detokenizers.kkma.rules import max_cut
from korlm.detokenizers.kkma.spacing import SHAPES, FollowingMorphs, SpacingModel
from korlm.utils.errors import PreparedError, output_errors, reading
from korlm.utils.io.arrays import read_arrays
from korlm.utils.io.atomic_files import atomic_write

FILE = "recomposition.npz"
FORMAT = 1


def untrained_spacing() -> SpacingModel:
    """Return a model that predicts every space with probability 0.5."""
    empty = np.zeros(0, np.uint8)
    return SpacingModel([], empty, np.zeros(len(SHAPES), np.uint8), np.zeros(1, np.float16))


class KkmaDetokenizer(Detokenizer):
    """Converts Kkma's morphs to text.

    Args:
        decisions: the decision list, key of a context -> name of an operation.
        spacing: model that predicts spaces.

    >>> detokenizer = KkmaDetokenizer({}, untrained_spacing())
    >>> detokenizer.detokenize(["물", "이", "크", "었", "다"], eojeol=[0, 0, 1, 1, 1])
    '물이 컸다'
    """

    joins_morphemes = True

    def __init__(self, decisions: dict[str, str], spacing: SpacingModel) -> None:
        self.decisions, self.spacing = decisions, spacing
        super().__init__()
        # Last character of OLD -> all OLD of the literal operations.
        self._literals: dict[str, set[str]] = {}
        for name in decisions.values():
            if name.startswith(LITERAL) and (old := name[1:].partition(">")[0]):
                self._literals.setdefault(old[-1], set()).add(old)

    def _detokenize_line(
        self, tokens: list[str], tags: list[str] | None, eojeol: list[int] | None
    ) -> str:
        if eojeol is None:
            ids, classes = self.spacing.encode(tokens)
            probs = self.spacing.predict((ids[:-1], classes[:-1]), (ids[1:], classes[1:]))
            is_space = [False, *(probs > 0.5).tolist()]
        else:
            is_space = [i > 0 and eojeol[i] != eojeol[i - 1] for i in range(len(eojeol))]
        eojeols: list[str] = []
        surface = left = left_tag = ""
        for index, right in enumerate(tokens):
            if is_space[index]:
                eojeols.append(surface)
                surface = left = left_tag = ""
            tag = tags[index] if tags else ""
            surface = self._apply(Join(surface, left, right, left_tag, tag))
            left, left_tag = right, tag
        return " ".join([*eojeols, surface])

    def _join(self, surface: str, left: str, right: str) -> str:
        return self._apply(Join(surface, left, right))

    def _apply(self, join: Join) -> str:
        return choose_operation(self.decisions, join).apply(join.surface)

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.spacing.predict(self.spacing.encode([left]), self.spacing.encode(rights))

    def set_vocab(self, tokens: Sequence[str]) -> None:
        """Set the vocabulary of ``space_probabilities``: V tokens in the order of their ids."""
        super().set_vocab(tokens)
        self._following = FollowingMorphs(self.spacing, self._vocab)

    def _vocab_space_probs(self, left: str) -> npt.NDArray[np.float32]:
        return self._following.predict(left)

    def num_unstable_chars(self, surface: str, left: str) -> int:
        """Return how many last characters the rules or a literal operation may still change."""
        literals = self._literals.get(surface[-1:], ())
        longest = max((len(old) for old in literals if surface.endswith(old)), default=0)
        return max(longest, max_cut(surface, left))

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            OutputError: the file cannot be written.
        """
        arrays = {
            "format": np.array([FORMAT]),
            "decisions": _to_array(json.dumps(self.decisions, ensure_ascii=False)),
            "morphs": _to_array(json.dumps(self.spacing.morphs, ensure_ascii=False)),
            "classes": self.spacing.classes,
            "shapes": self.spacing.shapes,
            "weights": self.spacing.weights,
        }
        with output_errors(path), atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> KkmaDetokenizer:
        """Read a file written by ``save``.

        Raises:
            PreparedError: the file is missing or damaged.
        """
        advice = "delete it, then korlm.train or korlm.prepare with the same text creates it again"
        with reading(path, PreparedError, advice):
            arrays = read_arrays(path)
            if arrays["format"].tolist() != [FORMAT]:
                raise ValueError(f"format {arrays['format'].tolist()}, not {FORMAT}")
            decisions = json.loads(arrays["decisions"].tobytes())
            morphs = json.loads(arrays["morphs"].tobytes())
            classes, shapes, weights = (arrays[n] for n in ("classes", "shapes", "weights"))
            _validate(decisions, morphs, classes, shapes, weights)
        return cls(decisions, SpacingModel(morphs, classes, shapes, weights))


def _to_array(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _validate(
    decisions: object,
    morphs: object,
    classes: npt.NDArray[np.uint8],
    shapes: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.float16],
) -> None:
    """Raise ValueError if types or shapes of the arrays do not match."""
    if not isinstance(decisions, dict) or not isinstance(morphs, list):
        raise ValueError("decisions must be a mapping and morphs a list")
    if not all(isinstance(name, str) for name in [*decisions.values(), *morphs]):
        raise ValueError("decisions and morphs must be strings")
    is_power_of_two = weights.size > 0 and weights.size & (weights.size - 1) == 0
    for array, dtype, shape in (
        (classes, np.uint8, (len(morphs),)),
        (shapes, np.uint8, (len(SHAPES),)),
        (weights, np.float16, (weights.size,)),
    ):
        if array.dtype != dtype or array.shape != shape:
            raise ValueError("its arrays do not fit together")
    if not is_power_of_two or not np.isfinite(weights).all():
        raise ValueError("invalid weights")
