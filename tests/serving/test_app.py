"""The JSON interface with a fake engine: responses, limits, refused requests."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="serving needs it")
import anyio
from conftest import ROOT
from local_server import Client, Echo, EchoTask, served

from korlm.serving.app import _response
from korlm.serving.connections import Connection
from korlm.serving.inference_queue import InferenceQueue, RequestError
from korlm.utils.errors import TokenizerError

BUSY = "server busy: the queue is full (max_queue={}); retry later"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with served(Echo(), rate=1000.0, burst=1000) as client:
        yield client


@pytest.fixture(scope="module")
def task() -> Iterator[Client]:
    with served(EchoTask(), rate=1000.0, burst=1000) as client:
        yield client


def test_responses_of_a_task(task: Client) -> None:
    info = task.get("/api/info").json
    assert info["task"] == "classification" and info["labels"] == ["가", "나"]
    answer = task.post("/api/predict", {"text": "좋다\n\n싫다"})
    assert answer.json == {"predictions": [{"label": "좋다"}, {"label": ""}, {"label": "싫다"}]}
    page = task.get("/")
    assert page.status == 200 and "/task.js" in page.text and "/page.js" not in page.text


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"text": "가" * 2001}, 413, "text: 2,001 characters, at most 2,000 (max_chars)"),
        ({}, 422, "text: Field required"),
        ({"text": "가", "k": 1}, 422, "k: Extra inputs are not permitted"),
        ({"text": "\ud800"}, 422, "text: contains a lone surrogate"),
        ({"text": "죽음"}, 400, "Kkma did not start: no memory"),
    ],
)
def test_invalid_requests_of_a_task(task: Client, body: dict, status: int, message: str) -> None:
    answer = task.post("/api/predict", body)
    assert (answer.status, answer.json) == (status, {"error": message})


def test_requests_of_another_kind_of_model(client: Client, task: Client) -> None:
    answers = {"predict": client.post("/api/predict", {"text": "가"})}
    for name in ("complete", "surprisal", "generate"):
        answers[name] = task.post(f"/api/{name}", {"text": "가"})
    for name, answer in answers.items():
        message = f"POST /api/{name}: Not Found; /openapi.json describes what this run answers"
        assert (answer.status, answer.json) == (404, {"error": message})


def test_responses(client: Client) -> None:
    assert client.get("/api/info").json == {"description": "메아리", "max_chars": 2000}
    answer = client.post("/api/complete", {"text": "오늘 날", "num_completions": 2})
    assert answer.json == {"completions": [{"eojeol": "오늘 날", "probability": 0.5}]}
    assert client.post("/api/surprisal", {"text": "가"}).json["lines"][0]["text"] == "가"
    lines = client.post("/api/generate", {"prompt": "가", "max_tokens": 3}).text.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["가", " 0", " 1"]


def test_the_request_in_the_readme(client: Client) -> None:
    text = (ROOT / "korlm" / "serving" / "README.md").read_text(encoding="utf-8")
    body, path = re.search(r"^curl .* -d '(.*)' http://127.0.0.1:8600(\S+)$", text, re.M).groups()
    answer = client.post(path, json.loads(body))
    assert answer.status == 200 and answer.json["completions"]


def test_old_names_in_requests(client: Client) -> None:
    for old, new in (({"k": 1}, {"num_completions": 1}), ({"k": 0}, {"num_completions": 0})):
        answers = [client.post("/api/complete", {"text": "가", **given}) for given in (old, new)]
        assert answers[0].status == answers[1].status
    answers = [client.post("/api/generate", {key: 3}) for key in ("max_morphs", "max_tokens")]
    assert answers[0].text == answers[1].text and answers[0].text.count("\n") == 3


@pytest.mark.parametrize("path", ["/", "/common.js", "/page.js", "/task.js", "/page.css"])
def test_the_page_has_no_external_resources(client: Client, task: Client, path: str) -> None:
    for answer in (client.get(path), task.get(path)):
        assert answer.status == 200
        assert "http://" not in answer.text and "https://" not in answer.text
        assert "innerHTML" not in answer.text and " style=" not in answer.text
        assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("complete", {"text": "가" * 2001}, 413, "text: 2,001 characters, at most 2,000"),
        ("complete", {"k": 3}, 422, "text: Field required"),
        ("complete", {"text": "가", "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        (
            "complete",
            {"text": "가", "num_completions": 21},
            422,
            "num_completions: Input should be",
        ),
        ("complete", {"text": "가", "model": "x"}, 422, "model: Extra inputs are not permitted"),
        ("generate", {"prompt": "가" * 2001}, 413, "prompt: 2,001 characters"),
        ("generate", {"max_tokens": 401}, 413, "max_tokens: 401, at most 400"),
        ("generate", {"temperature": -1}, 422, "temperature: "),
        ("surprisal", {"text": "죽음"}, 400, "Kkma did not start"),
        (
            "surprisal",
            {"text": "가" * 100_000},
            413,
            "content-length: must be at most 25,024 bytes (from max_chars)",
        ),
    ],
)
def test_invalid_requests_get_an_error_of_one_line(
    client: Client, path: str, body: dict, status: int, message: str
) -> None:
    answer = client.post(f"/api/{path}", body)
    assert answer.status == status
    assert answer.json["error"].startswith(message)
    assert "\n" not in answer.json["error"]


def test_invalid_json(client: Client) -> None:
    answer = client.request("POST", "/api/complete", b'{"text": ', content_type="application/json")
    assert answer.status == 422
    assert answer.json == {"error": "body: invalid JSON at character 9"}


def test_max_tokens_below_the_usual_number() -> None:
    with served(Echo(), max_tokens=2) as client:
        lines = client.post("/api/generate", {"prompt": "가"}).text.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["가", " 0"]


def test_content_types_and_host_names(client: Client) -> None:
    # Content types that a page of another site can send without permission.
    body = b'{"text": "x"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.request("POST", "/api/complete", body, content_type=kind)
        assert answer.status == 415
    # DNS rebinding.
    answer = client.get("/api/info", host=f"evil.example:{client.port}")
    assert (answer.status, answer.json["error"].split(":")[0]) == (400, "host")
    for name in ("localhost", f"localhost:{client.port}", "[::1]:80", "LOCALHOST", "127.0.0.2"):
        assert client.get("/api/info", host=name).status == 200


def test_requests_from_other_sites(client: Client) -> None:
    home = f"127.0.0.1:{client.port}"
    for origin in ("https://evil.example", "null", f"http://evil.example:{client.port}", ""):
        answer = client.request("GET", "/api/info", origin=origin)
        assert (answer.status, answer.json["error"].split(":")[0]) == (403, "origin")
        body, kind = b'{"text": "x"}', "application/json"
        answer = client.request("POST", "/api/complete", body, content_type=kind, origin=origin)
        assert answer.status == 403
    assert client.get("/api/info", origin=f"http://{home}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/api/complete", 405),
        ("DELETE", "/", 405),
    ],
)
def test_routing_errors(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status == status
    assert answer.json["error"].startswith(f"{method} {path}: ")
    assert answer.headers["content-type"] == "application/json"
    if status == 405:
        assert answer.headers["allow"]


def test_internal_errors() -> None:
    class Broken(Echo):
        def complete(self, text: str, num_completions: int) -> dict:
            raise ZeroDivisionError

    with served(Broken()) as client:
        answer = client.post("/api/complete", {"text": "가"})
    assert (answer.status, answer.json) == (
        500,
        {"error": "internal error (ZeroDivisionError)"},
    )
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def send_raw(client: Client, sent: bytes) -> bytes:
    """Send bytes; return everything received until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(4096), b""))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api/complete HTTP/1.1\r\nHost: loc",
        b"POST /api/complete HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 13\r\n\r\n{"text"',
    ],
)
def test_incomplete_requests_time_out(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Connection, "request_timeout", 0.1)
    with served(Echo()) as client:
        head, _, body = send_raw(client, sent).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body) == {"error": "no complete request within 0.1 seconds"}
    assert capfd.readouterr().err == ""


