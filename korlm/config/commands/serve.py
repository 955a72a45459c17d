"""Settings of the local web page and its JSON interface."""

from __future__ import annotations

from dataclasses import dataclass

from korlm.config.commands.inference import InferenceSettings
from korlm.config.registry import register
from korlm.config.validation import setting


@register("", "serve")
@dataclass
class ServeSettings(InferenceSettings):
    r"""Serve a run on a local web page: completions, surprisal and samples while one types.

    For a run of another task the page shows its predictions: probabilities of labels, labeled words
    or spans, the line with spaces, or the written text. The same results are available as JSON.

      python -m korlm.serve run=outputs/runs/DIR               then open the printed address
      python -m korlm.serve run=outputs/runs/DIR port=9000     another port
      python -m korlm.serve run=outputs/runs/DIR host=0.0.0.0  for others on the network, too

      curl -H 'content-type: application/json' -d '{"text": "오늘 날씨가 조"}' \
          http://127.0.0.1:8600/api/complete
      curl -H 'content-type: application/json' -d '{"text": "정말 재미있다"}' \
          http://127.0.0.1:8600/api/predict
    """

    host: str = setting(
        "127.0.0.1", "Address to listen on; others on the network can reach any but loopback."
    )
    port: int = setting(8600, "Port; 0: any free one.", min=0, max=65535)
    max_chars: int = setting(2000, "Longest text or prompt.", unit="characters", min=1)
    max_tokens: int = setting(
        400,
        "Longest sample. The model waits for clients that read a longer one (from about 2,000) "
        "slowly or not at all.",
        unit="tokens",
        min=1,
        renamed_from="max_morphs",
    )
    rate: float = setting(20.0, "Requests per second of one client, on average.", above=0)
    burst: int = setting(60, "Requests that a client may send at once.", min=1)
    max_queue: int = setting(
        16,
        "Requests that may be running or waiting; more are rejected.",
        min=1,
        renamed_from="max_waiting",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.host.strip():
            self._fail("host", "must be an address, such as 127.0.0.1")
