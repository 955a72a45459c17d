"""Add the recurrent encoder of a task to an ONNX graph: embedding and layers, in both directions.

Axes: B batch, T time, E embedding, F features, H hidden units, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from korlm.exporting.onnx_graph import INT32, Array, Graph
from korlm.modules.encoder import PairedEncoder, RecurrentEncoder
from korlm.modules.onnx_nodes import IDS, values_of
from korlm.modules.rnn import RecurrentLayer
from korlm.utils.errors import ExportError

LENGTHS = "lengths"  # name of the input

# Operators of ONNX, and the order of PyTorch's gates in their matrices.
OPERATORS = {
    "lstm": ("LSTM", (0, 3, 1, 2)),  # i f g o -> i o f g
    "gru": ("GRU", (1, 0, 2)),  # r z n -> z r n
    "tanh": ("RNN", (0,)),
    "relu": ("RNN", (0,)),
}


class LayerOutputs(NamedTuple):
    """Names of the outputs of a layer.

    Attributes:
        output: of all tokens, (T, B, H).
        state: h (and c) of each row after the last token that the layer reads: its last one,
            backward its first, (B, H).
    """

    output: str
    state: list[str]


class EncoderOutputs(NamedTuple):
    """Names of the outputs of an encoder.

    Attributes:
        directions: the highest layer, forward and backward.
        state: parts of the state of all layers, as ``RecurrentEncoder.initial_state``.
    """

    directions: list[LayerOutputs]
    state: list[str]


def add_encoder(
    encoder: RecurrentEncoder | PairedEncoder,
    graph: Graph,
    ids: str = IDS,
    lengths: str = LENGTHS,
    features: str = "",
    prefix: str = "",
) -> EncoderOutputs:
    """Add an encoder in evaluation mode, see its ``forward``.

    Args:
        encoder: the encoder.
        graph: the graph.
        ids: name of int64 (B, T).
        lengths: name of int64 (B,), 1 or more.
        features: name of (B, T, F), see ``RecurrentEncoder``; empty: none.
        prefix: prefix of the names of weights and of outputs.

    Raises:
        ExportError: ONNX has no operator for it.
    """
    outputs, state = list[LayerOutputs](), list[str]()
    if isinstance(encoder, RecurrentEncoder):  # each layer reads both outputs of the one below
        x = _add_inputs(encoder, graph, ids, features, f"{prefix}embedding")
        for number, directions in enumerate(encoder.directions()):
            outputs = []
            for direction, layer in enumerate(directions):
                name = f"{prefix}layer{number}.{direction}"
                outputs.append(_add_layer(graph, x, lengths, layer, direction == 1, name))
                state += outputs[-1].state
            x = concat(graph, [encoded.output for encoded in outputs])
        return EncoderOutputs(outputs, state)
    for direction, part in enumerate((encoder.forward_encoder, encoder.backward_encoder)):
        x = _add_inputs(part, graph, ids, features, f"{prefix}embedding{direction}")
        for number, layer in enumerate(part.layers):
            name = f"{prefix}encoder{direction}.layer{number}"
            encoded = _add_layer(graph, x, lengths, layer, direction == 1, name)
            x = encoded.output
            state += encoded.state
        outputs.append(encoded)
    return EncoderOutputs(outputs, state)


def add_valid_mask(graph: Graph, rows: str = IDS, lengths: str = LENGTHS) -> str:
    """Add the mask of the valid tokens of rows, any value (B, T, ...): bool (B, T)."""
    size = graph.once("Gather", graph.once("Shape", rows), graph.scalar(1))
    steps = graph.once("Range", graph.scalar(0), size, graph.scalar(1))
    return graph.once("Less", steps, graph.once("Unsqueeze", lengths, graph.integers([-1])))


def concat(graph: Graph, values: Sequence[str]) -> str:
    """Concatenate values along their last axis."""
    return values[0] if len(values) == 1 else graph.add("Concat", *values, axis=-1)


def add_dense(graph: Graph, x: str, name: str, layer: nn.Linear, output: str | None = None) -> str:
    """Add a linear layer over the last axis of x, which may have any others; return its output."""
    weight = graph.weight(name, values_of(layer.weight).T)
    bias = graph.weight(f"{name}.bias", values_of(layer.bias)) if layer.bias is not None else ""
    product = graph.add("MatMul", x, weight, name=None if bias else output)
    return graph.add("Add", product, bias, name=output) if bias else product


def _add_inputs(
    encoder: RecurrentEncoder, graph: Graph, ids: str, features: str, table: str
) -> str:
    """Add the embeddings, subwords included, with the features: (T, B, E + F)."""
    ids = graph.once("Transpose", ids, perm=[1, 0])
    graph.matrix(table, values_of(encoder.embedding.full_weight()))
    x = graph.look_up(table, ids)
    if not features:
        return x
    return concat(graph, [x, graph.once("Transpose", features, perm=[1, 0, 2])])


def _add_layer(
    graph: Graph, x: str, lengths: str, layer: RecurrentLayer, is_backward: bool, name: str
) -> LayerOutputs:
    """Add a layer that reads each row from its first token, or from its last one."""
    if layer.norm_ih is not None:
        raise ExportError(
            "ONNX's recurrent operators have no layer normalization (model.layer_norm=true): give "
            "'formats=[safetensors]'"
        )
    operator, order = OPERATORS[layer.cell]
    gates = {
        part: _reorder(getattr(layer, part), order, layer.hidden_dim)
        for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    bias = np.concatenate([gates["bias_ih"], gates["bias_hh"]])
    values = [
        x,
        graph.weight(f"{name}.weight_ih", gates["weight_ih"][None]),
        graph.weight(f"{name}.weight_hh", gates["weight_hh"][None]),
        graph.weight(f"{name}.bias", bias[None]),
        graph.once("Cast", lengths, to=INT32),
        *(
            _initial_state(graph, part, lengths, f"{name}.initial{number}")
            for number, part in enumerate(layer.initial_state(1))
        ),
    ]
    options: dict[str, dict[str, Any]] = {
        "gru": {"linear_before_reset": 1},
        "relu": {"activations": ["Relu"]},
    }
    output, *state = graph.add_many(
        operator,
        *values,
        names=[f"{name}.output", *(f"{name}.{part}" for part in ("h", "c")[: layer.num_states])],
        hidden_size=layer.hidden_dim,
        direction="reverse" if is_backward else "forward",
        **options.get(layer.cell, {}),
    )
    return LayerOutputs(
        graph.add("Squeeze", output, graph.integers([1])),  # of (T, 1, B, H)
        [graph.add("Squeeze", part, graph.integers([0])) for part in state],  # of (1, B, H)
    )


def _reorder(weights: Tensor, order: Sequence[int], hidden_dim: int) -> Array:
    """Return (G * H, ...) with the gates in another order."""
    gates = values_of(weights).reshape(len(order), hidden_dim, *weights.shape[1:])
    return gates[list(order)].reshape(weights.shape)


def _initial_state(graph: Graph, state: Tensor, lengths: str, name: str) -> str:
    """Add an initial state, (1, H) -> (1, B, H)."""
    row = graph.weight(name, values_of(state)[None])
    batch = graph.once("Shape", lengths)
    one = graph.integers([1])
    return graph.add("Expand", row, graph.add("Concat", one, batch, one, axis=0))
