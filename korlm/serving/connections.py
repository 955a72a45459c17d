"""Connections to the server: how many there may be, and how long a request may take to arrive."""

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
REQUEST_SECONDS = 10.0  # for a whole request to arrive; a browser needs far less than one


class Connection(H11Protocol):
    """An HTTP/1.1 connection that is closed if no whole request arrives in time.

    Whatever is wrong is answered by ``{"error": ...}``, as the application does.
    """

    max_connections = MAX_CONNECTIONS
    request_seconds = REQUEST_SECONDS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection, or refuse it where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            most = f"at most {self.max_connections} connections at once; try again soon"
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, most)
        else:
            self._set_deadline(True)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request; the deadline ends when the request is complete."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        is_complete = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        self._set_deadline(not is_complete and not self.transport.is_closing())

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._set_deadline(False)
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(HTTPStatus.BAD_REQUEST, msg.rstrip("."))

    def _set_deadline(self, is_waiting: bool) -> None:
        if not is_waiting and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        elif is_waiting and self._deadline is None:
            self._deadline = self.loop.call_later(self.request_seconds, self._end_waiting)

    def _end_waiting(self) -> None:
        self._deadline = None
        limit = f"no complete request within {self.request_seconds:g} seconds"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, limit)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Close the connection, with an answer unless one has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": message}).encode()
            head = (
                f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self.transport.close()


def server_of(app: Any) -> uvicorn.Server:
    """Return the server of an application.

    Only errors of the server itself are logged, not what clients do wrong.
    """
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # clients that leave
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        log_level="error",
        timeout_graceful_shutdown=2,
        # What a client says of proxies would give it another name for each request.
        proxy_headers=False,
    )
    return uvicorn.Server(config)
