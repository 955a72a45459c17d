"""The JSON interface over a made-up model: answers, limits, and who is turned away."""

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="serving needs it")
from local_server import Client, Echo, served

from korlm.serving.app import GenerateRequest
from korlm.serving.connections import Connection
from korlm.utils.errors import TokenizerError


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with served(Echo(), rate=1000.0, burst=1000) as client:
        yield client


def test_answers(client: Client) -> None:
    assert client.get("/api/info").json == {"description": "메아리", "max_chars": 2000}
    answer = client.post("/api/complete", {"text": "오늘 날", "k": 2})
    assert answer.json == {"completions": [{"eojeol": "오늘 날", "probability": 0.5}]}
    assert client.post("/api/surprisal", {"text": "가"}).json["lines"][0]["text"] == "가"
    lines = client.post("/api/generate", {"prompt": "가", "max_morphs": 3}).text.splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["가", " 0", " 1"]


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css"])
def test_the_page_asks_nobody_else(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 200
    assert "http://" not in answer.text and "https://" not in answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("complete", {"text": "가" * 2001}, 413, "text: 2,001 characters, at most 2,000"),
        ("complete", {"k": 3}, 422, "text: Field required"),
        ("complete", {"text": "가", "k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ("complete", {"text": "가", "model": "x"}, 422, "model: Extra inputs are not permitted"),
        ("generate", {"prompt": "가" * 2001}, 413, "prompt: 2,001 characters"),
        ("generate", {"max_morphs": 401}, 413, "max_morphs: 401, at most 400"),
        ("generate", {"temperature": -1}, 422, "temperature: "),
        ("surprisal", {"text": "죽음"}, 400, "Kkma did not start"),
        ("surprisal", {"text": "가" * 100_000}, 413, "content-length: must be told, and be 25,024"),
    ],
)
def test_a_wrong_question_gets_one_line(
    client: Client, path: str, body: dict, status: int, message: str
) -> None:
    answer = client.post(f"/api/{path}", body)
    assert answer.status == status
    assert answer.json["error"].startswith(message)
    assert "\n" not in answer.json["error"]


def test_json_that_is_none(client: Client) -> None:
    answer = client.ask("POST", "/api/complete", b'{"text": ', content_type="application/json")
    assert answer.status == 422
    assert "JSON decode error" in answer.json["error"]


def test_other_pages_are_turned_away(client: Client) -> None:
    # What a form or a script of another site can send without asking.
    body = b'{"text": "x"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = client.ask("POST", "/api/complete", body, content_type=kind)
        assert answer.status == 415
    # A name of theirs that points here.
    answer = client.get("/api/info", host=f"evil.example:{client.port}")
    assert (answer.status, answer.json["error"].split(":")[0]) == (400, "host")
    for name in ("localhost", f"localhost:{client.port}", "[::1]:80"):
        assert client.get("/api/info", host=name).status == 200


def test_requests_from_pages_of_other_sites(client: Client) -> None:
    home = f"127.0.0.1:{client.port}"
    for origin in ("https://evil.example", "null", f"http://evil.example:{client.port}", ""):
        answer = client.ask("GET", "/api/info", origin=origin)
        assert (answer.status, answer.json["error"].split(":")[0]) == (403, "origin")
        body, kind = b'{"text": "x"}', "application/json"
        answer = client.ask("POST", "/api/complete", body, content_type=kind, origin=origin)
        assert answer.status == 403
    assert client.get("/api/info", origin=f"http://{home}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/api/complete", 405), ("DELETE", "/", 405)],
)
def test_one_format_of_errors(client: Client, method: str, path: str, status: int) -> None:
    answer = client.ask(method, path)
    assert answer.status == status
    assert answer.json["error"].startswith(f"{method} {path}: ")
    assert answer.headers["content-type"] == "application/json"
    if status == 405:
        assert answer.headers["allow"]


def test_a_fault_of_the_server_has_the_same_format() -> None:
    class Broken(Echo):
        def complete(self, text: str, k: int) -> dict:
            raise ZeroDivisionError

    with served(Broken()) as client:
        answer = client.post("/api/complete", {"text": "가"})
    assert (answer.status, answer.json) == (
        500,
        {"error": "a fault of the server (ZeroDivisionError)"},
    )


def raw(client: Client, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
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
def test_half_a_request_is_not_awaited_for_ever(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Connection, "request_seconds", 0.1)
    with served(Echo()) as client:
        head, _, body = raw(client, sent).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert json.loads(body) == {"error": "no complete request within 0.1 seconds"}
    assert capfd.readouterr().err == ""


def test_half_a_second_request_is_not_awaited_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "request_seconds", 0.1)
    get = b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(Echo()) as client:
        found = raw(client, get + get[:20])
    assert found.startswith(b"HTTP/1.1 200 ")


