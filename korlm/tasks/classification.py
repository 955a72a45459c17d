"""Classification: one of several classes for a text.

Loss: cross-entropy in nats, summed over the texts of a batch. Axes: B batch, T time, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import ClassificationConfig, ClassWeights, TrainSettings
from korlm.dataset.batches import Batch, sentences_of
from korlm.dataset.example_batches import TargetsOf, pad, padded_batches
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.text_encoder import EncodedText
from korlm.dataset.vocab import EOS_ID, Vocab
from korlm.models.base import TrainingLoss
from korlm.modules.base import State, Trainable
from korlm.modules.encoder import build_encoder
from korlm.runs.trained_run import Run
from korlm.tasks.base import Counts, ExampleTask, Predictor
from korlm.tasks.heads.pooling import SequencePooling
from korlm.tasks.metrics.classification import (
    NUM_BINS,
    best_temperature,
    calibration_counts,
    confusion_counts,
    expected_calibration_error,
    macro_f1,
    nll_by_temperature,
    temperature_grid,
)
from korlm.tasks.plots import confusion_matrix_image
from korlm.utils.errors import CorpusError
from korlm.utils.torch_backend import tf32

MAX_CLASSES = 1000
SAMPLES = 8  # texts that TensorBoard shows
MAX_PLOTTED = 30  # classes of a confusion matrix in TensorBoard


class Classifier(Trainable):
    """Encoder, pooling and a linear layer.

    Attributes:
        temperature: divides the logits for calibrated probabilities; fitted on valid.
    """

    temperature: Tensor

    def __init__(self, settings: TrainSettings, vocab: Vocab, num_classes: int) -> None:
        super().__init__()
        config = settings.task
        assert isinstance(config, ClassificationConfig)
        self.encoder = build_encoder(
            *(settings.model, len(vocab), vocab.tokens),
            bidirectional=config.bidirectional,
            pretrained=bool(settings.init),
        )
        self.embedding = self.encoder.embedding
        self.pooling = SequencePooling(
            config.pooling, self.encoder.output_dim, config.bidirectional
        )
        self.output = nn.Linear(self.pooling.output_dim, num_classes)
        self.max_length = config.max_length
        self.register_buffer("temperature", torch.ones(()))

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return self.encoder.muon_weights()

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits of a batch, float32 (B, C).

        Args:
            inputs: int64 (B, T).
            lengths: int64 (B,) on the CPU, tokens of each row; None: T.
        """
        encoded = self.encoder(inputs, lengths=lengths, needs_state=False)
        logits: Tensor = self.output(self.pooling(encoded.output, lengths))
        return logits.float()


