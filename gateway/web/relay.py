"""The client's side of a relay: an upstream's answer as ASGI messages, chunk by chunk."""

from __future__ import annotations

from typing import Any, Final

from starlette.types import Scope, Send

from gateway.core.errors import GatewayError
from gateway.flows.visit import ClientGone, Report
from gateway.ports import Headers
from gateway.web.errors import error_event, send_error
from gateway.web.headers import is_encoded, is_event_stream, to_client, value_of
from gateway.web.protocol import connection_of

LEFT: Final = 499
"""The status under which a client that left is counted (nginx's; nothing is sent)."""

# What an upstream answers stands, in a browser that opens it as a page, at the console's own
# address: its script could act as the operator who is signed in there. No client's program sends
# `navigate`, so that answers to these have nothing added.
_OPENS_A_PAGE: Final = (b"sec-fetch-mode", b"navigate")
_NO_PAGE_OF_OURS: Final = (b"content-security-policy", b"sandbox")

_BLANK_LINES: Final = (b"\n\n", b"\r\r", b"\r\n\r\n")
_TAIL: Final = len(b"[DONE]\r\n\r\n")


class HttpClient:
    """Implements `flows.visit.Client`; without a report, an answer has no memory headers.

    `status` is what was answered; 0 until the head is out.
    """

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        connection = None if self._is_head else connection_of(scope)
        self._at_once = connection.write if connection is not None else None
        self._opens_a_page = _OPENS_A_PAGE in scope["headers"]
        self._stream = False
        self._tail = b""
        self.status = 0

    async def start(self, status: int, headers: Headers, report: Report | None) -> None:
        self.status = status
        streamed = is_event_stream(headers)
        self._stream = streamed and not self._is_head and not is_encoded(headers)
        shown = to_client(headers, status=status, own=report is not None, open_end=self._stream)
        if report is not None:
            shown += memory_headers(report)
        if streamed and value_of(headers, b"x-accel-buffering") is None:
            shown.append((b"x-accel-buffering", b"no"))  # nginx and its kin pass chunks on
        if self._opens_a_page:
            shown.append(_NO_PAGE_OF_OURS)
        await self._out({"type": "http.response.start", "status": status, "headers": shown})

    def take(self, data: bytes) -> bool:
        if self._at_once is None or not self._at_once(data):
            return False
        self._remember_end(data)
        return True

    async def chunk(self, data: bytes) -> None:
        self._remember_end(data)
        await self._out({"type": "http.response.body", "body": data, "more_body": True})

    def _remember_end(self, data: bytes) -> None:
        if self._stream:
            self._tail = data[-_TAIL:] if len(data) >= _TAIL else (self._tail + data)[-_TAIL:]

    async def end(self) -> None:
        await self._out({"type": "http.response.body", "body": b""})

    async def broke(self, error: GatewayError) -> None:
        """A stream gets a last event that says so, unless all of it was there but the end of its
        framing; any other body (a packed stream too: plain words in it are no part of it) is left
        unfinished, which the server makes visible by closing the connection."""
        if self._stream and self._tail.rstrip(b"\r\n").endswith(b"[DONE]"):
            await self.end()
        elif self._stream:
            boundary = self._tail == b"" or self._tail.endswith(_BLANK_LINES)
            event = error_event(error, at_boundary=boundary)
            await self._out({"type": "http.response.body", "body": event})

    async def fail(self, error: GatewayError, report: Report | None = None) -> None:
        extra = memory_headers(report) if report is not None else ()
        self.status = await send_error(self._out, error, extra)

    async def _out(self, message: Any) -> None:
        try:
            await self._send(message)
        except OSError as exc:  # how ASGI servers say that the client is gone (spec 2.4)
            raise ClientGone from exc


def memory_headers(report: Report) -> list[tuple[bytes, bytes]]:
    """What memory did, for the head of an answer (docs/api.md)."""
    if report.status == "off":
        return [(b"x-memory-status", b"off")]
    headers = [
        (b"x-memory-status", report.status.encode()),
        (b"x-memory-stage", report.stage.encode()),
        (b"x-memory-injected-count", b"%d" % report.injected),
        (b"x-memory-tokens", b"%d" % report.tokens),
        (b"x-memory-latency-ms", b"%.1f" % report.latency_ms),
    ]
    if report.receipt_id is not None:
        headers.append((b"x-memory-receipt-id", report.receipt_id.encode()))
    return headers
