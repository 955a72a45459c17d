"""The web application: one page, three questions in JSON, and who may ask them how often.

    GET  /              the page; script and style lie beside it, nothing comes from outside
    GET  /api/info      what is served
    POST /api/complete  {"text", "k"} -> the most probable next eojeols
    POST /api/surprisal {"text"} -> every morpheme with its surprisal
    POST /api/generate  {"prompt", "seed", "temperature", ...} -> text, as it is written

A page of another site cannot use it: requests must name this host (no DNS rebinding), come from a
page of it if they have an ``Origin``, and come as ``application/json``, which browsers send to
other origins only when they are allowed to. Whatever is refused is answered by ``{"error": ...}``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from korlm.config import ServeSettings
from korlm.corpus.files import has_half_characters
from korlm.serving.rate_limit import RateLimit
from korlm.utils.errors import KorlmError

logger = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/page.js": "page.js", "/page.css": "page.css"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NAMES = (*LOOPBACK[:2], "[::1]")  # of this machine, in a header
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Answer = dict[str, Any]
T = TypeVar("T")


class Backend(Protocol):
    """What the server asks of a model; one question at a time."""

    def info(self) -> Answer:
        """What is served."""

    def complete(self, text: str, k: int) -> Answer:
        """The most probable next eojeols."""

    def surprisal(self, text: str) -> Answer:
        """Every morpheme of a text with its surprisal."""

    def write(self, wish: GenerateRequest) -> Iterator[str]:
        """Text that goes on from a prompt, piece by piece."""


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CompleteRequest(_Question):
    """What was typed so far."""

    text: str
    k: int = Field(default=5, ge=1, le=20)


class Text(_Question):
    """A text to be judged."""

    text: str


class GenerateRequest(_Question):
    """A sample to be written."""

    prompt: str = ""
    seed: int = Field(default=1, ge=0, lt=1 << 63)
    temperature: float = Field(default=0.8, ge=0, le=5)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float = Field(default=0.95, gt=0, le=1)
    repetition_penalty: float = Field(default=1.1, ge=1, le=10)
    max_morphs: int = Field(default=60, ge=1)


class _Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """A question that is not answered."""

    def __init__(self, status: int, message: str, wait: float = 0.0) -> None:
        self.status, self.message, self.wait = status, message, wait


class _InferenceQueue:
    """Lets one question at a time to the model, and few wait."""

    def __init__(self, max_queue: int) -> None:
        self._max_waiting, self._waiting = max_queue, 0
        self._turn = anyio.Lock()

    async def __aenter__(self) -> None:
        if self._waiting >= self._max_waiting:
            raise _Refused(503, f"{self._waiting} questions wait already; ask again soon", 1.0)
        self._waiting += 1
        try:
            await self._turn.acquire()
        except BaseException:
            self._waiting -= 1
            raise

    async def __aexit__(self, *error: object) -> None:
        self._waiting -= 1
        self._turn.release()

    async def ask(self, function: Callable[[], T]) -> T:
        """What a slow function gives."""
        async with self:
            return await anyio.to_thread.run_sync(function)

    async def stream(self, pieces: Iterator[str]) -> AsyncIterator[bytes]:
        """Pieces as lines of JSON, each sent when it is there; ends when nobody listens."""
        async with self:
            try:
                while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
                    yield _line({"text": piece})
            except KorlmError as error:  # too late for another status
                yield _line({"error": str(error)})


def _line(answer: Answer) -> bytes:
    return json.dumps(answer, ensure_ascii=False).encode() + b"\n"


def build_app(backend: Backend, settings: ServeSettings) -> FastAPI:
    """The application around a model.

    Args:
        backend: answers.
        settings: who may ask, how much and how often.
    """
    # Its pages of documentation would load scripts from elsewhere.
    app = FastAPI(title="korlm", docs_url=None, redoc_url=None)
    app.add_middleware(_RequestGuard, settings=settings)
    desk = _InferenceQueue(settings.max_queue)

    def checked(text: str, name: str) -> str:
        if len(text) > settings.max_chars:
            most = f"{settings.max_chars:,} (max_chars)"
            raise _Refused(413, f"{name}: {len(text):,} characters, at most {most}")
        if has_half_characters(text):
            raise _Refused(422, f"{name}: holds half a surrogate pair")
        return text

    @app.exception_handler(_Refused)
    async def refuse(request: Request, refused: _Refused) -> Response:
        return _answer(refused)

    @app.exception_handler(KorlmError)
    async def fail(request: Request, error: KorlmError) -> Response:
        return _answer(_Refused(400, str(error)))

    @app.exception_handler(RequestValidationError)
    async def correct(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return _answer(_Refused(422, f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def refuse_request(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return _answer(_Refused(error.status_code, message), error.headers)

    @app.exception_handler(Exception)
    async def apologize(request: Request, error: Exception) -> Response:
        # Its traceback follows on stderr.
        return _answer(_Refused(500, f"a fault of the server ({type(error).__name__})"))

    def page(name: str) -> Callable[[], Awaitable[FileResponse]]:
        async def file() -> FileResponse:
            return FileResponse(PAGE / name)

        return file

    for path, name in FILES.items():
        app.get(path, include_in_schema=False)(page(name))

    @app.get("/api/info")
    async def info() -> Answer:
        return {**backend.info(), "max_chars": settings.max_chars}

    @app.post("/api/complete")
    async def complete(typed: CompleteRequest) -> Answer:
        text = checked(typed.text, "text")
        return await desk.ask(lambda: backend.complete(text, typed.k))

    @app.post("/api/surprisal")
    async def surprisal(text: Text) -> Answer:
        checked(text.text, "text")
        return await desk.ask(lambda: backend.surprisal(text.text))

    @app.post("/api/generate")
    async def generate(wish: GenerateRequest) -> StreamingResponse:
        checked(wish.prompt, "prompt")
        if wish.max_morphs > settings.max_morphs:
            raise _Refused(413, f"max_morphs: {wish.max_morphs}, at most {settings.max_morphs}")
        pieces = desk.stream(backend.write(wish))
        return StreamingResponse(pieces, media_type="application/x-ndjson")

    return app


class _RequestGuard:
    """Looks at each request before its body is read, and puts HEADERS on every answer.

    Args:
        app: what lies behind it.
        settings: who may ask, how much and how often.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings
        self._limit = RateLimit(settings.rate, settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app: ASGIApp = self._app
        if scope["type"] == "http":
            request = Request(scope)
            app = self._refusal_of_host(request) or app
            if app is self._app and scope["method"] == "POST":
                app = self._refusal(request) or app
        await app(scope, receive, send_with_headers)

    def _refusal_of_host(self, request: Request) -> Response | None:
        """Return the answer to a request that names another host, or comes from another page."""
        host = request.headers.get("host", "").lower()
        # Behind 0.0.0.0 or a name of the network the host that a browser names is not known.
        if self._settings.host in LOOPBACK and re.sub(r":\d*$", "", host) not in NAMES:
            return _answer(_Refused(400, f"host: must be one of {', '.join(NAMES)}"))
        origin = request.headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            return _answer(_Refused(403, "origin: requests of other sites are refused"))
        return None

    def _refusal(self, request: Request) -> Response | None:
        """Return the answer to a request whose body is not to be read at all."""
        settings = self._settings
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        length = request.headers.get("content-length", "")
        most = 12 * settings.max_chars + 1024  # a pair of \\uXXXX for a character, and other keys
        if kind != "application/json":
            return _answer(_Refused(415, "content-type: must be application/json"))
        chunked = "transfer-encoding" in request.headers  # which tells no length
        if chunked or not length.isdecimal() or len(length) > 12 or int(length) > most:
            return _answer(_Refused(413, f"content-length: must be told, and be {most:,} or less"))
        if wait := self._limit.wait(request.client.host if request.client else ""):
            rate = f"{settings.rate:g} requests a second"
            return _answer(_Refused(429, f"too fast: at most {rate} on average; wait", wait))
        return None


def _answer(refused: _Refused, headers: Mapping[str, str] | None = None) -> Response:
    more = {"Retry-After": f"{max(1, round(refused.wait))}"} if refused.wait else {}
    return JSONResponse({"error": refused.message}, refused.status, {**(headers or {}), **more})
