"""uvicorn's HTTP protocol with bounds on a request's head: its size, and the time it takes.

uvicorn bounds neither with httptools, so that one connection could send headers for ever, or
none. `serve` runs the app with `http=GatewayHttpProtocol`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Final

import orjson
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together. Bodies have limits of their own (`[server]`)."""
HEAD_TIMEOUT_S: Final = 20.0
"""From a connection's begin, or a request's first byte, to the end of its head."""

CONNECTION: Final = "gateway.connection"
"""The extension of the ASGI scope that tells what the server knows (`Connection`)."""


class GatewayHttpProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), and closes on one that does not come."""

    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watched: set[Connection] = set()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)
        for connection in tuple(self._watched):
            connection.lost()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._head_came()
        if not self._refused:
            super().on_headers_complete()
            connection = Connection(self.cycle, self._watched)
            self.scope["extensions"] = {CONNECTION: {"connection": connection}}

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's plain text)
        if not self._refused:
            self._refuse(400, "The request is no HTTP/1.1 that can be read.", "invalid_http")

    # --- bounds ---

    def _count(self, length: int) -> None:
        self._head_bytes += length
        if self._head_bytes > MAX_HEAD_BYTES and not self._refused:
            self._refuse(
                431,
                f"The request's head is larger than {MAX_HEAD_BYTES} bytes. Send fewer or"
                " shorter headers.",
                "head_too_large",
            )
            raise HeadRefused  # out of the parser: the rest of the head is not wanted

    def _await_head(self) -> None:
        self._head_came()
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: int, message: str, code: str) -> None:
        self._refused = True
        error: dict[str, Any] = {"message": message, "type": "invalid_request_error"}
        body = orjson.dumps({"error": {**error, "param": None, "code": code}})
        head = (
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n"
        )
        reason = b"Bad Request" if status == 400 else b"Request Header Fields Too Large"
        self.transport.write(head % (status, reason, len(body)) + body)
        self.transport.close()


class Connection:
    """What uvicorn knows of a request's connection, told in the very call that learns of it.

    Through ASGI's `receive` and `send` each of these takes a task or a timer that waits.
    """

    def __init__(self, cycle: RequestResponseCycle, watched: set[Connection]) -> None:
        self._cycle = weakref.ref(cycle)  # its scope holds this: no circle for the collector
        self._flow = cycle.flow
        self._transport = cycle.transport
        self._watched = watched
        self._tell: Callable[[], None] | None = None

    @property
    def body_is_here(self) -> bool:
        """The request's body has come to its end: `receive` has nothing to wait for."""
        cycle = self._cycle()
        return cycle is not None and not cycle.more_body

    def write(self, data: bytes) -> bool:
        """Write a chunk as `send` would, and say whether it was written: not where `send` might
        wait, or has something to say against it."""
        cycle = self._cycle()
        if (
            cycle is None
            # The head is not out, or said a length that `send` checks.
            or not cycle.chunked_encoding
            or self._flow.write_paused
            or cycle.disconnected
            or cycle.response_complete
            or not data
        ):
            return False
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def watch(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when the client leaves before its answer's end; also where it has
        left already. `unwatch` ends it."""
        self._tell = tell
        self._watched.add(self)
        self._flow.resume_reading()  # who does not read is not told of an end
        cycle = self._cycle()
        if cycle is None or cycle.disconnected:
            self.lost()

    def unwatch(self) -> None:
        self._tell = None
        self._watched.discard(self)

    def lost(self) -> None:
        """The connection is closed."""
        cycle = self._cycle()
        if self._tell is not None and not (cycle is not None and cycle.response_complete):
            self._tell()


def connection_of(scope: Scope) -> Connection | None:
    """What the server tells of a request's connection; None under any other ASGI server."""
    extension = scope.get("extensions", {}).get(CONNECTION)
    return extension["connection"] if extension else None


class HeadRefused(Exception):
    """Ends the parsing of a head that was refused."""
