"""The builder of ONNX graphs."""

import numpy as np
import onnx
import onnxruntime
import pytest

from korlm.exporting import onnx_graph
from korlm.exporting.onnx_graph import FLOAT, INT64, Graph
from korlm.utils.errors import ExportError


def test_linear_and_look_up() -> None:
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = Graph()
    graph.matrix("w", weight)
    bias = graph.weight("b", np.array([1, 0, -1], dtype=np.float32))
    graph.add("Identity", graph.linear(graph.look_up("w", "ids"), "w", bias), name="y")
    packed = graph.build({"ids": (INT64, ["batch"])}, {"y": (FLOAT, ["batch", 3])}, {"a": "b"})
    session = onnxruntime.InferenceSession(packed, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"ids": np.array([2, 0])})
    assert result.tolist() == [[6, 23, 40], [2, 3, 4]]
    model = onnx.load_from_string(packed)
    assert model.ir_version == 8 and model.opset_import[0].version == 17


def test_equal_nodes_are_shared() -> None:
    graph = Graph()
    assert graph.once("Neg", "x") == graph.once("Neg", "x") != graph.once("Neg", "y")
    rows = graph.once("Transpose", "x", perm=[0, 1])
    assert rows == graph.once("Transpose", "x", perm=[0, 1])
    assert rows != graph.once("Transpose", "x", perm=[1, 0])


def test_weights_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_graph, "MAX_MB", 1)
    graph = Graph()
    graph.add("Add", "x", graph.weight("w", np.zeros(300_000, dtype=np.float32)), name="y")
    inputs = {"x": (FLOAT, [300_000])}
    with pytest.raises(ExportError, match=r"have 1 MB, more than the 1 MB of an ONNX file"):
        graph.build(inputs, {"y": (FLOAT, [300_000])}, {})
