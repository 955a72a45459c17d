"""The step in onnxruntime equals that in PyTorch, for every network and option."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_cases import NETWORKS, VOCAB_SIZE, cases_of, make_config, make_model, scatter

from korlm.exporting.onnx_graph import Graph
from korlm.exporting.onnx_step import begin_state, build_step
from korlm.models.feedforward import WindowLM
from korlm.models.neural import NeuralLM
from korlm.models.registry import build_model
from korlm.utils.errors import ExportError

CASES = cases_of(NETWORKS)
START_ID = 3


def network(cell: str, option: str) -> NeuralLM:
    model = make_model(cell, option)
    assert isinstance(model, NeuralLM)
    return model


def session(model: NeuralLM) -> onnxruntime.InferenceSession:
    packed = build_step(model, Graph(), START_ID)
    return onnxruntime.InferenceSession(packed, providers=["CPUExecutionProvider"])


def assert_same_steps(model: NeuralLM) -> None:
    running = session(model)
    for rows in (1, 3):
        compare_steps(model, running, rows)


def compare_steps(model: NeuralLM, running: onnxruntime.InferenceSession, rows: int) -> None:
    state = model.initial_state(rows)
    actual = {name: np.repeat(part, rows, axis=0) for name, part in begin_state(model).items()}
    rng = torch.Generator().manual_seed(rows)
    for ids in torch.randint(0, model.vocab_size, (12, rows), generator=rng):
        with torch.inference_mode():
            expected, state = model.step(ids, state)
        log_probs, *after = running.run(None, {"ids": ids.numpy(), **actual})
        actual = dict(zip(actual, after, strict=True))
        assert log_probs.shape == (rows, model.vocab_size)
        for one, other in zip([log_probs, *after], [expected, *state], strict=True):
            assert one.dtype == other.numpy().dtype
            # relu has no upper bound: its states grow into the hundreds here
            np.testing.assert_allclose(one, other.numpy(), atol=1e-5, rtol=2e-6)


@pytest.mark.parametrize(("cell", "option"), CASES, ids=["-".join(case) for case in CASES])
def test_onnx_equals_pytorch(cell: str, option: str) -> None:
    model = network(cell, option)
    if type(model).export_step is NeuralLM.export_step:
        pytest.skip("a model without an ONNX step")
    assert_same_steps(model)


def test_a_model_without_a_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WindowLM, "export_step", NeuralLM.export_step)
    with pytest.raises(ExportError, match="WindowLM has no ONNX step"):
        build_step(network("window", "tied"), Graph(), START_ID)


def test_window_of_one_token() -> None:
    model = build_model(make_config("window", embedding_dim=5, hidden_dim=7, window=1), VOCAB_SIZE)
    assert isinstance(model, NeuralLM)
    scatter(model)
    assert_same_steps(model.eval())


def test_names_shapes_and_metadata() -> None:
    model = network("lstm", "tied")
    running = session(model)
    assert [(one.name, one.type) for one in running.get_inputs()] == [
        ("ids", "tensor(int64)"),
        *((name, "tensor(float)") for name in ("h0", "c0", "h1", "c1")),
    ]
    names = ["log_probs", "next_h0", "next_c0", "next_h1", "next_c1"]
    assert [one.name for one in running.get_outputs()] == names
    assert running.get_inputs()[1].shape == ["batch", 7]
    assert running.get_outputs()[0].shape == ["batch", VOCAB_SIZE]
    assert running.get_modelmeta().custom_metadata_map == {
        "korlm_format": "1",
        "vocab_size": str(VOCAB_SIZE),
        "start_id": "3",
        "state": "h0 c0 h1 c1",
    }


def test_learned_initial_state() -> None:
    model = network("gru", "learned_state")
    begin = begin_state(model)
    assert list(begin) == ["h0", "h1"]
    assert np.abs(begin["h0"]).max() > 0.1
    np.testing.assert_array_equal(begin["h1"], model.initial_state(1)[1].detach())


@pytest.mark.parametrize(
    ("option", "matrices"), [("tied", 1), ("untied", 2), ("spelling_both", 1), ("adaptive", 1)]
)
def test_tied_matrix_is_stored_once(option: str, matrices: int) -> None:
    graph = onnx.load_from_string(build_step(network("lstm", option), Graph(), START_ID)).graph
    large = [one.name for one in graph.initializer if one.dims[:1] == [VOCAB_SIZE]]
    assert len([name for name in large if name != "output.bias"]) == matrices


def test_export_is_deterministic(tmp_path: Path) -> None:
    packed = [build_step(network("lstm", "everything"), Graph(), START_ID) for _ in range(2)]
    assert packed[0] == packed[1]
