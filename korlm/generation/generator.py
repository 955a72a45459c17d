"""Generate text with a trained run: by sampling token by token, or by beam search.

    with Generator(korlm.load("outputs/runs/DIR")) as generator:
        for piece in generator.stream("나는 학교에 ", Sampling(temperature=0.8, top_p=0.95)):
            print(piece, end="", flush=True)

A text starts with its prompt. If the prompt does not end in a space, its last eojeol may be
unfinished: it is sampled from all eojeols that start with its keys (``Completer``), and kept as it
is if the model knows none. The generated text follows after a space.
"""

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.config import GenerateSettings
from korlm.dataset.vocab import EOS_ID
from korlm.detokenizers.base import StreamingDetokenizer
from korlm.generation.beam_search import BeamStart, beam_search
from korlm.generation.completion import Completer, split_typed
from korlm.generation.eojeol_search import Node
from korlm.generation.prompts import banned_token_ids
from korlm.generation.sampling import Sampling, mask_banned, next_step
from korlm.modules.base import State
from korlm.runs.trained_run import TrainedRun

# Completion of a prompt's last eojeol, once a text:
PROMPT_EXPANSIONS = 400
MAX_PROMPT_COMPLETIONS = 200


@dataclass(frozen=True)
class StoppingCriteria:
    """Criteria that end a text.

    Attributes:
        max_tokens: maximum number of generated tokens.
        num_sentences: number of <eos> after which the text ends.
    """

    max_tokens: int = 100
    num_sentences: int = 1


@dataclass(frozen=True)
class Continuation:
    """A prompt, or a prompt with a completed last eojeol, before the first generated token.

    Attributes:
        text: the text so far, without an eojeol that ``stream`` still holds.
        stream: detokenizer of the tokens that follow.
        scores: natural log probabilities of the next token, (V,).
        state: model state before the next token.
        ids: the tokens so far.
    """

    text: str
    stream: StreamingDetokenizer
    scores: Tensor
    state: State
    ids: tuple[int, ...]


