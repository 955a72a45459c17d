"""ONNX nodes of the modules, for one step of a model or a decoder.

See ``NeuralLM.export_step`` and ``exporting/onnx_seq2seq.py``. The encoders of tasks, which read
whole texts, are in ``exporting/onnx_encoder.py``.

Axes: B batch, I a layer's input, H its hidden units, G gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from torch import Tensor, nn

from korlm.modules.rnn import RecurrentLayer

if TYPE_CHECKING:
    from korlm.exporting.onnx_graph import Graph

IDS, EMBEDDING = "ids", "embedding"  # names of the input and of the embedding matrix
NEXT = "next_"  # prefix of the names of the new state


def values_of(tensor: Tensor) -> npt.NDArray[Any]:
    """Return the values of a tensor on any device as an array."""
    array: npt.NDArray[Any] = tensor.detach().cpu().numpy()
    return array


def add_linear(graph: Graph, x: str, name: str, layer: nn.Linear) -> str:
    """Add a linear layer and its weights; return the name of its output."""
    graph.matrix(name, values_of(layer.weight))
    bias = graph.weight(f"{name}.bias", values_of(layer.bias)) if layer.bias is not None else ""
    return graph.linear(x, name, bias)


def add_recurrent_layers(graph: Graph, x: str, layers: Sequence[RecurrentLayer]) -> str:
    """Add recurrent layers, lowest first; return the name of the last one's output, (B, H).

    The inputs of the graph include the states, named by ``recurrent_state_names``.
    """
    for number, layer in enumerate(layers):
        gates_x = _add_gates(graph, x, layer, number, "ih")
        gates_h = _add_gates(graph, f"h{number}", layer, number, "hh")
        x = _add_cell(graph, layer, number, gates_x, gates_h)
    return x


def recurrent_state_names(layers: Sequence[RecurrentLayer]) -> list[str]:
    """Return the names of the states of recurrent layers: h0 c0 h1 c1 of an LSTM."""
    return [
        f"{part}{number}"
        for number, layer in enumerate(layers)
        for part in ("h", "c")[: layer.num_states]
    ]


def _add_gates(graph: Graph, x: str, layer: RecurrentLayer, number: int, which: str) -> str:
    """Add the gates' product with an input, (B, I) or (B, H); return its name, (B, G * H).

    The product is normalized before the bias is added if the layer has a LayerNorm.
    """
    name = f"layer{number}.{which}"
    graph.matrix(name, values_of(getattr(layer, f"weight_{which}")))
    bias = graph.weight(f"{name}.bias", values_of(getattr(layer, f"bias_{which}")))
    norm = getattr(layer, f"norm_{which}")
    if norm is None:
        return graph.linear(x, name, bias)
    return graph.add("Add", _add_norm(graph, graph.linear(x, name), f"{name}.norm", norm), bias)


def _add_norm(graph: Graph, x: str, name: str, norm: nn.LayerNorm) -> str:
    """Add a LayerNorm and its weights; return the name of its output."""
    parts = {"scale": norm.weight, "bias": norm.bias}
    weights = [
        graph.weight(f"{name}.{part}", values_of(values))
        for part, values in parts.items()
        if values is not None
    ]
    return graph.add("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)


def _add_cell(graph: Graph, layer: RecurrentLayer, number: int, gates_x: str, gates_h: str) -> str:
    """Add the cell of a layer (see ``RecurrentLayer._cell``); return the name of the new h, (B, H).

    ``gates_x`` and ``gates_h``, (B, G * H), are the gates from the input and from the state.
    """
    add, H = graph.add, layer.hidden_dim
    new_h = f"{NEXT}h{number}"
    if layer.cell == "gru":
        r_input, z_input, n_input = graph.split(gates_x, [H] * 3)
        r_state, z_state, n_state = graph.split(gates_h, [H] * 3)
        r = add("Sigmoid", add("Add", r_input, r_state))
        z = add("Sigmoid", add("Add", z_input, z_state))
        n = add("Tanh", add("Add", n_input, add("Mul", r, n_state)))
        change = add("Mul", z, add("Sub", f"h{number}", n))
        return add("Add", n, change, name=new_h)  # (1 - z) n + z h
    both = add("Add", gates_x, gates_h)
    if layer.cell != "lstm":
        return add({"tanh": "Tanh", "relu": "Relu"}[layer.cell], both, name=new_h)
    i, f, g, o = graph.split(both, [H] * 4)
    kept = add("Mul", add("Sigmoid", f), f"c{number}")
    c = add("Add", kept, add("Mul", add("Sigmoid", i), add("Tanh", g)), name=f"{NEXT}c{number}")
    norm = layer.norm_cell
    normalized = c if norm is None else _add_norm(graph, c, f"layer{number}.cell.norm", norm)
    return add("Mul", add("Sigmoid", o), add("Tanh", normalized), name=new_h)
