"""A real server on this machine with a fake engine, and a client."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from korlm.config import ServeSettings
from korlm.generation.generator import StoppingCriteria
from korlm.generation.sampling import Sampling
from korlm.serving.app import build_app
from korlm.serving.connections import build_server
from korlm.serving.served_model import ServedTask
from korlm.utils.errors import TokenizerError


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Client:
    """A client of a server on this machine."""

    port: int

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            kept = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, kept, answer.read().decode())

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any) -> Answer:
        return self.request(
            "POST", path, json.dumps(body).encode(), content_type="application/json"
        )


@contextlib.contextmanager
def served(engine: Any, **settings: Any) -> Iterator[Client]:
    """Yield a client of a server that runs in a thread."""
    app = build_app(engine, ServeSettings(run="x", **settings))
    server = build_server(app)
    with socket.create_server(("127.0.0.1", 0)) as listening_socket:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening_socket]})
        thread.start()
        try:
            yield Client(listening_socket.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)


class Echo:
    """A fake engine that answers with its input."""

    def info(self) -> dict:
        return {"description": "메아리"}

    def complete(self, text: str, num_completions: int) -> dict:
        return {"completions": [{"eojeol": text, "probability": 1 / num_completions}]}

    def surprisal(self, text: str) -> dict:
        if text == "죽음":
            raise TokenizerError("Kkma did not start: no memory")
        return {"lines": [{"text": text, "tokens": []}]}

    def generate(
        self, prompt: str, sampling: Sampling, stopping: StoppingCriteria, seed: int
    ) -> Iterator[str]:
        yield prompt
        for number in range(stopping.max_tokens - 1):
            yield f" {number}"


class EchoTask(ServedTask):
    """A fake engine of a task whose label of a line is the line."""

    def __init__(self) -> None:
        """Have no run."""

    def info(self) -> dict:
        return {"description": "메아리", "task": "classification", "labels": ["가", "나"]}

    def predict(self, text: str) -> dict:
        if text == "죽음":
            raise TokenizerError("Kkma did not start: no memory")
        return {"predictions": [{"label": line} for line in text.split("\n")]}
