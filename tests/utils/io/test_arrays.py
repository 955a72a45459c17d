"""Arrays that need more memory than available are an error of one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from korlm.utils.errors import ConfigError, PreparedError, reading
from korlm.utils.io.arrays import read_arrays, write_arrays


def test_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    write_arrays(path, {"counts": np.arange(3)})
    assert read_arrays(path)["counts"].tolist() == [0, 1, 2]

    def fail(*args: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "load", fail)
    with (
        pytest.raises(ConfigError, match=r"a\.npz: needs more memory than available"),
        reading(path, PreparedError, "prepare it again"),
    ):
        read_arrays(path)
