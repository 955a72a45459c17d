"""One step of a network as an ONNX graph: ids, state -> log-probabilities, new state.

The graph is written node by node from the weights. A step is a few dozen nodes, so that this is
less than torch.onnx asks for: its older exporter is deprecated, the newer one needs onnxscript and
traces what each version of PyTorch makes of a fused kernel. Here nothing depends on the version,
embeddings that know spelling are composed once and for all, and the same code writes float32 and
int8, as the ``Graph`` has it.

Axes: B batch, V vocabulary, E embedding, H hidden units, n window.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from korlm.config import SubwordMode
from korlm.exporting.onnx_graph import FLOAT, INT64, Array, Graph, Shapes
from korlm.models.feedforward import WindowLM
from korlm.models.neural import NeuralLM
from korlm.models.rnn import RecurrentLM
from korlm.modules.adaptive_softmax import AdaptiveSoftmaxHead
from korlm.modules.rnn import RecurrentLayer

IDS, LOG_PROBS, NEXT = "ids", "log_probs", "next_"


def state_names(model: NeuralLM) -> list[str]:
    """The parts of a state, in their order: h0 c0 h1 c1 of an LSTM, last_ids of a window model."""
    if isinstance(model, WindowLM):
        return ["last_ids"]
    return [
        f"{part}{number}"
        for number, layer in enumerate(_layers(model))
        for part in ("h", "c")[: layer.num_states]
    ]


def begin_state(model: NeuralLM) -> dict[str, Array]:
    """The state before anything was read, each part (1, ...)."""
    return dict(zip(state_names(model), map(_values, model.initial_state(1)), strict=True))


def build_step(model: NeuralLM, graph: Graph, start_id: int) -> bytes:
    """The graph of one step, as an .onnx file holds it.

    Its inputs are ``ids``, int64 (B,), and the parts of the state by name; its outputs
    ``log_probs``, float32 (B, V), and the parts of the new state, whose names begin with ``next_``.

    Args:
        model: in evaluation mode.
        graph: an empty one, which also says how weights are stored.
        start_id: what stands before the first token of a sentence, for the metadata.
    """
    with torch.no_grad():
        matrix = _add_embeddings(model, graph)
        if isinstance(model, WindowLM):
            hidden = _read_window(model, graph)
        else:
            hidden = _read_layers(_layers(model), graph)
        _predict(model, graph, hidden, matrix)
    begin = begin_state(model)
    state: Shapes = {
        name: (INT64 if part.dtype == np.int64 else FLOAT, ["batch", *part.shape[1:]])
        for name, part in begin.items()
    }
    metadata = {
        "korlm_format": "1",
        "vocab_size": str(model.vocab_size),
        "start_id": str(start_id),
        "state": " ".join(begin),
    }
    return graph.build(
        {IDS: (INT64, ["batch"]), **state},
        {
            LOG_PROBS: (FLOAT, ["batch", model.vocab_size]),
            **{NEXT + name: kind for name, kind in state.items()},
        },
        metadata,
    )


def _layers(model: nn.Module) -> list[RecurrentLayer]:
    assert isinstance(model, RecurrentLM)
    return [layer for layer in model.encoder.layers if isinstance(layer, RecurrentLayer)]


def _values(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _add_embeddings(model: NeuralLM, graph: Graph) -> str:
    """Stores the embeddings, and the output matrix if it is another; gives the latter's name."""
    embedding = model.embedding
    table: Tensor = embedding.weight
    if embedding.spelling is not SubwordMode.none:
        table = embedding.composition(table)
    graph.matrix("embedding", _values(table))
    if embedding.is_tied and embedding.spelling is not SubwordMode.input:
        return "embedding"
    graph.matrix("output", _values(model.output.weight))
    return "output"


def _read_window(model: WindowLM, graph: Graph) -> str:
    """What is predicted from, (B, features); see ``WindowLM``."""
    newest = graph.add("Unsqueeze", IDS, graph.integers([1]))
    ids = graph.add("Concat", "last_ids", newest, axis=1)  # (B, n)
    end = graph.integers([model.config.window])
    graph.add("Slice", ids, graph.integers([1]), end, graph.integers([1]), name=NEXT + "last_ids")
    x = graph.add("Reshape", graph.look_up("embedding", ids), graph.integers([0, -1]))  # (B, n * E)
    found = graph.add("Tanh", _linear(graph, x, "tanh_layer", model.hidden_layer))
    if model.config.direct_connections:
        found = graph.add("Concat", found, x, axis=-1)
    if model.projection is not None:
        found = _linear(graph, found, "onto_embedding", model.projection)
    return found


