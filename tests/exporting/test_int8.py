"""int8 weights against ONNX's definition of the operators."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
from model_cases import make_config, scatter

from korlm.exporting.onnx_graph import FLOAT, INT64, LARGEST, Graph, Int8Graph, quantize_rows
from korlm.exporting.onnx_step import build_step
from korlm.models.neural import NeuralLM
from korlm.models.registry import build_model

Floats = npt.NDArray[np.float32]


def random(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_scales_per_row() -> None:
    weight = random(20, 30) * np.geomspace(1e-3, 1e3, 20, dtype=np.float32)[:, None]
    small, scales = quantize_rows(weight)
    assert small.dtype == np.int8 and scales.dtype == np.float32
    assert (np.abs(small).max(axis=1) == LARGEST).all()
    assert (np.abs(weight - small * scales[:, None]) <= scales[:, None] * 0.5001).all()


def test_zero_row() -> None:
    small, scales = quantize_rows(np.zeros((2, 3), dtype=np.float32))
    assert not small.any() and (scales == 1).all()


def test_two_products_fit_into_16_bits() -> None:
    assert 2 * 255 * LARGEST < 1 << 15


def quantized(x: Floats) -> tuple[npt.NDArray[np.int64], np.float32, int]:
    """ONNX's DynamicQuantizeLinear, from its specification."""
    low, high = min(0, x.min()), max(0, x.max())
    scale = np.float32((high - low) / np.float32(255))
    zero = int(np.clip(np.rint(-low / scale), 0, 255))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64), scale, zero


def test_linear_and_look_up() -> None:
    table, matrix, bias = random(9, 8), random(5, 8, seed=1), random(5, seed=2)
    graph = Int8Graph()
    graph.matrix("table", table)
    graph.matrix("other", matrix)
    graph.add("Identity", graph.look_up("table", "ids"), name="x")
    graph.add("Identity", graph.linear("x", "other", graph.weight("b", bias)), name="y")
    graph.add("Identity", graph.linear("x", "table"), name="z")
    outputs = {name: (FLOAT, ["batch", size]) for name, size in (("x", 8), ("y", 5), ("z", 9))}
    packed = graph.build({"ids": (INT64, ["batch"])}, outputs, {})
    session = onnxruntime.InferenceSession(packed, providers=["CPUExecutionProvider"])
    ids = np.array([3, 0, 8])
    x, y, z = session.run(None, {"ids": ids})
    small, scales = quantize_rows(table)
    np.testing.assert_array_equal(x, small[ids].astype(np.float32) * scales[ids, None])
    vectors, scale, zero = quantized(x)
    for result, values, added in ((y, matrix, bias), (z, table, np.float32(0))):
        small, scales = quantize_rows(values)
        sums = (vectors - zero) @ small.T.astype(np.int64)
        np.testing.assert_allclose(result, sums * (scale * scales) + added, rtol=1e-5, atol=1e-6)


def test_size_is_a_quarter() -> None:
    """The tied matrix is stored once, as in float32."""
    config = make_config("lstm", embedding_dim=64, hidden_dim=64)
    model = build_model(config, 2000)
    assert isinstance(model, NeuralLM)
    scatter(model)
    large, small = (len(build_step(model, graph, 3)) for graph in (Graph(), Int8Graph()))
    assert 0.25 < small / large < 0.3
