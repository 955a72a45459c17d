"""Settings of the local page and its JSON interface."""

from __future__ import annotations

from dataclasses import dataclass

from korlm.config.commands.inference import UseSettings
from korlm.config.validation import setting


@dataclass
class ServeSettings(UseSettings):
    """python -m korlm.serve: run -> a page on this machine to type, complete and read in."""

    host: str = "127.0.0.1"
    # where to listen; another address than a loopback one lets others on the network in
    port: int = 8600
    # 0: any free one
    max_chars: int = 2000
    # of a text or prompt
    max_morphs: int = 400
    # that one sample may have
    rate: float = 20.0
    # requests a second that one client may send on average
    burst: int = 60
    # requests that it may send at once
    max_queue: int = setting(16, renamed_from="max_waiting")
    # requests that may wait for the model; more are turned away

    def __post_init__(self) -> None:
        super().__post_init__()
        self._at_least(0, "port")
        self._at_most(65535, "port")
        self._at_least(1, "max_chars", "max_morphs", "burst", "max_queue")
        self._above(0, "rate")
        if not self.host.strip():
            self._fail("host", "must be an address, such as 127.0.0.1")
