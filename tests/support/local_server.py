"""A real server on this machine over a made-up model, and a client of it."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from korlm.config import ServeSettings
from korlm.serving.app import GenerateRequest, build_app
from korlm.serving.connections import server_of
from korlm.utils.errors import TokenizerError


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Client:
    """Asks a server on this machine."""

    port: int

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            kept = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, kept, answer.read().decode())

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any) -> Answer:
        return self.ask("POST", path, json.dumps(body).encode(), content_type="application/json")


@contextlib.contextmanager
def served(backend: Any, **settings: Any) -> Iterator[Client]:
    """A real server in a thread."""
    app = build_app(backend, ServeSettings(run="x", **settings))
    server = server_of(app)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Client(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(20)


class Echo:
    """Answers with what it was asked."""

    def info(self) -> dict:
        return {"description": "메아리"}

    def complete(self, text: str, k: int) -> dict:
        return {"completions": [{"eojeol": text, "probability": 1 / k}]}

    def surprisal(self, text: str) -> dict:
        if text == "죽음":
            raise TokenizerError("Kkma did not start: no memory")
        return {"lines": [{"text": text, "tokens": []}]}

    def write(self, wish: GenerateRequest) -> Iterator[str]:
        yield wish.prompt
        for number in range(wish.max_morphs - 1):
            yield f" {number}"
