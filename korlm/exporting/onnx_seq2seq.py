"""Build the ONNX graphs of a sequence-to-sequence model: the encoder, and one step of the decoder.

Axes: B batch, S source tokens, M features of the encoder's output, K of a key, H hidden units, A
attentional features, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from korlm.config import Seq2SeqConfig
from korlm.dataset.vocab import BOS_ID, EOS_ID
from korlm.evaluation.token_scores import Ints
from korlm.exporting.onnx_encoder import (
    LENGTHS,
    add_dense,
    add_encoder,
    add_valid_mask,
    concat,
)
from korlm.exporting.onnx_graph import FLOAT, INT64, Array, Graph, Kind, Shapes
from korlm.exporting.onnx_step import LOG_PROBS, add_embeddings, add_prediction
from korlm.exporting.verify import open_session
from korlm.modules.onnx_nodes import (
    EMBEDDING,
    IDS,
    NEXT,
    add_linear,
    add_recurrent_layers,
    recurrent_state_names,
)
from korlm.tasks.heads.attention import Attention
from korlm.tasks.heads.beam_search import BANNED_IDS
from korlm.tasks.heads.decoder import AttentionDecoder
from korlm.tasks.seq2seq.model import EXTRA_LENGTH, Seq2Seq

VALUES, KEYS, WEIGHTS, VECTOR = "values", "keys", "weights", "vector"

_FORMAT = {"korlm_format": "1"}  # metadata


def build_encoder(model: Seq2Seq, graph: Graph) -> bytes:
    """Return the serialized ONNX graph of the encoder.

    Inputs: ``ids``, int64 (B, S), rows padded with any ids of the vocabulary, and ``lengths``,
    int64 (B,). Outputs, float32: ``values`` (B, S, M) and ``keys`` (B, S, K), which the decoder
    attends to, and its initial state: ``h0``, ... (B, H) and, if it feeds its last output back,
    ``vector`` (B, A).

    Raises:
        ExportError: ONNX has no operator for the encoder, or the weights are too large for one
            file.
    """
    add, decoder = graph.add, model.decoder
    with torch.no_grad():
        encoded = add_encoder(model.encoder, graph)
        output = concat(graph, [layer.output for layer in encoded.directions])  # (S, B, M)
        add("Transpose", output, perm=[1, 0, 2], name=VALUES)
        key = decoder.attention.key
        if key is None:
            add("Identity", VALUES, name=KEYS)
        else:
            add_dense(graph, VALUES, "key", key, KEYS)
        names = recurrent_state_names(decoder.layers)
        bridge = zip(names, decoder.bridge, decoder.bridge_inputs(encoded.state), strict=True)
        for name, linear, parts in bridge:
            assert isinstance(linear, nn.Linear)
            x = add_linear(graph, concat(graph, parts), f"bridge.{name}", linear)
            add("Identity" if name.startswith("c") else "Tanh", x, name=name)
        if decoder.feeds_input:
            size = graph.integers([decoder.output_dim])
            shape = add("Concat", graph.once("Shape", LENGTHS), size, axis=0)
            add("Expand", graph.scalar(0.0), shape, name=VECTOR)
    inputs: Shapes = {IDS: (INT64, ["batch", "source"]), LENGTHS: (INT64, ["batch"])}
    return graph.build(inputs, _memory_shapes(model) | _state_shapes(decoder), _FORMAT)


def build_decoder(model: Seq2Seq, config: Seq2SeqConfig, graph: Graph) -> bytes:
    """Return the serialized ONNX graph of one step of the decoder.

    Inputs: ``ids``, int64 (B,), the token before; ``values``, ``keys`` and the state, as outputs of
    the encoder; ``lengths``, int64 (B,), of the sources. Outputs: ``log_probs``, float32 (B, V);
    ``weights``, float32 (B, S), the attention; the new state, with the prefix ``next_``. The
    metadata has settings of the search.

    Raises:
        ExportError: the weights are too large for one file.
    """
    decoder = model.decoder
    with torch.no_grad():
        matrix = add_embeddings(model.embedding, decoder.output, graph)
        x = graph.look_up(EMBEDDING, IDS)
        if decoder.feeds_input:
            x = concat(graph, [x, VECTOR])
        hidden = add_recurrent_layers(graph, x, decoder.layers)  # (B, H)
        context = _add_attention(decoder.attention, graph, hidden)  # (B, M)
        combined = add_linear(graph, concat(graph, [context, hidden]), "combine", decoder.combine)
        vector = graph.add("Tanh", combined, name=NEXT + VECTOR)  # (B, A)
        add_prediction(decoder.output, graph, vector, matrix)
    state = _state_shapes(decoder)
    outputs: Shapes = {
        LOG_PROBS: (FLOAT, ["batch", model.embedding.num_embeddings]),
        WEIGHTS: (FLOAT, ["batch", "source"]),
        **{NEXT + name: kind for name, kind in state.items()},
    }
    metadata = _FORMAT | {
        "bos_id": str(BOS_ID),
        "eos_id": str(EOS_ID),
        "banned_ids": " ".join(map(str, BANNED_IDS)),
        "max_length_ratio": str(config.max_length_ratio),
        "extra_length": str(EXTRA_LENGTH),
    }
    inputs: Shapes = {
        IDS: (INT64, ["batch"]),
        LENGTHS: (INT64, ["batch"]),
        **_memory_shapes(model),
        **state,
    }
    return graph.build(inputs, outputs, metadata)


def onnx_decoder(
    encoder: Path, decoder: Path, sources: Ints, lengths: Ints, threads: int | None = 1
) -> Callable[[Ints], Array]:
    """Encode sources (B, S) and return a function that runs the next step of the decoder.

    Each call continues from the one before. It takes the token before of each source, (B,), and
    returns log-probabilities (B, V).
    """
    first, step = open_session(encoder, threads), open_session(decoder, threads)
    names = [output.name for output in first.get_outputs()]
    encoded = first.run(None, {IDS: sources, LENGTHS: lengths})
    inputs = {LENGTHS: lengths, **dict(zip(names, encoded, strict=True))}

    def run(ids: Ints) -> Array:
        log_probs, _, *state = step.run(None, {IDS: ids, **inputs})
        inputs.update(zip(names[2:], state, strict=True))  # without values and keys
        return np.asarray(log_probs)

    return run


def _add_attention(attention: Attention, graph: Graph, hidden: str) -> str:
    """Add the attention weights and the context of a state (B, H), see ``Attention``; (B, M)."""
    add = graph.add
    if attention.query is None:
        query = add("Unsqueeze", hidden, graph.integers([-1]))
        scores = add("MatMul", KEYS, query)  # (B, S, 1)
    else:
        assert attention.score is not None
        query = add_linear(graph, hidden, "query", attention.query)
        sums = add("Add", KEYS, add("Unsqueeze", query, graph.integers([1])))
        scores = add_dense(graph, add("Tanh", sums), "score", attention.score)
    scores = add("Squeeze", scores, graph.integers([-1]))
    masked = add("Where", add_valid_mask(graph, KEYS), scores, graph.scalar(-math.inf))
    weights = add("Softmax", masked, axis=-1, name=WEIGHTS)
    context = add("MatMul", add("Unsqueeze", weights, graph.integers([1])), VALUES)
    return add("Squeeze", context, graph.integers([1]))


def _memory_shapes(model: Seq2Seq) -> dict[str, Kind]:
    key, values = model.decoder.attention.key, model.encoder.output_dim
    sizes = {VALUES: values, KEYS: values if key is None else key.out_features}
    return {name: (FLOAT, ["batch", "source", size]) for name, size in sizes.items()}


def _state_shapes(decoder: AttentionDecoder) -> dict[str, Kind]:
    names = recurrent_state_names(decoder.layers)
    sizes = dict.fromkeys(names, decoder.config.hidden_dim)
    if decoder.feeds_input:
        sizes[VECTOR] = decoder.output_dim
    return {name: (FLOAT, ["batch", size]) for name, size in sizes.items()}
