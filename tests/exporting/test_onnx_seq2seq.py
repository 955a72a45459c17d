"""Encoder and decoder in onnxruntime give the log-probabilities and texts of PyTorch."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from korlm.config import (
    AttentionScore,
    GRUConfig,
    LSTMConfig,
    RNNConfig,
    Seq2SeqConfig,
    Softmax,
    SubwordMode,
    VocabConfig,
)
from korlm.dataset.example_batches import pad
from korlm.dataset.vocab import BOS_ID, EOS_ID, Vocab
from korlm.exporting.onnx_graph import Graph, Int8Graph
from korlm.exporting.onnx_seq2seq import build_decoder, build_encoder, onnx_decoder
from korlm.tasks.heads.beam_search import BANNED_IDS
from korlm.tasks.seq2seq.model import Seq2Seq, search
from korlm.utils.errors import ExportError

VOCAB = Vocab(Counter(["나는", "학교", "에", "간다", "집", "이", "크다"]), VocabConfig(1))
SIZES: dict[str, Any] = {"embedding_dim": 6, "hidden_dim": 8, "num_layers": 2}
LSTM = LSTMConfig("lstm", **SIZES)
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (LSTM, {}),
    "gru": (GRUConfig("gru", **SIZES), {"attention": AttentionScore.additive}),
    "rnn": (RNNConfig("rnn", **SIZES, tie_weights=False), {"attention": AttentionScore.dot}),
    "forward": (LSTM, {"bidirectional": False, "share_embedding": False}),
    "feeding": (LSTM, {"input_feeding": True}),
    "subwords": (LSTMConfig("lstm", **SIZES, subword_embedding=SubwordMode.both), {}),
    "adaptive": (LSTMConfig("lstm", **SIZES, softmax=Softmax.adaptive, cutoffs=[5, 8]), {}),
}


def seq2seq(model: Any, task: Seq2SeqConfig) -> tuple[Seq2Seq, list[Any]]:
    """Return a model with random weights, and sources of 1 to 6 tokens."""
    torch.manual_seed(1)
    made = Seq2Seq(model, task, len(VOCAB), VOCAB.tokens).eval()
    with torch.no_grad():
        for weights in made.parameters():
            weights.normal_(0, 0.5)
    random = np.random.default_rng(0)
    return made, [random.integers(4, len(VOCAB), size) for size in (3, 1, 6, 2)]


def write(model: Seq2Seq, task: Seq2SeqConfig, folder: Path, graph: type[Graph]) -> list[Path]:
    """Write both graphs; return their paths."""
    paths = [folder / "encoder.onnx", folder / "decoder.onnx"]
    paths[0].write_bytes(build_encoder(model, graph()))
    paths[1].write_bytes(build_decoder(model, task, graph()))
    return paths


def differences(
    model: Seq2Seq, task: Seq2SeqConfig, sources: Any, folder: Path, graph: type[Graph]
) -> float:
    """Return the largest difference of log-probabilities in four steps."""
    inputs, lengths = pad(sources)
    steps = onnx_decoder(*write(model, task, folder, graph), inputs.numpy(), lengths.numpy())
    ids, largest = torch.full((len(sources),), BOS_ID), 0.0
    with torch.inference_mode():
        memory, state = model.encode(inputs, lengths)
        for _ in range(4):
            log_probs, _, state = model.decoder.step(ids[:, None], memory, state)
            actual = steps(ids.numpy())
            largest = max(largest, float(np.abs(actual - log_probs[:, 0].numpy()).max()))
            ids = log_probs[:, 0].argmax(-1)
    return largest


@pytest.mark.parametrize("name", CASES)
def test_settings(name: str, tmp_path: Path) -> None:
    config, options = CASES[name]
    task = Seq2SeqConfig("seq2seq", **options)
    assert differences(*with_task(config, task), tmp_path, Graph) < 1e-5


def with_task(config: Any, task: Seq2SeqConfig) -> tuple[Seq2Seq, Seq2SeqConfig, list[Any]]:
    model, sources = seq2seq(config, task)
    return model, task, sources


def test_int8(tmp_path: Path) -> None:
    task = Seq2SeqConfig("seq2seq", input_feeding=True)
    assert 1e-5 < differences(*with_task(LSTM, task), tmp_path, Int8Graph) < 0.5


def test_greedy_texts(tmp_path: Path) -> None:
    task = Seq2SeqConfig("seq2seq", num_beams=1)
    model, sources = seq2seq(LSTM, task)
    paths = write(model, task, tmp_path, Graph)
    inputs, lengths = pad(sources)
    with torch.inference_mode():
        memory, state = model.encode(inputs, lengths)
        results = search(model, memory, state, lengths.tolist(), task)
    for source, (best,) in zip(sources, results, strict=True):
        step = onnx_decoder(*paths, source[None], np.array([len(source)]))
        ids, written = np.array([BOS_ID]), list[int]()
        for _ in range(2 * len(source) + 10):
            log_probs = step(ids)
            log_probs[:, BANNED_IDS] = -np.inf
            ids = log_probs.argmax(1)
            if ids[0] == EOS_ID:
                break
            written.append(int(ids[0]))
        assert tuple(written) == best.ids


def test_layer_normalization_is_refused() -> None:
    task = Seq2SeqConfig("seq2seq")
    model, _ = seq2seq(LSTMConfig("lstm", **SIZES, layer_norm=True), task)
    with pytest.raises(ExportError, match=r"model\.layer_norm=true"):
        build_encoder(model, Graph())