class Generator(Completer):
    """Generates texts with a trained run, and completes eojeols. Not thread-safe.

    A prompt starts the run's tokenizer (Kkma: about 1 s), which runs until ``close``.
    """

    def __init__(
        self,
        run: TrainedRun,
        device: torch.device | None = None,
    ) -> None:
        super().__init__(run, device)
        self._detokenizer, self._tokens = self.lexicon.detokenizer, run.vocab.tokens
        self._model, self._start_id = self.encoder.model, run.start_id
        self._banned_ids = banned_token_ids(run.vocab)

    def texts(self, prompt: str, settings: GenerateSettings) -> Iterator[Iterator[str]]:
        """Yield the texts of a prompt in pieces: samples, or the best ones of a beam search."""
        stopping = StoppingCriteria(settings.max_tokens, settings.sentences)
        if settings.beams is not None:
            best = self.beam_search(prompt, settings.beams, stopping, settings.length_penalty)
            yield from (iter([text]) for text, _ in best[: settings.num_samples])
            return
        sampling = Sampling(
            *(settings.temperature, settings.top_k, settings.top_p, settings.repetition_penalty)
        )
        for number in range(settings.num_samples):
            # PyTorch takes no integer of NumPy.
            seed = None if settings.seed is None else int(settings.seed) + number
            yield self.stream(prompt, sampling, stopping, seed)

    def stream(
        self,
        prompt: str = "",
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        stopping: StoppingCriteria = StoppingCriteria(),
        seed: int | None = None,
    ) -> Iterator[str]:
        """Yield a sampled text in pieces, each as soon as no later token can change it.

        Args:
            prompt: start of the text; empty: the start of a sentence.
            sampling: how to sample.
            stopping: when to stop.
            seed: random seed, with which the same arguments yield the same text; None: another
                text each time.
        """
        generator = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)
        completions = self._complete_prompt(prompt)
        completion = None
        if completions:
            scores = torch.tensor([log_prob for _, log_prob in completions])
            completion = completions[sampling.sample(scores, generator)][0]
        continuation = self._continuation(prompt, completion)
        yield continuation.text
        yield from self._sample(continuation, sampling, stopping, generator)

    def beam_search(
        self,
        prompt: str = "",
        num_beams: int = 8,
        stopping: StoppingCriteria = StoppingCriteria(),
        length_penalty: float = 0.6,
    ) -> list[tuple[str, float]]:
        """Return at most ``num_beams`` texts of a beam search with their scores, descending.

        Args:
            prompt: start of the texts; empty: the start of a sentence.
            num_beams: hypotheses kept at each length.
            stopping: when to stop.
            length_penalty: alpha of Wu et al. 2016; 0: none.
        """
        completions: Sequence[tuple[Node | None, float]]
        completions = self._complete_prompt(prompt)[:num_beams] or [(None, 0.0)]
        continuations = [self._continuation(prompt, completion) for completion, _ in completions]
        states = zip(*(continuation.state for continuation in continuations), strict=True)
        start = BeamStart(
            torch.stack([continuation.scores for continuation in continuations]),
            tuple(torch.cat(tensors) for tensors in states),
            torch.tensor([log_prob for _, log_prob in completions], dtype=torch.float64),
        )
        hypotheses = beam_search(
            self._model,
            start,
            num_beams,
            stopping.max_tokens,
            length_penalty,
            stopping.num_sentences,
            self._start_id,
            self._banned_ids,
        )
        scores: dict[str, float] = {}
        for hypothesis in hypotheses:
            continuation = continuations[hypothesis.start_row]
            stream = copy.copy(continuation.stream)
            pieces = [stream.add(self._tokens[token_id]) for token_id in hypothesis.ids]
            text = continuation.text + "".join(pieces) + stream.end()
            # Different tokens may spell the same text: the first one has the best score.
            scores.setdefault(text.removesuffix("\n") + "\n", hypothesis.score)
        return list(scores.items())

    @torch.inference_mode()
    def _sample(
        self,
        continuation: Continuation,
        sampling: Sampling,
        stopping: StoppingCriteria,
        generator: torch.Generator,
    ) -> Iterator[str]:
        """Yield the text after a continuation in pieces."""
        stream, scores, state = continuation.stream, continuation.scores, continuation.state
        previous_ids = set(continuation.ids) - {EOS_ID}  # no repetition penalty for <eos>
        num_sentences, token_id = 0, -1
        for step in range(stopping.max_tokens):
            token_id = sampling.sample(scores, generator, previous_ids)
            if piece := stream.add(self._tokens[token_id]):
                yield piece
            num_sentences += token_id == EOS_ID
            if num_sentences == stopping.num_sentences:
                return
            if token_id != EOS_ID:
                previous_ids.add(token_id)
            if step + 1 < stopping.max_tokens:
                ids = torch.tensor([token_id], device=state[0].device)
                log_probs, state = next_step(self._model, ids, state, self._start_id)
                scores = mask_banned(log_probs[0], self._banned_ids, token_id == EOS_ID)
        if token_id != EOS_ID:  # <eos> has ended the line
            yield stream.end() + "\n"

    def _complete_prompt(self, prompt: str) -> list[tuple[Node, float]]:
        """Return completions of the last eojeol of a prompt with natural log probabilities.

        They are in descending order; there are none after a space, or if the model knows none.
        """
        if not split_typed(prompt)[1]:
            return []
        result = self.search(prompt, MAX_PROMPT_COMPLETIONS, PROMPT_EXPANSIONS)
        completions = sorted(
            result.eojeols.values(), key=lambda eojeol: (-eojeol[0], eojeol[1].surface)
        )
        return [
            (node, math.log(p / result.typed_probability))
            for p, node in completions[:MAX_PROMPT_COMPLETIONS]
        ]

    @torch.inference_mode()
    def _continuation(self, prompt: str, completion: Node | None) -> Continuation:
        """Return the continuation of a prompt, with a completion of its last eojeol if given."""
        lexicon = self.lexicon
        before, typed = split_typed(prompt)
        if completion is None:
            text = prompt + " " * bool(typed)
            context = self.encode_context(text)
            ids, state = context.ids, context.state
            next_probs = lexicon.allowed_probs(context.log_probs)
            probs = lexicon.first_token_probs(context.last_token, next_probs)
            stream = StreamingDetokenizer(self._detokenizer)
        else:
            assert completion.parent is not None and completion.parent.state is not None
            state = completion.parent.state
            last_id = torch.tensor([completion.ids[-1]], device=state[0].device)
            log_probs, state = self._model.step(last_id, state)
            text, last_token = before, lexicon.tokens[completion.ids[-1]]
            ids = (*self.encode_context(before).ids, *completion.ids)
            next_probs = lexicon.allowed_probs(log_probs[0])
            probs = lexicon.after_eojeol_probs(last_token, next_probs)
            stream = StreamingDetokenizer(self._detokenizer, last_token, completion.surface)
        scores = torch.from_numpy(probs).log()
        if not scores.isfinite().any():  # an unsmoothed n-gram model may exclude every token
            scores[EOS_ID] = 0.0
        return Continuation(text, stream, scores, state, ids)
