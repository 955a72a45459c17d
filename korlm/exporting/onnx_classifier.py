"""Build the ONNX graph of a classifier: ids of a batch of texts -> log-probabilities of classes.

Axes: B batch, T time, E embedding, H hidden units, D features of the encoder, C classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from korlm.config import Pooling
from korlm.dataset.example_batches import pad
from korlm.dataset.storage.id_stream import Ids
from korlm.exporting.onnx_graph import FLOAT, INT32, INT64, Array, Graph
from korlm.exporting.verify import open_session
from korlm.modules.encoder import PairedEncoder, RecurrentEncoder
from korlm.modules.onnx_nodes import IDS, add_linear, values_of
from korlm.modules.rnn import RecurrentLayer
from korlm.tasks.classification import Classifier
from korlm.utils.errors import ExportError

LENGTHS, LOG_PROBS = "lengths", "log_probs"

# Operators of ONNX, and the order of PyTorch's gates in their matrices.
OPERATORS = {
    "lstm": ("LSTM", (0, 3, 1, 2)),  # i f g o -> i o f g
    "gru": ("GRU", (1, 0, 2)),  # r z n -> z r n
    "tanh": ("RNN", (0,)),
    "relu": ("RNN", (0,)),
}


@dataclass(frozen=True)
class LayerOutputs:
    """Names of the outputs of a layer.

    Attributes:
        output: of all tokens, (T, B, H).
        last: final state of each row, (B, H): after its last token, or backward its first one.
    """

    output: str
    last: str


def build_classifier(model: Classifier, graph: Graph, labels: Sequence[str]) -> bytes:
    """Return the serialized ONNX graph of a classifier.

    Inputs: ``ids``, int64 (B, T), rows padded with any ids of the vocabulary, and ``lengths``,
    int64 (B,), the number of tokens of each row, 1 or more. Output: ``log_probs``, float32 (B, C),
    of logits divided by the temperature that was fitted on valid.

    Args:
        model: in evaluation mode.
        graph: an empty graph; its class decides how embeddings and output layer are stored.
        labels: names of the C classes, stored as JSON in the metadata.

    Raises:
        ExportError: ONNX has no operator for the encoder.
    """
    with torch.no_grad():
        pooled = _pool(model, graph, *_add_encoder(model.encoder, graph))
        logits = add_linear(graph, pooled, "output_layer", model.output)
        temperature = graph.weight("temperature", values_of(model.temperature))
        graph.add("LogSoftmax", graph.add("Div", logits, temperature), axis=-1, name=LOG_PROBS)
    metadata = {
        "korlm_format": "1",
        "labels": json.dumps(list(labels), ensure_ascii=False),
        "max_length": str(model.max_length),
    }
    return graph.build(
        {IDS: (INT64, ["batch", "time"]), LENGTHS: (INT64, ["batch"])},
        {LOG_PROBS: (FLOAT, ["batch", len(labels)])},
        metadata,
    )


def onnx_log_probs(path: Path, texts: Sequence[Ids], threads: int | None = 1) -> Array:
    """Return log-probabilities of an exported classifier, (len(texts), C)."""
    session = open_session(path, threads)
    inputs, lengths = pad(texts)
    (log_probs,) = session.run(None, {IDS: inputs.numpy(), LENGTHS: lengths.numpy()})
    return np.asarray(log_probs)


def _add_encoder(
    encoder: RecurrentEncoder | PairedEncoder, graph: Graph
) -> tuple[list[LayerOutputs], str]:
    """Add embedding and layers.

    Returns:
        The outputs of the highest layer, by direction; the name of the mask of valid positions,
        bool (T, B, 1).
    """
    ids = graph.add("Transpose", IDS, perm=[1, 0])
    length = graph.add("Gather", graph.add("Shape", ids), graph.scalar(0))
    steps = graph.add("Range", graph.scalar(0), length, graph.scalar(1))
    valid = graph.add("Less", graph.add("Unsqueeze", steps, graph.integers([1])), LENGTHS)
    mask = graph.add("Unsqueeze", valid, graph.integers([-1]))
    graph.add("Cast", LENGTHS, to=INT32, name="int32_lengths")
    if isinstance(encoder, RecurrentEncoder):
        x = _add_embedding(encoder, graph, ids, "embedding")
        return _add_layers(graph, x, encoder.layers, encoder.backward_layers), mask
    outputs = []
    for reads_backwards, part in enumerate((encoder.forward_encoder, encoder.backward_encoder)):
        x = _add_embedding(part, graph, ids, f"embedding{reads_backwards}")
        for number, layer in enumerate(_layers(part.layers)):
            name = f"encoder{reads_backwards}.layer{number}"
            encoded = _add_layer(graph, x, layer, bool(reads_backwards), name)
            x = encoded.output
        outputs.append(encoded)
    return outputs, mask


def _add_embedding(encoder: RecurrentEncoder, graph: Graph, ids: str, name: str) -> str:
    """Add the table of embeddings, subwords included, and its lookup, (T, B) -> (T, B, E)."""
    graph.matrix(name, values_of(encoder.embedding.full_weight()))
    return graph.look_up(name, ids)


def _add_layers(
    graph: Graph, x: str, layers: torch.nn.ModuleList, backward_layers: torch.nn.ModuleList
) -> list[LayerOutputs]:
    """Add layers whose directions read both outputs of the layer below; return the highest."""
    stacks = [_layers(stack) for stack in (layers, backward_layers) if len(stack)]
    outputs: list[LayerOutputs] = []
    for number, directions in enumerate(zip(*stacks, strict=True)):
        outputs = [
            _add_layer(graph, x, layer, bool(is_backward), f"layer{number}.{is_backward}")
            for is_backward, layer in enumerate(directions)
        ]
        x = _concat(graph, [encoded.output for encoded in outputs])
    return outputs


def _layers(modules: torch.nn.ModuleList) -> list[RecurrentLayer]:
    layers = list(modules)
    assert all(isinstance(layer, RecurrentLayer) for layer in layers)
    return layers  # type: ignore[return-value]


def _add_layer(
    graph: Graph, x: str, layer: RecurrentLayer, is_backward: bool, name: str
) -> LayerOutputs:
    """Add a layer that reads each row from its first token, or from its last one.

    Raises:
        ExportError: ONNX has no operator for the layer.
    """
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
    inputs = [
        x,
        graph.weight(f"{name}.weight_ih", gates["weight_ih"][None]),
        graph.weight(f"{name}.weight_hh", gates["weight_hh"][None]),
        graph.weight(f"{name}.bias", bias[None]),
        "int32_lengths",
        *(
            _initial_state(graph, part, f"{name}.initial{number}")
            for number, part in enumerate(layer.initial_state(1))
        ),
    ]
    options: dict[str, dict[str, Any]] = {
        "gru": {"linear_before_reset": 1},
        "relu": {"activations": ["Relu"]},
    }
    output, last = graph.add_many(
        operator,
        *inputs,
        names=[f"{name}.output", f"{name}.last"],
        hidden_size=layer.hidden_dim,
        direction="reverse" if is_backward else "forward",
        **options.get(layer.cell, {}),
    )
    return LayerOutputs(
        graph.add("Squeeze", output, graph.integers([1])),  # of (T, 1, B, H)
        graph.add("Squeeze", last, graph.integers([0])),  # of (1, B, H)
    )


def _reorder(weights: Tensor, order: Sequence[int], hidden_dim: int) -> Array:
    """Return (G * H, ...) with the gates in another order."""
    gates = values_of(weights).reshape(len(order), hidden_dim, *weights.shape[1:])
    return gates[list(order)].reshape(weights.shape)


def _initial_state(graph: Graph, state: Tensor, name: str) -> str:
    """Add an initial state, (1, H) -> (1, B, H)."""
    row = graph.weight(name, values_of(state)[None])
    batch = graph.once("Shape", LENGTHS)
    one = graph.integers([1])
    return graph.add("Expand", row, graph.add("Concat", one, batch, one, axis=0))


def _concat(graph: Graph, values: list[str]) -> str:
    return values[0] if len(values) == 1 else graph.add("Concat", *values, axis=-1)


def _pool(model: Classifier, graph: Graph, outputs: list[LayerOutputs], mask: str) -> str:
    """Add the pooling, see ``SequencePooling``; return its output, (B, D) or (B, 3 D)."""
    pooling, add = model.pooling, graph.add
    output = _concat(graph, [encoded.output for encoded in outputs])  # (T, B, D)
    first_axis = graph.integers([0])
    output_or_zero = add("Where", mask, output, graph.scalar(0.0))
    if pooling.mode is Pooling.attention:
        projected = add(
            "Add",
            add(
                "MatMul", output, graph.weight("projection", values_of(pooling.projection.weight).T)
            ),
            graph.weight("projection.bias", values_of(pooling.projection.bias)),
        )
        query = graph.weight("query", values_of(pooling.query.weight).T)
        scores = add("MatMul", add("Tanh", projected), query)  # (T, B, 1)
        masked = add("Where", mask, scores, graph.scalar(-math.inf))
        weighted = add("Mul", add("Softmax", masked, axis=0), output_or_zero)
        return add("ReduceSum", weighted, first_axis, keepdims=0)
    parts = []
    if pooling.mode in (Pooling.last, Pooling.concat):
        parts.append(_concat(graph, [encoded.last for encoded in outputs]))
    if pooling.mode in (Pooling.max, Pooling.concat):
        masked = add("Where", mask, output, graph.scalar(-math.inf))
        parts.append(add("ReduceMax", masked, axes=[0], keepdims=0))
    if pooling.mode in (Pooling.mean, Pooling.concat):
        counts = add("Unsqueeze", add("Cast", LENGTHS, to=FLOAT), graph.integers([-1]))
        total = add("ReduceSum", output_or_zero, first_axis, keepdims=0)
        parts.append(add("Div", total, counts))
    return _concat(graph, parts)
