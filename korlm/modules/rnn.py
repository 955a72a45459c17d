"""Recurrent layers: RNN, GRU and LSTM by one piece of code, fused where nothing forbids it.

Axes: T time, B batch, I a layer's input, H its hidden units, G gates (1, 3 and 4).

PyTorch's gates come in the order r z n (GRU) and i f g o (LSTM), and its two bias vectors add up.
A layer runs as one fused call of PyTorch; layer normalisation and recurrent dropout work inside the
recurrence and need a loop over time.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from korlm.config import GRUConfig, InitialState, LSTMConfig, RecurrentConfig, RNNConfig
from korlm.modules.dropout import dropout_mask, sequence_dropout, weight_dropout
from korlm.modules.state import State

_FUSED: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "tanh": torch.rnn_tanh,
    "relu": torch.rnn_relu,
}


_GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}


def cell_of(config: RecurrentConfig) -> str:
    """Which recurrence the settings mean: lstm, gru, tanh or relu."""
    if isinstance(config, LSTMConfig):
        return "lstm"
    if isinstance(config, GRUConfig):
        return "gru"
    assert isinstance(config, RNNConfig)
    return config.nonlinearity.value


class RecurrentLayer(nn.Module):
    """One layer.

    Args:
        cell: lstm, gru, tanh or relu.
        input_dim: I.
        hidden_dim: H.
        config: the dropouts, layer normalisation, forget bias and initial state.
    """

    def __init__(self, cell: str, input_dim: int, hidden_dim: int, config: RecurrentConfig) -> None:
        super().__init__()
        self.cell = cell
        self.hidden_dim = hidden_dim
        self.weight_dropout = config.weight_dropout
        self.recurrent_dropout = config.recurrent_dropout
        gates = _GATES[cell]
        self.weight_ih = nn.Parameter(torch.empty(gates * hidden_dim, input_dim))
        self.weight_hh = nn.Parameter(torch.empty(gates * hidden_dim, hidden_dim))
        self.bias_ih = nn.Parameter(torch.empty(gates * hidden_dim))
        self.bias_hh = nn.Parameter(torch.empty(gates * hidden_dim))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_dim), 1 / math.sqrt(hidden_dim))
        if isinstance(config, LSTMConfig) and config.forget_bias > 0:
            with torch.no_grad():  # Jozefowicz et al. 2015; the two biases add up
                self.bias_ih[hidden_dim : 2 * hidden_dim] = config.forget_bias
                self.bias_hh[hidden_dim : 2 * hidden_dim] = 0.0
        self.norm_ih = self.norm_hh = self.norm_cell = None
        if config.layer_norm:
            # Ba et al. 2016, equations 20 to 22 for the LSTM; the biases are the layer's own.
            self.norm_ih = nn.LayerNorm(gates * hidden_dim, bias=False)
            self.norm_hh = nn.LayerNorm(gates * hidden_dim, bias=False)
            self.norm_cell = nn.LayerNorm(hidden_dim) if cell == "lstm" else None
        self.num_states = 2 if cell == "lstm" else 1
        self.initial = None
        if config.initial_state is InitialState.learned:
            self.initial = nn.Parameter(torch.zeros(self.num_states, hidden_dim))

    def initial_state(self, batch_size: int) -> State:
        """(h,) or (h, c) before anything was read, each (batch_size, H)."""
        if self.initial is not None:
            return tuple(row.expand(batch_size, -1) for row in self.initial)
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_dim)
        return (zeros,) * self.num_states

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """(T, B, I) and the state before -> (T, B, H) and the state after each row's last step."""
        weight_hh = weight_dropout(self.weight_hh, self.weight_dropout, self.training)
        recurrent_mask = self.recurrent_dropout > 0 and self.training
        if self.norm_ih is not None or recurrent_mask:
            return self._unrolled(x, state, lengths, weight_hh)
        weights = (self.weight_ih, weight_hh, self.bias_ih, self.bias_hh)
        if self.cell == "lstm" and _is_without_bf16(x.device):
            # As autocast does with every operation that has no kernel of bf16.
            with torch.autocast("cpu", enabled=False):
                before = tuple(part[None].float().contiguous() for part in state)
                return self._fused(x.float(), before, lengths, weights)
        before = tuple(part[None].to(x.dtype).contiguous() for part in state)  # (1, B, H)
        return self._fused(x, before, lengths, weights)

    def _fused(
        self, x: Tensor, before: State, lengths: Tensor | None, weights: Sequence[Tensor]
    ) -> tuple[Tensor, State]:
        """One call of PyTorch's kernel, over packed rows where they differ in length."""
        run = _FUSED[self.cell]
        if x.device.type == "cuda":
            weights = flatten_weights(weights)
        hx = before if self.cell == "lstm" else before[0]
        options = (True, 1, 0.0, self.training, False)
        if lengths is None:
            out, *after = run(x, hx, weights, *options, False)
            return out, tuple(part[0] for part in after)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        order, back = packed.sorted_indices, packed.unsorted_indices
        assert order is not None and back is not None
        sorted_before = tuple(part[:, order].contiguous() for part in before)
        hx = sorted_before if self.cell == "lstm" else sorted_before[0]
        data, *after = run(packed.data, packed.batch_sizes, hx, weights, *options)
        out, _ = pad_packed_sequence(packed._replace(data=data), total_length=x.shape[0])
        return out, tuple(part[0, back] for part in after)

    def _unrolled(
        self, x: Tensor, state: State, lengths: Tensor | None, weight_hh: Tensor
    ) -> tuple[Tensor, State]:
        """Step by step, for what works inside the recurrence."""
        gates_x = F.linear(x, self.weight_ih)
        if self.norm_ih is not None:
            gates_x = self.norm_ih(gates_x)
        gates_x = gates_x + self.bias_ih  # (T, B, G * H)
        mask = None
        if self.training and self.recurrent_dropout > 0:
            mask = dropout_mask(x, self.recurrent_dropout, x.shape[1], self.hidden_dim)
        step_mask = None
        if lengths is not None:
            steps = torch.arange(x.shape[0], device=x.device)
            step_mask = (steps[:, None] < lengths.to(x.device))[..., None]  # (T, B, 1)
        outputs = []
        for t in range(x.shape[0]):
            h = state[0] if mask is None else state[0] * mask
            gates_h = F.linear(h, weight_hh)
            if self.norm_hh is not None:
                gates_h = self.norm_hh(gates_h)
            new = self._cell(gates_x[t], gates_h + self.bias_hh, state)
            if step_mask is not None:
                new = tuple(
                    torch.where(step_mask[t], n, o) for n, o in zip(new, state, strict=True)
                )
            state = new
            outputs.append(state[0])
        return torch.stack(outputs), state

    def _cell(self, gates_x: Tensor, gates_h: Tensor, state: State) -> State:
        """One step: (B, G * H) from the input and from the state -> new state."""
        if self.cell == "lstm":
            i, f, g, o = (gates_x + gates_h).chunk(4, dim=-1)
            c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
            shown = self.norm_cell(c) if self.norm_cell is not None else c
            return torch.sigmoid(o) * torch.tanh(shown), c
        if self.cell == "gru":
            r_input, z_input, n_input = gates_x.chunk(3, dim=-1)
            r_state, z_state, n_state = gates_h.chunk(3, dim=-1)
            z = torch.sigmoid(z_input + z_state)
            n = torch.tanh(n_input + torch.sigmoid(r_input + r_state) * n_state)
            return ((1 - z) * n + z * state[0],)
        both = gates_x + gates_h
        return (torch.tanh(both) if self.cell == "tanh" else torch.relu(both),)


