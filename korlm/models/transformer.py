"""Transformer language model (Vaswani et al. 2017), decoder-only, with a sliding window.

Pre-norm layers with RMSNorm (Zhang and Sennrich 2019), rotary embeddings (Su et al. 2021) and
SwiGLU (Shazeer 2020). Each layer attends to a window of tokens (Beltagy et al. 2020), so that its
keys and values are a state of fixed size, as the memory of Transformer-XL (Dai et al. 2019).

Axes: B batch, T time, D model (embedding_dim), F feed-forward (hidden_dim), N heads, d = D / N,
M memory (window - 1), S keys of a block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from korlm.config import TransformerConfig
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import build_output
from korlm.modules.base import State
from korlm.modules.dropout import sequence_dropout
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.encoder import EncoderOutput
from korlm.modules.onnx_nodes import EMBEDDING, IDS, NEXT, add_linear, values_of
from korlm.modules.padding import last_steps

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph

EPS = 1e-6  # of RMSNorm
ROTARY_BASE = 10_000
MIN_BLOCK = 128  # queries per attention call, if the window is not longer


def rotary_tables(length: int, dim: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the rotation angles, each (length, dim / 2)."""
    frequencies = ROTARY_BASE ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.arange(length)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate features i and i + d / 2 of x, (..., T, d), by the angles of (T, d / 2)."""
    first, second = x.chunk(2, -1)
    rotated = torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
    return rotated.to(x.dtype)


class TransformerLayer(nn.Module):
    """Attention and feed-forward network, each added to its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, hidden = config.embedding_dim, config.hidden_dim
        self.num_heads, self.dropout = config.num_heads, config.hidden_dropout
        self.attention_norm = nn.RMSNorm(dim, EPS)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attention_output = nn.Linear(dim, dim, bias=False)
        self.feedforward_norm = nn.RMSNorm(dim, EPS)
        self.gate_up = nn.Linear(dim, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)
        for layer in (self.qkv, self.gate_up, self.attention_output, self.down):
            nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
        with torch.no_grad():  # 2 L outputs are added up (Radford et al. 2019)
            for layer in (self.attention_output, self.down):
                layer.weight.div_(math.sqrt(2 * config.num_layers))

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        masks: Sequence[Tensor],
        rotary: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the output (B, T, D), and keys and values of memory and input.

        Args:
            x: (B, T, D).
            keys: of the memory, (B, M, D), not rotated.
            values: of the memory, (B, M, D).
            masks: see ``TransformerLM._masks``.
            rotary: see ``rotary_tables``.
        """
        q, k, v = self.qkv(self.attention_norm(x)).chunk(3, -1)
        keys, values = torch.cat([keys.to(k.dtype), k], 1), torch.cat([values.to(v.dtype), v], 1)
        x = x + self._dropout(self.attention_output(self._attend(q, keys, values, masks, rotary)))
        gate, up = self.gate_up(self.feedforward_norm(x)).chunk(2, -1)
        return x + self._dropout(self.down(F.silu(gate) * up)), keys, values

    def _attend(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        masks: Sequence[Tensor],
        rotary: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the attention of queries (B, T, D) to keys and values (B, M + T, D), (B, T, D).

        Only differences of positions matter, so each block numbers them from its first key.
        """
        memory = keys.shape[1] - queries.shape[1]
        cos, sin = rotary
        blocks, begin = [], 0
        for mask in masks:
            size, span = mask.shape[-2:]  # span = memory + size
            q = self._heads(queries[:, begin : begin + size])
            k, v = (self._heads(part[:, begin : begin + span]) for part in (keys, values))
            q = rotate(q, cos[memory:span], sin[memory:span])
            k = rotate(k, cos[:span], sin[:span])
            blocks.append(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))
            begin += size
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks, 1)

    def _heads(self, x: Tensor) -> Tensor:
        """Split the features among the heads, (B, T, D) -> (B, N, T, d)."""
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)

    def _dropout(self, x: Tensor) -> Tensor:
        return sequence_dropout(x, self.dropout, self.training, variational=False, time_dim=1)


