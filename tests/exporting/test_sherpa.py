"""The graphs for sherpa-onnx score as PyTorch does, for every kind of network."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from model_cases import NETWORKS, TOKENS, VOCAB_SIZE, cases_of, make_network

from korlm.config import ExportFormat, VocabConfig
from korlm.dataset.prepared import open_prepared
from korlm.dataset.storage.id_stream import Ids
from korlm.dataset.vocab import EOS_ID, UNK_ID, Vocab
from korlm.evaluation.token_scores import score_sentences, segment_sums
from korlm.exporting.export_run import export_run
from korlm.exporting.onnx_files import _hypotheses
from korlm.exporting.onnx_graph import Graph, Int8Graph
from korlm.exporting.sherpa import build_offline, build_streaming, read_tokens, tokens_of_run
from korlm.exporting.verify import hypothesis_nats
from korlm.models.neural import NeuralLM
from korlm.runs.trained_run import TrainedRun
from korlm.utils.errors import ExportError

CASES = cases_of(NETWORKS)
START_ID = 2
VOCAB = Vocab.restore(TOKENS, [0] * VOCAB_SIZE, VocabConfig())
TABLE = tokens_of_run(VOCAB, START_ID)
SENTENCES = [[4, 5, 9, 1, 7, 10, 8], [], [6], [8, 8, 4]]
FILES = {"sherpa-tokens.txt", "sherpa-offline.onnx", "sherpa-streaming.onnx"}
INT8 = {"sherpa-offline.int8.onnx", "sherpa-streaming.int8.onnx"}


def session(packed: bytes) -> Any:
    return onnxruntime.InferenceSession(packed, providers=["CPUExecutionProvider"])


def nats_of(model: NeuralLM, sentences: list[list[int]]) -> Any:
    """-ln p of each sentence with its end, by korlm."""
    ids = np.concatenate([[*sentence, EOS_ID] for sentence in sentences])
    lengths = np.array([len(sentence) + 1 for sentence in sentences])
    return segment_sums(score_sentences(model, ids, START_ID).nats, lengths)


def padded(sentences: list[list[int]]) -> dict[str, Any]:
    lengths = np.array([len(sentence) for sentence in sentences])
    x = [sentence + [0] * (lengths.max() - len(sentence)) for sentence in sentences]
    return {"x": np.array(x, np.int64), "x_lens": lengths}


def streamed(onnx_session: Any, sentence: list[int]) -> float:
    """-ln p of tokens as sherpa-onnx computes it: zeros, then <sos>, then one by one."""
    meta = onnx_session.get_modelmeta().custom_metadata_map
    zeros = np.zeros((int(meta["num_layers"]), 1, int(meta["hidden_size"])), np.float32)
    start = np.array([[int(meta["sos_id"])]])
    scores, h, c = onnx_session.run(None, {"x": start, "h0": zeros, "c0": zeros})
    nats = 0.0
    for token_id in sentence:
        nats -= float(scores[0, token_id])
        scores, h, c = onnx_session.run(None, {"x": np.array([[token_id]]), "h0": h, "c0": c})
    return nats


@pytest.mark.parametrize(("cell", "option"), CASES, ids=["-".join(case) for case in CASES])
def test_graphs_equal_pytorch(cell: str, option: str) -> None:
    model = make_network(cell, option)
    expected = nats_of(model, SENTENCES)
    (nll,) = session(build_offline(model, Graph(), TABLE)).run(None, padded(SENTENCES))
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    assert nll.dtype == np.float32
    onnx_session = session(build_streaming(model, Graph(), TABLE))
    streamed_nats = [streamed(onnx_session, [*sentence, EOS_ID]) for sentence in SENTENCES]
    np.testing.assert_allclose(streamed_nats, expected, rtol=1e-5)


def test_int8() -> None:
    model = make_network("lstm", "tied")
    expected = nats_of(model, SENTENCES)
    (nll,) = session(build_offline(model, Int8Graph(), TABLE)).run(None, padded(SENTENCES))
    np.testing.assert_allclose(nll, expected, rtol=0.02)
    onnx_session = session(build_streaming(model, Int8Graph(), TABLE))
    streamed_nats = [streamed(onnx_session, [*sentence, EOS_ID]) for sentence in SENTENCES]
    np.testing.assert_allclose(streamed_nats, nll, rtol=1e-3)


def test_only_empty_hypotheses() -> None:
    """Recognizers give them for silence: L is 0."""
    model = make_network("lstm", "tied")
    onnx_session = session(build_offline(model, Graph(), TABLE))
    (nll,) = onnx_session.run(None, padded([[], []]))
    np.testing.assert_allclose(nll, nats_of(model, [[], []]), rtol=1e-5)


def test_names_and_shapes() -> None:
    model = make_network("lstm", "tied")
    offline = session(build_offline(model, Graph(), TABLE))
    assert [(value.name, value.type, value.shape) for value in offline.get_inputs()] == [
        ("x", "tensor(int64)", ["N", "L"]),
        ("x_lens", "tensor(int64)", ["N"]),
    ]
    assert [(value.name, value.shape) for value in offline.get_outputs()] == [("nll", ["N"])]
    onnx_session = session(build_streaming(model, Graph(), TABLE))
    state = [2, "N", 7]  # two layers, the last one of 5 units is padded
    assert [(value.name, value.shape) for value in onnx_session.get_inputs()] == [
        ("x", ["N", 1]),
        ("h0", state),
        ("c0", state),
    ]
    assert [(value.name, value.shape) for value in onnx_session.get_outputs()] == [
        ("log_softmax", ["N", VOCAB_SIZE]),
        ("next_h0", state),
        ("next_c0", state),
    ]
    meta = onnx_session.get_modelmeta().custom_metadata_map
    assert (meta["num_layers"], meta["hidden_size"]) == ("2", "7")
    assert meta["sos_id"] == meta["vocab_size"] == str(VOCAB_SIZE)


def test_state_of_an_lstm() -> None:
    """H is in h0 and c in c0, a row per layer, padded with zeros."""
    model = make_network("lstm", "tied")
    onnx_session = session(build_streaming(model, Graph(), TABLE))
    zeros = np.zeros((2, 2, 7), np.float32)
    x = np.array([[VOCAB_SIZE], [4]])
    _, h, c = onnx_session.run(None, {"x": x, "h0": zeros, "c0": zeros})
    with torch.inference_mode():
        _, state = model.step(torch.tensor([START_ID, 4]), model.initial_state(2))
    for part, (row, expected) in zip((h, c, h, c), enumerate(state), strict=True):
        layer, size = row // 2, expected.shape[1]
        np.testing.assert_allclose(part[layer, :, :size], expected.numpy(), atol=1e-6)
        assert not part[layer, :, size:].any()


def test_ids_of_a_recognizer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens.txt"
    lines = ["<blk> 0", "<sos/eos> 1", "<unk> 2", "나가 3", "모름 4", "가 6", "#0 7"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = read_tokens(path, VOCAB, START_ID)
    assert table.tokens == ["<blk>", "<sos/eos>", "<unk>", "나가", "모름", "", "가", "#0"]
    assert table.ids.tolist() == [UNK_ID] * 3 + [10, UNK_ID, UNK_ID, 4, UNK_ID, START_ID]
    assert "tokens.txt: 1 of 8 tokens are not in the vocabulary" in caplog.text
    assert caplog.text.endswith("scored as <unk>: 모름\n")
    model = make_network("gru", "learned_state")
    expected = nats_of(model, [[10, 4, UNK_ID]])
    (nll,) = session(build_offline(model, Graph(), table)).run(None, padded([[3, 6, 4]]))
    np.testing.assert_allclose(nll, expected, rtol=1e-5)
    onnx_session = session(build_streaming(model, Graph(), table))
    assert onnx_session.get_outputs()[0].shape == ["N", 8]
    nats = score_sentences(model, np.array([10, 4, UNK_ID, EOS_ID]), START_ID).nats
    assert streamed(onnx_session, [3, 6, 4]) == pytest.approx(nats[:3].sum(), rel=1e-5)
    table.save(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_tokens_of_characters_that_end_lines_elsewhere(tmp_path: Path) -> None:
    vocab = Vocab({"가": 2, "\u2028": 1, "\x85나": 1}, VocabConfig(min_freq=1))
    table = tokens_of_run(vocab, START_ID)
    table.save(tmp_path / "tokens.txt")
    assert read_tokens(tmp_path / "tokens.txt", vocab, START_ID).tokens == table.tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("가 0\n나\n", r"tokens\.txt: line 2 must be a token, a blank and an id of at most"),
        ("가 1000001\n", "line 1 must be"),
        ("hello 0\nworld 1\n", "none of its 2 tokens is in the vocabulary of the run"),
        ("", "none of its 0 tokens"),
        (None, "cannot be read"),
        ("\udcff", "cannot be read"),
    ],
)
def test_mistakes_in_tokens(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "tokens.txt"
    if text is not None:
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ExportError, match=words) as caught:
        read_tokens(path, VOCAB, START_ID)
    assert "\n" not in str(caught.value)


def test_hypotheses_in_any_order(tmp_path: Path) -> None:
    model = make_network("lstm", "tied")
    (tmp_path / "a.onnx").write_bytes(build_offline(model, Graph(), TABLE))
    many = [SENTENCES[number % 4] for number in range(19)]
    nats = hypothesis_nats(tmp_path / "a.onnx", [np.array(ids, np.int64) for ids in many])
    np.testing.assert_allclose(nats, nats_of(model, many), rtol=1e-5)


@pytest.fixture
def run(tiny_run: Callable[[str], TrainedRun]) -> TrainedRun:
    return tiny_run("sentence_lstm")


@pytest.fixture
def valid_ids(run: TrainedRun) -> Ids:
    return open_prepared(run.prepared).ids("valid")


def test_export(run: TrainedRun, valid_ids: Ids, tmp_path: Path) -> None:
    formats = [ExportFormat.sherpa, ExportFormat.int8]
    figures = export_run(run, tmp_path / "export", formats, valid_ids)
    names = {path.name for path in (tmp_path / "export").iterdir()}
    assert names == {*FILES, *INT8, "config.json", "vocab.tsv", "export.json", "README.md"}
    trained = json.loads((run.folder / "metrics.json").read_text("utf-8"))["valid"]["loss"]
    for name in ("sherpa-offline", "sherpa-streaming"):
        exact, small = (figures["models"][f"{name}{kind}.onnx"] for kind in ("", ".int8"))
        assert exact["max_abs_diff"] < 1e-5 < small["max_abs_diff"] < 0.5
        assert math.log(exact["perplexity"]) == pytest.approx(trained, rel=1e-5)
        assert math.log(small["perplexity"]) == pytest.approx(trained, abs=0.02)
        assert exact["size_mb"] > 0 < small["size_mb"]
    assert figures["models"]["sherpa-streaming.onnx"]["step_ms"] > 0


def test_export_for_a_recognizer(
    run: TrainedRun, valid_ids: Ids, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.txt"
    path.write_text("<blk> 0\n나 1\n는 2\n▁ 3\n모 4\n", encoding="utf-8")
    figures = export_run(
        *(run, tmp_path / "export", [ExportFormat.sherpa], valid_ids),
        recognizer_tokens=path,
    )
    assert "tokens.txt: 1 of 5 tokens are not in the vocabulary" in caplog.text
    rows = figures["models"]
    assert rows["sherpa-offline.onnx"]["max_abs_diff"] < 1e-5
    assert rows["sherpa-streaming.onnx"]["max_abs_diff"] < 1e-5
    assert not any("perplexity" in row for row in rows.values())
    text = (tmp_path / "export" / "sherpa-tokens.txt").read_text(encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_text_that_is_cut_within_a_sentence() -> None:
    for ids, expected in (
        ([5, 6, EOS_ID, 7, EOS_ID], [[5, 6], [7]]),
        ([5, 6, EOS_ID, 7, 8], [[5, 6]]),
        ([5, 6], [[5, 6]]),
    ):
        hypotheses = _hypotheses(np.array(ids, np.uint32))
        assert [hypothesis.tolist() for hypothesis in hypotheses] == expected


def test_perplexity_of_a_text_that_is_cut_within_a_sentence(
    run: TrainedRun, valid_ids: Ids, tmp_path: Path
) -> None:
    end = int(np.flatnonzero(np.asarray(valid_ids[:]) == EOS_ID)[2]) + 1
    perplexities = []
    for size in (end, end + 1):
        figures = export_run(run, tmp_path / str(size), [ExportFormat.sherpa], valid_ids[:size])
        perplexities.append(figures["models"]["sherpa-offline.onnx"]["perplexity"])
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-6)
