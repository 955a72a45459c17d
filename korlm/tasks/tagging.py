"""Tagging: labels of tokens or eojeols, spans in a text, or its spaces.

Loss: negative log-likelihood in nats, summed over the labels of a batch. Axes: B batch, T tokens,
U units (which have one label each), L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.config import TaggingConfig, TagLabels, TrainSettings
from korlm.dataset.batches import Batch
from korlm.dataset.example_batches import TargetsOf, pad
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import UNK_ID, Vocab
from korlm.models.base import TrainingLoss
from korlm.modules.base import State
from korlm.runs.trained_run import Run
from korlm.tasks.base import Counts as FloatCounts
from korlm.tasks.base import ExampleTask, Predictor
from korlm.tasks.metrics.tagging import (
    Counts,
    Scores,
    accuracy_counts,
    scores_of,
    spacing_counts,
    span_counts,
)
from korlm.tasks.morpheme_tags import MorphemeTags
from korlm.tasks.tag_examples import (
    JOINED,
    SPACED,
    TaggedLine,
    may_need_space,
    read_lines,
    without_blanks,
)
from korlm.tasks.tag_predictors import SpacePredictor, TagPredictor
from korlm.tasks.tagger import Tagger, compressed
from korlm.text.label_schemes import (
    OUTSIDE,
    label_set,
    labels_of,
    spans_of,
)
from korlm.tokenizers.base import SPACE_SYMBOL
from korlm.utils.errors import ConfigError, CorpusError

NO_UNIT = -1  # target of a token that ends no unit
SAMPLES = 8  # lines that TensorBoard shows
MANY_WEIGHTS = 50_000_000  # of linear features, before a warning


@dataclass(frozen=True)
class _Split:
    """Examples of a split.

    Attributes:
        sequences: ids of each example, see ``TaggedLine``.
        targets: for each token the label of the unit that it ends, or ``NO_UNIT``; len(labels) for
            a label that the model does not have; (T,).
        lines: of the examples; empty for task.labels=spaces.
        is_unknown: of the units of each example, whether they do not occur in train.
    """

    sequences: list[Ids] = field(default_factory=list)
    targets: list[npt.NDArray[np.int64]] = field(default_factory=list)
    lines: list[TaggedLine] = field(default_factory=list)
    is_unknown: list[list[bool]] = field(default_factory=list)

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

    name = "tagging"
    monitor = headline = "f1"
    count_unit = "labels"

    def read_examples(self) -> None:
        """See ``ExampleTask.read_examples``."""
        prepared, config = self.prepared, self.settings.task
        assert isinstance(config, TaggingConfig)
        self.config = config
        self._unseen: list[str] = []
        self._types: list[str] = []  # of spans
        self._is_spaces = config.labels is TagLabels.spaces
        if self._is_spaces:
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
            morpheme_tags = MorphemeTags() if config.kkma_dim else None
            lines = {
                split: read_lines(prepared, split, config, morpheme_tags)
                for split in prepared.stats
            }
            train = lines.get("train", [])
            self.labels = self.labels or _labels_in(train, config)
            if config.labels is TagLabels.spans:
                self._types = list(
                    dict.fromkeys(name[2:] for name in self.labels if name != OUTSIDE)
                )
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
    def build_predictor(cls, run: Run, model: Tagger, device: torch.device) -> Predictor:
        """See ``Task.build_predictor``."""
        config = run.settings.task
        assert isinstance(config, TaggingConfig)
        if config.labels is TagLabels.spaces:
            return SpacePredictor(_space_id(run.vocab), model, device)
        return TagPredictor(config, run.labels, model, device)

    def _spaced(self, split: str, space_id: int) -> _Split:
        lines = without_blanks(self.prepared.ids(split), space_id)
        if not any(map(np.any, lines.is_spaced)):
            raise CorpusError(
                f"{self.prepared.folder}: no line of {split} has a space between two words; "
                "task.labels=spaces needs text with the usual spaces"
            )
        examples = _Split(lines.sequences)
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
        if kind not in self._types:
            raise CorpusError(
                f"{self.prepared.folder}: {split} has a span of type {kind!r} in "
                f"{line.text[:40]!r}, which does not occur in train (it has "
                f"{', '.join(self._types)}); "
                "correct it, or add text with this type to train"
            )

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
        """See ``ExampleTask``: the loss, its units, and the counts of ``metrics/tagging.py``."""
        return 2 + (5 if self._is_spaces else 4 + 3 * len(self._types))

    def batch_counts(self, model: Tagger, split: str, batch: Batch) -> FloatCounts:
        """See ``ExampleTask.batch_counts``; the rows of a batch share its loss evenly."""
        is_unit = batch.targets != NO_UNIT
        scores, counts = model(batch.inputs, batch.lengths, is_unit)
        targets = compressed(batch.targets, is_unit)
        nll = model.nll(scores, targets, counts).double().cpu()
        predicted = self._decode(model, batch.inputs, is_unit, scores, counts)
        assert batch.rows is not None
        rows, examples = batch.rows.tolist(), self._splits[split]
        lines = zip(rows, counts.tolist(), targets.cpu(), predicted.cpu(), strict=True)
        result = np.zeros((len(rows), self.num_counts))
        result[:, 0] = float(nll) / len(rows)
        for line, (row, count, gold, best) in zip(result, lines, strict=True):
            pair = gold[:count].tolist(), best[:count].tolist()
            line[1] = count if max(pair[0]) < len(self.labels) else 0  # as in ``Tagger.nll``
            if self._is_spaces:
                line[2:] = spacing_counts(*pair)
                continue
            line[2:6] = accuracy_counts(*pair, examples.is_unknown[row])
            if self.config.labels is TagLabels.spans:
                line[6:] = self._span_counts(examples.lines[row], pair[1]).ravel()
        return result

    def metrics_of(self, counts: FloatCounts, split: str) -> dict[str, float]:
        """See ``ExampleTask.metrics_of``; a line with a label that train lacks has no loss."""
        whole = counts[2:].round().astype(np.int64)
        correct, num_labels = whole[:2].tolist()
        loss = float(counts[0]) / max(float(counts[1]), 1.0)
        metrics: dict[str, float] = {"num_labels": num_labels, "loss": loss}
        accuracy = {"accuracy": correct / max(num_labels, 1)}
        if self._is_spaces:
            return {**metrics, **_f1(scores_of(whole[2:])), **accuracy}
        correct_unknown, unknown = whole[2:4].tolist()
        if unknown:
            accuracy["accuracy_unknown"] = correct_unknown / unknown
        if self.config.labels is TagLabels.tags:
            f1 = dict.fromkeys(("f1", "precision", "recall"), accuracy["accuracy"])
            return {**metrics, **f1, **accuracy}
        spans = whole[4:].reshape(-1, 3)
        rows = zip(self._types, spans, strict=True)
        types = {f"f1_{kind}": scores_of(row).f1 for kind, row in rows}
        return {**metrics, **_f1(scores_of(spans)), **accuracy, **types}

    def _decode(
        self, model: Tagger, inputs: Tensor, is_unit: Tensor, scores: Tensor, counts: Tensor
    ) -> Tensor:
        """Return the best labels (B, U), with spaces only where ``may_need_space`` allows them."""
        best = model.decode(scores, counts)
        if self._is_spaces:
            is_hangul = self._is_hangul[compressed(inputs, is_unit)]
            best[:, 0] = 0
            best[:, 1:] *= is_hangul[:, 1:] | is_hangul[:, :-1]
        return best

    def _span_counts(self, line: TaggedLine, predicted: Sequence[int]) -> Counts:
        names = [self.labels[index] for index in predicted]
        found = line.char_spans(spans_of(names, self.config.scheme))
        return span_counts(line.spans or [], found, self._types)

    def warnings(self, total_steps: int) -> list[str]:
        """See ``Task.warnings``: labels that train lacks, linear features of very many labels."""
        hints = []
        if self._unseen:
            names = sorted(set(self._unseen))
            hints.append(
                f"{len(self._unseen):,} units of valid or test have labels that do not occur in "
                f"train ({', '.join(names[:5])}{', ...' * (len(names) > 5)}); they count as errors"
            )
        buckets, num_labels = self.config.linear_buckets, len(self.labels)
        if buckets * num_labels > MANY_WEIGHTS:
            hints.append(
                f"task.linear_buckets={buckets} makes {buckets * num_labels:,} weights for "
                f"{num_labels:,} labels; task.linear_buckets=0 leaves linear features out"
            )
        return hints

    @torch.inference_mode()
    def samples(self, model: Tagger) -> dict[str, str]:
        """Return some lines of valid as the model labels them."""
        model.eval()
        examples = self._splits["valid"]
        rows = torch.arange(min(SAMPLES, len(examples.sequences)))
        inputs, lengths = pad([examples.sequences[row] for row in rows.tolist()])
        inputs = inputs.to(self.device)
        is_unit = (examples.targets_of(rows)[0] != NO_UNIT).to(self.device)
        scores, counts = model(inputs, lengths, is_unit)
        best = self._decode(model, inputs, is_unit, scores, counts).tolist()
        texts = []
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            labels = best[row][:count]
            if self._is_spaces:
                tokens = self.prepared.vocab.decode(examples.sequences[row][:-1])
                pairs = zip(labels, tokens, strict=True)
                texts.append("".join(" " * label + token for label, token in pairs))
                continue
            units = zip(examples.lines[row].unit_texts, labels, strict=True)
            named = ((unit, self.labels[label]) for unit, label in units)
            texts.append(" ".join(f"{u}/{name}" if name != OUTSIDE else u for u, name in named))
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
