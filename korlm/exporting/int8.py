"""Dynamic quantisation: int8 weights, multiplied with what becomes uint8 on its way to them.

Each row of a matrix has a scale of its own (per output channel, symmetric), each vector that comes
in has one that is found when it comes (ONNX's DynamicQuantizeLinear). Tables of embeddings are
quantised as well, row by row. Biases, normalisation and softmax stay float32.

The nodes are those that onnxruntime.quantization.quantize_dynamic would write and that onnxruntime
fuses. Written here, a matrix that is embedding and output layer at once is stored once, where
quantize_dynamic stores it twice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from korlm.exporting.onnx_graph import FLOAT, Array, Graph

# An int8 goes up to 127. But x86 processors without VNNI add two products of uint8 and int8 in 16
# bits (VPMADDUBSW), which 2 * 255 * 127 overflows, and an export must be right on any processor.
# The bit costs nothing: perplexity 72.46 and 72.45 on 20,000 tokens of reports and news, float32
# 72.44; 56.28 and 56.29 on film reviews, float32 56.27 (2026-11-21).
LARGEST = 63


def quantize_rows(values: npt.NDArray[np.float32]) -> tuple[Array, Array]:
    """Float32 (N, M) -> int8 (N, M), -63 to 63, and the scales of its rows, float32 (N,)."""
    largest = np.abs(values).max(axis=1)
    scales = np.where(largest > 0, largest / LARGEST, 1).astype(np.float32)
    return np.rint(values / scales[:, None]).astype(np.int8), scales


class Int8Graph(Graph):
    """A graph whose matrices are int8."""

    def __init__(self) -> None:
        super().__init__()
        self._vectors: set[str] = set()

    def matrix(self, name: str, values: Array) -> None:
        """See ``Graph.matrix``."""
        small, scales = quantize_rows(values)
        self.weight(f"{name}.int8", small)
        self.weight(f"{name}.scale", scales)

    def linear(self, x: str, matrix: str, bias: str = "") -> str:
        """See ``Graph.linear``."""
        small, scale, zero = self._quantized(x)
        # onnxruntime turns the matrix round once, when it loads the graph.
        transposed = self.once("Transpose", f"{matrix}.int8", perm=[1, 0])
        sums = self.add("Cast", self.add("MatMulInteger", small, transposed, zero), to=FLOAT)
        found = self.add("Mul", sums, self.add("Mul", scale, f"{matrix}.scale"))
        return self.add("Add", found, bias) if bias else found

    def look_up(self, matrix: str, ids: str) -> str:
        """See ``Graph.look_up``."""
        rows = self.add("Cast", self.add("Gather", f"{matrix}.int8", ids), to=FLOAT)
        scales = self.add("Gather", f"{matrix}.scale", ids)
        return self.add("Mul", rows, self.add("Unsqueeze", scales, self.integers([-1])))

    def _quantized(self, x: str) -> list[str]:
        """Uint8, scale and zero point of a vector; the same ones for all that it is fed to."""
        names = [f"{x}.uint8", f"{x}.scale", f"{x}.zero"]
        if x not in self._vectors:
            self._vectors.add(x)
            self.add_many("DynamicQuantizeLinear", x, names=names)
        return names
