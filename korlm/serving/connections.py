"""Limit HTTP connections: their number, and the time that they wait for their client."""

from __future__ import annotations

import asyncio
import json
import logging
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 100
REQUEST_TIMEOUT = 10.0  # seconds in which a whole request must arrive
READ_TIMEOUT = 10.0  # seconds in which a client must read some of a response that is ready


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed if its client does not send or read in time.

    A stream that is not read would keep the model from others.

    The response to errors is ``{"error": ...}``, as in the application.
    """

    max_connections = MAX_CONNECTIONS
    request_timeout = REQUEST_TIMEOUT
    read_timeout = READ_TIMEOUT
    _timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            limit = f"at most {self.max_connections} connections at once; retry later"
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, limit)
        else:
            self._set_timer(True)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request; stop the timer when the request is complete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        is_complete = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        self._set_timer(not is_complete and not self.transport.is_closing())

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._set_timer(False)
        super().connection_lost(exc)
        self._stop_read_timer()

    def pause_writing(self) -> None:
        """Start to wait for the client; the transport calls this when its buffer is full."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(self.read_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting; the transport calls this when the client has read enough."""
        self._stop_read_timer()
        super().resume_writing()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg.rstrip("."))

    def _set_timer(self, is_running: bool) -> None:
        if not is_running and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif is_running and self._timer is None:
            self._timer = self.loop.call_later(self.request_timeout, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        limit = f"no complete request within {self.request_timeout:g} seconds"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, limit)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Close the connection, with an error response unless a response has started."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": message}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def build_server(app: Any) -> uvicorn.Server:
    """Return the server of an application; it logs errors of the server, not of clients."""
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns about clients that disconnect
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="error",
        timeout_graceful_shutdown=2,
        # X-Forwarded-For would let a client evade the rate limit.
        proxy_headers=False,
    )
    return uvicorn.Server(config)