class TransformerLM(NeuralLM):
    """Decoder-only Transformer; see the module for its layers.

    The state is the number of tokens in memory, int64 (B,), at most M, and the keys and values of
    each layer, (B, M, D), the newest last. Keys are kept without their rotation: only distances
    between positions matter, and the positions of a long text would lose precision.
    """

    layers: Sequence[TransformerLayer]
    cos: Tensor
    sin: Tensor

    def __init__(
        self, config: TransformerConfig, vocab_size: int, tokens: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.config = config
        self.memory = config.window - 1
        self.block = max(config.window, MIN_BLOCK)
        self.embedding = TokenEmbedding(config, vocab_size, tokens)
        layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_layers))
        self.layers = cast(Sequence[TransformerLayer], layers)
        self.norm = nn.RMSNorm(config.embedding_dim, EPS)
        # Small logits at first. With weights of 1 and a tied matrix, each token would predict
        # itself: its logit would be the norm of its embedding times sqrt(D), 15 for D = 128.
        nn.init.constant_(self.norm.weight, config.embedding_dim**-0.5)
        tied = self.embedding.weight if config.tie_weights else None
        self.output = build_output(config, config.embedding_dim, vocab_size, tied)
        head_dim = config.embedding_dim // config.num_heads
        cos, sin = rotary_tables(self.memory + self.block, head_dim)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def initial_state(self, batch_size: int) -> State:
        """Return an empty memory."""
        weight = self.embedding.weight
        zeros = weight.new_zeros(batch_size, self.memory, weight.shape[1])
        size = torch.zeros(batch_size, dtype=torch.int64, device=weight.device)
        return (size, *[zeros] * (2 * len(self.layers)))

    def muon_weights(self) -> list[tuple[Tensor, int]]:
        """See ``Trainable.muon_weights``."""
        return [
            (linear.weight, parts)
            for layer in self.layers
            for linear, parts in (
                (layer.qkv, 3),
                (layer.attention_output, 1),
                (layer.gate_up, 2),
                (layer.down, 1),
            )
        ]

    def encode(
        self, inputs: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> EncoderOutput:
        """See ``NeuralLM.encode``."""
        config = self.config
        size, *memories = state or self.initial_state(len(inputs))
        x, output_weight = self.embedding.embed(inputs)
        x = sequence_dropout(x, config.input_dropout, self.training, variational=False, time_dim=1)
        masks = self._masks(size, inputs.shape[1])
        new_state: list[Tensor] = []
        for layer, keys, values in zip(self.layers, memories[::2], memories[1::2], strict=True):
            x, *new = layer(x, keys, values, masks, (self.cos, self.sin))
            new_state += [last_steps(part, self.memory, lengths) for part in new]
        x = self.norm(x)
        num_read = inputs.shape[1] if lengths is None else lengths.to(size.device)
        new_size = (size + num_read).clamp(max=self.memory)
        dropped = sequence_dropout(
            x, config.output_dropout, self.training, variational=False, time_dim=1
        )
        return EncoderOutput(x, dropped, (new_size, *new_state), output_weight)

    def _masks(self, size: Tensor, steps: int) -> list[Tensor]:
        """Return which keys each query of a block of time attends to, bool (B, 1, block, S).

        A query attends to the window of keys that ends with its own, without the empty part of the
        memory, which holds ``size``, int64 (B,), tokens.
        """
        masks = []
        for begin in range(0, steps, self.block):
            queries = torch.arange(min(self.block, steps - begin), device=size.device)[:, None]
            keys = torch.arange(self.memory + len(queries), device=size.device)
            in_window = (keys >= queries) & (keys <= queries + self.memory)  # (block, S)
            is_filled = keys + begin >= self.memory - size[:, None]  # (B, S)
            masks.append(in_window & is_filled[:, None, None])
        return masks

    def state_names(self) -> list[str]:
        """See ``NeuralLM.state_names``: size keys0 values0 keys1 values1."""
        layers = range(len(self.layers))
        return ["size", *(f"{part}{number}" for number in layers for part in ("keys", "values"))]

    def export_step(self, graph: Graph) -> str:
        """See ``NeuralLM.export_step``."""
        add, window = graph.add, self.config.window
        one, limit = graph.integers([1]), graph.integers([self.memory])
        add("Min", add("Add", "size", one), limit, name=NEXT + "size")
        # 0 for filled slots, and for empty ones so little that its exponential is 0.
        slots = graph.weight("slots", np.arange(window)[None])
        rows = add("Sub", limit, add("Unsqueeze", "size", one))  # first filled slot, (B, 1)
        is_empty = add("Cast", add("Less", slots, rows), to=1)  # float32 (B, window)
        lowest = graph.weight("lowest", np.array(-1e30, np.float32))
        bias = add("Unsqueeze", add("Mul", is_empty, lowest), graph.integers([1, 2]))
        graph.weight("eps", np.array(EPS, np.float32))
        for name, table in (("cos", self.cos), ("sin", self.sin)):
            angles = values_of(table[:window])
            graph.weight(f"key.{name}", angles)
            graph.weight(f"query.{name}", angles[-1:] * (2 * angles.shape[1]) ** -0.5)  # scaled
        x = graph.look_up(EMBEDDING, IDS)
        for number, layer in enumerate(self.layers):
            x = self._export_layer(graph, x, bias, number, layer)
        return _add_norm(graph, x, "norm", self.norm)

    def _export_layer(
        self, graph: Graph, x: str, bias: str, number: int, layer: TransformerLayer
    ) -> str:
        """Add a layer; return the name of its output, (B, D)."""
        add, name, window = graph.add, f"layer{number}", self.config.window
        dim, heads = self.config.embedding_dim, self.config.num_heads
        one, end = graph.integers([1]), graph.integers([window])
        shape = graph.integers([0, window, heads, -1])
        normed = _add_norm(graph, x, f"{name}.attention_norm", layer.attention_norm)
        query, *new = graph.split(add_linear(graph, normed, f"{name}.qkv", layer.qkv), [dim] * 3)
        query = add("Reshape", query, graph.integers([0, heads, 1, -1]))
        parts = []
        for part, newest in zip((f"keys{number}", f"values{number}"), new, strict=True):
            joined = add("Concat", part, add("Unsqueeze", newest, one), axis=1)  # (B, window, D)
            add("Slice", joined, one, end, one, name=NEXT + part)
            parts.append(add("Transpose", add("Reshape", joined, shape), perm=[0, 2, 1, 3]))
        keys, values = parts  # (B, N, window, d)
        keys = add("Transpose", self._export_rotation(graph, keys, "key"), perm=[0, 1, 3, 2])
        scores = add("MatMul", self._export_rotation(graph, query, "query"), keys)
        weights = add("Softmax", add("Add", scores, bias), axis=-1)  # (B, N, 1, window)
        attended = add("Reshape", add("MatMul", weights, values), graph.integers([0, dim]))
        x = add("Add", x, add_linear(graph, attended, f"{name}.attention", layer.attention_output))
        normed = _add_norm(graph, x, f"{name}.feedforward_norm", layer.feedforward_norm)
        sizes = [self.config.hidden_dim] * 2
        gate, up = graph.split(add_linear(graph, normed, f"{name}.gate_up", layer.gate_up), sizes)
        product = add("Mul", add("Mul", gate, add("Sigmoid", gate)), up)
        return add("Add", x, add_linear(graph, product, f"{name}.down", layer.down))

    def _export_rotation(self, graph: Graph, x: str, which: str) -> str:
        """Add ``rotate`` of queries or keys (B, N, T, d); return the name of its output."""
        add, cos, sin = graph.add, f"{which}.cos", f"{which}.sin"
        first, second = graph.split(x, [self.cos.shape[1]] * 2)
        rotated_first = add("Sub", add("Mul", first, cos), add("Mul", second, sin))
        rotated_second = add("Add", add("Mul", first, sin), add("Mul", second, cos))
        return add("Concat", rotated_first, rotated_second, axis=-1)


def _add_norm(graph: Graph, x: str, name: str, norm: nn.RMSNorm) -> str:
    """Add an RMSNorm and its weight; return the name of its output."""
    mean = graph.add("ReduceMean", graph.add("Mul", x, x), axes=[-1], keepdims=1)
    normed = graph.add("Div", x, graph.add("Sqrt", graph.add("Add", mean, "eps")))
    return graph.add("Mul", normed, graph.weight(name, values_of(norm.weight)))