def _linear(graph: Graph, x: str, name: str, layer: nn.Linear) -> str:
    graph.matrix(name, _values(layer.weight))
    bias = graph.weight(f"{name}.bias", _values(layer.bias)) if layer.bias is not None else ""
    return graph.linear(x, name, bias)


def _read_layers(layers: list[RecurrentLayer], graph: Graph) -> str:
    """What the last layer gives, (B, H)."""
    x = graph.look_up("embedding", IDS)
    for number, layer in enumerate(layers):
        gates_x = _onto_gates(graph, x, layer, number, "ih")
        gates_h = _onto_gates(graph, f"h{number}", layer, number, "hh")
        x = _cell(graph, layer, number, gates_x, gates_h)
    return x


def _onto_gates(graph: Graph, x: str, layer: RecurrentLayer, number: int, which: str) -> str:
    """(B, I) or (B, H) -> (B, G * H), normalised if the layer does that."""
    name = f"layer{number}.{which}"
    graph.matrix(name, _values(getattr(layer, f"weight_{which}")))
    bias = graph.weight(f"{name}.bias", _values(getattr(layer, f"bias_{which}")))
    norm = getattr(layer, f"norm_{which}")
    if norm is None:
        return graph.linear(x, name, bias)
    return graph.add("Add", _norm(graph, graph.linear(x, name), f"{name}.norm", norm), bias)


def _norm(graph: Graph, x: str, name: str, norm: nn.LayerNorm) -> str:
    parts = {"scale": norm.weight, "bias": norm.bias}
    weights = [
        graph.weight(f"{name}.{part}", _values(values))
        for part, values in parts.items()
        if values is not None
    ]
    return graph.add("LayerNormalization", x, *weights, axis=-1, epsilon=norm.eps)


def _cell(graph: Graph, layer: RecurrentLayer, number: int, gates_x: str, gates_h: str) -> str:
    """The new state from what input and state say, (B, G * H) each; gives the name of h.

    See ``RecurrentLayer._cell``.
    """
    add, after, H = graph.add, f"{NEXT}h{number}", layer.hidden_dim
    if layer.cell == "gru":
        r_input, z_input, n_input = graph.split(gates_x, [H] * 3)
        r_state, z_state, n_state = graph.split(gates_h, [H] * 3)
        r = add("Sigmoid", add("Add", r_input, r_state))
        z = add("Sigmoid", add("Add", z_input, z_state))
        n = add("Tanh", add("Add", n_input, add("Mul", r, n_state)))
        change = add("Mul", z, add("Sub", f"h{number}", n))
        return add("Add", n, change, name=after)  # (1 - z) n + z h
    both = add("Add", gates_x, gates_h)
    if layer.cell != "lstm":
        return add("Tanh" if layer.cell == "tanh" else "Relu", both, name=after)
    i, f, g, o = graph.split(both, [H] * 4)
    kept = add("Mul", add("Sigmoid", f), f"c{number}")
    c = add("Add", kept, add("Mul", add("Sigmoid", i), add("Tanh", g)), name=f"{NEXT}c{number}")
    norm = layer.norm_cell
    shown = c if norm is None else _norm(graph, c, f"layer{number}.cell.norm", norm)
    return add("Mul", add("Sigmoid", o), add("Tanh", shown), name=after)


def _predict(model: NeuralLM, graph: Graph, hidden: str, matrix: str) -> None:
    """The log-probabilities, (B, V); see ``AdaptiveSoftmaxHead.log_probs``."""
    output = model.output
    logits = graph.linear(hidden, matrix, graph.weight("output.bias", _values(output.bias)))
    if not isinstance(output, AdaptiveSoftmaxHead):
        graph.add("LogSoftmax", logits, axis=-1, name=LOG_PROBS)
        return
    graph.matrix("gates", _values(output.gates))
    bias = graph.weight("gates.bias", _values(output.gate_bias))
    shortlist = output.clusters[0][0]
    sizes = [end - begin for begin, end in output.clusters]
    first, *tails = graph.split(logits, [shortlist, *sizes])
    head = graph.add("Concat", first, graph.linear(hidden, "gates", bias), axis=-1)
    log_probs = graph.add("LogSoftmax", head, axis=-1)
    first, *gates = graph.split(log_probs, [shortlist, *[1] * len(tails)])
    parts = [
        graph.add("Add", gate, graph.add("LogSoftmax", tail, axis=-1))
        for gate, tail in zip(gates, tails, strict=True)
    ]
    graph.add("Concat", first, *parts, axis=-1, name=LOG_PROBS)
