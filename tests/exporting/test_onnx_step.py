"""The step in onnxruntime equals that in PyTorch, for every network and option."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_cases import NETWORKS, VOCAB_SIZE, cases_of, make_config, make_network, scatter

from korlm.exporting.onnx_graph import Graph
from korlm.exporting.onnx_step import begin_state, build_step
from korlm.models.feedforward import WindowLM
from korlm.models.neural import NeuralLM
from korlm.models.registry import build_model
from korlm.utils.errors import ExportError

CASES = cases_of(NETWORKS)
START_ID = 3


def session(model: NeuralLM) -> onnxruntime.InferenceSession:
    packed = build_step(model, Graph(), START_ID)
    return onnxruntime.InferenceSession(packed, providers=["CPUExecutionProvider"])


def assert_same_steps(model: NeuralLM) -> None:
    onnx_session, generator = session(model), torch.Generator().manual_seed(1)
    for rows in (1, 3):
        state = model.initial_state(rows)
        onnx_state = {name: np.repeat(part, rows, 0) for name, part in begin_state(model).items()}
        for ids in torch.randint(0, model.vocab_size, (12, rows), generator=generator):
            with torch.inference_mode():
                log_probs, state = model.step(ids, state)
            outputs = onnx_session.run(None, {"ids": ids.numpy(), **onnx_state})
            onnx_state = dict(zip(onnx_state, outputs[1:], strict=True))
            assert outputs[0].shape == (rows, model.vocab_size)
            for actual, expected in zip(outputs, [log_probs, *state], strict=True):
                assert actual.dtype == expected.numpy().dtype
                # relu has no upper bound: its states grow into the hundreds here
                np.testing.assert_allclose(actual, expected.numpy(), atol=1e-5, rtol=2e-6)


@pytest.mark.parametrize(("cell", "option"), CASES, ids=["-".join(case) for case in CASES])
def test_onnx_equals_pytorch(cell: str, option: str) -> None:
    model = make_network(cell, option)
    assert_same_steps(model)


def test_a_model_without_a_step_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WindowLM, "export_step", NeuralLM.export_step)
    with pytest.raises(ExportError, match="WindowLM has no ONNX step"):
        build_step(make_network("window", "tied"), Graph(), START_ID)


def test_window_of_one_token() -> None:
    model = build_model(make_config("window", embedding_dim=5, hidden_dim=7, window=1), VOCAB_SIZE)
    assert isinstance(model, NeuralLM)
    scatter(model)
    assert_same_steps(model.eval())


def test_names_shapes_and_metadata() -> None:
    model = make_network("lstm", "tied")
    onnx_session = session(model)
    inputs, outputs = onnx_session.get_inputs(), onnx_session.get_outputs()
    assert [(value.name, value.type) for value in inputs] == [
        ("ids", "tensor(int64)"),
        *((name, "tensor(float)") for name in ("h0", "c0", "h1", "c1")),
    ]
    names = ["log_probs", "next_h0", "next_c0", "next_h1", "next_c1"]
    assert [value.name for value in outputs] == names
    assert inputs[1].shape == ["batch", 7]
    assert outputs[0].shape == ["batch", VOCAB_SIZE]
    assert onnx_session.get_modelmeta().custom_metadata_map == {
        "korlm_format": "1",
        "vocab_size": str(VOCAB_SIZE),
        "start_id": "3",
        "state": "h0 c0 h1 c1",
    }


def test_learned_initial_state() -> None:
    model = make_network("gru", "learned_state")
    begin = begin_state(model)
    assert list(begin) == ["h0", "h1"]
    assert np.abs(begin["h0"]).max() > 0.1
    np.testing.assert_array_equal(begin["h1"], model.initial_state(1)[1].detach())


@pytest.mark.parametrize(
    ("option", "matrices"), [("tied", 1), ("untied", 2), ("spelling_both", 1), ("adaptive", 1)]
)
def test_tied_matrix_is_stored_once(option: str, matrices: int) -> None:
    graph = onnx.load_from_string(build_step(make_network("lstm", option), Graph(), START_ID)).graph
    large = [weight.name for weight in graph.initializer if weight.dims[:1] == [VOCAB_SIZE]]
    assert len([name for name in large if name != "output.bias"]) == matrices


def test_export_is_deterministic() -> None:
    packed = [build_step(make_network("lstm", "everything"), Graph(), START_ID) for _ in range(2)]
    assert packed[0] == packed[1]