def test_an_answer_may_take_longer_than_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "request_seconds", 0.05)
    slow = Slow()
    with served(slow) as client:
        threading.Timer(0.2, slow.go.set).start()
        assert client.post("/api/complete", {"text": "가"}).status == 200


def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "max_connections", 2)
    with served(Echo()) as client, contextlib.ExitStack() as stack:
        for _ in range(2):
            place = ("127.0.0.1", client.port)
            held = stack.enter_context(socket.create_connection(place, timeout=20))
            held.sendall(b"GET /api/info HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert held.recv(4096).startswith(b"HTTP/1.1 200 ")
        refused = raw(client, b"")
        assert refused.startswith(b"HTTP/1.1 503 ") and b'{"error": "at most 2 conn' in refused


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http(client: Client, sent: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    head, _, body = raw(client, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body) == {"error": "Invalid HTTP request received"}
    assert capfd.readouterr().err == ""


def test_an_upgrade_is_ignored_without_a_word(
    client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    names = {"connection": "upgrade", "upgrade": "websocket"}
    assert client.get("/api/info", **names).status == 200
    assert capfd.readouterr().err == ""


def test_behind_a_name_of_the_network() -> None:
    with served(Echo(), host="0.0.0.0") as client:
        assert client.get("/api/info", host="pc.example").status == 200


def test_too_fast() -> None:
    with served(Echo(), rate=0.01, burst=2) as client:
        answers = [client.post("/api/complete", {"text": "가"}) for _ in range(3)]
        assert [a.status for a in answers] == [200, 200, 429]
        assert answers[2].json["error"].startswith("too fast: at most 0.01 requests a second")
        assert int(answers[2].headers["retry-after"]) > 1
        assert client.get("/api/info").status == 200


class Slow(Echo):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Semaphore(0), threading.Event()

    def complete(self, text: str, k: int) -> dict:
        self.asked.release()
        assert self.go.wait(10)
        return super().complete(text, k)


def test_few_wait_for_the_model() -> None:
    slow = Slow()
    with served(slow, max_queue=1) as client:
        found: list[int] = []

        def ask() -> None:
            found.append(client.post("/api/complete", {"text": "가"}).status)

        first = threading.Thread(target=ask)
        first.start()
        assert slow.asked.acquire(timeout=10)
        turned_away = client.post("/api/complete", {"text": "나"})
        slow.go.set()
        first.join(10)
        assert turned_away.status == 503
        assert turned_away.json["error"] == "1 questions wait already; ask again soon"
        assert found == [200]
        assert client.post("/api/complete", {"text": "다"}).status == 200


class Patient(Echo):
    """Writes a piece each time it is told to, and says when it has ended."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)

    def write(self, wish: GenerateRequest) -> Iterator[str]:
        for number in range(1000):
            assert self.go.acquire(timeout=10)
            if number == 3:
                raise TokenizerError("Kkma died")
            yield str(number)


def test_text_comes_as_it_is_written() -> None:
    patient = Patient()
    with served(patient) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        with contextlib.closing(connection):
            connection.request("POST", "/api/generate", b"{}", {"content-type": "application/json"})
            patient.go.release()
            answer = connection.getresponse()
            assert answer.readline() == b'{"text": "0"}\n'  # the next one was not begun
            for _ in range(3):
                patient.go.release()
            assert answer.read() == b'{"text": "1"}\n{"text": "2"}\n{"error": "Kkma died"}\n'


def test_whoever_leaves_frees_the_model() -> None:
    patient = Patient()
    with served(patient, max_queue=1, burst=500) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
        connection.request("POST", "/api/generate", b"{}", {"content-type": "application/json"})
        patient.go.release()
        answer = connection.getresponse()
        answer.readline()
        answer.close()
        connection.close()
        patient.go.release()  # the piece at which it was
        for _ in range(200):
            if client.post("/api/complete", {"text": "가"}).status == 200:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the model is still busy")


def test_no_documentation_that_loads_scripts(client: Client) -> None:
    assert client.get("/docs").status == client.get("/redoc").status == 404


def test_a_body_that_tells_no_length(client: Client) -> None:
    """As h11 would read it: chunked counts, whatever length is told."""
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/api/complete")
        for name, value in (("Content-Type", "application/json"), ("Content-Length", "10")):
            connection.putheader(name, value)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == 413


def test_a_client_has_one_name() -> None:
    with served(Echo(), rate=0.01, burst=1) as client:
        body, names = b'{"text": "x"}', {"content_type": "application/json"}
        found = [
            client.ask("POST", "/api/complete", body, **names, x_forwarded_for=f"10.0.0.{n}").status
            for n in range(3)
        ]
        assert found == [200, 429, 429]


def test_half_a_character(client: Client) -> None:
    for path, key in (("surprisal", "text"), ("complete", "text"), ("generate", "prompt")):
        answer = client.post(f"/api/{path}", {key: "\ud800"})
        assert (answer.status, answer.json["error"]) == (422, f"{key}: holds half a surrogate pair")
