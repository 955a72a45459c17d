"""korlm.serve: errors are reported before the model is loaded."""

import socket
from pathlib import Path

import pytest
from conftest import Command

pytest.importorskip("fastapi", reason="serving needs it")


def test_a_port_in_use(korlm: Command, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = korlm("serve", f"run={tmp_path}", f"port={port}")
    assert ended.code == 1
    assert ended.error.startswith(f"korlm: host=127.0.0.1 port={port}: cannot listen there (")
    assert "port=0: any free one" in ended.error


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("port=70000", "port=70000: must be in [0, 65535]"),
        ("rate=0", "rate=0.0: must be above 0"),
        ("host=' '", "host= : must be an address"),
        ("host=256.1.2.3", "host=256.1.2.3 port=8600: cannot listen there"),
        ("port=0", "has no checkpoints/best.pt"),
    ],
)
def test_invalid_settings(korlm: Command, tmp_path: Path, option: str, message: str) -> None:
    ended = korlm("serve", f"run={tmp_path}", option)
    assert ended.code == 1
    assert message in ended.error
