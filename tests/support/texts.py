"""Random texts, a unigram model and a run for tests of evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korlm.config import VocabConfig
from korlm.dataset.batches import sentence_bounds
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab
from korlm.evaluation.evaluate import EvaluationResult, summarize
from korlm.evaluation.modes import ModeResult
from korlm.evaluation.texts import EvaluationText
from korlm.evaluation.token_scores import Floats, Window
from korlm.models.base import LanguageModel
from korlm.modules.base import State

VOCAB_SIZE = 11


def random_ids(num_tokens: int, seed: int = 0) -> Ids:
    """Return ids in which about every sixth one is <eos>, the last one included."""
    random = np.random.default_rng(seed)
    ids = random.integers(4, VOCAB_SIZE, num_tokens)
    ids[random.random(num_tokens) < 1 / 6] = EOS_ID
    ids[-1] = EOS_ID
    return ids.astype(np.uint16)


class UnigramLM(LanguageModel):
    """Fixed token probabilities: no parameters, no hidden states, no memory."""

    def __init__(self, probs: list[float]) -> None:
        super().__init__()
        self.vocab_size = len(probs)
        self.register_buffer("probs", torch.tensor(probs))

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, dtype=torch.int64),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        assert isinstance(self.probs, Tensor)
        return self.probs.log().expand(*inputs.shape, -1), self.initial_state(len(inputs))


def nats_in(windows: Iterator[Window]) -> Tensor:
    """Return the nats of all windows."""
    return torch.cat([window.nats for window in windows])


@dataclass
class ToyRun:
    """The attributes of a ``TrainedRun`` that evaluation uses."""

    vocab: Vocab
    model: LanguageModel = field(default_factory=lambda: UnigramLM([1 / VOCAB_SIZE] * VOCAB_SIZE))
    folder: Path = Path("runs/known")
    fingerprint: str = "f"
    start_id: int = EOS_ID
    prepared: Path = Path("missing")
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            model=SimpleNamespace(name="lstm"), tokenizer=SimpleNamespace(name="syllable")
        )
    )


def toy_run(first: str = "가", **changes: Any) -> Any:
    """Return a run whose vocabulary has counts in all frequency bins."""
    counts = (1, 5, 50, 500, 5000, 50_000, 9)
    tokens = {chr(ord(first) + n): count for n, count in enumerate(counts)}
    return ToyRun(Vocab(Counter(tokens), VocabConfig(min_freq=1)), **changes)


def random_text(num_tokens: int = 300, num_docs: int = 5, seed: int = 0) -> EvaluationText:
    """Return random ids, some unknown, in sentences of documents of about the same size."""
    random = np.random.default_rng(seed)
    ids = random_ids(num_tokens, seed)
    ids[(ids != EOS_ID) & (random.random(num_tokens) < 0.1)] = UNK_ID
    starts, ends = sentence_bounds(ids)
    count = len(starts)
    return EvaluationText(
        ids=ids,
        spelling_nats=np.where(ids == UNK_ID, random.random(num_tokens) * 9, 0.0),
        lengths=ends - starts,
        num_eojeol=random.integers(1, 5, count),
        num_chars=random.integers(5, 30, count),
        documents=np.arange(count) * num_docs // count,
        doc_ids=[f"문서 {number}.txt" for number in range(num_docs)],
        status={"ok": count, "empty": 2},
    )


def result_of(text: EvaluationText, nats: Floats, run: Any = None) -> EvaluationResult:
    """Return the evaluation of a text with the given nats."""
    return summarize(ModeResult(nats, 2.0, {}), text, run or toy_run())


def random_nats(text: EvaluationText, seed: int = 0, mean: float = 4.0) -> Floats:
    """Return random nats with another mean for each document."""
    random = np.random.default_rng(seed)
    means = mean + 0.3 * random.standard_normal(len(text.doc_ids))
    nats: Floats = random.exponential(np.repeat(means[text.documents], text.lengths))
    return nats