def shorten(ids: Ids, max_length: int) -> Ids:
    """Return the token ids of a text; if it is longer, its first and last ``max_length`` / 2."""
    if len(ids) <= max_length:
        return ids
    first = max_length - max_length // 2
    return np.concatenate([ids[:first], ids[len(ids) - max_length // 2 :]])


class ClassificationTask(ExampleTask[Classifier]):
    """Trains a classifier; see ``Task`` for the arguments.

    Raises:
        PreparedError: the corpus has no labels.
        CorpusError: a label of valid or test does not occur in train, or train has fewer than two
            labels or more than ``MAX_CLASSES``.
    """

    name = "classification"
    monitor = headline = "accuracy"

    def read_examples(self) -> None:
        """See ``ExampleTask.read_examples``."""
        prepared, config = self.prepared, self.settings.task
        assert isinstance(config, ClassificationConfig)
        self.config = config
        self.confusion: Tensor | None = None  # of the last pass over valid
        # Logits and targets of the batches of an evaluation; None outside of it.
        self._outputs: list[tuple[Tensor, Tensor]] | None = None
        labels_of = {split: prepared.labels(split) for split in prepared.stats}
        self.labels = self.labels or _distinct_labels(labels_of["train"], str(prepared.folder))
        _check_labels(labels_of, self.labels, str(prepared.folder))
        class_ids = {label: number for number, label in enumerate(self.labels)}
        self._targets = {
            split: torch.tensor([class_ids[label] for label in labels])
            for split, labels in labels_of.items()
        }
        self._sequences = {
            split: [shorten(ids, config.max_length) for ids in sentences_of(prepared.ids(split))]
            for split in prepared.stats
        }
        self.class_weights = torch.ones(len(self.labels), device=self.device)
        if self.config.class_weights is ClassWeights.balanced and "train" in labels_of:
            counts = torch.bincount(self._targets["train"], minlength=len(self.labels))
            weights = counts.sum() / (counts * len(self.labels))
            self.class_weights = weights.to(self.device, torch.float32)

    def examples(self, split: str) -> tuple[Sequence[Ids], TargetsOf]:
        """See ``ExampleTask.examples``."""
        targets = self._targets[split]
        return self._sequences[split], lambda rows: (targets[rows], len(rows))

    @classmethod
    def build_model(
        cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> Classifier:
        """See ``Task.build_model``."""
        return Classifier(settings, vocab, len(labels))

    @classmethod
    def build_predictor(cls, run: Run, model: Classifier, device: torch.device) -> ClassPredictor:
        """See ``Task.build_predictor``."""
        return ClassPredictor(run.labels, model, device)

    def training_loss(self, model: Classifier, batch: Batch, state: State | None) -> TrainingLoss:
        """See ``Task.training_loss``; only ``total`` has class weights and label smoothing."""
        logits = model(batch.inputs, batch.lengths)
        total = F.cross_entropy(
            logits,
            batch.targets,
            self.class_weights,
            reduction="sum",
            label_smoothing=self.config.label_smoothing,
        )
        nll = F.cross_entropy(logits.detach(), batch.targets, reduction="sum")
        return TrainingLoss(total, nll, ())

    def num_examples(self, split: str) -> int:
        """See ``ExampleTask.num_examples``."""
        return len(self._sequences[split])

    @property
    def num_counts(self) -> int:
        """See ``ExampleTask``: the loss, then correct, predicted and actual texts of each class."""
        return 1 + 3 * len(self.labels)

    @torch.inference_mode()
    def evaluate(
        self, model: Classifier, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """See ``Task.evaluate``; a pass over valid first fits the temperature of the model."""
        outputs = self._outputs = []
        metrics = super().evaluate(model, split, on_batch)
        self._outputs = None
        if split == "valid":
            nats = torch.zeros(len(temperature_grid()), dtype=torch.float64)
            for logits, targets in outputs:
                nats += nll_by_temperature(logits, targets)
            model.temperature.fill_(best_temperature(self.group.sum(nats)))
            confusion = torch.zeros(len(self.labels), len(self.labels), dtype=torch.int64)
            for logits, targets in outputs:
                confusion += confusion_counts(logits.argmax(-1), targets, len(self.labels))
            self.confusion = self.group.sum(confusion)
        calibration = torch.zeros(3, NUM_BINS, dtype=torch.float64)
        for logits, targets in outputs:
            log_probs = (logits / model.temperature.cpu()).log_softmax(-1)
            calibration += calibration_counts(log_probs, targets)
        error = expected_calibration_error(self.group.sum(calibration))
        calibrated = {"expected_calibration_error": error, "temperature": float(model.temperature)}
        first = ("num_examples", "loss", "accuracy", "macro_f1")  # in the order of the table
        return {key: metrics.pop(key) for key in first} | calibrated | metrics

    def batch_counts(self, model: Classifier, split: str, batch: Batch) -> Counts:
        """See ``ExampleTask.batch_counts``."""
        logits, targets = model(batch.inputs, batch.lengths).cpu(), batch.targets.cpu()
        if self._outputs is not None:
            self._outputs.append((logits, targets))
        nll = F.cross_entropy(logits.double(), targets, reduction="none")
        actual = F.one_hot(targets, len(self.labels))
        predicted = F.one_hot(logits.argmax(-1), len(self.labels))
        counts = torch.cat([nll[:, None], actual * predicted, predicted, actual], 1)
        return counts.numpy()

    def metrics_of(self, counts: Counts, split: str) -> dict[str, float]:
        """See ``ExampleTask.metrics_of``."""
        correct, predicted, actual = counts[1:].reshape(3, -1)
        num_examples = max(actual.sum(), 1)
        return {
            "loss": float(counts[0] / num_examples),
            "accuracy": float(correct.sum() / num_examples),
            "macro_f1": macro_f1(correct, predicted, actual),
        }

    def warnings(self, total_steps: int) -> list[str]:
        """See ``Task.warnings``: rows without text."""
        counts = {
            split: self.prepared.stats[split].num_lines - len(sequences)
            for split, sequences in self._sequences.items()
        }
        blank = ", ".join(f"{count:,} of {split}" for split, count in counts.items() if count)
        return [f"rows without text are left out: {blank}"] if blank else []

    @torch.inference_mode()
    def samples(self, model: Classifier) -> dict[str, str]:
        """Return some texts of valid with their labels and the model's."""
        model.eval()
        sequences, targets = self._sequences["valid"][:SAMPLES], self._targets["valid"]
        inputs, lengths = pad(sequences)
        probs = (model(inputs.to(self.device), lengths) / model.temperature).softmax(-1).cpu()
        rows = ["| text | label | prediction | probability |", "| --- | --- | --- | --- |"]
        for ids, target, row in zip(sequences, targets.tolist(), probs, strict=False):
            text = " ".join(self.prepared.vocab.decode(ids[:-1])).replace("|", "/")
            best = int(row.argmax())
            rows.append(
                f"| {text} | {self.labels[target]} | {self.labels[best]} | {row[best]:.3f} |"
            )
        return {"samples": "\n".join(rows)}

    def images(self, model: Classifier) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the confusion matrix of the last pass over valid."""
        if self.confusion is None or len(self.labels) > MAX_PLOTTED:
            return {}
        return {"confusion": confusion_matrix_image(self.confusion.numpy(), self.labels)}


def _distinct_labels(labels: Sequence[str], source: str) -> tuple[str, ...]:
    """Return the distinct labels of train in alphabetical order."""
    known = sorted(set(labels))
    if len(known) < 2:
        raise CorpusError(
            f"{source}: all texts of train have the label {known[0]!r}; classification needs two "
            "or more"
        )
    if len(known) > MAX_CLASSES:
        raise CorpusError(
            f"{source}: {len(known):,} different labels in train, at most {MAX_CLASSES:,} are "
            "supported; is corpus.label_column the right column?"
        )
    return tuple(known)


def _check_labels(
    labels_of: Mapping[str, Sequence[str]], known: Sequence[str], source: str
) -> None:
    """Raise ``CorpusError`` if a label is not known; it names the first text that has it."""
    for split, labels in labels_of.items():
        unknown = set(labels).difference(known)
        if unknown:
            number = next(n for n, label in enumerate(labels, 1) if label in unknown)
            shown = ", ".join(known[:10]) + ", ..." * (len(known) > 10)
            raise CorpusError(
                f"{source}: non-blank text {number} of {split} has the label "
                f"{labels[number - 1]!r}, which does not occur in train (it has {shown}); "
                "correct it, or add texts with this label to train"
            )


class ClassPredictor(Predictor):
    """Predicts a label and the probabilities of all classes, calibrated on valid.

    A blank text is encoded as <eos> only.
    """

    def __init__(self, labels: Sequence[str], model: Classifier, device: torch.device) -> None:
        self.labels, self.model, self.device = labels, model, device
        fields = [("label", pa.string()), ("probability", pa.float64())]
        self.schema = pa.schema([*fields, *((f"p_{label}", pa.float64()) for label in labels)])

    @torch.inference_mode()
    def predict(self, lines: EncodedText) -> list[dict[str, Any]]:
        """See ``Predictor.predict``."""
        end = np.array([EOS_ID])
        sequences = [
            shorten(ids if len(ids) else end, self.model.max_length) for ids in lines.lines()
        ]
        probs = torch.empty(len(sequences), len(self.labels), dtype=torch.float64)
        with tf32(False):
            for rows, inputs, lengths in padded_batches(sequences):
                logits = self.model(inputs.to(self.device), lengths) / self.model.temperature
                probs[torch.from_numpy(rows)] = logits.double().softmax(-1).cpu()
        best = probs.argmax(-1).tolist()
        return [
            {
                "label": self.labels[index],
                "probability": row[index],
                **{f"p_{label}": p for label, p in zip(self.labels, row, strict=True)},
            }
            for index, row in zip(best, probs.tolist(), strict=True)
        ]
