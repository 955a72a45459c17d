"""A language of nine morphs, few enough to enumerate all eojeols, and a run with a model of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from korlm.config import TokenizerConfig, VocabConfig
from korlm.dataset.spelling_model import CharNgramModel
from korlm.dataset.text_encoder import TextEncoder
from korlm.dataset.vocab import SPECIALS, Vocab
from korlm.detokenizers.base import Detokenizer, SyllableDetokenizer
from korlm.detokenizers.kkma.detokenizer import KkmaDetokenizer, untrained_spacing
from korlm.models.base import LanguageModel
from korlm.modules.base import State

MORPHS = ["도", "돕", "먹", "하", "아", "어", "을", "ㄴ", "고"]
TOKENS = [*SPECIALS, *MORPHS]
V = len(TOKENS)
ENDINGS = {"아", "어", "을", "ㄴ", "고"}  # mostly ends an eojeol


class ToyDetokenizer(KkmaDetokenizer):
    """Kkma's rules with a space probability that depends on the left morph alone."""

    def __init__(self) -> None:
        super().__init__({}, untrained_spacing())
        self.set_vocab(TOKENS)

    def _space_probs(self, left: str, rights: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.full(len(rights), 0.95 if left in ENDINGS else 0.4, np.float32)

    def _vocab_space_probs(self, left: str) -> npt.NDArray[np.float32]:
        return Detokenizer._vocab_space_probs(self, left)


class PairsModel(LanguageModel):
    """Random probabilities of each token after the last two."""

    def __init__(self, vocab_size: int = V, seed: int = 1, spread: float = 2.0) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        generator = torch.Generator().manual_seed(seed)
        shape = (vocab_size, vocab_size, vocab_size)
        self.table = nn.Parameter(torch.randn(shape, generator=generator) * spread)

    def initial_state(self, batch_size: int) -> State:
        return (torch.zeros(batch_size, dtype=torch.int64),)

    def log_probs(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        (last,) = self.initial_state(len(inputs)) if state is None else state
        before = torch.cat([last[:, None], inputs[:, :-1]], 1)
        return self.table[before, inputs].log_softmax(-1), (inputs[:, -1],)


@dataclasses.dataclass
class ToyRun:
    """The attributes of a ``TrainedRun`` that generation uses; tokens are eojeols or characters."""

    model: LanguageModel
    vocab: Vocab
    start_id: int = 3
    tokenizer: str = "eojeol"
    own_detokenizer: Detokenizer = dataclasses.field(default_factory=ToyDetokenizer)

    def text_encoder(self) -> TextEncoder:
        spelling = CharNgramModel.train(["가나"])
        return TextEncoder(TokenizerConfig(name=self.tokenizer), self.vocab, spelling)

    def inference_model(self, device: torch.device | None = None) -> LanguageModel:
        return self.model.inference_copy()

    def detokenizer(self) -> Detokenizer:
        return self.own_detokenizer


def toy_vocab(tokens: Sequence[str] = TOKENS) -> Vocab:
    return Vocab.restore(tokens, [1] * len(tokens), VocabConfig())


def toy_run(seed: int = 1, start_id: int = 3) -> ToyRun:
    """Return a run with Kkma's rules for the nine morphs; prompts are morphs between spaces."""
    return ToyRun(PairsModel(seed=seed), toy_vocab(), start_id)


def syllable_run(seed: int = 1) -> ToyRun:
    """Return a run whose tokens are syllables and spaces."""
    tokens = [*SPECIALS, *"▁가나다."]
    model = PairsModel(len(tokens), seed)
    return ToyRun(model, toy_vocab(tokens), 3, "syllable", SyllableDetokenizer())
