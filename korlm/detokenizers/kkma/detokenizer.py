"""The recomposer of Kkma's morphs: rules, a decision list among them, a model of blanks."""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korlm.dataset.vocab import EOS
from korlm.detokenizers.base import Detokenizer, breaks
from korlm.detokenizers.kkma.decision_list import LITERAL, Join, decide
from korlm.detokenizers.kkma.rules import reach
from korlm.detokenizers.kkma.spacing import SHAPES, SpacingModel
from korlm.utils.errors import PreparedError, output_errors
from korlm.utils.io.arrays import read_arrays
from korlm.utils.io.atomic_files import atomic_write

FILE = "recomposition.npz"


FORMAT = 1


_CACHED = 256  # morphs whose boundaries with the whole vocabulary are kept


def untrained_spacing() -> SpacingModel:
    """A model that never saw text: blanks are as likely as not."""
    none = np.zeros(0, np.uint8)
    return SpacingModel([], none, np.zeros(len(SHAPES), np.uint8), np.zeros(1, np.float16))


class KkmaDetokenizer(Detokenizer):
    """Kkma's morphs -> text.

    Args:
        decisions: which way of joining it is, by context (``decision_list.py``).
        blanks: where blanks stand.

    >>> detokenizer = KkmaDetokenizer({}, untrained_spacing())
    >>> detokenizer.compose(["물", "이", "맑", "고", "크", "었", "다"], None, [0, 0, 1, 1, 2, 2, 2])
    '물이 맑고 컸다'
    """

    def __init__(self, decisions: dict[str, str], blanks: SpacingModel) -> None:
        super().__init__()
        self.decisions, self.blanks = decisions, blanks
        self._olds: dict[str, set[str]] = {}
        for name in decisions.values():
            if name.startswith(LITERAL) and (old := name[1:].partition(">")[0]):
                self._olds.setdefault(old[-1], set()).add(old)
        self._cache: OrderedDict[str, npt.NDArray[np.float32]] = OrderedDict()
        self._encoded = blanks.encode([])
        self._ends = np.zeros(0, bool)

    def _line(self, morphs: list[str], tags: list[str] | None, eojeol: list[int] | None) -> str:
        blank = self._guessed(morphs) if eojeol is None else list(breaks(eojeol))
        words: list[str] = []
        surface = left = left_tag = ""
        for index, right in enumerate(morphs):
            if blank[index]:
                words.append(surface)
                surface = left = left_tag = ""
            tag = tags[index] if tags else ""
            surface = self._add(Join(surface, left, right, left_tag, tag))
            left, left_tag = right, tag
        return " ".join([*words, surface])

    def _guessed(self, morphs: list[str]) -> list[bool]:
        ids, classes = self.blanks.encode(morphs)
        inner = self.blanks.between((ids[:-1], classes[:-1]), (ids[1:], classes[1:])) > 0.5
        return [False, *inner.tolist()]

    def _join(self, surface: str, left: str, right: str) -> str:
        return self._add(Join(surface, left, right))

    def _add(self, join: Join) -> str:
        return decide(self.decisions, join).on(join.surface)

    def _blanks(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return self.blanks.between(self.blanks.encode([left]), self.blanks.encode(rights))

    def over(self, tokens: Sequence[str]) -> None:
        """Names the vocabulary for ``boundaries``; its V tokens in the order of their ids."""
        super().over(tokens)
        self._encoded = self.blanks.encode(self._vocab)
        self._ends = np.array([token == EOS for token in self._vocab], bool)
        self._cache.clear()

    def boundaries(self, left: str) -> npt.NDArray[np.float32]:
        """As the contract says; what it gives is kept for a while and must not be changed."""
        if left in ("", EOS):
            return super().boundaries(left)
        if left not in self._cache:
            found = self.blanks.between(self.blanks.encode([left]), self._encoded)
            found[self._ends] = 0
            self._cache[left] = found
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(left)
        return self._cache[left]

    def num_unstable_chars(self, surface: str, left: str) -> int:
        """What the rules and the literal operations of the decision list may still change."""
        olds = self._olds.get(surface[-1:], ())
        literal = max((len(old) for old in olds if surface.endswith(old)), default=0)
        return max(literal, reach(surface, left))

    def save(self, path: Path) -> None:
        """Writes the file, whole or not at all."""
        arrays = {
            "format": np.array([FORMAT]),
            "decisions": _bytes(json.dumps(self.decisions, ensure_ascii=False)),
            "morphs": _bytes(json.dumps(self.blanks.morphs, ensure_ascii=False)),
            "classes": self.blanks.classes,
            "shapes": self.blanks.shapes,
            "weights": self.blanks.weights,
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        with output_errors(path), atomic_write(path) as temporary:
            temporary.write_bytes(buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> KkmaDetokenizer:
        """Reads what ``save`` wrote.

        Raises:
            PreparedError: the file is missing or damaged.
        """
        try:
            arrays = read_arrays(path)
            if arrays["format"].tolist() != [FORMAT]:
                raise ValueError(f"format {arrays['format'].tolist()}, not {FORMAT}")
            decisions = json.loads(arrays["decisions"].tobytes())
            morphs = json.loads(arrays["morphs"].tobytes())
            classes, shapes, weights = (arrays[n] for n in ("classes", "shapes", "weights"))
            _check(decisions, morphs, classes, shapes, weights)
        except (OSError, ValueError, LookupError, RecursionError) as error:
            raise PreparedError(
                f"{path}: missing or damaged ({error}); delete it, and the next korlm.train or "
                "korlm.prepare over its text makes it again"
            ) from error
        return cls(decisions, SpacingModel(morphs, classes, shapes, weights))


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


def _check(
    decisions: object,
    morphs: object,
    classes: npt.NDArray[np.uint8],
    shapes: npt.NDArray[np.uint8],
    weights: npt.NDArray[np.float16],
) -> None:
    """Refuses arrays that do not fit together."""
    if not isinstance(decisions, dict) or not isinstance(morphs, list):
        raise ValueError("decisions and morphs are no mapping and no list")
    if not all(isinstance(name, str) for name in [*decisions.values(), *morphs]):
        raise ValueError("decisions and morphs must be strings")
    size = weights.size
    if (
        classes.shape != (len(morphs),)
        or shapes.shape != (len(SHAPES),)
        or weights.shape != (size,)
        or size == 0
        or size & (size - 1)
        or classes.dtype != np.uint8
        or shapes.dtype != np.uint8
        or weights.dtype != np.float16
        or not np.isfinite(weights).all()
    ):
        raise ValueError("its arrays do not fit together")
