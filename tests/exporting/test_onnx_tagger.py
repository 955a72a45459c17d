"""Taggers in onnxruntime give the scores of PyTorch."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from korlm.config import (
    GRUConfig,
    LSTMConfig,
    SubwordMode,
    TaggingConfig,
    TagHead,
    TagLabels,
    VocabConfig,
)
from korlm.dataset.example_batches import pad
from korlm.dataset.vocab import Vocab
from korlm.exporting.onnx_graph import Graph, Int8Graph
from korlm.exporting.onnx_tagger import build_tagger, onnx_scores
from korlm.tasks.morpheme_tags import NUM_TAGS
from korlm.tasks.tagger import Tagger

TOKENS = ["나", "는", "▁", "학", "교", "에", "간", "다", "1", "a", "."]
VOCAB = Vocab(Counter(TOKENS), VocabConfig(1))
LABELS = ["O", "B-PS", "I-PS"]
SIZES = {"embedding_dim": 6, "hidden_dim": 5, "num_layers": 2, "tie_weights": False}
LSTM = LSTMConfig("lstm", **SIZES)
CASES: dict[str, dict[str, Any]] = {
    "crf": {},
    "softmax": {"head": TagHead.softmax},
    "forward": {"bidirectional": False},
    "ngrams": {"ngram_dim": 3, "ngram_buckets": 50, "ngram_orders": [1, 2, 4]},
    "linear": {"linear_buckets": 500},
    "tags": {"kkma_dim": 2},
    "language_models": {"encoder_dim": 4, "ngram_dim": 2},
    "language_model": {"encoder_dim": 4, "ngram_dim": 2, "bidirectional": False},
    "all": {"ngram_dim": 2, "ngram_buckets": 50, "linear_buckets": 500, "kkma_dim": 2},
}


def tagger(
    config: TaggingConfig, model: Any = LSTM, init: bool = False
) -> tuple[Tagger, list[Any], list[Any]]:
    """Return a tagger with random weights, lines of 1 to 12 tokens, and their units."""
    torch.manual_seed(1)
    settings: Any = SimpleNamespace(model=model, task=config, init=["run"] if init else [])
    made = Tagger(settings, VOCAB, LABELS).eval()
    with torch.no_grad():
        for weights in made.parameters():
            weights.normal_(0, 0.5)
    random = np.random.default_rng(0)
    lines = [random.integers(1, len(VOCAB), size) for size in (4, 1, 12, 7)]
    units = [np.flatnonzero(np.append(random.random(len(row) - 1) < 0.6, True)) for row in lines]
    if config.kkma_dim:
        lines = [np.column_stack([row, random.integers(NUM_TAGS, size=len(row))]) for row in lines]
    return made, lines, units


def expected_scores(model: Tagger, lines: list[Any], units: list[Any]) -> list[Any]:
    """Return the scores of each line by PyTorch, (U, L)."""
    inputs, lengths = pad(lines)
    is_unit = torch.zeros(inputs.shape[:2], dtype=torch.bool)
    for row, ends in zip(is_unit, units, strict=True):
        row[ends] = True
    with torch.inference_mode():
        scores, counts = model(inputs, lengths, is_unit)
    return [row[:count].numpy() for row, count in zip(scores, counts, strict=True)]


def check(
    made: tuple[Tagger, list[Any], list[Any]], folder: Path, graph: Graph, limit: float
) -> float:
    """Compare the scores; return the largest difference."""
    (folder / "model.onnx").write_bytes(build_tagger(made[0], graph, LABELS))
    actual = onnx_scores(folder / "model.onnx", *made[1:])
    expected = expected_scores(*made)
    pairs = [(row[: len(part)], part) for row, part in zip(actual, expected, strict=True)]
    difference = max(float(np.abs(one - other).max()) for one, other in pairs)
    assert difference < limit
    return difference


@pytest.mark.parametrize("name", CASES)
def test_settings(name: str, tmp_path: Path) -> None:
    config = TaggingConfig("tagging", labels=TagLabels.spans, **CASES[name])
    check(tagger(config, init=bool(config.encoder_dim)), tmp_path, Graph(), 1e-5)


def test_an_encoder_of_two_language_models(tmp_path: Path) -> None:
    model = GRUConfig("gru", **SIZES, subword_embedding=SubwordMode.input)
    check(tagger(TaggingConfig("tagging"), model, init=True), tmp_path, Graph(), 1e-5)


def test_int8(tmp_path: Path) -> None:
    made = tagger(TaggingConfig("tagging", **CASES["all"]))
    assert check(made, tmp_path, Int8Graph(), 0.5) > 1e-5


def test_names_and_crf() -> None:
    config = TaggingConfig("tagging", labels=TagLabels.spans, kkma_dim=2)
    model, *_ = tagger(config)
    content = build_tagger(model, Graph(), LABELS)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert {entry.name: entry.shape for entry in session.get_inputs()} == {
        "ids": ["batch", "time"],
        "lengths": ["batch"],
        "units": ["batch", "units"],
        "tags": ["batch", "time"],
    }
    assert {entry.name: entry.shape for entry in session.get_outputs()} == {
        "scores": ["batch", "units", 3],
        "start": [3],
        "transitions": [3, 3],
        "end": [3],
    }
    assert json.loads(session.get_modelmeta().custom_metadata_map["labels"]) == LABELS
    row = np.array([[5, 6]])
    inputs = {"ids": row, "tags": row, "lengths": np.array([2]), "units": np.array([[0]])}
    start, transitions, end = session.run(["start", "transitions", "end"], inputs)
    assert model.crf is not None
    for part, own in zip((start, transitions, end), model.crf.scores(), strict=True):
        np.testing.assert_array_equal(part, own.detach().numpy())
    assert start[2] < -9999 and transitions[0, 2] < -9999 < transitions[1, 2]
