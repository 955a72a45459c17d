"""Predictions of a tagger: labeled parts of lines, and lines with spaces.

Axes: B batch, T tokens, U units, L labels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from korlm.config import TaggingConfig, TagLabels, TagUnits
from korlm.dataset.example_batches import pad, padded_batches
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.text_encoder import EncodedText
from korlm.tasks.base import Predictor
from korlm.tasks.morpheme_tags import MorphemeTags
from korlm.tasks.tag_examples import SPACED, TaggedLine, lines_of, may_need_space, without_blanks
from korlm.tasks.tagger import Tagger, compressed
from korlm.text.label_schemes import LabeledSpan, parse_label, spans_of
from korlm.utils.torch_backend import tf32

_FORCED = 1e4  # added to the score of a label that is known


class _Scored(NamedTuple):
    """Indices of B sequences, bool (B, T), and what ``Tagger.forward`` returns for them."""

    rows: list[int]
    is_unit: Tensor
    scores: Tensor
    counts: Tensor


def _score(
    model: Tagger,
    device: torch.device,
    sequences: Sequence[Ids],
    is_unit: Sequence[npt.NDArray[np.bool_]],
) -> Iterator[_Scored]:
    """Yield the scores of the labels of sequences of any number and length.

    ``is_unit`` is True at the last token of each unit, each (T,) with one or more True.
    """
    for rows, inputs, lengths in padded_batches(sequences):
        mask = pad([is_unit[row] for row in rows], 0)[0].bool().to(device)
        yield _Scored(rows.tolist(), mask, *model(inputs.to(device), lengths, mask))


def _ids_of(lines: EncodedText) -> list[Ids]:
    """Return the ids of each line that is not blank."""
    return [ids for ids in lines.lines() if len(ids)]


class TagPredictor(Predictor):
    """Predicts the labeled parts of a line, with character offsets into the line as given.

    The probability of a part is that of its label, or that a span has these bounds and this type.
    """

    def __init__(
        self,
        config: TaggingConfig,
        labels: Sequence[str],
        model: Tagger,
        device: torch.device,
    ) -> None:
        self.config, self.labels = config, labels
        self._morpheme_tags = MorphemeTags() if config.kkma_dim else None
        self._model, self._device = model, device
        part = [("begin", pa.int64()), ("end", pa.int64())]
        part += [("label", pa.string()), ("text", pa.string()), ("probability", pa.float64())]
        self.schema = pa.schema([("labels", pa.list_(pa.struct(part)))])

    @torch.inference_mode()
    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        parsed = list(lines_of(lines.table, _ids_of(lines), self.config.units, self._morpheme_tags))
        result: list[dict[str, Any]] = [{"labels": []} for _ in parsed]
        used = [(n, line) for n, line in enumerate(parsed) if line is not None and line.units]
        inputs = [line.ids for _, line in used], [line.is_unit for _, line in used]
        find = self._spans if self.config.labels is TagLabels.spans else self._tags
        with tf32(False):
            for scored in _score(self._model, self._device, *inputs):
                best = self._model.decode(scored.scores, scored.counts)
                numbers, batch = zip(*(used[row] for row in scored.rows), strict=True)
                for number, parts in zip(numbers, find(scored, best, batch), strict=True):
                    result[number]["labels"] = parts
        return result

    def _tags(
        self, scored: _Scored, best: Tensor, lines: Sequence[TaggedLine]
    ) -> list[list[dict[str, Any]]]:
        """Return the labeled units of each line."""
        marginals = self._model.marginals(scored.scores, scored.counts)
        probabilities = marginals.gather(2, best[..., None])[..., 0].tolist()
        rows = zip(lines, best.tolist(), probabilities, strict=True)
        return [
            [
                _part(line, *unit, self.labels[label], probability)
                for unit, label, probability in zip(line.units, labels, row, strict=False)
            ]
            for line, labels, row in rows
        ]

    def _spans(
        self, scored: _Scored, best: Tensor, lines: Sequence[TaggedLine]
    ) -> list[list[dict[str, Any]]]:
        """Return the spans of each line."""
        rows: list[int] = []
        spans: list[LabeledSpan] = []
        for row, count in enumerate(scored.counts.tolist()):
            names = [self.labels[index] for index in best[row, :count].tolist()]
            found = spans_of(names, self.config.scheme)
            rows += [row] * len(found)
            spans += found
        parts: list[list[dict[str, Any]]] = [[] for _ in lines]
        probabilities = self._span_probabilities(scored, best, rows, spans)
        for row, span, probability in zip(rows, spans, probabilities, strict=True):
            (at,) = lines[row].char_spans([span])
            parts[row].append(_part(lines[row], *at, probability))
        return parts

    def _span_probabilities(
        self, scored: _Scored, best: Tensor, rows: Sequence[int], spans: Sequence[LabeledSpan]
    ) -> list[float]:
        """Return the probability of each span: of its labels, and that none continues them."""
        result: list[float] = []
        step = len(scored.scores)  # spans at a time: as much memory as the batch
        for begin in range(0, len(spans), step):
            of = torch.tensor(rows[begin : begin + step])
            allowed = torch.ones_like(scored.scores[of], dtype=torch.bool)
            part = zip(of.tolist(), allowed, spans[begin : begin + step], strict=True)
            for row, mask, (first, end, _) in part:
                labels = best[row, first:end]
                mask[first:end] = F.one_hot(labels, len(self.labels)).bool()
                if first:
                    mask[first - 1] = ~self._is_one_span[:, labels[0]]
                if end < len(mask):
                    mask[end] = ~self._is_one_span[labels[-1]]
            log_probs = self._model.log_prob(scored.scores[of], scored.counts[of], allowed)
            result += log_probs.exp().tolist()
        return result

    @functools.cached_property
    def _is_one_span(self) -> Tensor:
        """For each pair of labels whether the second one continues the first one's span, (L, L)."""

        def is_one(first: str, second: str) -> bool:
            whole = LabeledSpan(0, 2, parse_label(first)[1])
            return whole in spans_of([first, second], self.config.scheme)

        pairs = [[is_one(first, second) for second in self.labels] for first in self.labels]
        return torch.tensor(pairs, device=self._device)


