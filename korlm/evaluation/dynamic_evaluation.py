"""Keep training a model on the text that it has just been scored on (dynamic evaluation).

Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models", with the RMS update and the
decay of section 4 (equations 6 to 8). After each segment of a few tokens, with g the gradient of
its mean loss, p_0 the trained parameters and rms the root mean square of such gradients on train:

    p <- p - learning_rate * g / (rms + eps) + min(decay * rms / mean(rms), 1) * (p_0 - p)

eps is mean(rms): with a small constant, parameters with tiny gradients would take huge steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from korlm.dataset.storage.id_stream import Ids, IdStream
from korlm.evaluation.token_scores import Window, device_of, score_window, stream_windows
from korlm.models.base import LanguageModel
from korlm.modules.base import State, detach_state


class DynamicEvaluation:
    """A model with its gradient statistics and a copy of its trained parameters.

    Args:
        model: in evaluation mode. Its parameters are the trained ones except during ``score``.
        train: (N,), ids of the training text.
        start_id: see ``korlm.evaluation.token_scores.windows``.
        segment: tokens per update.
        statistics_tokens: training tokens from which the gradient statistics are computed.
    """

    def __init__(
        self,
        model: LanguageModel,
        train: Ids | IdStream,
        start_id: int,
        segment: int,
        statistics_tokens: int,
    ) -> None:
        self.model = model
        self._start_id = start_id
        self._segment = segment
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        rms = self._gradient_rms(train[:statistics_tokens])
        mean = torch.cat([part.flatten() for part in rms]).mean()
        self._scales = [1 / (part + mean) for part in rms]
        self._relative_rms = [part / mean for part in rms]

    def _gradient_rms(self, train: Ids) -> list[Tensor]:
        """Return the root mean square of each parameter's gradients over the segments of train."""
        squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        count = 0
        for _ in self._segments(train):
            count += 1
            for square, parameter in zip(squares, self._parameters, strict=True):
                if parameter.grad is not None:
                    square.addcmul_(parameter.grad, parameter.grad)
        return [square.div_(count).sqrt_() for square in squares]

    def score(self, ids: Ids, learning_rate: float, decay: float) -> Iterator[Window]:
        """Yield the scores of a text segment by segment, with an update after each segment.

        The trained parameters are restored at the end, also if the iterator is closed early.

        Args:
            ids: (N,); each token is scored before it is trained on.
            learning_rate: learning rate of the updates.
            decay: strength of the decay towards the trained parameters.
        """
        trained = [parameter.detach().clone() for parameter in self._parameters]
        decays = [(decay * part).clamp_(max=1) for part in self._relative_rms]
        updates = list(zip(self._parameters, trained, self._scales, decays, strict=True))
        try:
            for window in self._segments(ids):
                yield window
                _sgd_step(learning_rate, updates)
        finally:
            with torch.no_grad():
                for parameter, origin, _, _ in updates:
                    parameter.copy_(origin)

    def _segments(self, ids: Ids) -> Iterator[Window]:
        """Yield scored segments; the gradients of their mean loss are on the parameters."""
        state: State | None = None
        device = device_of(self.model)
        try:
            for inputs, targets in stream_windows(ids, self._start_id, self._segment, device):
                self.model.zero_grad(set_to_none=True)
                # Without dropout, cuDNN's recurrent kernels have no backward pass.
                with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                    window, state = score_window(self.model, inputs, targets, state)
                    window.nats.mean().backward()  # type: ignore[no-untyped-call]
                state = detach_state(state)
                yield Window(window.targets, window.nats.detach(), window.hidden)
        finally:
            self.model.zero_grad(set_to_none=True)


@torch.no_grad()
def _sgd_step(
    learning_rate: float, updates: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]
) -> None:
    """Update parameters, given with their trained values, gradient scales and decays."""
    for parameter, origin, scale, decay in updates:
        if parameter.grad is not None:  # a learned initial state has one in the first segment only
            parameter.lerp_(origin, decay)  # first: it does not shrink the step
            parameter.addcmul_(parameter.grad, scale, value=-learning_rate)
