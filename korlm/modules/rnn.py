"""Recurrent layer: RNN, GRU or LSTM.

A layer runs as one fused call of PyTorch. Layer normalization and recurrent dropout act inside the
recurrence and need a loop over time. Gates are in PyTorch's order, r z n (GRU) and i f g o (LSTM),
and there are two bias vectors, which add up.

Axes: T time, B batch, I input, H hidden units, G gates (1, 3 or 4).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from korlm.config import GRUConfig, InitialState, LSTMConfig, RecurrentConfig, RNNConfig
from korlm.modules.base import State
from korlm.modules.dropout import dropout_mask, weight_dropout
from korlm.modules.padding import valid_mask

_FUSED: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "tanh": torch.rnn_tanh,
    "relu": torch.rnn_relu,
}
_GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
INITIAL_STD = 0.1  # initial value of a learned standard deviation of the initial state


def cell_of(config: RecurrentConfig) -> str:
    """Return the cell of the settings: lstm, gru, tanh or relu."""
    if isinstance(config, LSTMConfig):
        return "lstm"
    if isinstance(config, GRUConfig):
        return "gru"
    assert isinstance(config, RNNConfig)
    return config.nonlinearity.value


class RecurrentLayer(nn.Module):
    """Recurrent layer in one direction, with the cell and the options of the settings."""

    def __init__(self, input_dim: int, hidden_dim: int, config: RecurrentConfig) -> None:
        super().__init__()
        self.cell = cell = cell_of(config)
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
            with torch.no_grad():  # Jozefowicz et al. 2015; 0 keeps the uniform initial values
                self.bias_ih[hidden_dim : 2 * hidden_dim] = config.forget_bias
                self.bias_hh[hidden_dim : 2 * hidden_dim] = 0.0
        self.norm_ih = self.norm_hh = self.norm_cell = None
        if config.layer_norm:
            # Ba et al. 2016, equations 20 to 22 for the LSTM; bias_ih and bias_hh are the biases.
            self.norm_ih = nn.LayerNorm(gates * hidden_dim, bias=False)
            self.norm_hh = nn.LayerNorm(gates * hidden_dim, bias=False)
            self.norm_cell = nn.LayerNorm(hidden_dim) if cell == "lstm" else None
        self.num_states = 2 if cell == "lstm" else 1
        self.initial = self.noise_initial = None
        self.initial_std: float | None = None
        if config.initial_state is InitialState.learned:
            self.initial = nn.Parameter(torch.zeros(self.num_states, hidden_dim))
        elif config.initial_state is InitialState.noise:
            self.initial_std = config.initial_state_std
            if self.initial_std is None:
                std = torch.full((self.num_states, hidden_dim), INITIAL_STD)
                self.noise_initial = nn.Parameter(std)

    def initial_state(self, batch_size: int) -> State:
        """Return the initial state (h,) or (h, c), each (batch_size, H); noise in training only."""
        if self.initial is not None:
            return tuple(row.expand(batch_size, -1) for row in self.initial)
        std = self.initial_std if self.noise_initial is None else self.noise_initial[:, None]
        if self.training and std is not None:
            shape = (self.num_states, batch_size, self.hidden_dim)
            noise = torch.randn(shape, device=self.weight_hh.device, dtype=self.weight_hh.dtype)
            return tuple(noise * std)
        zeros = self.weight_hh.new_zeros(batch_size, self.hidden_dim)
        return (zeros,) * self.num_states

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """Return both matrices, (G * H, I) and (G * H, H), each with the number of gates G."""
        gates = _GATES[self.cell]
        return [(self.weight_ih, gates), (self.weight_hh, gates)]

    def forward(self, x: Tensor, state: State, lengths: Tensor | None) -> tuple[Tensor, State]:
        """Run the layer over a sequence.

        Args:
            x: (T, B, I).
            state: state before the sequence, each tensor (B, H).
            lengths: int64 (B,) on the CPU, 1 or more; None if all rows have T steps.

        Returns:
            (T, B, H), undefined beyond a row's length; the state after each row's last step.
        """
        weight_hh = weight_dropout(self.weight_hh, self.weight_dropout, self.training)
        if self.norm_ih is not None or self._drops_state:
            return self._unrolled(x, state, lengths, weight_hh)
        weights = (self.weight_ih, weight_hh, self.bias_ih, self.bias_hh)
        if self.cell == "lstm" and _lacks_bf16_lstm(x.device):
            # Run in fp32, as autocast does with operations that have no bf16 kernel.
            with torch.autocast("cpu", enabled=False):
                before = tuple(part[None].float().contiguous() for part in state)
                return self._fused(x.float(), before, lengths, weights)
        before = tuple(part[None].to(x.dtype).contiguous() for part in state)  # (1, B, H)
        return self._fused(x, before, lengths, weights)

    @property
    def _drops_state(self) -> bool:
        return self.training and self.recurrent_dropout > 0

    def _fused(
        self, x: Tensor, before: State, lengths: Tensor | None, weights: Sequence[Tensor]
    ) -> tuple[Tensor, State]:
        """Run PyTorch's fused kernel, on packed rows if there are lengths."""
        run = _FUSED[self.cell]
        if x.device.type == "cuda":
            weights = flatten_weights(weights)
        options = (True, 1, 0.0, self.training, False)
        if lengths is None:
            out, *after = run(x, self._kernel_state(before), weights, *options, False)
            return out, tuple(part[0] for part in after)
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        order, inverse = packed.sorted_indices, packed.unsorted_indices
        assert order is not None and inverse is not None
        hx = self._kernel_state(tuple(part[:, order].contiguous() for part in before))
        data, *after = run(packed.data, packed.batch_sizes, hx, weights, *options)
        out, _ = pad_packed_sequence(packed._replace(data=data), total_length=x.shape[0])
        return out, tuple(part[0, inverse] for part in after)

    def _kernel_state(self, state: State) -> State | Tensor:
        """Return a state as the kernels take it: (h, c) of an LSTM, h of the other cells."""
        return state if self.cell == "lstm" else state[0]

    def _unrolled(
        self, x: Tensor, state: State, lengths: Tensor | None, weight_hh: Tensor
    ) -> tuple[Tensor, State]:
        """Run a loop over time, for options that act inside the recurrence."""
        gates_x = F.linear(x, self.weight_ih)
        if self.norm_ih is not None:
            gates_x = self.norm_ih(gates_x)
        gates_x = gates_x + self.bias_ih  # (T, B, G * H)
        mask = None
        if self._drops_state:  # one mask for all timesteps
            mask = dropout_mask(x, self.recurrent_dropout, x.shape[1], self.hidden_dim)
        step_mask = None
        if lengths is not None:
            step_mask = valid_mask(x.transpose(0, 1), lengths).t()[..., None]  # (T, B, 1)
        outputs = []
        for t in range(x.shape[0]):
            h = state[0] if mask is None else state[0] * mask
            gates_h = F.linear(h, weight_hh)
            if self.norm_hh is not None:
                gates_h = self.norm_hh(gates_h)
            new = self._cell(gates_x[t], gates_h + self.bias_hh, state)
            if step_mask is not None:
                new = tuple(
                    torch.where(step_mask[t], after, before)
                    for after, before in zip(new, state, strict=True)
                )
            state = new
            outputs.append(state[0])
        return torch.stack(outputs), state

    def _cell(self, gates_x: Tensor, gates_h: Tensor, state: State) -> State:
        """Return the new state from the gates of input and state, each (B, G * H)."""
        if self.cell == "lstm":
            i, f, g, o = (gates_x + gates_h).chunk(4, dim=-1)
            c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
            normalized = self.norm_cell(c) if self.norm_cell is not None else c
            return torch.sigmoid(o) * torch.tanh(normalized), c
        if self.cell == "gru":
            r_x, z_x, n_x = gates_x.chunk(3, dim=-1)
            r_h, z_h, n_h = gates_h.chunk(3, dim=-1)
            z = torch.sigmoid(z_x + z_h)
            n = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
            return ((1 - z) * n + z * state[0],)
        gates = gates_x + gates_h
        return ({"tanh": torch.tanh, "relu": torch.relu}[self.cell](gates),)


