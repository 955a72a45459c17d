"""Dynamic evaluation: the model goes on learning from the text that it has just been judged by.

Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models", with the RMS rule and the decay
of section 4 (equations 6 to 8). After each segment of a few tokens, with g the gradient of its mean
loss, p_0 the trained parameters and rms the root mean square of such gradients over train:

    p <- p - rate * g / (rms + eps) + min(decay * rms / mean(rms), 1) * (p_0 - p)

eps is mean(rms) here: parameters that train hardly ever moved would take huge steps otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from korlm.evaluation.token_scores import TokenStream, Window, read
from korlm.models.base import LanguageModel
from korlm.modules.state import State, detach_state


class DynamicEvaluation:
    """A model, what its gradients are like, and its trained parameters to come back to.

    Args:
        model: in evaluation mode; its parameters are the trained ones whenever no text is read.
        train: what the statistics are collected from.
        segment: tokens after which the parameters change.
        tokens: of train that are looked at.
    """

    def __init__(self, model: LanguageModel, train: TokenStream, segment: int, tokens: int) -> None:
        self.model = model
        self.segment = segment
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        rms = self._gradient_statistics(train, tokens)
        mean = torch.cat([part.flatten() for part in rms]).mean()
        self._steps = [1 / (part + mean) for part in rms]
        self._pulls = [part / mean for part in rms]

    def _gradient_statistics(self, train: TokenStream, tokens: int) -> list[Tensor]:
        """The root mean square of each parameter's gradient over the segments of train."""
        squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        count = 0
        for _ in self._segments(train, tokens):
            count += 1
            for square, parameter in zip(squares, self._parameters, strict=True):
                if parameter.grad is not None:
                    square.addcmul_(parameter.grad, parameter.grad)
        return [square.div_(count).sqrt_() for square in squares]

    def read(
        self, text: TokenStream, rate: float, decay: float, end: int | None = None
    ) -> Iterator[Window]:
        """The text in its order, the state carried over and the parameters adapted on the way.

        Args:
            text: what is judged and learned from; every token is judged before it is learned.
            rate: of learning.
            decay: of what was learned, back to the trained parameters.
            end: read only so many tokens.
        """
        trained = [parameter.detach().clone() for parameter in self._parameters]
        pulls = [(decay * pull).clamp_(max=1) for pull in self._pulls]
        each = list(zip(self._parameters, trained, self._steps, pulls, strict=True))
        try:
            for window in self._segments(text, end):
                yield window
                self._sgd_step(rate, each)
        finally:
            with torch.no_grad():
                for parameter, origin, _, _ in each:
                    parameter.copy_(origin)

    @torch.no_grad()
    def _sgd_step(self, rate: float, each: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
        """One update, from the gradients that the parameters hold."""
        for parameter, origin, step, pull in each:
            if parameter.grad is not None:  # a learned initial state has one at the beginning only
                parameter.addcmul_(parameter.grad, step, value=-rate)
                parameter.lerp_(origin, pull)

    def _segments(self, text: TokenStream, end: int | None) -> Iterator[Window]:
        """Segment by segment, each with the gradients of its mean loss on the parameters."""
        state: State | None = None
        try:
            for inputs, targets in text.windows(self.segment, end):
                self.model.zero_grad(set_to_none=True)
                # cuDNN's recurrent kernels have no gradients without dropout.
                with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                    window, state = read(self.model, inputs, targets, state)
                    window.nats.mean().backward()  # type: ignore[no-untyped-call]
                state = detach_state(state)
                yield Window(window.targets, window.nats.detach(), window.hidden)
        finally:
            self.model.zero_grad(set_to_none=True)
