"""Build the ONNX graph of a tagger: ids and units of a batch of lines -> scores of the labels.

Axes: B batch, T tokens, U units, L labels, D features of the encoder's output, F features that it
reads beside embeddings, E embedding of an n-gram, K linear features of a unit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from korlm.dataset.example_batches import pad
from korlm.dataset.storage.id_stream import Ids, Int64
from korlm.dataset.vocab import EOS_ID, PAD_ID
from korlm.exporting.onnx_encoder import (
    LENGTHS,
    add_encoder,
    add_valid_mask,
    concat,
)
from korlm.exporting.onnx_graph import BOOL, FLOAT, INT64, Array, Graph, Kind, Shapes
from korlm.exporting.verify import open_session
from korlm.modules.encoder import PairedEncoder, RecurrentEncoder
from korlm.modules.onnx_nodes import IDS, add_linear, values_of
from korlm.tasks.heads.linear_features import (
    KINDS,
    MAX_WORD_TOKENS,
    MULTIPLIER,
    PRIME,
    TAGS,
    TOKENS,
    LinearFeatures,
)
from korlm.tasks.tagger import NgramEmbedding, Tagger

UNITS, TAGS_INPUT, SCORES = "units", "tags", "scores"
CRF_PARTS = ("start", "transitions", "end")  # outputs of a CRF

_END = np.iinfo(np.int64).max  # of a slice: the end of the axis


def build_tagger(model: Tagger, graph: Graph, labels: Sequence[str]) -> bytes:
    """Return the serialized ONNX graph of a tagger, with the labels as JSON in the metadata.

    Inputs: ``ids``, int64 (B, T), rows padded with any ids of the vocabulary; ``lengths``, int64
    (B,), the number of tokens of each row; ``units``, int64 (B, U), the index of the last token of
    each unit, rows padded with 0, U at least 1; with task.kkma_dim ``tags``, int64 (B, T), see
    ``korlm.tasks.morpheme_tags``. Outputs: ``scores``, float32 (B, U, L), undefined for padding;
    of a CRF also the scores ``start`` (L,), ``transitions`` (L, L) and ``end`` (L,), see
    ``korlm.tasks.heads.crf``.

    Raises:
        ExportError: ONNX has no operator for the encoder, or the weights are too large for one
            file.
    """
    with torch.no_grad():
        _add_scores(model, graph)
        outputs: dict[str, Kind] = {SCORES: (FLOAT, ["batch", "units", len(labels)])}
        if model.crf is not None:
            for name, part in zip(CRF_PARTS, model.crf.scores(), strict=True):
                weight = graph.weight(f"crf.{name}", values_of(part))
                graph.add("Identity", weight, name=name)
                outputs[name] = (FLOAT, list(part.shape))
    inputs: Shapes = {
        IDS: (INT64, ["batch", "time"]),
        LENGTHS: (INT64, ["batch"]),
        UNITS: (INT64, ["batch", "units"]),
        **({} if model.tags is None else {TAGS_INPUT: (INT64, ["batch", "time"])}),
    }
    metadata = {"korlm_format": "1", "labels": json.dumps(list(labels), ensure_ascii=False)}
    return graph.build(inputs, outputs, metadata)


def onnx_scores(
    path: Path, lines: Sequence[Ids], units: Sequence[Int64], threads: int | None = 1
) -> Array:
    """Return the scores of an exported tagger, (len(lines), U, L).

    ``lines`` are ids, each (T,), or ids and tags, each (T, 2); ``units`` the index of the last
    token of each unit of a line.
    """
    session = open_session(path, threads)
    ids, lengths = (part.numpy() for part in pad(lines))
    inputs = {LENGTHS: lengths, UNITS: pad(units, 0)[0].numpy()}
    inputs |= {IDS: ids} if ids.ndim == 2 else {IDS: ids[..., 0], TAGS_INPUT: ids[..., 1]}
    return np.asarray(session.run([SCORES], inputs)[0])


def _add_scores(model: Tagger, graph: Graph) -> None:
    """Add the scores of the labels, see ``Tagger.forward``."""
    add = graph.add
    features = _add_features(model, graph)
    encoded = add_encoder(model.encoder, graph, features=features).directions
    ends = [add("Unsqueeze", UNITS, graph.integers([-1]))]  # (B, U, 1)
    if model.bidirectional:  # the backward state at the first token: after the unit before
        previous = _slice(graph, UNITS, 0, -1)
        following = add("Add", previous, graph.scalar(1))
        first = add("Pad", following, graph.integers([0, 1, 0, 0]))
        ends.append(add("Unsqueeze", first, graph.integers([-1])))
    states = [
        add("GatherND", add("Transpose", layer.output, perm=[1, 0, 2]), index, batch_dims=1)
        for layer, index in zip(encoded, ends, strict=True)
    ]
    hidden = concat(graph, states)  # (B, U, D)
    rows = add("Reshape", hidden, graph.integers([-1, model.output.in_features]))
    scores = add_linear(graph, rows, "output_layer", model.output)
    shape = add("Concat", add("Shape", UNITS), graph.integers([-1]), axis=0)
    if model.linear is None:
        add("Reshape", scores, shape, name=SCORES)
        return
    linear = _add_linear_features(model.linear, graph, ends[0], has_tags=model.tags is not None)
    add("Add", add("Reshape", scores, shape), linear, name=SCORES)


def _add_features(model: Tagger, graph: Graph) -> str:
    """Add what the encoder reads beside embeddings, (B, T, F), see ``Tagger``; "" if nothing."""
    features = []
    if model.ngrams is not None:
        features += _add_ngrams(model.ngrams, graph)
    if model.tags is not None:
        graph.matrix("tag_embedding", values_of(model.tags.weight))
        features.append(graph.look_up("tag_embedding", TAGS_INPUT))
    if model.language_models is not None:
        assert isinstance(model.language_models, (RecurrentEncoder, PairedEncoder))
        padded = graph.add("Pad", IDS, graph.integers([0, 1, 0, 0]), graph.scalar(EOS_ID))
        longer = graph.add("Add", LENGTHS, graph.scalar(1))
        encoded = add_encoder(
            model.language_models, graph, padded, longer, prefix="language_model."
        )
        states = concat(graph, [layer.output for layer in encoded.directions])
        features.append(_slice(graph, graph.add("Transpose", states, perm=[1, 0, 2]), 1, _END))
    return concat(graph, features) if features else ""


def _add_ngrams(ngrams: NgramEmbedding, graph: Graph) -> list[str]:
    """Add the embeddings of n-grams, each (B, T, E), see ``NgramEmbedding``."""
    graph.matrix("ngrams", values_of(ngrams.table.weight))
    num_buckets = graph.scalar(ngrams.table.num_embeddings)
    features = []
    for order in ngrams.orders:
        beside = order - 1
        padding = graph.integers([0, beside, 0, beside])
        padded = graph.add("Pad", _with_pad_ids(graph, IDS), padding)
        code = graph.scalar(order)
        for offset in range(order):
            code = _hash(graph, code, _slice(graph, padded, offset, (offset - beside) or _END))
        embeddings = graph.look_up("ngrams", graph.add("Mod", code, num_buckets))
        features.append(_slice(graph, embeddings, 0, -beside or _END))
        features.append(_slice(graph, embeddings, beside, _END))
    return features


def _add_linear_features(linear: LinearFeatures, graph: Graph, last: str, has_tags: bool) -> str:
    """Add the scores of linear features, (B, U, L), see ``LinearFeatures``.

    ``last`` is the name of the index of the last token of each unit, (B, U, 1).
    """
    ids = _with_pad_ids(graph, IDS)
    kinds = graph.add("Gather", graph.weight("kinds", values_of(linear.kinds)), ids)
    tags = _with_pad_ids(graph, TAGS_INPUT) if has_tags else ""
    parts = [(ids, TOKENS), (kinds, KINDS)] + ([(tags, TAGS)] if has_tags else [])
    codes: list[str] = []
    for values, templates in parts:
        for distances in templates:
            code = graph.scalar(len(codes))
            for distance in distances:
                code = _hash(graph, code, _shifted(graph, values, distance))
            codes.append(code)
    before = _add_word_code(graph, ids, kinds, range(-1, -MAX_WORD_TOKENS - 1, -1), len(codes))
    after = _add_word_code(graph, ids, kinds, range(MAX_WORD_TOKENS), len(codes) + 1)
    codes += [before, after, _hash(graph, before, after)]
    if has_tags:
        codes.append(_hash(graph, _hash(graph, graph.scalar(len(codes)), ids), tags))
    axis = graph.integers([-1])
    all_codes = concat(graph, [graph.add("Unsqueeze", code, axis) for code in codes])  # (B, T, K)
    rows = graph.add("GatherND", all_codes, last, batch_dims=1)  # (B, U, K)
    buckets = graph.add("Mod", rows, graph.scalar(linear.table.num_embeddings))
    graph.matrix("linear_features", values_of(linear.table.weight))
    weights = graph.look_up("linear_features", buckets)  # (B, U, K, L)
    return graph.add("ReduceSum", weights, graph.integers([2]), keepdims=0)


def _add_word_code(
    graph: Graph, ids: str, kinds: str, distances: Sequence[int], template: int
) -> str:
    """Add a hash of the tokens at these distances, up to the first blank; (B, T)."""
    code, inside = graph.scalar(template), ""
    for distance in distances:
        # Blanks are of kind 0, as are tokens beyond the row.
        is_inside = graph.add("Cast", _shifted(graph, kinds, distance), to=BOOL)
        inside = graph.add("And", inside, is_inside) if inside else is_inside
        longer = _hash(graph, code, _shifted(graph, ids, distance))
        code = graph.add("Where", inside, longer, code)
    return code


def _with_pad_ids(graph: Graph, values: str) -> str:
    """Add an input (B, T) with 0 (<pad>, or no tag) after the end of each row."""
    return graph.once("Where", add_valid_mask(graph), values, graph.scalar(PAD_ID))


def _hash(graph: Graph, code: str, values: str) -> str:
    """Add ``hash_ids``."""
    product = graph.add("Mul", code, graph.scalar(MULTIPLIER))
    return graph.add("Mod", graph.add("Add", product, values), graph.scalar(PRIME))


def _shifted(graph: Graph, values: str, distance: int) -> str:
    """Add ``shifted`` with the padding 0."""
    if not distance:
        return values
    padding = graph.integers([0, max(-distance, 0), 0, max(distance, 0)])
    padded = graph.once("Pad", values, padding)
    return _slice(graph, padded, *((distance, _END) if distance > 0 else (0, distance)))


def _slice(graph: Graph, values: str, begin: int, end: int) -> str:
    """Add a slice of the second axis."""
    bounds = (graph.integers([value]) for value in (begin, end, 1))
    return graph.once("Slice", values, *bounds)
