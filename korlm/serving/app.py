"""Build the web application: a page and a JSON interface.

    GET  /              the page; its script and style are served here too, nothing is external
    GET  /api/info      description of the run
    GET  /openapi.json  description of the interface

A language model answers

    POST /api/complete  {"text", "num_completions"} -> the most probable completions
    POST /api/surprisal {"text"} -> each morpheme with its surprisal
    POST /api/generate  {"prompt", "seed", "temperature", ...} -> a stream of text

and a model of another task

    POST /api/predict   {"text"} -> a prediction for each line

Pages of other sites cannot use it: requests must not have the ``Origin`` of another host, and must
be ``application/json``, which browsers send to other origins only with permission. On a loopback
address (the default) requests must also name it, against DNS rebinding; on other addresses any name
is accepted. The response to every error is ``{"error": ...}``.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from korlm.config import ServeSettings
from korlm.generation.generator import StoppingCriteria
from korlm.generation.sampling import Sampling
from korlm.serving.inference_queue import InferenceQueue, RequestError, internal_error_message
from korlm.serving.rate_limit import RateLimit
from korlm.serving.served_model import Json, ServedLanguageModel, ServedTask
from korlm.text.unicode import has_lone_surrogates
from korlm.utils.errors import KorlmError

PAGE = Path(__file__).parent / "page"
FILES = ("page.css", "common.js", "page.js", "task.js")
MAX_TOKENS = 60  # of a request that does not give max_tokens
NUM_SENTENCES = 3  # number of sentences after which a generated text ends
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on.

    >>> [is_loopback(host) for host in ("127.0.0.2", "Localhost", "::1", "0.0.0.0", "pc.example")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class _RequestBody(BaseModel):
    """Base of requests; old names of their keys are accepted as well."""

    model_config = ConfigDict(extra="forbid")


class CompleteRequest(_RequestBody):
    """Text whose last eojeol is to be completed, and the number of completions."""

    text: str
    num_completions: int = Field(
        default=5, ge=1, le=20, validation_alias=AliasChoices("num_completions", "k")
    )


class TextRequest(_RequestBody):
    """Text to score or to predict for."""

    text: str


class GenerateRequest(_RequestBody):
    """Prompt and sampling settings."""

    prompt: str = ""
    seed: int | None = Field(default=None, ge=0, lt=1 << 63)
    temperature: float = Field(default=0.8, ge=0, le=5)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float = Field(default=0.95, gt=0, le=1)
    repetition_penalty: float = Field(default=1.1, ge=1, le=10)
    max_tokens: int | None = Field(
        default=None, ge=1, validation_alias=AliasChoices("max_tokens", "max_morphs")
    )


def build_app(engine: ServedLanguageModel | ServedTask, settings: ServeSettings) -> FastAPI:
    """Return the application."""
    # FastAPI's documentation pages would load external scripts.
    app = FastAPI(title="korlm", docs_url=None, redoc_url=None)
    app.add_middleware(_RequestGuard, settings=settings)
    _add_error_handlers(app)
    queue = InferenceQueue(settings.max_queue)

    def page_file(name: str) -> Callable[[], Awaitable[FileResponse]]:
        async def file() -> FileResponse:
            return FileResponse(PAGE / name)

        return file

    index = "task.html" if isinstance(engine, ServedTask) else "index.html"
    for path, name in {"/": index, **{f"/{name}": name for name in FILES}}.items():
        app.get(path, include_in_schema=False)(page_file(name))

    @app.get("/api/info")
    async def info() -> Json:
        return {**engine.info(), "max_chars": settings.max_chars}

    if isinstance(engine, ServedTask):
        _add_predict(app, engine, queue, settings)
    else:
        _add_language_model(app, engine, queue, settings)
    return app


def _check_text(key: str, text: str, settings: ServeSettings) -> None:
    if len(text) > settings.max_chars:
        limit = f"{settings.max_chars:,} (max_chars)"
        raise RequestError(413, f"{key}: {len(text):,} characters, at most {limit}")
    if has_lone_surrogates(text):
        raise RequestError(422, f"{key}: contains a lone surrogate")


def _add_predict(
    app: FastAPI, engine: ServedTask, queue: InferenceQueue, settings: ServeSettings
) -> None:
    @app.post("/api/predict")
    async def predict(body: TextRequest, request: Request) -> Json:
        _check_text("text", body.text, settings)
        return await queue.run(request.receive, lambda: engine.predict(body.text))


def _add_language_model(
    app: FastAPI, engine: ServedLanguageModel, queue: InferenceQueue, settings: ServeSettings
) -> None:
    @app.post("/api/complete")
    async def complete(body: CompleteRequest, request: Request) -> Json:
        _check_text("text", body.text, settings)
        return await queue.run(
            request.receive, lambda: engine.complete(body.text, body.num_completions)
        )

    @app.post("/api/surprisal")
    async def surprisal(body: TextRequest, request: Request) -> Json:
        _check_text("text", body.text, settings)
        return await queue.run(request.receive, lambda: engine.surprisal(body.text))

    @app.post("/api/generate")
    async def generate(body: GenerateRequest) -> StreamingResponse:
        _check_text("prompt", body.prompt, settings)
        max_tokens = body.max_tokens or min(MAX_TOKENS, settings.max_tokens)
        if max_tokens > settings.max_tokens:
            message = f"max_tokens: {max_tokens}, at most {settings.max_tokens}"
            raise RequestError(413, message)
        sampling = Sampling(body.temperature, body.top_k, body.top_p, body.repetition_penalty)
        stopping = StoppingCriteria(max_tokens, NUM_SENTENCES)
        queue.check_not_full()  # while the status can still be 503
        # A generator: the model runs in ``queue.stream``.
        pieces = engine.generate(body.prompt, sampling, stopping, body.seed)
        return StreamingResponse(queue.stream(pieces), media_type="application/x-ndjson")


def _response(error: RequestError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to a refused request, with further headers."""
    headers = dict(headers or {})
    if error.retry_after:
        headers["Retry-After"] = str(math.ceil(error.retry_after))
    return JSONResponse({"error": error.message}, error.status, headers)


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def request_error(request: Request, error: RequestError) -> Response:
        return _response(error)

    @app.exception_handler(KorlmError)
    async def korlm_error(request: Request, error: KorlmError) -> Response:
        return _response(RequestError(400, str(error)))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            message = f"body: invalid JSON at character {first['loc'][1]}"
            return _response(RequestError(422, message))
        key = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return _response(RequestError(422, f"{key}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        message = f"{request.method} {request.url.path}: {error.detail}"
        if error.status_code == 404:
            message += "; /openapi.json describes what this run answers"
        return _response(RequestError(error.status_code, message), error.headers)

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> Response:
        # The traceback follows on stderr. This response does not pass _RequestGuard.
        return _response(RequestError(500, internal_error_message(error)), HEADERS)


class _RequestGuard:
    """Middleware: check requests before their bodies are read; add HEADERS to responses."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app, self._settings = app, settings
        self._rate_limit = RateLimit(settings.rate, settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self._app
        if scope["type"] == "http":
            request = Request(scope)
            try:
                self._check_host(request)
                if request.method == "POST":
                    self._check_post(request)
            except RequestError as error:
                app = _response(error)
        await app(scope, receive, send_with_headers)

    def _check_host(self, request: Request) -> None:
        """Refuse requests to another host name or from the page of another site."""
        host = request.headers.get("host", "").lower()
        # The names of this host in its network are not known, so all are allowed there.
        if is_loopback(self._settings.host):
            name = re.sub(r":\d*$", "", host)
            if not is_loopback(name.removeprefix("[").removesuffix("]")):
                raise RequestError(400, "host: must be localhost, 127.0.0.1 or [::1]")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower().partition("://")[2] != host:
            raise RequestError(403, "origin: requests from other sites are refused")

    def _check_post(self, request: Request) -> None:
        """Refuse bodies of another type or too large a size, and too frequent requests."""
        settings = self._settings
        content_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
        length = request.headers.get("content-length", "")
        # A character may be two \\uXXXX; 1024 bytes for other keys.
        max_length = 12 * settings.max_chars + 1024
        if content_type != "application/json":
            raise RequestError(415, "content-type: must be application/json")
        is_chunked = "transfer-encoding" in request.headers  # then the length is not reliable
        if is_chunked or not length.isdecimal():
            raise RequestError(411, "content-length: must be given; chunked bodies are refused")
        if len(length) > 12 or int(length) > max_length:
            limit = f"{max_length:,} bytes (from max_chars)"
            raise RequestError(413, f"content-length: must be at most {limit}")
        if wait := self._rate_limit.acquire(request.client.host if request.client else ""):
            limit = f"at most {settings.rate:g} requests a second on average"
            raise RequestError(429, f"too many requests: {limit}; retry later", wait)
