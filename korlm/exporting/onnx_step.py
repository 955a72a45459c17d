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
from torch import Tensor

from korlm.config import SubwordMode
from korlm.exporting.onnx_graph import FLOAT, INT64, Array, Graph, Shapes
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import AdaptiveSoftmaxHead
from korlm.modules.onnx_nodes import IDS, NEXT, values_of
from korlm.utils.errors import ExportError

LOG_PROBS = "log_probs"


def begin_state(model: NeuralLM) -> dict[str, Array]:
    """The state before anything was read, each part (1, ...)."""
    return dict(zip(model.state_names(), map(values_of, model.initial_state(1)), strict=True))


def build_step(model: NeuralLM, graph: Graph, start_id: int) -> bytes:
    """The graph of one step, as an .onnx file holds it.

    Its inputs are ``ids``, int64 (B,), and the parts of the state by name; its outputs
    ``log_probs``, float32 (B, V), and the parts of the new state, whose names begin with ``next_``.

    Args:
        model: in evaluation mode.
        graph: an empty one, which also says how weights are stored.
        start_id: what stands before the first token of a sentence, for the metadata.

    Raises:
        ExportError: the model does not write its step.
    """
    with torch.no_grad():
        matrix = _add_embeddings(model, graph)
        try:
            hidden = model.export_step(graph)
        except NotImplementedError as error:
            raise ExportError(
                f"{type(model).__name__} has no ONNX step (NeuralLM.export_step): give "
                "'formats=[safetensors]'"
            ) from error
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


def _add_embeddings(model: NeuralLM, graph: Graph) -> str:
    """Stores the embeddings, and the output matrix if it is another; gives the latter's name."""
    embedding = model.embedding
    table: Tensor = embedding.weight
    if embedding.spelling is not SubwordMode.none:
        table = embedding.composition(table)
    graph.matrix("embedding", values_of(table))
    if embedding.is_tied and embedding.spelling is not SubwordMode.input:
        return "embedding"
    graph.matrix("output", values_of(model.output.weight))
    return "output"


def _predict(model: NeuralLM, graph: Graph, hidden: str, matrix: str) -> None:
    """The log-probabilities, (B, V); see ``AdaptiveSoftmaxHead.log_probs``."""
    output = model.output
    logits = graph.linear(hidden, matrix, graph.weight("output.bias", values_of(output.bias)))
    if not isinstance(output, AdaptiveSoftmaxHead):
        graph.add("LogSoftmax", logits, axis=-1, name=LOG_PROBS)
        return
    graph.matrix("gates", values_of(output.gates))
    bias = graph.weight("gates.bias", values_of(output.gate_bias))
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