def _part(line: TaggedLine, begin: int, end: int, label: str, probability: float) -> dict[str, Any]:
    part = {"begin": begin, "end": end, "label": label, "text": line.text[begin:end]}
    return part | {"probability": min(probability, 1.0)}  # rounding may exceed 1


class SpacePredictor(Predictor):
    """Inserts missing spaces into lines; those of the line are kept, as is everything else."""

    def __init__(self, space_id: int, model: Tagger, device: torch.device) -> None:
        self._space_id = space_id
        self._model, self._device = model, device
        self.schema = pa.schema([("spaced", pa.string())])

    @torch.inference_mode()
    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        parsed = list(lines_of(lines.table, _ids_of(lines), TagUnits.token))
        result = [{"spaced": text} for text in lines.table.column("text").to_pylist()]
        used = [(n, line) for n, line in enumerate(parsed) if line and len(line.units) > 1]
        joined = [without_blanks(line.ids, self._space_id) for _, line in used]
        sequences = [ids for line in joined for ids in line.sequences]
        spaced = [labels for line in joined for labels in line.is_spaced]
        is_unit = [np.arange(len(ids)) < len(ids) - 1 for ids in sequences]
        with tf32(False):
            for scored in _score(self._model, self._device, sequences, is_unit):
                is_spaced = pad([spaced[row] for row in scored.rows], 0)[0].to(self._device)
                scored.scores[..., SPACED] += _FORCED * compressed(is_spaced, scored.is_unit)
                best = self._model.decode(scored.scores, scored.counts).tolist()
                for row, count, labels in zip(
                    scored.rows, scored.counts.tolist(), best, strict=True
                ):
                    number, line = used[row]
                    result[number]["spaced"] = _insert_spaces(line, labels[:count])
        return result


def _insert_spaces(line: TaggedLine, labels: Sequence[int]) -> str:
    """Return the text of a line with spaces before the units that are ``SPACED``."""
    parts, done = [], 0
    for number, label in enumerate(labels[1:], 1):
        if label != SPACED:
            continue
        end, begin = line.units[number - 1].end, line.units[number].begin
        is_joined = not any(map(str.isspace, line.text[end:begin]))
        if is_joined and may_need_space(line.text[end - 1], line.text[begin]):
            parts.append(line.text[done:begin])
            done = begin
    return " ".join([*parts, line.text[done:]])
