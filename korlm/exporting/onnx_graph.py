"""Build an ONNX graph node by node, in float32 or with int8 matrices.

Operator set 17 (ONNX 1.12, 2022) is the oldest one with LayerNormalization; every onnxruntime since
1.12 runs it.

``Int8Graph`` quantizes dynamically: int8 weights, uint8 activations quantized at run time. Each row
of a matrix has its own scale (symmetric, per output channel); each activation tensor, with all rows
of the batch, gets one at run time (ONNX's DynamicQuantizeLinear). Embedding tables are quantized by
row. Biases, normalization and softmax stay float32. The nodes are those of
onnxruntime.quantization.quantize_dynamic, which onnxruntime fuses. Unlike there, a matrix that is
both embedding and output layer is stored once.

Axes: B batch, N rows (outputs) of a matrix, M columns (inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from korlm._version import __version__
from korlm.utils.errors import ExportError

OPSET, IR_VERSION = 17, 8
FLOAT, INT32, INT64, BOOL = map(
    int, (TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
)
MAX_MB = 2_000  # a protocol buffer has at most 2^31 bytes

# int8 has values up to 127, but x86 processors without VNNI add two products of uint8 and int8 in
# 16 bits (VPMADDUBSW), and 2 * 255 * 127 overflows. Six instead of seven bits hardly change the
# perplexity: 72.46 and 72.45 on 20,000 tokens of reports and news (float32 72.44), 56.28 and 56.29
# on film reviews (float32 56.27) (2026-11-21).
LARGEST = 63

Array = npt.NDArray[Any]
LoopBody = onnx.GraphProto
# Element type of onnx.TensorProto, and shape; a string is an axis of any length.
Kind = tuple[int, list[str | int]]
Shapes = Mapping[str, Kind]  # by name


class Graph:
    """Nodes and weights in the order in which they are added; values are referred to by name.

    A matrix is (N, M) as in PyTorch and can be used as a linear layer and as an embedding table; it
    is stored once.

    Args:
        prefix: prefix of generated names; a graph and the bodies of its loops must not share it.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}
        self._shared: dict[tuple[str, ...], str] = {}

    def weight(self, name: str, values: Array) -> str:
        """Store an array under a name, always as given; return the name."""
        assert name not in self._weights
        self._weights[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, named or not; return its name. "" omits an optional input."""
        return self.add_many(op, *inputs, names=[name or self._new_name(op)], **attributes)[0]

    def add_many(self, op: str, *inputs: str, names: list[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs; return their names."""
        self._nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def once(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, or return the output of an equal node that was added this way."""
        key = (op, *inputs, str(sorted(attributes.items())))
        if key not in self._shared:
            self._shared[key] = self.add(op, *inputs, **attributes)
        return self._shared[key]

    def split(self, value: str, sizes: list[int]) -> list[str]:
        """Split a value along its last axis into parts of the given sizes."""
        names = [self._new_name("Split", part) for part in range(len(sizes))]
        return self.add_many("Split", value, self.integers(sizes), names=names, axis=-1)

    def integers(self, values: list[int]) -> str:
        """Store an int64 vector as a weight; return its name."""
        name = f"{self._prefix}integers_" + "_".join(map(str, values))
        if name not in self._weights:
            self.weight(name, np.array(values, dtype=np.int64))
        return name

    def scalar(self, value: int | float) -> str:
        """Store an int64 or float32 scalar as a weight; return its name."""
        name = f"{self._prefix}scalar_{value}"
        if name not in self._weights:
            kind = np.int64 if isinstance(value, int) else np.float32
            self.weight(name, np.array(value, dtype=kind))
        return name

    def matrix(self, name: str, values: Array) -> None:
        """Store a float32 matrix (N, M) for ``linear`` and ``look_up``.

        A subclass may store it smaller.
        """
        self.weight(name, values)

    def linear(self, x: str, matrix: str, bias: str = "") -> str:
        """Compute x matrix^T + bias, (B, M) -> (B, N)."""
        return self.add("Gemm", x, matrix, *([bias] if bias else []), transB=1)

    def look_up(self, matrix: str, ids: str) -> str:
        """Look up rows of a matrix, int64 (...) -> float32 (..., M)."""
        return self.add("Gather", matrix, ids)

    def _new_name(self, op: str, part: int = 0) -> str:
        return f"{self._prefix}{op}_{len(self._nodes)}_{part}"

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename inputs and outputs of the nodes, old name -> new name."""
        for node in self._nodes:
            for values in (node.input, node.output):
                values[:] = [names.get(value, value) for value in values]

    def body(self, inputs: Shapes, outputs: Shapes) -> LoopBody:
        """Return the graph as the body of a loop in another graph; errors as ``build``."""
        size = sum(len(weight.raw_data) for weight in self._weights.values())
        if size > MAX_MB * 1e6:
            raise ExportError(
                f"the weights have {size / 1e6:,.0f} MB, more than the {MAX_MB:,} MB of an ONNX "
                "file: use 'formats=[safetensors]' or train a smaller model"
            )
        entries, exits = (
            [helper.make_tensor_value_info(name, *kind) for name, kind in values.items()]
            for values in (inputs, outputs)
        )
        weights = list(self._weights.values())
        return helper.make_graph(self._nodes, "step", entries, exits, weights)

    def build(self, inputs: Shapes, outputs: Shapes, metadata: Mapping[str, str]) -> bytes:
        """Return the content of the .onnx file, checked by onnx; ``outputs`` are outputs of nodes.

        Raises:
            ExportError: the weights are too large for one file.
        """
        model = helper.make_model(
            self.body(inputs, outputs),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="korlm",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        packed: bytes = model.SerializeToString(deterministic=True)
        return packed


def inputs_and_outputs(path: Path) -> list[tuple[str, str, str, str]]:
    """Return use, name, type and shape of each input and output of an ONNX file."""
    graph = onnx.load(path).graph
    rows = []
    for use, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            tensor = value.type.tensor_type
            kind = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
            shape = ", ".join(axis.dim_param or str(axis.dim_value) for axis in tensor.shape.dim)
            rows.append((use, value.name, kind, f"({shape})"))
    return rows


def quantize_rows(values: npt.NDArray[np.float32]) -> tuple[Array, Array]:
    """Quantize by row: float32 (N, M) -> int8 (N, M) in [-63, 63], scales float32 (N,)."""
    largest = np.abs(values).max(axis=1)
    scales = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    return np.rint(values / scales[:, None]).astype(np.int8), scales


class Int8Graph(Graph):
    """A graph with int8 matrices."""

    def __init__(self) -> None:
        super().__init__()
        self._quantized: set[str] = set()

    def matrix(self, name: str, values: Array) -> None:
        """See ``Graph.matrix``."""
        quantized, scales = quantize_rows(values)
        self.weight(f"{name}.int8", quantized)
        self.weight(f"{name}.scale", scales)

    def linear(self, x: str, matrix: str, bias: str = "") -> str:
        """See ``Graph.linear``."""
        quantized, scale, zero_point = self._quantize(x)
        # onnxruntime transposes the matrix once, when it loads the graph.
        transposed = self.once("Transpose", f"{matrix}.int8", perm=[1, 0])
        products = self.add("MatMulInteger", quantized, transposed, zero_point)
        sums = self.add("Cast", products, to=FLOAT)
        product = self.add("Mul", sums, self.add("Mul", scale, f"{matrix}.scale"))
        return self.add("Add", product, bias) if bias else product

    def look_up(self, matrix: str, ids: str) -> str:
        """See ``Graph.look_up``."""
        rows = self.add("Cast", self.add("Gather", f"{matrix}.int8", ids), to=FLOAT)
        scales = self.add("Gather", f"{matrix}.scale", ids)
        return self.add("Mul", rows, self.add("Unsqueeze", scales, self.integers([-1])))

    def _quantize(self, x: str) -> list[str]:
        """Return the names of uint8 values, scale and zero point of a tensor; add its node once."""
        names = [f"{x}.uint8", f"{x}.scale", f"{x}.zero"]
        if x not in self._quantized:
            self._quantized.add(x)
            self.add_many("DynamicQuantizeLinear", x, names=names)
        return names
