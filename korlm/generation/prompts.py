"""Read prompts from the command line, a file, or standard input, and encode them.

Axes: V vocabulary.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from korlm.corpus.files import read_lines
from korlm.dataset.vocab import EOS_ID, NUMBER, SPECIALS, Vocab
from korlm.generation.sampling import BANNED_IDS
from korlm.modules.base import State
from korlm.runs.trained_run import TrainedRun
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import CorpusError

STDIN = "-"


def read_prompts(prompt: str | None, path: str | None) -> Iterator[str]:
    """Yield prompts in order, those of standard input as soon as their line is complete.

    Args:
        prompt: the only prompt if there is no file; None: an empty one.
        path: file with one prompt on each line, or ``-`` for standard input; spaces at the end of
            a line belong to the prompt.

    Raises:
        CorpusError: the file is missing, empty or not UTF-8, or a line is blank.
    """
    if path is None:
        if has_lone_surrogates(prompt or ""):
            raise CorpusError("prompt: is not UTF-8; set the terminal to UTF-8")
        yield prompt or ""
        return
    lines = _stdin_lines() if path == STDIN else read_lines(Path(path))
    name, number = "standard input" if path == STDIN else path, 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise CorpusError(
                f"{name}: line {number} is blank; remove it (without prompts=, a text starts "
                "without a prompt)"
            )
        yield line
    if number == 0:
        raise CorpusError(f"{name}: is empty; put one prompt on each line")


def _stdin_lines() -> Iterator[str]:
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"standard input: line {number}, byte {error.start + 1} is not utf-8; convert the "
                "text to UTF-8 first (iconv -t UTF-8)"
            ) from None


@dataclass(frozen=True)
class EncodedPrompt:
    """An encoded text.

    Attributes:
        ids: tokens of the text. A model of single sentences sees only the last line.
        last_token: last token of the last line; empty at the start of a line.
        log_probs: natural log probabilities of the next token, float32 (V,).
        state: model state after the text, each tensor (1, ...).
    """

    ids: tuple[int, ...]
    last_token: str
    log_probs: Tensor
    state: State


def banned_token_ids(vocab: Vocab) -> tuple[int, ...]:
    """Return the ids of tokens without a spelling: <num> and all special tokens but <eos>."""
    if vocab.normalize_numbers and NUMBER in vocab.tokens:
        return (*BANNED_IDS, vocab.tokens.index(NUMBER))
    return BANNED_IDS


class ContextEncoder:
    """Encodes texts with a run's tokenizer and an inference copy of its model.

    Kkma starts with the first text that is not blank (about 1 s) and runs until ``close``. The
    lines before the last one are encoded once, as long as they do not change.

    Args:
        device: device of the model; None: where it is.
    """

    def __init__(
        self,
        run: TrainedRun,
        device: torch.device | None = None,
    ) -> None:
        self.model, self.text_encoder = run.inference_model(device), run.text_encoder()
        self._start_id = run.start_id
        self._earlier: tuple[str, list[int], State] | None = None

    @torch.inference_mode()
    def encode(self, text: str) -> EncodedPrompt:
        """Encode a text whose last line is unfinished."""
        earlier, _, line = text.rpartition("\n")
        earlier_ids, state = self._encode_earlier(earlier)
        ids, last_token = self._tokenize([line])
        ids = ids[:-1]  # without <eos>: the line is unfinished
        inputs = [self._start_id, *ids]
        if len(inputs) > 1:
            state = self.model.advance(self._tensor(inputs[:-1])[None], state)
        log_probs, state = self.model.step(self._tensor(inputs[-1:]), state)
        return EncodedPrompt((*earlier_ids, *ids), last_token, log_probs[0], state)

    def _encode_earlier(self, text: str) -> tuple[list[int], State]:
        """Return the ids of finished lines, and the state before their last <eos>."""
        if self._start_id != EOS_ID:  # a model of single sentences: each starts without context
            return [], self.model.initial_state(1)
        if self._earlier is None or self._earlier[0] != text:
            ids, _ = self._tokenize(text.split("\n"))
            state = self.model.initial_state(1)
            if ids:
                inputs = self._tensor([self._start_id, *ids[:-1]])
                state = self.model.advance(inputs[None], state)
            self._earlier = text, ids, state
        return self._earlier[1:]

    def _tokenize(self, lines: Sequence[str]) -> tuple[list[int], str]:
        """Return the ids of lines, each with its <eos>, and the last token before the last <eos>.

        Blank lines have no tokens.
        """
        if not any(line.strip() for line in lines):
            return [], ""
        encoded = self.text_encoder.read_texts(lines)
        morphs = encoded.table.column("morphs")[-1].as_py() or [""]
        # A special token here is a word of the text that only looks like one.
        return encoded.ids.tolist(), "" if morphs[-1] in SPECIALS else morphs[-1]

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        device = next((tensor.device for tensor in self.model.state_dict().values()), None)
        return torch.tensor(ids, dtype=torch.int64, device=device)
