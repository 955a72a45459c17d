"""PyTorch's recurrent modules, as references for those of korlm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from korlm.modules.rnn import RecurrentLayer


def torch_module(
    layers: Sequence[RecurrentLayer], backward_layers: Sequence[RecurrentLayer] = ()
) -> Any:
    """Return PyTorch's module with the weights of these layers, the lowest first."""
    cell, hidden_dim = layers[0].cell, layers[0].hidden_dim
    kind: Any = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell, nn.RNN)
    options = {"nonlinearity": cell} if kind is nn.RNN else {}
    dims = (layers[0].weight_ih.shape[1], hidden_dim, len(layers))
    module = kind(*dims, bidirectional=len(backward_layers) > 0, **options)
    for suffix, stack in (("", layers), ("_reverse", backward_layers)):
        for number, layer in enumerate(stack):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                weight = getattr(module, f"{name}_l{number}{suffix}")
                weight.data.copy_(getattr(layer, name).data)
    return module


def run_torch(
    module: Any, x: Tensor, states: Sequence[tuple[Tensor, ...]], lengths: Tensor | None
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the output (T, B, H) and the states, h or h and c, each (layers, B, H)."""
    steps = x.shape[0]
    stacked = tuple(torch.stack(parts) for parts in zip(*states, strict=True))
    if lengths is not None:
        x = pack_padded_sequence(x, lengths, enforce_sorted=False)
    out, after = module(x, stacked if len(stacked) == 2 else stacked[0])
    if lengths is not None:
        out, _ = pad_packed_sequence(out, total_length=steps)
    return out, after if isinstance(after, tuple) else (after,)
