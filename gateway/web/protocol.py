"""uvicorn's HTTP protocol with bounds on a request's head: its size, and the time it takes.

uvicorn bounds neither with httptools, so that one connection could send headers for ever, or
none; and it loses the body of a request that asks for another protocol. `serve` runs the app with
`http=GatewayHttpProtocol`.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any, Final

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers together. Bodies have limits of their own (`[server]`)."""
HEAD_TIMEOUT_S: Final = 20.0
"""From a connection's begin, or a request's first byte, to the end of its head."""

CONNECTION: Final = "gateway.connection"
"""The extension of the ASGI scope that tells what the server knows (`Connection`)."""


class GatewayHttpProtocol(HttpToolsProtocol):
    """Refuses a head that is too large (431), and closes on one that does not come; a request to
    upgrade is answered as if it were none."""

    _head_bytes = 0
    _in_head = False
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

    def data_received(self, data: bytes) -> None:
        """As uvicorn has it, but that a request to speak another protocol (Java's client asks for
        `h2c` with all it sends) keeps its body: the parser stops behind such a head, and uvicorn
        goes on without what follows (https://github.com/Kludex/uvicorn/issues/2722)."""
        self._unset_keepalive_if_required()
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    return
                except HttpParserUpgrade as exc:
                    if self._should_upgrade():
                        self.handle_websocket_upgrade()
                        return
                    data = data[exc.args[0] :]
                    self._stay()
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("")

    def _stay(self) -> None:
        """Go on with the body of the request whose head has just been read, as HTTP/1.1."""
        framing = [
            b"%b: %b\r\n" % (name, value)
            for name, value in self.headers
            if name in (b"content-length", b"transfer-encoding")
        ]
        if not self.cycle.keep_alive:
            framing.append(b"connection: close\r\n")
        self.cycle.more_body = True  # its end was told with that of the head
        self.parser = HttpRequestParser(_BehindHead(self))
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(framing))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._in_head = True
        self._await_head()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """What stands behind a body of chunks (a trailer) is no header (RFC 9110, 6.5.1): uvicorn
        puts it among them, so that it named a user whom no proxy before us had looked for there."""
        if self._in_head:
            super().on_header(name, value)
        self._count(len(name) + len(value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_came()
        if not self._refused:
            super().on_headers_complete()
            if self.scope["http_version"] == "1.0":
                # It knows no chunks (RFC 9112, 6.1), and would take their lengths for the answer.
                self.cycle.chunked_encoding = False
                self.cycle.expected_content_length = _UNTIL_CLOSE
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


class _UntilClose(int):
    """The length of a body that ends with its connection, as uvicorn counts what is left of it."""

    def __lt__(self, other: int) -> bool:
        return False  # no piece is too long

    def __sub__(self, other: int) -> _UntilClose:
        return self

    def __ne__(self, other: object) -> bool:
        return False  # nothing is missing at the end

    __hash__ = int.__hash__


_UNTIL_CLOSE: Final = _UntilClose()


class _BehindHead:
    """Passes on what a parser tells, but for the head that it was begun with."""

    def __init__(self, protocol: GatewayHttpProtocol) -> None:
        self._protocol = protocol
        self._is_behind = False
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete

    def on_message_begin(self) -> None:
        if self._is_behind:
            self._protocol.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._is_behind:
            self._protocol.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_behind:
            self._protocol.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._is_behind:
            self._protocol.on_headers_complete()
        self._is_behind = True


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
