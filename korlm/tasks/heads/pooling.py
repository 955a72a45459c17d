"""Pooling: the hidden states of a text as one vector.

``korlm.exporting.onnx_classifier`` builds the same computation in ONNX.

Axes: B batch, T time, D features of the encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from korlm.config import Pooling
from korlm.modules.padding import last_valid, valid_mask


class SequencePooling(nn.Module):
    """Pools the outputs of an encoder; padding is ignored.

    Args:
        mode: last: the last state of each direction, the output at the last position of the
            forward one and at the first of the backward one; max, mean: over time; concat: these
            three side by side (Howard and Ruder 2018); attention: a mean with learned weights
            (Yang et al. 2016, equations 5 to 7).
        dim: D, of both directions together.
        bidirectional: whether the second half of the features comes from a backward direction.
    """

    def __init__(self, mode: Pooling, dim: int, bidirectional: bool) -> None:
        super().__init__()
        self.mode, self.bidirectional = mode, bidirectional
        self.output_dim = 3 * dim if mode is Pooling.concat else dim
        if mode is Pooling.attention:
            self.projection = nn.Linear(dim, dim)
            self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, output: Tensor, lengths: Tensor | None) -> Tensor:
        """Return a vector for each row of ``output`` (B, T, D), (B, output_dim).

        ``lengths``, int64 (B,), are the number of valid positions of each row, 1 or more; None:
        all.
        """
        if lengths is None:
            lengths = torch.full((len(output),), output.shape[1])
        lengths = lengths.to(output.device)
        mask = valid_mask(output, lengths)[..., None]  # (B, T, 1)
        if self.mode is Pooling.attention:
            scores = self.query(torch.tanh(self.projection(output)))  # (B, T, 1)
            weights = scores.float().masked_fill(~mask, -torch.inf).softmax(1)
            pooled: Tensor = (weights.to(output.dtype) * output.masked_fill(~mask, 0)).sum(1)
            return pooled
        pooled_parts = []
        if self.mode in (Pooling.last, Pooling.concat):
            pooled_parts.append(self._last_of_directions(output, lengths))
        if self.mode in (Pooling.max, Pooling.concat):
            pooled_parts.append(output.masked_fill(~mask, torch.finfo(output.dtype).min).amax(1))
        if self.mode in (Pooling.mean, Pooling.concat):
            pooled_parts.append(output.masked_fill(~mask, 0).sum(1) / lengths[:, None])
        return torch.cat(pooled_parts, -1)

    def _last_of_directions(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Return the last state of each direction, (B, D)."""
        last = last_valid(output, lengths)
        if not self.bidirectional:
            return last
        half = output.shape[-1] // 2
        return torch.cat([last[:, :half], output[:, 0, half:]], -1)
