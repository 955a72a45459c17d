"""Sequence to sequence: generate a target text for a source text.

Loss: cross-entropy in nats, summed over target tokens. In training, the decoder reads the target
tokens with the probability ``teacher_forcing``, else its own; in evaluation, the target tokens. The
best model is selected by a metric of decoded texts, because the loss says little about them.

Axes: B batch, S source tokens, T target tokens, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from korlm.config import (
    AttentionScore,
    DecodedMetric,
    ForcingSchedule,
    RecurrentConfig,
    Seq2SeqConfig,
    TrainSettings,
)
from korlm.config.paths import mend_prepared
from korlm.dataset.batches import Batch, sentences_of
from korlm.dataset.example_batches import TargetsOf, pad
from korlm.dataset.prepared import Prepared
from korlm.dataset.storage.id_stream import Ids, Int64
from korlm.dataset.vocab import EOS_ID, PAD_ID, Vocab
from korlm.detokenizers.base import Detokenizer
from korlm.detokenizers.registry import build_detokenizer
from korlm.evaluation.metrics import exp
from korlm.models.base import TrainingLoss
from korlm.modules.base import State
from korlm.runs.trained_run import Run
from korlm.tasks.base import Counts as FloatCounts
from korlm.tasks.base import ExampleTask
from korlm.tasks.heads.beam_search import DecodedSequence
from korlm.tasks.metrics.seq2seq import NUM_COUNTS, count_pairs, metrics_of
from korlm.tasks.plots import attention_image
from korlm.tasks.seq2seq.model import Seq2Seq, TextPredictor, search
from korlm.utils.errors import ConfigError, CorpusError, PreparedError

SAMPLES = 8  # pairs that TensorBoard shows
PLOTS = 3  # pairs whose attention TensorBoard shows


class TextPair(NamedTuple):
    """Token ids of source and target, each with <eos> at the end, and the target as it was read."""

    source: Ids
    target: Ids
    text: str


def read_pairs(prepared: Prepared, split: str) -> list[TextPair]:
    """Return the pairs of a split.

    Raises:
        PreparedError: the corpus has no target texts.
    """
    if not prepared.manifest["settings"]["corpus"].get("target_column"):
        raise PreparedError(
            f"{prepared.folder}: has no target texts; prepare it with corpus.target_column=COLUMN"
        )
    ids, texts = prepared.ids(split), prepared.texts(split)
    lines = sentences_of(ids)
    if len(lines) != len(texts) or len(lines) % 2:  # a blank line, which readers of pairs refuse
        raise PreparedError(
            f"{prepared.folder}: {split} has {len(lines)} lines with tokens, {len(texts)} texts; "
            + mend_prepared(prepared.folder)
        )
    return list(map(TextPair, lines[::2], lines[1::2], texts[1::2]))


class Seq2SeqTask(ExampleTask[Seq2Seq]):
    """Trains an encoder and a decoder on pairs of texts; see ``Task`` for the arguments.

    The metrics of written texts are those of all pairs of valid and test, and of as many of train
    as valid has, evenly spaced.

    Raises:
        PreparedError: the corpus has no target texts.
        CorpusError: all pairs of train are longer than ``task.max_length``.
    """

    name = "seq2seq"
    train_headline = "perplexity"

    def read_examples(self) -> None:
        """See ``ExampleTask.read_examples``."""
        prepared, config = self.prepared, self.settings.task
        assert isinstance(config, Seq2SeqConfig)
        self.config = config
        self.monitor = self.headline = self.config.select_by.value
        self.forcing_ratio = 1.0
        self._pairs = {split: read_pairs(prepared, split) for split in prepared.stats}
        limit, train = self.config.max_length, self._pairs.get("train", [])
        short = [pair for pair in train if max(len(pair.source), len(pair.target)) <= limit]
        self._num_too_long = len(train) - len(short)
        if train and not short:
            raise CorpusError(
                f"{prepared.folder}: all pairs of train are longer than task.max_length={limit} "
                "tokens: raise it"
            )
        if train:
            self._pairs["train"] = short

    def examples(self, split: str) -> tuple[Sequence[Ids], TargetsOf]:
        """See ``ExampleTask.examples``."""
        pairs = self._pairs[split]

        def targets_of(rows: Tensor) -> tuple[Tensor, int]:
            targets, lengths = pad([pairs[row].target for row in rows.tolist()])
            return targets, int(lengths.sum())

        return [pair.source for pair in pairs], targets_of

    def target_lengths(self, split: str) -> Int64:
        """See ``ExampleTask.target_lengths``."""
        return np.array([len(pair.target) for pair in self._pairs[split]], dtype=np.int64)

    @classmethod
    def build_model(cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]) -> Seq2Seq:
        """See ``Task.build_model``."""
        assert isinstance(settings.model, RecurrentConfig)
        assert isinstance(settings.task, Seq2SeqConfig)
        is_dot = settings.task.attention is AttentionScore.dot
        if is_dot and settings.task.bidirectional and settings.model.hidden_dim % 2:
            raise ConfigError(
                f"model.hidden_dim={settings.model.hidden_dim}: must be even for "
                "task.attention=dot, where each direction of the last encoder layer has half of "
                "it; make it even, or give task.bidirectional=false"
            )
        return Seq2Seq(settings.model, settings.task, len(vocab), vocab.tokens)

    @classmethod
    def build_predictor(cls, run: Run, model: Seq2Seq, device: torch.device) -> TextPredictor:
        """See ``Task.build_predictor``."""
        assert isinstance(run.settings.task, Seq2SeqConfig)
        return TextPredictor(run.vocab, run.detokenizer(), run.settings.task, model, device)

    @functools.cached_property
    def _detokenizer(self) -> Detokenizer:
        tokenizer: str = self.prepared.manifest["settings"]["tokenizer"]["name"]
        folders = (self.folder, self.prepared.folder)
        return build_detokenizer(tokenizer, folders, self.prepared.tokenizer_model)

    def begin_step(self, step: int, total_steps: int) -> None:
        """See ``Task.begin_step``: set the teacher forcing ratio."""
        self.forcing_ratio = forcing_ratio(self.config, step / max(total_steps - 1, 1))

    def training_loss(self, model: Seq2Seq, batch: Batch, state: State | None) -> TrainingLoss:
        """See ``Task.training_loss``; label smoothing is part of the total."""
        out = model(batch.inputs, batch.lengths, batch.targets, self.forcing_ratio)
        vectors, targets = out.vectors.flatten(0, 1), batch.targets.flatten()
        head, smoothing = model.decoder.output, self.config.label_smoothing
        if smoothing == 0:
            nll = head.cross_entropy_sum(vectors, targets, out.output_weight)
            return TrainingLoss(nll, nll, ())
        is_target = targets != PAD_ID
        log_probs = head.log_probs(vectors[is_target], out.output_weight)
        nll = -log_probs.gather(1, targets[is_target][:, None]).sum()
        uniform = -log_probs.mean(1).sum()
        return TrainingLoss((1 - smoothing) * nll + smoothing * uniform, nll, ())

    def train_metrics(self, loss: float) -> dict[str, float]:
        """See ``Task.train_metrics``."""
        return {"loss": loss, "perplexity": exp(loss)}

    def num_examples(self, split: str) -> int:
        """See ``ExampleTask.num_examples``."""
        return len(self._pairs[split])

    @property
    def num_counts(self) -> int:
        """See ``ExampleTask``: loss, target tokens, and those of ``metrics_of``."""
        return 2 + NUM_COUNTS

    def inference_model(self, model: Seq2Seq) -> Seq2Seq:
        """See ``ExampleTask.inference_model``."""
        return model.inference_copy()

    def batch_counts(self, model: Seq2Seq, split: str, batch: Batch) -> FloatCounts:
        """See ``ExampleTask.batch_counts``.

        The counts of decoded texts are 0 for the pairs of train that are not decoded.
        """
        pairs = self._pairs[split]
        assert batch.rows is not None
        (decoded,) = np.nonzero(np.isin(batch.rows.numpy(), self._decoded_rows(split)))
        decoded_pairs = [pairs[row] for row in batch.rows[decoded].tolist()]
        memory, state = model.encode(batch.inputs, batch.lengths)
        out = model.decode(memory, state, batch.targets)
        nll = model.decoder.output.token_nll(
            out.vectors.flatten(0, 1), batch.targets.flatten(), out.output_weight
        )
        counts = np.zeros((len(batch.rows), self.num_counts))
        counts[:, 0] = nll.view(batch.targets.shape).sum(1, dtype=torch.float64).cpu()
        counts[:, 1] = (batch.targets != PAD_ID).sum(1).cpu()
        rows = torch.from_numpy(decoded).to(self.device)
        memory, state = memory.select(rows), tuple(part[rows] for part in state)
        lengths = [len(pair.source) for pair in decoded_pairs]
        results = search(model, memory, state, lengths, self.config)
        texts = [self._text_of(hypotheses) for hypotheses in results]
        counts[decoded, 2:] = count_pairs(texts, [pair.text for pair in decoded_pairs])
        return counts

    def _decoded_rows(self, split: str) -> Int64:
        """Return the pairs of a split that are decoded."""
        size = count = len(self._pairs[split])
        if split == "train":
            count = min(size, len(self._pairs["valid"]))
        return np.linspace(0, size - 1, count).astype(np.int64)

    def metrics_of(self, counts: FloatCounts, split: str) -> dict[str, float]:
        """See ``ExampleTask.metrics_of``."""
        num_tokens = int(counts[1].round())
        loss = float(counts[0]) / max(num_tokens, 1)
        return {
            "num_tokens": num_tokens,
            "loss": loss,
            "perplexity": exp(loss),
            **metrics_of(counts[2:].round().astype(np.int64)),
        }

    def _detokenize(self, ids: Sequence[int]) -> str:
        return self._detokenizer.detokenize(self.prepared.vocab.decode(ids))

    def _text_of(self, hypotheses: Sequence[DecodedSequence]) -> str:
        """Return the best text; empty if there is none, as when probabilities are NaN."""
        return self._detokenize(hypotheses[0].ids) if hypotheses else ""

    def verdict(self, best_cost: float) -> str:
        """See ``Task.verdict``."""
        if self.monitor != DecodedMetric.exact_match.value or best_cost < 0:
            return ""
        return (
            "no text of valid is written exactly: train longer, or select the best model by a "
            "metric that is not 0, such as task.select_by=chrf"
        )

    def warnings(self, total_steps: int) -> list[str]:
        """See ``Task.warnings``."""
        if not self._num_too_long:
            return []
        total = self._num_too_long + len(self._pairs["train"])
        return [
            f"{self._num_too_long:,} of {total:,} pairs of train are longer than task.max_length="
            f"{self.config.max_length} tokens and left out of training; raise it to use them"
        ]

    @torch.inference_mode()
    def samples(self, model: Seq2Seq) -> dict[str, str]:
        """Return some pairs of valid with what the model writes."""
        if not self.settings.trainer.sample_tokens:
            return {}
        model = model.eval().inference_copy()
        pairs = self._pairs["valid"][:SAMPLES]
        inputs, lengths = pad([pair.source for pair in pairs])
        encoded = model.encode(inputs.to(self.device), lengths)
        results = search(model, *encoded, lengths.tolist(), self.config)
        rows = ["| source | target | written |", "| --- | --- | --- |"]
        for pair, hypotheses in zip(pairs, results, strict=True):
            source = self._detokenize(pair.source[:-1].tolist())
            cells = (source, pair.text, self._text_of(hypotheses))
            rows.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
        return {"samples": "\n".join(rows)}

    @torch.inference_mode()
    def images(self, model: Seq2Seq) -> dict[str, npt.NDArray[np.uint8]]:
        """Return the attention of some pairs of valid, over what the model writes."""
        if not self.settings.trainer.sample_tokens:
            return {}
        model = model.eval().inference_copy()
        images = {}
        for number, pair in enumerate(self._pairs["valid"][:PLOTS], 1):
            inputs = torch.from_numpy(pair.source.astype(np.int64))[None].to(self.device)
            memory, state = model.encode(inputs, None)
            (hypotheses,) = search(model, memory, state, [len(pair.source)], self.config)
            if not hypotheses:
                continue
            targets = torch.tensor([[*hypotheses[0].ids, EOS_ID]], device=self.device)
            weights = model.decode(memory, state, targets).weights[0].float().cpu().numpy()
            vocab = self.prepared.vocab
            source, target = (vocab.decode(ids[0].tolist()) for ids in (inputs, targets))
            images[f"attention/{number}"] = attention_image(weights, source, target)
        return images


def forcing_ratio(config: Seq2SeqConfig, progress: float) -> float:
    """Return the teacher forcing ratio (Bengio et al. 2015, section 2.4).

    ``inverse_sigmoid`` is half way between 1 and ``teacher_forcing`` in the middle of training.
    ``progress`` is 0 at the first training step, 1 at the last one.

    >>> config = Seq2SeqConfig("seq2seq", teacher_forcing=0.5)
    >>> config.forcing_schedule = ForcingSchedule.linear
    >>> [forcing_ratio(config, progress) for progress in (0, 0.5, 1)]
    [1.0, 0.75, 0.5]
    """
    decayed = {
        ForcingSchedule.constant: 1.0,
        ForcingSchedule.linear: progress,
        ForcingSchedule.inverse_sigmoid: 1 / (1 + math.exp(6 - 12 * progress)),
    }
    return 1 - (1 - config.teacher_forcing) * decayed[config.forcing_schedule]
