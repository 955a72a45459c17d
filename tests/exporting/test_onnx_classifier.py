"""Classifiers in onnxruntime give the log-probabilities of PyTorch."""

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
    ClassificationConfig,
    ExportFormat,
    GRUConfig,
    InitialState,
    LSTMConfig,
    Nonlinearity,
    Pooling,
    RNNConfig,
    SubwordMode,
    VocabConfig,
)
from korlm.dataset.example_batches import pad
from korlm.dataset.vocab import Vocab
from korlm.exporting.export_run import formats_of
from korlm.exporting.onnx_classifier import build_classifier, onnx_log_probs
from korlm.exporting.onnx_graph import Graph, Int8Graph
from korlm.tasks.classification import Classifier
from korlm.utils.errors import ExportError

VOCAB = Vocab(
    Counter(["나는", "학교", "에", "간다", "집", "이", "크다", "비가", "온다"]), VocabConfig(1)
)
LABELS = ["긍정", "보통", "부정"]
SIZES = {"embedding_dim": 6, "hidden_dim": 5, "num_layers": 2}
MODELS = {
    "lstm": LSTMConfig("lstm", **SIZES),
    "gru": GRUConfig("gru", **SIZES),
    "rnn": RNNConfig("rnn", **SIZES),
    "relu": RNNConfig("rnn", **SIZES, nonlinearity=Nonlinearity.relu),
    "learned": LSTMConfig("lstm", **SIZES, initial_state=InitialState.learned),
    "subwords": LSTMConfig("lstm", **SIZES, subword_embedding=SubwordMode.input),
}

OPTIONS: list[dict[str, Any]] = [
    *({"pooling": pooling} for pooling in Pooling),
    {"bidirectional": False},
    {"init": True},
]


def classifier(model: Any, init: bool = False, **options: Any) -> Classifier:
    """Return a classifier with random weights that texts of any length tell apart."""
    torch.manual_seed(1)
    config = ClassificationConfig("classification", **options)
    settings: Any = SimpleNamespace(model=model, task=config, init=["run"] if init else [])
    made = Classifier(settings, VOCAB, len(LABELS)).eval()
    with torch.no_grad():
        for weights in made.parameters():
            weights.normal_(0, 0.5)
        made.temperature.fill_(1.5)
    return made


def log_probs(model: Classifier, folder: Path, graph: Graph) -> tuple[Any, Any]:
    """Return the log-probabilities of texts of 1 to 6 tokens by PyTorch and by onnxruntime."""
    random = np.random.default_rng(0)
    texts = [random.integers(1, len(VOCAB), size) for size in (3, 1, 6, 2)]
    with torch.inference_mode():
        logits = model(*pad(texts)) / model.temperature
    (folder / "model.onnx").write_bytes(build_classifier(model, graph, LABELS))
    return logits.log_softmax(-1).numpy(), onnx_log_probs(folder / "model.onnx", texts)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_encoders_and_poolings(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    expected, actual = log_probs(classifier(MODELS[name], **options), tmp_path, Graph())
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_int8(tmp_path: Path) -> None:
    expected, actual = log_probs(classifier(MODELS["lstm"]), tmp_path, Int8Graph())
    assert 0 < np.abs(actual - expected).max() < 0.1
    np.testing.assert_allclose(np.exp(actual).sum(1), 1, rtol=1e-5)


def test_names_and_metadata() -> None:
    content = build_classifier(classifier(MODELS["lstm"], max_length=99), Graph(), LABELS)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert {entry.name: entry.shape for entry in session.get_inputs()} == {
        "ids": ["batch", "time"],
        "lengths": ["batch"],
    }
    assert [(entry.name, entry.shape) for entry in session.get_outputs()] == [
        ("log_probs", ["batch", len(LABELS)])
    ]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == LABELS and metadata["max_length"] == "99"


def test_a_pooling_without_onnx_is_noticed() -> None:
    model = classifier(MODELS["lstm"])
    model.pooling.mode = SimpleNamespace(name="median")
    with pytest.raises(AssertionError, match="median"):
        build_classifier(model, Graph(), LABELS)


def test_layer_normalization_is_refused() -> None:
    model = classifier(LSTMConfig("lstm", **SIZES, layer_norm=True))
    with pytest.raises(ExportError, match=r"model\.layer_norm=true.*formats=\[safetensors\]"):
        build_classifier(model, Graph(), LABELS)
    settings = SimpleNamespace(model=model.encoder.config)
    run: Any = SimpleNamespace(model=model, settings=settings)
    assert formats_of(run) == [ExportFormat.safetensors]
