"""Run one request at a time, with a bound on the number of those that wait."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.types import Receive

from korlm.serving.served_model import Json
from korlm.utils.errors import KorlmError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class RequestError(Exception):
    """An error response.

    Attributes:
        retry_after: seconds until a retry; 0: unspecified.
    """

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after


class InferenceQueue:
    """Runs one request at a time; at most ``max_size`` may be running or waiting."""

    def __init__(self, max_size: int) -> None:
        self._max_size, self._size = max_size, 0
        # Unlike a lock, another task may release it: the one that closes an abandoned stream.
        self._model = anyio.Semaphore(1)

    def check_not_full(self) -> None:
        """Raise an error with status 503 if no more requests may wait."""
        if self._size >= self._max_size:
            limit = f"the queue is full (max_queue={self._max_size})"
            raise RequestError(503, f"server busy: {limit}; retry later", 1.0)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        """Count a request while it is waiting or running."""
        self.check_not_full()
        self._size += 1
        try:
            yield
        finally:
            self._size -= 1

    async def _acquire(self, receive: Receive) -> bool:
        """Wait for the model; return False if the client disconnects before."""
        is_acquired = False
        try:
            async with anyio.create_task_group() as waiting:

                async def cancel_if_disconnected() -> None:
                    while (await receive())["type"] != "http.disconnect":
                        pass
                    waiting.cancel_scope.cancel()

                waiting.start_soon(cancel_if_disconnected)
                await self._model.acquire()
                is_acquired = True
                waiting.cancel_scope.cancel()
        except BaseException:  # the request was cancelled, or receive() failed
            if is_acquired:
                self._model.release()
            raise
        return is_acquired

    async def run(self, receive: Receive, function: Callable[[], T]) -> T:
        """Run a function in a thread, and return its result.

        A client that disconnects (the page does so at the next keystroke) leaves the queue. The
        server reports this through ``receive``, as a message of the type ``http.disconnect``.
        """
        with self._place():
            if not await self._acquire(receive):
                raise RequestError(499, "the client has closed the request")
            try:
                return await anyio.to_thread.run_sync(function)
            finally:
                self._model.release()

    async def stream(self, pieces: Iterator[str]) -> AsyncIterator[bytes]:
        """Yield each piece as a line of JSON, until the client disconnects.

        The HTTP status is already sent: an error is the last line. This may also be that the queue
        has filled up since the request was accepted.
        """
        try:
            with self._place():
                async with self._model:
                    while (piece := await anyio.to_thread.run_sync(next, pieces, None)) is not None:
                        yield _json_line({"text": piece})
        except (RequestError, KorlmError) as error:
            yield _json_line({"error": str(error)})
        except Exception as error:
            logger.exception("the generation of a text failed")
            yield _json_line({"error": internal_error_message(error)})


def internal_error_message(error: Exception) -> str:
    """Return the message of an unexpected error."""
    return f"internal error ({type(error).__name__})"


def _json_line(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