def test_an_incomplete_second_request_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "request_timeout", 0.1)
    get = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(Echo()) as client:
        received = send_raw(client, get + get[:20])
    assert received.startswith(b"HTTP/1.1 200 ")


def test_responses_are_not_subject_to_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Connection, "request_timeout", 0.05)
    slow = Slow()
    with served(slow) as client:
        threading.Timer(0.2, slow.go.set).start()
        assert client.post("/api/complete", {"text": "가"}).status == 200


def test_the_number_of_connections_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "max_connections", 2)
    with served(Echo()) as client, contextlib.ExitStack() as stack:
        for _ in range(2):
            address = ("127.0.0.1", client.port)
            held = stack.enter_context(socket.create_connection(address, timeout=20))
            held.sendall(b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert held.recv(4096).startswith(b"HTTP/1.1 200 ")
        refused = send_raw(client, b"")
        assert refused.startswith(b"HTTP/1.1 503 ") and b'{"error": "at most 2 conn' in refused


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_invalid_http(client: Client, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    head, _, body = send_raw(client, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body) == {"error": "Invalid HTTP request received"}
    assert capfd.readouterr().err == ""


def test_an_upgrade_is_ignored(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    names = {"connection": "upgrade", "upgrade": "websocket"}
    assert client.get("/api/info", **names).status == 200
    assert capfd.readouterr().err == ""


def test_any_host_name_if_the_host_is_not_loopback() -> None:
    with served(Echo(), host="0.0.0.0") as client:
        assert client.get("/api/info", host="pc.example").status == 200


@pytest.mark.parametrize("host", ["127.0.0.2", "LOCALHOST", "::1"])
def test_host_names_on_any_loopback_address(host: str) -> None:
    with served(Echo(), host=host) as client:
        assert client.get("/api/info", host="evil.example").status == 400
        assert client.get("/api/info", host=f"127.0.0.2:{client.port}").status == 200


def test_seconds_until_a_retry_are_rounded_up() -> None:
    response = _response(RequestError(429, "too many requests", 1.4))
    assert response.headers["retry-after"] == "2"


def test_rate_limit() -> None:
    with served(Echo(), rate=0.01, burst=2) as client:
        # Forwarded headers do not evade the limit.
        kind = "application/json"
        answers = [
            client.request("POST", "/api/complete", b'{"text": "x"}', content_type=kind, **headers)
            for headers in ({}, {}, {"x_forwarded_for": "10.0.0.1"})
        ]
        assert [a.status for a in answers] == [200, 200, 429]
        assert answers[2].json["error"].startswith("too many requests: at most 0.01")
        assert int(answers[2].headers["retry-after"]) > 1
        assert client.get("/api/info").status == 200


class Slow(Echo):
    """A fake engine that answers when ``go`` is set."""

    def __init__(self) -> None:
        self.started, self.go = threading.Semaphore(0), threading.Event()
        self.texts: list[str] = []

    def complete(self, text: str, num_completions: int) -> dict:
        self.texts.append(text)
        self.started.release()
        assert self.go.wait(10)
        return super().complete(text, num_completions)


def test_a_disconnected_client_leaves_the_queue() -> None:
    slow = Slow()
    with served(slow) as client:
        first = threading.Thread(target=client.post, args=("/api/complete", {"text": "가"}))
        first.start()
        assert slow.started.acquire(timeout=10)
        connection = http.client.HTTPConnection("127.0.0.1", client.port)
        body, kind = json.dumps({"text": "나"}), {"content-type": "application/json"}
        connection.request("POST", "/api/complete", body, kind)
        assert client.get("/api/info").status == 200  # the request above has been read
        connection.close()
        last = threading.Thread(target=client.post, args=("/api/complete", {"text": "다"}))
        last.start()
        assert client.get("/api/info").status == 200
        slow.go.set()
        first.join(10)
        last.join(10)
    assert slow.texts == ["가", "다"]


def test_disconnected_clients_do_not_fill_the_queue() -> None:
    slow = Slow()

    def complete(text: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        body, kind = json.dumps({"text": text}), {"content-type": "application/json"}
        connection.request("POST", "/api/complete", body, kind)
        assert client.get("/api/info").status == 200  # the request above has been read
        return connection

    with served(slow, max_queue=2) as client, contextlib.closing(complete("가")) as running:
        assert slow.started.acquire(timeout=10)
        waiting = complete("나")
        assert client.post("/api/complete", {"text": "다"}).status == 503
        waiting.close()
        assert client.get("/api/info").status == 200  # the server has noticed it
        with contextlib.closing(complete("라")) as last:
            slow.go.set()
            assert running.getresponse().status == last.getresponse().status == 200
    assert slow.texts == ["가", "라"]


def test_the_queue_is_bounded() -> None:
    slow = Slow()
    with served(slow, max_queue=1) as client:
        statuses: list[int] = []

        def complete() -> None:
            statuses.append(client.post("/api/complete", {"text": "가"}).status)

        first = threading.Thread(target=complete)
        first.start()
        assert slow.started.acquire(timeout=10)
        refused = [
            client.post("/api/complete", {"text": "나"}),
            client.post("/api/generate", {"prompt": "나"}),
        ]
        slow.go.set()
        first.join(10)
        for answer in refused:
            assert answer.status == 503
            assert answer.json["error"] == BUSY.format(1)
        assert statuses == [200]
        assert client.post("/api/complete", {"text": "다"}).status == 200


def test_a_queue_that_fills_up_before_a_stream_begins() -> None:
    async def lines() -> list[bytes]:
        return [line async for line in InferenceQueue(0).stream(iter(["가"]))]

    (line,) = anyio.run(lines)
    assert json.loads(line) == {"error": BUSY.format(0)}


def test_an_internal_error_during_a_stream_is_its_last_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def pieces() -> Iterator[str]:
        yield "가"
        raise ZeroDivisionError

    async def lines() -> list[bytes]:
        return [line async for line in InferenceQueue(1).stream(pieces())]

    _, last = anyio.run(lines)
    assert json.loads(last) == {"error": "internal error (ZeroDivisionError)"}
    assert "ZeroDivisionError" in caplog.text  # with its traceback


class Stepwise(Echo):
    """A fake engine that generates a piece each time ``go`` is released, and fails at the 4th."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)

    def generate(self, *args: object) -> Iterator[str]:
        for number in range(1000):
            assert self.go.acquire(timeout=10)
            if number == 3:
                raise TokenizerError("Kkma died")
            yield str(number)


def test_pieces_are_sent_as_they_are_generated() -> None:
    stepwise = Stepwise()
    with served(stepwise) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/api/generate", b"{}", {"content-type": "application/json"})
            stepwise.go.release()
            answer = connection.getresponse()
            assert answer.readline() == b'{"text": "0"}\n'
            for _ in range(3):
                stepwise.go.release()
            assert answer.read() == b'{"text": "1"}\n{"text": "2"}\n{"error": "Kkma died"}\n'


def test_a_disconnected_client_frees_the_model() -> None:
    stepwise = Stepwise()
    with served(stepwise, max_queue=1, burst=500) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        connection.request("POST", "/api/generate", b"{}", {"content-type": "application/json"})
        stepwise.go.release()
        answer = connection.getresponse()
        answer.readline()
        answer.close()
        connection.close()
        stepwise.go.release()  # finishes the current piece
        for _ in range(200):
            if client.post("/api/complete", {"text": "가"}).status == 200:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the model is still busy")


class Endless(Echo):
    """A fake engine whose text does not end."""

    def __init__(self) -> None:
        self.started = threading.Event()

    def generate(self, *args: object) -> Iterator[str]:
        self.started.set()
        while True:
            yield "가" * 100_000


def test_a_client_that_does_not_read_its_text_frees_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Connection, "read_timeout", 0.1)
    endless = Endless()
    with served(endless) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/api/generate", b"{}", {"content-type": "application/json"})
            assert endless.started.wait(20)
            assert client.post("/api/complete", {"text": "가"}).status == 200


def test_chunked_bodies_are_refused(client: Client) -> None:
    """With h11, chunked encoding overrides Content-Length."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/api/complete")
        for name, value in (("Content-Type", "application/json"), ("Content-Length", "10")):
            connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 411


def test_lone_surrogates(client: Client) -> None:
    for path, key in (("surprisal", "text"), ("complete", "text"), ("generate", "prompt")):
        answer = client.post(f"/api/{path}", {key: "\ud800"})
        assert (answer.status, answer.json["error"]) == (422, f"{key}: contains a lone surrogate")
