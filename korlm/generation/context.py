"""What stands before the next token: any text, read by a trained run.

Axes: V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from korlm.dataset.text_encoder import TextEncoder
from korlm.dataset.vocab import EOS_ID, NUMBER, SPECIALS, Vocab
from korlm.detokenizers.base import Detokenizer
from korlm.generation.sampling import UNWRITABLE
from korlm.models.base import LanguageModel
from korlm.modules.state import State


class Run(Protocol):
    """What of a trained run (``korlm.load``) it takes to write text."""

    @property
    def model(self) -> LanguageModel: ...  # noqa: D102
    @property
    def vocab(self) -> Vocab: ...  # noqa: D102
    @property
    def start_id(self) -> int: ...  # noqa: D102
    def reader(self) -> TextEncoder: ...  # noqa: D102
    def detokenizer(self) -> Detokenizer: ...  # noqa: D102


@dataclass(frozen=True)
class Context:
    """Where a text has come to.

    Attributes:
        ids: of its tokens, as far as the model remembers them.
        left: the last token of its last line; empty at the start of a line.
        log_probs: natural logs of the probabilities of the next token, float32 (V,).
        state: after all of it, each tensor (1, ...).
    """

    ids: tuple[int, ...]
    left: str
    log_probs: Tensor
    state: State


def banned_token_ids(vocab: Vocab) -> tuple[int, ...]:
    """Ids of tokens that stand for no text: the special ones, <eos> aside, and <num>."""
    numbers = (
        [vocab.tokens.index(NUMBER)] if vocab.normalize_numbers and NUMBER in vocab.tokens else []
    )
    return (*UNWRITABLE, *numbers)


class ContextReader:
    """Reads texts with a run's tokenizer and a frozen copy of its model; a context manager.

    Kkma starts with the first text that is not blank (about 5 s) and stays until ``close``. What
    stands in earlier lines is read once, as long as it stays the same.

    Args:
        run: an opened run.
        device: where its model runs; None: where it is.
    """

    def __init__(self, run: Run, device: torch.device | None = None) -> None:
        self.model = run.model.inference_copy()
        if device is not None:
            self.model.to(device)
        self.vocab = run.vocab
        self.start_id = run.start_id
        self._run = run
        self._reader: TextEncoder | None = None
        self._earlier: tuple[str, list[int], State] | None = None

    def __enter__(self) -> ContextReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the tokenizer; another text starts it anew."""
        if self._reader is not None:
            self._reader.__exit__()
            self._reader = None

    @torch.inference_mode()
    def read(self, text: str) -> Context:
        """What may follow a text; its last line goes on."""
        earlier, _, line = text.rpartition("\n")
        before, state = self._after(earlier)
        ids, left = self._tokens([line])
        ids = ids[:-1]  # the line does not end here
        unread = [self.start_id, *ids]
        if len(unread) > 1:
            state = self.model.advance(self._tensor(unread[:-1])[None], state)
        log_probs, state = self.model.step(self._tensor(unread[-1:]), state)
        return Context((*before, *ids), left, log_probs[0], state)

    def _after(self, earlier: str) -> tuple[list[int], State]:
        """The ids of earlier lines, and the state after all of them but the last <eos>."""
        if self.start_id != EOS_ID:  # each sentence is read by itself
            return [], self.model.initial_state(1)
        if self._earlier is None or self._earlier[0] != earlier:
            ids, _ = self._tokens(earlier.split("\n"))
            state = self.model.initial_state(1)
            if ids:
                state = self.model.advance(self._tensor([self.start_id, *ids[:-1]])[None], state)
            self._earlier = earlier, ids, state
        return self._earlier[1:]

    def _tokens(self, lines: Sequence[str]) -> tuple[list[int], str]:
        """The ids of lines, <eos> behind each that is not blank; the last token before it."""
        if not any(line.strip() for line in lines):
            return [], ""
        if self._reader is None:
            self._reader = self._run.reader()
        reading = self._reader.read_texts(lines)
        morphs = reading.table.column("morphs")[-1].as_py() or [""]
        # Text that looks like a special token is none.
        return reading.ids.tolist(), "" if morphs[-1] in SPECIALS else morphs[-1]

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        device = next((p.device for p in self.model.state_dict().values()), None)
        return torch.tensor(ids, dtype=torch.int64, device=device)