@functools.cache
def lstm_runs_in_bf16() -> bool:
    """Return whether PyTorch's fused LSTM runs in bf16 on this CPU.

    oneDNN has no such kernel for CPUs without AVX-512, or with ``ONEDNN_MAX_CPU_ISA=AVX2``; asking
    for it is the only test that sees both.
    """
    x, h, matrix, bias = (torch.zeros(*shape) for shape in ((1, 1, 1), (1, 1, 1), (4, 1), (4,)))
    try:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            torch.lstm(x, (h, h), (matrix, matrix, bias, bias), True, 1, 0.0, True, False, False)
    except RuntimeError:
        return False
    return True


def _is_without_bf16(device: torch.device) -> bool:
    """Return whether autocast would ask for an LSTM in bf16 that the device does not have."""
    asked = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return asked and not lstm_runs_in_bf16()


def flatten_weights(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copies of the weights that lie behind each other in memory, as cuDNN wants them.

    Otherwise PyTorch would copy them there itself, and warn; and dropped weights are new ones in
    each step, so that they cannot be laid out once and for all. Gradients flow back.
    """
    pieces = torch.cat([weight.flatten() for weight in weights])
    parts = torch.split(pieces, [weight.numel() for weight in weights])
    return tuple(part.view_as(weight) for part, weight in zip(parts, weights, strict=True))


class RecurrentEncoder(nn.Module):
    """Layers on top of each other: features (T, B, E) -> features (T, B, output_dim).

    Knows nothing of tokens, so that a tagger or a classifier can stand on it as well.

    Args:
        input_dim: E.
        output_dim: hidden units of the last layer; the others have ``config.hidden_dim``.
        config: cell, number of layers and all options.
    """

    def __init__(self, input_dim: int, output_dim: int, config: RecurrentConfig) -> None:
        super().__init__()
        dims = [input_dim] + [config.hidden_dim] * (config.num_layers - 1) + [output_dim]
        cell = cell_of(config)
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, before, after, config)
            for before, after in itertools.pairwise(dims)
        )
        self.hidden_dropout = config.hidden_dropout
        self.variational = config.variational_dropout

    def initial_state(self, batch_size: int) -> State:
        """The states of all layers in a row, from the lowest: h, or h and c, of each."""
        parts: State = ()
        for layer in self._layers():
            parts += layer.initial_state(batch_size)
        return parts

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """Both matrices of every layer, with the number of gates that lie on top of each other."""
        return [
            (weight, weight.shape[0] // layer.hidden_dim)
            for layer in self._layers()
            for weight in (layer.weight_ih, layer.weight_hh)
        ]

    def _layers(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """(T, B, E) and the state before -> (T, B, output_dim) and the state after."""
        after: State = ()
        for number, layer in enumerate(self._layers()):
            if number:
                x = sequence_dropout(x, self.hidden_dropout, self.training, self.variational)
            size = layer.num_states
            x, new = layer(x, state[len(after) : len(after) + size], lengths)
            after += new
        return x, after
