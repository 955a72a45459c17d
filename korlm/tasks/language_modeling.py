"""Language modeling: predict each token from the ones before it.

Loss: negative log-likelihood in nats, summed over the tokens of a batch. Metrics: those of
metrics.json (``korlm.evaluation.metrics``).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence

import torch

from korlm.config import Mode, NgramConfig, TrainSettings
from korlm.config.metrics import LANGUAGE_MODELING
from korlm.dataset.batches import Batch, Batches, build_batches
from korlm.dataset.vocab import BOS_ID, EOS, EOS_ID, UNK_ID, Vocab
from korlm.detokenizers.base import Detokenizer, StreamingDetokenizer
from korlm.detokenizers.registry import load_from_run
from korlm.evaluation.metrics import LossSums, exp, metrics
from korlm.generation.sampling import sample_ids
from korlm.models.base import LanguageModel, TrainingLoss
from korlm.models.registry import build_model
from korlm.modules.base import State
from korlm.tasks import advice
from korlm.tasks.base import PassMeter, Task
from korlm.utils.distributed import SINGLE_PROCESS, ProcessGroup
from korlm.utils.torch_backend import tf32

SAMPLE_TEMPERATURE = 0.8


class LanguageModelingTask(Task[LanguageModel]):
    """Trains a language model on a prepared corpus.

    The run directory holds what the detokenizer has learned.

    Attributes:
        ids: split -> token ids (N,), uint16 or uint32.

    Raises:
        CorpusError: the training split is too small for the batch size.
    """

    name = LANGUAGE_MODELING
    headline = train_headline = "perplexity"

    def set_up(self) -> None:
        """See ``Task.set_up``."""
        self.ids = {split: self.prepared.ids(split) for split in self.prepared.stats}
        # An n-gram model is counted, so any amount of text is enough.
        is_training = not isinstance(self.settings.model, NgramConfig)
        self.train_batches = self._batches("train", is_training)
        self.eval_batches = {split: self._batches(split, False) for split in self.ids}

    def _batches(self, split: str, is_training: bool) -> Batches:
        """Return this process's rows of the batches of a split.

        Training batches are shuffled if they are sentences, and must fill the batch size.
        """
        config, seed = self.settings.batches, self.settings.seed
        batches = build_batches(self.ids[split], config, is_training, seed, split, self.device)
        return self.rows_of_process(batches)

    @classmethod
    def build_model(
        cls, settings: TrainSettings, vocab: Vocab, labels: Sequence[str]
    ) -> LanguageModel:
        """See ``Task.build_model``."""
        return build_model(settings.model, len(vocab), vocab.tokens, vocab.counts)

    def training_loss(
        self, model: LanguageModel, batch: Batch, state: State | None
    ) -> TrainingLoss:
        """See ``Task.training_loss``; the model adds its own regularization."""
        return model.training_loss(batch.inputs, batch.targets, state, batch.lengths)

    def evaluate(
        self, model: LanguageModel, split: str, on_batch: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """See ``Task.evaluate``."""
        meter = PassMeter(self.device)
        sums = sum_losses(model, self.eval_batches[split], self.device, on_batch, self.group)
        return metrics(sums, self.prepared.stats[split], meter.peak_memory_mb())

    def train_metrics(self, loss: float) -> dict[str, float]:
        """See ``Task.train_metrics``."""
        return {"loss": loss, "perplexity": exp(loss)}

    def best_scalars(self, best_cost: float) -> dict[str, float]:
        """See ``Task.best_scalars``: the lowest perplexity."""
        return {"best/valid_perplexity": exp(best_cost)}

    def samples(self, model: LanguageModel) -> dict[str, str]:
        """Return a sampled text as Korean text (``samples``) and as tokens (``samples/tokens``).

        Without a detokenizer ``samples`` holds the tokens.
        """
        count = self.settings.trainer.sample_tokens
        if not count:
            return {}
        start_id = EOS_ID if self.settings.batches.mode is Mode.stream else BOS_ID
        model.eval()
        ids = sample_ids(model, start_id, count, SAMPLE_TEMPERATURE, self.settings.seed)
        tokens = self.prepared.vocab.decode(ids)
        joined = " ".join("\n\n" if token == EOS else token for token in tokens)
        if self._detokenizer is None:
            return {"samples": joined}
        stream = StreamingDetokenizer(self._detokenizer)
        text = "".join(map(stream.add, tokens)) + stream.end()
        # In Markdown a line that begins with four spaces is code.
        lines = (" ".join(line.split()) for line in text.splitlines())
        return {"samples": "\n\n".join(lines), "samples/tokens": joined}

    def warnings(self, total_steps: int) -> list[str]:
        """See ``Task.warnings``."""
        hints = [advice.on_unknown(self.prepared.stats["valid"], self.prepared.vocab_config)]
        if not isinstance(self.settings.model, NgramConfig):
            num_batches = len(self.train_batches)
            hints.append(advice.on_steps(self.settings.trainer, num_batches, total_steps))
        return [hint for hint in hints if hint]

    def log_hints(self) -> list[str]:
        """See ``Task.log_hints``."""
        return [advice.PERPLEXITIES]

    def verdict(self, best_cost: float) -> str:
        """See ``Task.verdict``: worse than guessing among the tokens of the vocabulary."""
        if best_cost <= math.log(len(self.prepared.vocab)):
            return ""
        return (
            f"the best valid perplexity, {exp(best_cost):.4g}, is worse than guessing among the "
            f"{len(self.prepared.vocab):,} tokens of the vocabulary: train longer or lower "
            "optimizer.lr and matrix_lr"
        )

    @functools.cached_property
    def _detokenizer(self) -> Detokenizer | None:
        tokenizer: str = self.prepared.manifest["settings"]["tokenizer"]["name"]
        return load_from_run(tokenizer, self.folder, self.prepared.tokenizer_model)


@torch.inference_mode()
def sum_losses(
    model: LanguageModel,
    batches: Batches,
    device: torch.device,
    on_batch: Callable[[], None] = lambda: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> LossSums:
    """Return the summed loss of one pass over a split, without dropout and in fp32.

    Args:
        model: set to evaluation mode.
        batches: of the split.
        device: of the model.
        on_batch: called before each batch.
        group: the processes that share the rows of ``batches``; all receive the global sums.
    """
    model.eval()
    started = time.perf_counter()
    sums_device = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    sums = torch.zeros(2, dtype=torch.float64, device=sums_device)  # all tokens, unknown tokens
    num_unk = torch.zeros((), dtype=torch.int64, device=device)
    num_tokens = 0
    state: State | None = None
    with tf32(False):
        for batch in batches.epoch(0):
            on_batch()
            num_tokens += batch.num_targets  # of all processes
            if not len(batch.inputs):  # fewer rows than processes
                continue
            batch = batch.to(device)
            nll, next_state = model.token_nll(batch.inputs, batch.targets, state, batch.lengths)
            state = next_state if batches.carries_state else None
            is_unk = batch.targets == UNK_ID
            nll = nll.to(sums.device, torch.float64)
            # Boolean indexing would force a synchronization with a GPU.
            unk_nll = torch.where(is_unk.to(sums.device), nll, 0.0)
            sums += torch.stack([nll.sum(), unk_nll.sum()])
            num_unk += is_unk.sum()
        nats, unk_nats = group.sum(sums).tolist()
        num_unk = group.sum(num_unk)
        return LossSums(nats, unk_nats, num_tokens, int(num_unk), time.perf_counter() - started)