@functools.cache
def lstm_runs_in_bf16() -> bool:
    """Return whether PyTorch's fused LSTM runs in bf16 on this CPU.

    oneDNN has no such kernel for CPUs without AVX-512, or with ``ONEDNN_MAX_CPU_ISA=AVX2``; trying
    it is the only test that covers both.
    """
    x, h, weight, bias = (torch.zeros(*shape) for shape in ((1, 1, 1), (1, 1, 1), (4, 1), (4,)))
    try:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            torch.lstm(x, (h, h), (weight, weight, bias, bias), True, 1, 0.0, True, False, False)
    except RuntimeError:
        return False
    return True


def _lacks_bf16_lstm(device: torch.device) -> bool:
    """Return whether autocast would run an LSTM in bf16 that the device does not support."""
    return device.type == "cpu" and torch.is_autocast_enabled("cpu") and not lstm_runs_in_bf16()


def flatten_weights(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return copies of the weights in one contiguous block of memory, as cuDNN requires.

    Otherwise PyTorch copies them itself and warns. Weight dropout creates new weights in each step,
    so this cannot be done once in advance. Gradients reach the original weights.
    """
    block = torch.cat([weight.flatten() for weight in weights])
    parts = torch.split(block, [weight.numel() for weight in weights])
    return tuple(part.view_as(weight) for part, weight in zip(parts, weights, strict=True))
