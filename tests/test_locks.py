"""Who works in a folder works there alone, and leaves nothing of the lock."""

from pathlib import Path

import pytest

from korlm.errors import OutputError
from korlm.locks import alone


def test_a_second_one_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with alone(path, "taken"):
        with pytest.raises(OutputError, match=r"^taken$"), alone(path, "taken"):
            pass
        assert path.exists()
    assert not path.exists()
    with alone(path, "taken"):
        pass
