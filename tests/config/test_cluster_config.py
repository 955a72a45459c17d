"""Contradictory settings of a cluster are refused before any work."""

from typing import Any

import pytest

from korlm.config import ClusterConfig
from korlm.utils.errors import ConfigError


@pytest.mark.parametrize(
    "good",
    [
        {},
        {"cluster": "local", "workers": 3, "memory_gb": 2.5},
        {"cluster": "slurm", "workers": 64, "options": {"queue": "main"}},
        {"cluster": "kubernetes", "workers": 1, "piece_mb": 100},
        {"piece_mb": 0.001},
        {"cluster": "tcp://node-1.local:8786"},
        {"cluster": "tls://[::1]:8786"},
    ],
)
def test_taken(good: dict[str, Any]) -> None:
    assert ClusterConfig(**good).cluster == good.get("cluster")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            {"cluster": "node:8786"},
            "prepare.cluster=node:8786: must be local, slurm, kubernetes or an address",
        ),
        ({"cluster": "tcp://node"}, "such as tcp://HOST:8786"),
        (
            {"cluster": "tcp://node:99999"},
            "such as tcp://HOST:8786, with a port of 1 to 65535",
        ),
        ({"cluster": "slurm"}, "prepare.workers=None: prepare.cluster=slurm needs"),
        ({"cluster": "local", "workers": 0}, "prepare.workers=0: must be in [1, 4096]"),
        ({"cluster": "local", "memory_gb": 0.5}, "prepare.memory_gb=0.5: must be in [1, 4096]"),
        (
            {"workers": 2},
            "prepare.workers=2: has no effect without prepare.cluster=local, slurm or ",
        ),
        ({"cluster": "tcp://a:1", "memory_gb": 2}, "prepare.memory_gb=2: has no effect"),
        ({"options": {"queue": "x"}}, "prepare.options={'queue': 'x'}: has no effect without"),
        ({"cluster": "local", "options": "x"}, "prepare.options=x: must be {NAME: VALUE, ...}"),
        ({"piece_mb": 0}, "prepare.piece_mb=0: must be above 0"),
    ],
)
def test_refused(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ClusterConfig(**bad)
    assert message in str(caught.value)
