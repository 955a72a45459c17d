"""Text that a trained run writes: drawn token by token, or found by beam search.

    with Generator(korlm.load("outputs/runs/DIR")) as generator:
        for piece in generator.stream("나는 학교에 ", Sampling(temperature=0.8, top_p=0.95)):
            print(piece, end="", flush=True)

A text begins with its prompt as it was written. Where no blank stands at the prompt's end, its last
eojeol may go on: it is drawn from all eojeols that begin with the keys typed (``Completer``). If
the model knows none, it stays as it is. Further text goes on behind a blank.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from korlm.dataset.vocab import EOS_ID
from korlm.detokenizers.streaming import StreamingDetokenizer
from korlm.generation.beam_search import Start, beam_search
from korlm.generation.completion import Completer, split_typed
from korlm.generation.context import Run, banned_token_ids
from korlm.generation.eojeol_search import Node
from korlm.generation.sampling import Sampling, mask_banned, next_step
from korlm.modules.state import State

ENDINGS_EFFORT = 400  # rows of tokens looked at for them, once a text


MAX_ENDINGS = 200  # eojeols that the last one of a prompt may become


@dataclass(frozen=True)
class StoppingCriteria:
    """Where a text ends.

    Attributes:
        max_tokens: at most, the prompt not counted.
        sentences: after so many <eos>.
    """

    max_tokens: int = 100
    sentences: int = 1


@dataclass(frozen=True)
class Continuation:
    """Where a text goes on from.

    Attributes:
        written: of the prompt, to its last blank.
        stream: takes what follows.
        scores: natural logs of the probabilities of the first token, (V,).
        state: before that.
        ids: of the tokens before.
    """

    written: str
    stream: StreamingDetokenizer
    scores: Tensor
    state: State
    ids: tuple[int, ...]


class Generator:
    """Writes texts with a trained run; a context manager. Not for several threads at once.

    A prompt starts the run's tokenizer (Kkma: about 5 s), which stays until ``close``.

    Args:
        run: an opened run (``korlm.load``).
        device: where the model runs; None: where it is.
    """

    def __init__(self, run: Run, device: torch.device | None = None) -> None:
        self.completer = Completer(run, device)
        self._recomposer, self._vocab = self.completer.lexicon.detokenizer, run.vocab
        self._model, self._start_id = self.completer.reader.model, run.start_id
        self._banned = banned_token_ids(run.vocab)

    def __enter__(self) -> Generator:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the tokenizer; another prompt starts it anew."""
        self.completer.close()

    def stream(
        self,
        prompt: str = "",
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        length: StoppingCriteria = StoppingCriteria(),
        seed: int = 1,
    ) -> Iterator[str]:
        """A text drawn from the model, in pieces that are final; together they are the text.

        Args:
            prompt: what it begins with; empty: a sentence begins.
            sampling: how to draw.
            length: where it ends.
            seed: of the draws: the same settings and seed give the same text.
        """
        generator = torch.Generator().manual_seed(seed)
        endings = self._endings(prompt)
        chosen = None
        if endings:
            chances = torch.tensor([log_prob for _, log_prob in endings])
            chosen = endings[sampling.draw(chances, generator)][0]
        opening = self._opening(prompt, chosen)
        yield opening.written
        yield from self._draw(opening, sampling, length, generator)

    def texts(
        self,
        prompt: str = "",
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        length: StoppingCriteria = StoppingCriteria(),
        seed: int = 1,
        num_samples: int = 1,
    ) -> list[str]:
        """Several texts; arguments as of ``stream``, whose text of seed + n the n-th one is."""
        return [
            "".join(self.stream(prompt, sampling, length, seed + number))
            for number in range(num_samples)
        ]

    def best(
        self,
        prompt: str = "",
        beams: int = 8,
        length: StoppingCriteria = StoppingCriteria(),
        length_penalty: float = 0.6,
    ) -> list[tuple[str, float]]:
        """The best texts of a beam search, at most ``beams``, with their scores, falling.

        Args:
            prompt: what they begin with; empty: a sentence begins.
            beams: hypotheses kept.
            length: where a text ends.
            length_penalty: alpha of Wu et al. 2016; 0: none.
        """
        endings: Sequence[tuple[Node | None, float]]
        endings = self._endings(prompt)[:beams] or [(None, 0.0)]
        openings = [self._opening(prompt, ending) for ending, _ in endings]
        states = zip(*(opening.state for opening in openings), strict=True)
        start = Start(
            torch.stack([opening.scores for opening in openings]),
            tuple(torch.cat(parts) for parts in states),
            torch.tensor([log_prob for _, log_prob in endings], dtype=torch.float64),
        )
        found = beam_search(
            *(self._model, start, beams, length.max_tokens, length_penalty, length.sentences),
            *(self._start_id, self._banned),
        )
        best: dict[str, float] = {}
        for hypothesis in found:
            opening = openings[hypothesis.origin]
            stream = copy.copy(opening.stream)
            pieces = [stream.add(self._vocab.tokens[token_id]) for token_id in hypothesis.ids]
            text = opening.written + "".join(pieces) + stream.end()
            # Different tokens may spell the same text: the better row counts.
            best.setdefault(text.removesuffix("\n") + "\n", hypothesis.score)
        return list(best.items())

    @torch.inference_mode()
    def _draw(
        self,
        opening: Continuation,
        sampling: Sampling,
        length: StoppingCriteria,
        generator: torch.Generator,
    ) -> Iterator[str]:
        """The text behind an opening, in pieces."""
        stream, scores, state = opening.stream, opening.scores, opening.state
        used = set(opening.ids) - {EOS_ID}  # ends of sentences are no repetition
        sentences = 0
        for place in range(length.max_tokens):
            token_id = sampling.draw(scores, generator, used)
            if piece := stream.add(self._vocab.tokens[token_id]):
                yield piece
            sentences += token_id == EOS_ID
            if sentences == length.sentences:
                return
            if token_id != EOS_ID:
                used.add(token_id)
            if place + 1 < length.max_tokens:
                ids = torch.tensor([token_id], device=state[0].device)
                log_probs, state = next_step(self._model, ids, state, self._start_id)
                scores = mask_banned(log_probs[0], self._banned, begins=token_id == EOS_ID)
        yield stream.end() + "\n"

    def _endings(self, prompt: str) -> list[tuple[Node, float]]:
        """How the last eojeol of a prompt may end, with natural logs of the probabilities.

        The likeliest comes first; there is none behind a blank, or if the model knows none.
        """
        if not split_typed(prompt)[1]:
            return []
        found = self.completer.search(prompt, MAX_ENDINGS, ENDINGS_EFFORT)
        falling = sorted(found.eojeols.values(), key=lambda item: (-item[0], item[1].surface))
        return [(node, math.log(p / found.mass)) for p, node in falling[:MAX_ENDINGS]]

    @torch.inference_mode()
    def _opening(self, prompt: str, ending: Node | None) -> Continuation:
        """Where a text goes on from, behind a prompt or behind an ending of its last eojeol."""
        lexicon = self.completer.lexicon
        before, typed = split_typed(prompt)
        if ending is None:
            written = prompt + " " * bool(typed)
            context = self.completer.context(written)
            ids, state = context.ids, context.state
            probs = lexicon.first(context.left, lexicon.probs(context.log_probs))
            stream = StreamingDetokenizer(self._recomposer)
        else:
            assert ending.parent is not None and ending.parent.state is not None
            last = torch.tensor([ending.ids[-1]], device=ending.parent.state[0].device)
            log_probs, state = self._model.step(last, ending.parent.state)
            written, left = before, lexicon.tokens[ending.ids[-1]]
            ids = (*self.completer.context(before).ids, *ending.ids)
            probs = lexicon.behind(left, lexicon.probs(log_probs[0]))
            stream = StreamingDetokenizer(self._recomposer, left, ending.surface)
        scores = torch.from_numpy(probs).log()
        if not scores.isfinite().any():  # unsmoothed counts may know nothing that follows
            scores[EOS_ID] = 0.0
        return Continuation(written, stream, scores, state, ids)
