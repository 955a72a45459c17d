"""Tagging: labels of tokens or eojeols, spans in a text, or its spaces.

Loss: negative log-likelihood in nats, summed over the labels of a batch. Axes: B batch, T tokens,
U units (which have one label each), L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import TaggingConfig, TagHead, TagLabels, TagUnits, TrainSettings
from korlm.dataset.batches import Batch, Ids
from korlm.dataset.example_batches import TargetsOf, pad, padded_batches
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import PAD_ID, UNK_ID, Vocab
from korlm.models.base import TrainingLoss
from korlm.modules.encoder import build_encoder
from korlm.modules.state import State
from korlm.modules.trainable import Trainable
from korlm.runs.trained_run import RunParts
from korlm.tasks.base import Counts as FloatCounts
from korlm.tasks.base import ExampleTask, Predictor
from korlm.tasks.heads.crf import Allowed, LinearChainCRF
from korlm.tasks.metrics.tagging import (
    Counts,
    Scores,
    accuracy_counts,
    scores_of,
    spacing_counts,
    span_counts,
)
from korlm.tasks.tag_examples import (
    TaggedLine,
    lines_of,
    may_need_space,
    read_lines,
    without_blanks,
)
from korlm.text.label_schemes import OUTSIDE, Scheme, label_set, labels_of, may_follow, spans_of
from korlm.tokenizers.base import SPACE_SYMBOL
from korlm.utils.errors import ConfigError, CorpusError
from korlm.utils.torch_backend import tf32

NO_UNIT = -1  # target of a token that ends no unit
JOINED, SPACED = 0, 1  # labels of task.labels=spaces
SAMPLES = 8  # lines that TensorBoard shows
_FORCED = 1e4  # added to the score of a label that is known


class Tagger(Trainable):
    """Encoder, a linear layer, and a CRF or a softmax over the labels of each unit.

    The hidden state of a unit is the forward state at its last token and the backward state at its
    first one: both have read the whole unit.

    Args:
        settings: of the run.
        vocab: of the prepared corpus.
        labels: the L labels.
    """

    def __init__(self, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]) -> None:
        super().__init__()
        config = settings.task
        assert isinstance(config, TaggingConfig)
        self.pairs: nn.Embedding | None = None
        if config.pair_dim:
            self.pairs = nn.Embedding(config.pair_buckets, config.pair_dim)
            nn.init.uniform_(self.pairs.weight, -0.1, 0.1)
        self.encoder = build_encoder(
            *(settings.model, len(vocab), vocab.tokens),
            bidirectional=config.bidirectional,
            pretrained=bool(settings.init),
            feature_dim=2 * config.pair_dim,
        )
        self.embedding = self.encoder.embedding
        self.bidirectional = config.bidirectional
        self.output = nn.Linear(self.encoder.output_dim, len(labels))
        self.crf: LinearChainCRF | None = None
        if config.head is TagHead.crf:
            allowed = allowed_labels(labels, config.scheme)
            is_spans = config.labels is TagLabels.spans
            self.crf = LinearChainCRF(len(labels), allowed if is_spans else None)

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return self.encoder.muon_weights()

    def forward(
        self, inputs: Tensor, lengths: Tensor | None, is_unit: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the scores of the labels of all units.

        Args:
            inputs: int64 (B, T).
            lengths: int64 (B,) on the CPU, tokens of each row; None: T.
            is_unit: bool (B, T), True at the last token of each unit; each row has one or more.

        Returns:
            float32 (B, U, L), and int64 (B,) on the CPU, the units of each row.
        """
        features = None if self.pairs is None else self._pair_features(inputs)
        encoded = self.encoder(inputs, lengths=lengths, features=features, needs_state=False)
        last = compressed(torch.arange(inputs.shape[1], device=inputs.device), is_unit)  # (B, U)
        hidden = encoded.output
        if self.bidirectional:
            first = torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1] + 1], 1)
            forward, backward = hidden.chunk(2, -1)
            hidden = torch.cat([_at(forward, last), _at(backward, first)], -1)
        else:
            hidden = _at(hidden, last)
        return self.output(hidden).float(), is_unit.sum(1).cpu()

    def _pair_features(self, inputs: Tensor) -> Tensor:
        """Return the embeddings of the pairs that each token ends and begins, (B, T, 2 * P)."""
        assert self.pairs is not None
        padded = F.pad(inputs, (1, 1), value=PAD_ID)
        # Odd multipliers spread ids over the buckets; int64 products of ids do not overflow.
        buckets = (padded[:, :-1] * 1_000_003 + padded[:, 1:] * 7_919) % self.pairs.num_embeddings
        pairs = self.pairs(buckets)  # (B, T + 1, P)
        return torch.cat([pairs[:, :-1], pairs[:, 1:]], -1)

    def nll(self, scores: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
        """Return the negative log-likelihood in nats, summed over the batch.

        Args:
            scores: float32 (B, U, L).
            targets: int64 (B, U); rows with a label that is not in [0, L) are left out.
            counts: int64 (B,), units of each row.
        """
        num_labels = scores.shape[-1]
        valid = (
            torch.arange(targets.shape[1], device=targets.device) < _to(counts, targets)[:, None]
        )
        known = ((targets < num_labels) | ~valid).all(1)
        targets = torch.where(valid & known[:, None], targets, 0)
        if self.crf is not None:
            nll = self.crf.log_partition(scores, counts) - self.crf.score(scores, targets, counts)
            return torch.where(known, nll, 0.0).sum()
        nll = F.cross_entropy(scores.transpose(1, 2), targets, reduction="none")
        return torch.where(valid & known[:, None], nll, 0.0).sum()

    def decode(self, scores: Tensor, counts: Tensor) -> Tensor:
        """Return the best labels, int64 (B, U); undefined beyond the units of a row."""
        return scores.argmax(-1) if self.crf is None else self.crf.decode(scores, counts)


def _to(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """Return the values (B, U, D) of (B, T, D) at the indices (B, U)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[-1]))


def compressed(values: Tensor, mask: Tensor) -> Tensor:
    """Move the values at which a mask is True to the beginning of each row.

    Args:
        values: (B, T) or (T,).
        mask: bool (B, T).

    Returns:
        (B, U) for the largest number U of True in a row; other values follow in shorter rows.

    >>> mask = torch.tensor([[True, False, True], [False, True, False]])
    >>> compressed(torch.tensor([5, 6, 7]), mask)
    tensor([[5, 7],
            [6, 5]])
    """
    order = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)
    size = int(mask.sum(1).max())
    return values.expand(mask.shape).gather(1, order[:, :size])


def allowed_labels(labels: Sequence[str], scheme: Scheme) -> Allowed:
    """Return the transitions that the scheme of the labels of spans allows."""
    return Allowed(
        torch.tensor([may_follow(label, None, scheme) for label in labels]),
        torch.tensor([[may_follow(label, old, scheme) for label in labels] for old in labels]),
        torch.tensor([may_follow("", label, scheme) for label in labels]),
    )


class _Split:
    """Examples of a split.

    Attributes:
        sequences: ids of each example, (T,).
        targets: for each token the label of the unit that it ends, or ``NO_UNIT``; len(labels) for
            a label that the model does not have; (T,).
        lines: of the examples; empty for task.labels=spaces.
        is_unknown: of the units of each example, whether they do not occur in train.
    """

    def __init__(self) -> None:
        self.sequences: list[Ids] = []
        self.targets: list[npt.NDArray[np.int64]] = []
        self.lines: list[TaggedLine] = []
        self.is_unknown: list[list[bool]] = []

    def targets_of(self, rows: Tensor) -> tuple[Tensor, int]:
        """Return the padded targets of some examples and their number."""
        targets, _ = pad([self.targets[row] for row in rows.tolist()], NO_UNIT)
        return targets, int((targets != NO_UNIT).sum())


class TaggingTask(ExampleTask[Tagger]):
    """Trains a tagger; see ``Task`` for the arguments.

    ``f1`` is that of spans, of words (task.labels=spaces) or, for tags, the accuracy: every unit
    has one tag.

    Raises:
        ConfigError: task.labels=spaces without tokenizer=syllable.
        PreparedError: the corpus has no labels.
        CorpusError: labels are malformed, a type of spans does not occur in train, or the text has
            no spaces.
    """

    monitor = headline = "f1"
    higher_is_better = True
    unit = "labels"
    compared = ("f1", "accuracy")
    charts = ("loss", "f1")
    quality = ("accuracy",)

    def read_examples(self) -> None:
        """See ``ExampleTask.read_examples``."""
        prepared, config = self.prepared, self.settings.task
        assert isinstance(config, TaggingConfig)
        self.config = config
        self._unseen: list[str] = []
        if config.labels is TagLabels.spaces:
            if self.settings.tokenizer.name != "syllable":
                raise ConfigError(
                    f"tokenizer={self.settings.tokenizer.name}: task.labels=spaces predicts a "
                    "space before each character; give tokenizer=syllable"
                )
            self.labels = ("joined", "spaced")
            space_id = _space_id(prepared.vocab)
            self._splits = {split: self._spaced(split, space_id) for split in prepared.stats}
            tokens = prepared.vocab.tokens
            hangul = [
                i == UNK_ID or may_need_space(token[-1], "") for i, token in enumerate(tokens)
            ]
            self._is_hangul = torch.tensor(hangul, device=self.device)
        else:
            lines = {
                split: read_lines(prepared, split, config.labels, config.units)
                for split in prepared.stats
            }
            train = lines.get("train", [])
            self.labels = self.labels or _labels_in(train, config)
            known = {text for line in train for text in line.unit_texts} if train else None
            self._splits = {
                split: self._labeled(split, part, known) for split, part in lines.items()
            }

    def examples(self, split: str) -> tuple[Sequence[Ids], TargetsOf]:
        """See ``ExampleTask.examples``."""
        return self._splits[split].sequences, self._splits[split].targets_of

    @classmethod
    def build_model(cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]) -> Tagger:
        """See ``Task.build_model``."""
        return Tagger(settings, vocab, labels)

    @classmethod
    def build_predictor(cls, run: RunParts, model: Tagger, device: torch.device) -> Predictor:
        """See ``Task.build_predictor``."""
        config = run.settings.task
        assert isinstance(config, TaggingConfig)
        if config.labels is TagLabels.spaces:
            return SpacePredictor(_space_id(run.vocab), model, device)
        return TagPredictor(config, run.labels, model, device)

    def _spaced(self, split: str, space_id: int) -> _Split:
        examples = _Split()
        lines = without_blanks(self.prepared.ids(split), space_id)
        if not any(map(np.any, lines.is_spaced)):
            raise CorpusError(
                f"{self.prepared.folder}: no line of {split} has a space between two words; "
                "task.labels=spaces needs text with the usual spaces"
            )
        examples.sequences = lines.sequences
        for is_spaced in lines.is_spaced:
            targets = np.where(is_spaced, SPACED, JOINED).astype(np.int64)
            targets[-1] = NO_UNIT  # <eos>
            examples.targets.append(targets)
        return examples

    def _labeled(self, split: str, lines: Sequence[TaggedLine], known: set[str] | None) -> _Split:
        examples = _Split()
        ids = {label: number for number, label in enumerate(self.labels)}
        for line in lines:
            if not line.units:
                continue
            if line.spans is not None:
                labels = labels_of(line.unit_spans(), len(line.units), self.config.scheme)
                for span in line.spans:
                    self._check_type(split, line, span.label)
            else:
                assert line.tags is not None
                labels = line.tags
                self._unseen += [label for label in labels if label not in ids]
            targets = np.full(len(line.ids), NO_UNIT, dtype=np.int64)
            targets[line.is_unit] = [ids.get(label, len(ids)) for label in labels]
            examples.sequences.append(line.ids)
            examples.targets.append(targets)
            examples.lines.append(line)
            unknown = [known is not None and text not in known for text in line.unit_texts]
            examples.is_unknown.append(unknown)
        if not examples.lines:
            raise CorpusError(f"{self.prepared.folder}: {split} has no labeled line")
        return examples

    def _check_type(self, split: str, line: TaggedLine, kind: str) -> None:
        types = self._types()
        if kind not in types:
            raise CorpusError(
                f"{self.prepared.folder}: {split} has a span of type {kind!r} in "
                f"{line.text[:40]!r}, which does not occur in train (it has {', '.join(types)}); "
                "correct it, or add text with this type to train"
            )

    def _types(self) -> list[str]:
        """Return the types of spans."""
        return list(dict.fromkeys(label[2:] for label in self.labels if label != OUTSIDE))

    def training_loss(self, model: Tagger, batch: Batch, state: State | None) -> TrainingLoss:
        """See ``Task.training_loss``."""
        is_unit = batch.targets != NO_UNIT
        scores, counts = model(batch.inputs, batch.lengths, is_unit)
        total = model.nll(scores, compressed(batch.targets, is_unit), counts)
        return TrainingLoss(total, total.detach(), ())

    def num_examples(self, split: str) -> int:
        """See ``ExampleTask.num_examples``."""
        return len(self._splits[split].sequences)

    @property
    def num_counts(self) -> int:
        """See ``ExampleTask``: the loss, and the counts of ``korlm.tasks.metrics.tagging``."""
        return 1 + 5 + 4 + 3 * self._num_types

    @property
    def _num_types(self) -> int:
        return 0 if self.config.labels is TagLabels.spaces else len(self._types())

    def batch_counts(self, model: Tagger, split: str, batch: Batch) -> FloatCounts:
        """See ``ExampleTask.batch_counts``; the rows of a batch share its loss evenly."""
        is_spaces = self.config.labels is TagLabels.spaces
        is_unit = batch.targets != NO_UNIT
        scores, counts = model(batch.inputs, batch.lengths, is_unit)
        targets = compressed(batch.targets, is_unit)
        nll = model.nll(scores, targets, counts).double().cpu()
        predicted = model.decode(scores, counts)
        if is_spaces:
            predicted = predicted * self._may_be_spaced(compressed(batch.inputs, is_unit))
        assert batch.rows is not None
        rows = batch.rows.tolist()
        lines = zip(rows, counts.tolist(), targets.cpu(), predicted.cpu(), strict=True)
        result = np.zeros((len(rows), self.num_counts))
        result[:, 0] = float(nll) / len(rows)
        for line, (row, count, gold, best) in zip(result, lines, strict=True):
            pair = gold[:count].tolist(), best[:count].tolist()
            if is_spaces:
                line[1:6] = spacing_counts(*pair)
                continue
            line[6:10] = accuracy_counts(*pair, self._splits[split].is_unknown[row])
            if self.config.labels is TagLabels.spans:
                found = self._span_counts(self._splits[split].lines[row], pair[1])
                line[10:] = found.ravel()
        return result

    def metrics_of(self, counts: FloatCounts, split: str) -> dict[str, float]:
        """See ``ExampleTask.metrics_of``."""
        whole = counts[1:].round().astype(np.int64)
        spacing, accuracy, spans = whole[:5], whole[5:9], whole[9:].reshape(-1, 3)
        num_labels = int(spacing[1] + accuracy[1])
        return {
            "num_labels": num_labels,
            "loss": float(counts[0]) / max(num_labels, 1),
            **self._scores(spacing, accuracy, spans),
        }

    def _may_be_spaced(self, inputs: Tensor) -> Tensor:
        """Return whether a space may precede each token (B, U): ``may_need_space``."""
        is_hangul = self._is_hangul[inputs]
        may = torch.zeros_like(is_hangul)
        may[:, 1:] = is_hangul[:, 1:] | is_hangul[:, :-1]
        return may

    def _span_counts(self, line: TaggedLine, predicted: Sequence[int]) -> Counts:
        names = [self.labels[index] for index in predicted]
        found = line.char_spans(spans_of(names, self.config.scheme))
        return span_counts(line.spans or [], found, self._types())

    def _scores(self, spacing: Counts, accuracy: Counts, spans: Counts) -> dict[str, float]:
        """Return the metrics of counts of a whole split."""
        if self.config.labels is TagLabels.spaces:
            return {**_f1(scores_of(spacing[2:])), "accuracy": int(spacing[0]) / int(spacing[1])}
        correct, count, correct_unknown, unknown = accuracy.tolist()
        metrics = {"accuracy": correct / max(count, 1)}
        if unknown:
            metrics["accuracy_unknown"] = correct_unknown / unknown
        if self.config.labels is TagLabels.tags:
            return dict.fromkeys(("f1", "precision", "recall"), metrics["accuracy"]) | metrics
        types = {
            f"f1_{kind}": scores_of(row).f1 for kind, row in zip(self._types(), spans, strict=True)
        }
        return {**_f1(scores_of(spans)), **metrics, **types}

    def warnings(self, total_steps: int) -> list[str]:
        """See ``Task.warnings``: labels that do not occur in train."""
        if not self._unseen:
            return []
        names = sorted(set(self._unseen))
        return [
            f"{len(self._unseen):,} units of valid or test have labels that do not occur in train "
            f"({', '.join(names[:5])}{', ...' * (len(names) > 5)}); they count as errors"
        ]

    @torch.inference_mode()
    def samples(self, model: Tagger) -> dict[str, str]:
        """Return some lines of valid as the model labels them."""
        model.eval()
        examples = self._splits["valid"]
        rows = torch.arange(min(SAMPLES, len(examples.sequences)))
        inputs, lengths = pad([examples.sequences[row] for row in rows.tolist()])
        is_unit = (examples.targets_of(rows)[0] != NO_UNIT).to(self.device)
        scores, counts = model(inputs.to(self.device), lengths, is_unit)
        best = model.decode(scores, counts).cpu().tolist()
        texts = []
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            labels = best[row][:count]
            if self.config.labels is TagLabels.spaces:
                tokens = [self.prepared.vocab.tokens[i] for i in examples.sequences[row][:-1]]
                pairs = zip(labels, tokens, strict=True)
                texts.append("".join(" " * label + token for label, token in pairs))
                continue
            names = [self.labels[index] for index in labels]
            units = zip(examples.lines[row].unit_texts, names, strict=True)
            texts.append(" ".join(f"{u}/{name}" if name != OUTSIDE else u for u, name in units))
        return {"samples": "\n\n".join(texts)}


def _f1(scores: Scores) -> dict[str, float]:
    return {"f1": scores.f1, "precision": scores.precision, "recall": scores.recall}


def _space_id(vocab: Vocab) -> int:
    """Return the id of the token of a blank."""
    (space_id,) = vocab.encode([SPACE_SYMBOL]).tolist()
    if space_id == UNK_ID:
        raise CorpusError(
            "the text has no spaces, or vocab.max_size is too small for them; task.labels=spaces "
            "needs text with the usual spaces"
        )
    return int(space_id)


def _labels_in(lines: Sequence[TaggedLine], config: TaggingConfig) -> tuple[str, ...]:
    """Return the labels that a tagger of some lines needs."""
    if config.labels is TagLabels.tags:
        labels = sorted({tag for line in lines for tag in line.tags or []})
    else:
        types = sorted({span.label for line in lines for span in line.spans or []})
        labels = label_set(types, config.scheme)
    if len(labels) < 2:
        raise CorpusError(
            f"all units of train have the same label ({labels[0] if labels else 'none'}); tagging "
            "needs two or more; is corpus.label_column the right column?"
        )
    return tuple(labels)


class _BatchTagger:
    """Labels sequences of any number and length.

    Args:
        model: on ``device``, in evaluation mode.
        device: of the model.
    """

    def __init__(self, model: Tagger, device: torch.device) -> None:
        self.model, self.device = model, device

    @torch.inference_mode()
    def __call__(
        self,
        sequences: Sequence[Ids],
        is_unit: Sequence[npt.NDArray[np.bool_]],
        forced: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> list[list[int]]:
        """Return the labels of the units of each sequence.

        Args:
            sequences: ids, each (T,).
            is_unit: True at the last token of each unit, each (T,) with one or more True.
            forced: True at the tokens whose label is ``SPACED``, each (T,); None: no label is
                known.
        """
        labels: list[list[int]] = [[] for _ in sequences]
        with tf32(False):
            for rows, inputs, lengths in padded_batches(sequences):
                mask = self._padded([is_unit[row] for row in rows])
                scores, counts = self.model(inputs.to(self.device), lengths, mask)
                if forced is not None:
                    known = compressed(self._padded([forced[row] for row in rows]), mask)
                    scores[..., SPACED] += _FORCED * known
                best = self.model.decode(scores, counts).tolist()
                for row, count, found in zip(rows.tolist(), counts.tolist(), best, strict=True):
                    labels[row] = found[:count]
        return labels

    def _padded(self, masks: Sequence[npt.NDArray[np.bool_]]) -> Tensor:
        return pad(masks, 0)[0].bool().to(self.device)


def _ids_of(lines: EncodedText) -> list[Ids]:
    """Return the ids of each line that is not blank."""
    return [ids for ids in lines.lines() if len(ids)]


class TagPredictor(Predictor):
    """Predicts the labeled parts of a line, with character offsets into the line as given.

    Args:
        config: of the task.
        labels: of the model.
        model: on ``device``, in evaluation mode.
        device: of the model.
    """

    def __init__(
        self, config: TaggingConfig, labels: Sequence[str], model: Tagger, device: torch.device
    ) -> None:
        self.config, self.labels = config, labels
        self._tag = _BatchTagger(model, device)
        part = [("begin", pa.int64()), ("end", pa.int64())]
        part += [("label", pa.string()), ("text", pa.string())]
        self.schema = pa.schema([("labels", pa.list_(pa.struct(part)))])

    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        parsed = list(lines_of(lines.table, _ids_of(lines), self.config.units))
        used = [line for line in parsed if line is not None and line.units]
        found = iter(self._tag([line.ids for line in used], [line.is_unit for line in used]))
        return [
            {"labels": self._parts(line, next(found)) if line is not None and line.units else []}
            for line in parsed
        ]

    def _parts(self, line: TaggedLine, best: Sequence[int]) -> list[dict[str, Any]]:
        names = [self.labels[index] for index in best]
        if self.config.labels is TagLabels.spans:
            spans = line.char_spans(spans_of(names, self.config.scheme))
            parts = [(span.begin, span.end, span.label) for span in spans]
        else:
            parts = [(*unit, name) for unit, name in zip(line.units, names, strict=True)]
        return [
            {"begin": begin, "end": end, "label": label, "text": line.text[begin:end]}
            for begin, end, label in parts
        ]


class SpacePredictor(Predictor):
    """Inserts missing spaces into lines; those of the line are kept, as is everything else.

    Args:
        space_id: id of the token of a blank.
        model: on ``device``, in evaluation mode.
        device: of the model.
    """

    def __init__(self, space_id: int, model: Tagger, device: torch.device) -> None:
        self._space_id = space_id
        self._tag = _BatchTagger(model, device)
        self.schema = pa.schema([("spaced", pa.string())])

    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        parsed = list(lines_of(lines.table, _ids_of(lines), TagUnits.token))
        used = [line for line in parsed if line is not None and len(line.units) > 1]
        sequences: list[Ids] = []
        forced: list[npt.NDArray[np.bool_]] = []
        for line in used:
            spaced = without_blanks(line.ids, self._space_id)
            sequences += spaced.sequences
            forced += spaced.is_spaced
        is_unit = [np.arange(len(ids)) < len(ids) - 1 for ids in sequences]
        found = iter(self._tag(sequences, is_unit, forced))
        texts = lines.table.column("text").to_pylist()
        return [
            {"spaced": _insert_spaces(line, next(found))}
            if line is not None and len(line.units) > 1
            else {"spaced": text}
            for text, line in zip(texts, parsed, strict=True)
        ]


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
