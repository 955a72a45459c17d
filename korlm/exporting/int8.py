"""Quantize a graph dynamically: int8 weights, uint8 activations quantized at run time.

Each row of a matrix has its own scale (symmetric, per output channel); each activation tensor, with
all rows of the batch, gets one at run time (ONNX's DynamicQuantizeLinear). Embedding tables are
quantized by row. Biases, normalization and softmax stay float32.

The nodes are those of onnxruntime.quantization.quantize_dynamic, which onnxruntime fuses. Unlike
there, a matrix that is both embedding and output layer is stored once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from korlm.exporting.onnx_graph import FLOAT, Array, Graph

# int8 has values up to 127, but x86 processors without VNNI add two products of uint8 and int8 in
# 16 bits (VPMADDUBSW), and 2 * 255 * 127 overflows. Six instead of seven bits hardly change the
# perplexity: 72.46 and 72.45 on 20,000 tokens of reports and news (float32 72.44), 56.28 and 56.29
# on film reviews (float32 56.27) (2026-11-21).
LARGEST = 63


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
