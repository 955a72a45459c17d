"""Build the ONNX graph of one step of a network: ids, state -> log-probabilities, new state.

The graph, a few dozen nodes, is built node by node from the weights instead of by torch.onnx. The
older exporter of torch.onnx is deprecated; the newer one needs onnxscript, and its graph depends on
how each version of PyTorch decomposes fused kernels. Here the graph does not depend on the version
of PyTorch, subword embeddings are precomputed, a tied matrix is stored once, and the same code
writes float32 (``Graph``) and int8 (``Int8Graph``).

Axes: B batch, V vocabulary, E embedding, H hidden units, n window.
"""

from __future__ import annotations

import numpy as np
import torch

from korlm.config import SubwordMode
from korlm.exporting.onnx_graph import FLOAT, INT64, Array, Graph, Shapes
from korlm.models.neural import NeuralLM
from korlm.modules.adaptive_softmax import AdaptiveSoftmaxHead
from korlm.modules.embedding import TokenEmbedding
from korlm.modules.onnx_nodes import IDS, NEXT, values_of
from korlm.modules.softmax import SoftmaxHead
from korlm.utils.errors import ExportError

LOG_PROBS = "log_probs"


def begin_state(model: NeuralLM) -> dict[str, Array]:
    """Return the initial state by name, each tensor (1, ...)."""
    return dict(zip(model.state_names(), map(values_of, model.initial_state(1)), strict=True))


def build_step(model: NeuralLM, graph: Graph, start_id: int) -> bytes:
    """Return the serialized ONNX graph of one step.

    Inputs: ``ids``, int64 (B,), and the tensors of the state by name. Outputs: ``log_probs``,
    float32 (B, V), and the tensors of the new state, with the prefix ``next_``. ``start_id``, the
    input before the first token of a sentence, is in the metadata.

    Raises:
        ExportError: the model has no ``export_step``.
    """
    add_step(model, graph)
    state = state_shapes(model)
    metadata = {
        "korlm_format": "1",
        "vocab_size": str(model.vocab_size),
        "start_id": str(start_id),
        "state": " ".join(state),
    }
    return graph.build(
        {IDS: (INT64, ["batch"]), **state},
        {
            LOG_PROBS: (FLOAT, ["batch", model.vocab_size]),
            **{NEXT + name: kind for name, kind in state.items()},
        },
        metadata,
    )


def add_step(model: NeuralLM, graph: Graph) -> None:
    """Add the nodes of one step; for the names of its inputs and outputs see ``build_step``."""
    with torch.no_grad():
        matrix = add_embeddings(model.embedding, model.output, graph)
        try:
            hidden = model.export_step(graph)
        except NotImplementedError as error:
            raise ExportError(
                f"{type(model).__name__} has no ONNX step (NeuralLM.export_step): give "
                "'formats=[safetensors]'"
            ) from error
        add_prediction(model.output, graph, hidden, matrix)


def state_shapes(model: NeuralLM) -> Shapes:
    """Return type and shape of each part of the state, in the order of ``state_names``."""
    return {
        name: (INT64 if part.dtype == np.int64 else FLOAT, ["batch", *part.shape[1:]])
        for name, part in begin_state(model).items()
    }


def add_embeddings(embedding: TokenEmbedding, output: SoftmaxHead, graph: Graph) -> str:
    """Add the embedding matrix, and the output matrix if it is not tied; return its name."""
    graph.matrix("embedding", values_of(embedding.full_weight()))
    if embedding.is_tied and embedding.subword_mode is not SubwordMode.input:
        return "embedding"
    graph.matrix("output", values_of(output.weight))
    return "output"


def add_prediction(output: SoftmaxHead, graph: Graph, hidden: str, matrix: str) -> None:
    """Add the output layer with log-probabilities (B, V), as ``AdaptiveSoftmaxHead.log_probs``.

    ``hidden`` is the name of its input, ``matrix`` that of its weight, see ``add_embeddings``.
    """
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
