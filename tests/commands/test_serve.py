"""korlm.serve: errors are reported before the model is loaded; full precision."""

import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import Command

from korlm.utils.torch_backend import tf32

pytest.importorskip("fastapi", reason="serving needs it")
from korlm.serving import connections


def test_full_precision(
    korlm: Command, tiny_run: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, cuDNN would use TF32, and surprisal would differ from that of korlm.score."""
    allowed = []

    def run(sockets: object) -> None:
        allowed.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))

    monkeypatch.setattr(connections, "build_server", lambda app: SimpleNamespace(run=run))
    with tf32(True):
        ended = korlm("serve", f"run={tiny_run('lstm').folder}", "port=0")
    assert ended.code == 0, ended.err
    assert allowed == [(False, False)]


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
