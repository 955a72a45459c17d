"""A short text and small models that read it."""

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
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab
from korlm.evaluation.evaluate import EvaluationResult, summarize
from korlm.evaluation.modes import ModeResult
from korlm.evaluation.texts import EvaluationText
from korlm.evaluation.token_scores import Nats, TokenStream, Window
from korlm.models.base import LanguageModel
from korlm.modules.state import State

VOCAB_SIZE = 11
CPU = torch.device("cpu")


def random_text(num_tokens: int, start_id: int = EOS_ID, seed: int = 0) -> TokenStream:
    """Ids with an <eos> at about every sixth place, the last place included."""
    random = np.random.default_rng(seed)
    ids = random.integers(4, VOCAB_SIZE, num_tokens)
    ids[random.random(num_tokens) < 1 / 6] = EOS_ID
    ids[-1] = EOS_ID
    return TokenStream(ids.astype(np.uint16), start_id, CPU)


class UnigramLM(LanguageModel):
    """Fixed chances of each token: no parameters, no hidden vectors, no memory."""

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
    """All windows in a row."""
    return torch.cat([window.nats for window in windows])


@dataclass
class KnownRun:
    """A run as far as judging looks at it."""

    vocab: Vocab
    model: LanguageModel = field(default_factory=lambda: UnigramLM([1 / VOCAB_SIZE] * VOCAB_SIZE))
    folder: Path = Path("runs/known")
    fingerprint: str = "f"
    start_id: int = EOS_ID
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            model=SimpleNamespace(name="lstm"), tokenizer=SimpleNamespace(name="syllable")
        )
    )
    spelling: Any = None

    def reader(self) -> Any:
        raise NotImplementedError


def known_run(first: str = "가") -> KnownRun:
    """A run whose vocabulary's counts fall into all bands.

    Args:
        first: of its tokens; others make another vocabulary.
    """
    counts = (1, 5, 50, 500, 5000, 50_000, 9)
    named = {chr(ord(first) + at): count for at, count in enumerate(counts)}
    return KnownRun(Vocab(Counter(named), VocabConfig(min_freq=1)))


def sentences_of(num_tokens: int = 300, num_docs: int = 5, seed: int = 0) -> EvaluationText:
    """Random ids, some unknown, in sentences that belong to documents of about the same size."""
    random = np.random.default_rng(seed)
    ids = random_text(num_tokens, seed=seed).ids.copy()
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


def judged_of(text: EvaluationText, nats: Nats, run: KnownRun | None = None) -> EvaluationResult:
    """A text that cost so many nats a token."""
    return summarize(ModeResult(nats, 2.0, {}), text, run or known_run())


def costs(text: EvaluationText, seed: int = 0, mean: float = 4.0) -> Nats:
    """Random nats, of which each document has its own mean."""
    random = np.random.default_rng(seed)
    means = mean + 0.3 * random.standard_normal(len(text.doc_ids))
    nats: Nats = random.exponential(np.repeat(means[text.documents], text.lengths))
    return nats
