"""A short text and small models that read it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from korlm.data.vocab import EOS_ID
from korlm.evaluation.scoring import Text, Window
from korlm.models.base import LanguageModel, State

VOCAB_SIZE = 11
CPU = torch.device("cpu")


def random_text(num_tokens: int, start_id: int = EOS_ID, seed: int = 0) -> Text:
    """Ids with an <eos> at about every sixth place, the last place included."""
    random = np.random.default_rng(seed)
    ids = random.integers(4, VOCAB_SIZE, num_tokens)
    ids[random.random(num_tokens) < 1 / 6] = EOS_ID
    ids[-1] = EOS_ID
    return Text(ids.astype(np.uint16), start_id, CPU)


class UnigramLM(LanguageModel):
    """Fixed chances of each token: no parameters, no hidden vectors, no memory."""

    def __init__(self, probs: list[float]) -> None:
        super().__init__()
        self.vocab_size = len(probs)
        self.register_buffer("probs", torch.tensor(probs))

    def begin(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, dtype=torch.int64),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        assert isinstance(self.probs, Tensor)
        return self.probs.log().expand(*inputs.shape, -1), self.begin(len(inputs))


def nats_in(windows: Iterator[Window]) -> Tensor:
    """All windows in a row."""
    return torch.cat([window.nats for window in windows])
