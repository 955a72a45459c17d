"""Build the ONNX graph of a classifier: ids of a batch of texts -> log-probabilities of classes.

Axes: B batch, T time, D features of the encoder, C classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from korlm.config import Pooling
from korlm.dataset.example_batches import pad
from korlm.dataset.storage.id_stream import Ids
from korlm.exporting.onnx_encoder import (
    LENGTHS,
    LayerOutputs,
    add_dense,
    add_encoder,
    add_valid_mask,
    concat,
)
from korlm.exporting.onnx_graph import FLOAT, INT64, Array, Graph
from korlm.exporting.verify import open_session
from korlm.modules.onnx_nodes import IDS, add_linear, values_of
from korlm.tasks.classification import Classifier

LOG_PROBS = "log_probs"


def build_classifier(model: Classifier, graph: Graph, labels: Sequence[str]) -> bytes:
    """Return the serialized ONNX graph of a classifier, with the labels as JSON in the metadata.

    Inputs: ``ids``, int64 (B, T), rows padded with any ids of the vocabulary, and ``lengths``,
    int64 (B,), the number of tokens of each row, 1 or more. Output: ``log_probs``, float32 (B, C),
    of logits divided by the temperature that was fitted on valid.

    Raises:
        ExportError: ONNX has no operator for the encoder, or the weights are too large for one
            file.
    """
    with torch.no_grad():
        encoded = add_encoder(model.encoder, graph)
        pooled = _pool(model, graph, encoded.directions)
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


def _pool(model: Classifier, graph: Graph, outputs: list[LayerOutputs]) -> str:
    """Add the pooling, see ``SequencePooling``; return its output, (B, D) or (B, 3 D)."""
    pooling, add = model.pooling, graph.add
    output = concat(graph, [encoded.output for encoded in outputs])  # (T, B, D)
    mask = add("Transpose", add_valid_mask(graph), perm=[1, 0])
    mask = add("Unsqueeze", mask, graph.integers([-1]))  # (T, B, 1)
    first_axis = graph.integers([0])
    output_or_zero = add("Where", mask, output, graph.scalar(0.0))
    if pooling.mode is Pooling.attention:
        projected = add_dense(graph, output, "projection", pooling.projection)
        scores = add_dense(graph, add("Tanh", projected), "query", pooling.query)  # (T, B, 1)
        masked = add("Where", mask, scores, graph.scalar(-math.inf))
        weighted = add("Mul", add("Softmax", masked, axis=0), output_or_zero)
        return add("ReduceSum", weighted, first_axis, keepdims=0)
    pooled_parts = []
    if pooling.mode in (Pooling.last, Pooling.concat):
        pooled_parts.append(concat(graph, [encoded.state[0] for encoded in outputs]))
    if pooling.mode in (Pooling.max, Pooling.concat):
        masked = add("Where", mask, output, graph.scalar(-math.inf))
        pooled_parts.append(add("ReduceMax", masked, axes=[0], keepdims=0))
    if pooling.mode in (Pooling.mean, Pooling.concat):
        counts = add("Unsqueeze", add("Cast", LENGTHS, to=FLOAT), graph.integers([-1]))
        total = add("ReduceSum", output_or_zero, first_axis, keepdims=0)
        pooled_parts.append(add("Div", total, counts))
    assert pooled_parts, f"no ONNX of pooling {pooling.mode.name}"
    return concat(graph, pooled_parts)
