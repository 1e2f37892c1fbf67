"""The LLM behind the gateway: raw requests out, raw answers back, chunk by chunk.

A reverse proxy needs no cookies, redirects, auth flows or decoding, so `httpx` is used at the
level of its transports alone. The default transport runs over aiohttp, with a session of ours:
requests/s through the same relay, 16 connections, one process: httpx's own transport 647,
aiohttp 2,400 to 2,700. `HttpUpstream` takes any httpx transport; its suite runs over both.

What httpx-aiohttp's own transport does otherwise, and a relay may not do:
 - it sends `str(url)`, which yarl quotes anew: here the target goes out as it came in;
 - it makes a connect timeout of every broken connection: here each error has its kind;
 - it cuts answers into 16 KiB pieces: here a chunk leaves as the network brought it;
 - its default session keeps cookies: one user's `Set-Cookie` would go with the next request.

All foreign errors are translated in this file, into UpstreamUnreachable and UpstreamTimedOut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import httpx

from gateway.adapters.upstream.bodies import Upload, WholeBody
from gateway.adapters.upstream.over_aiohttp import AiohttpRelay, Arriving
from gateway.config import UpstreamSettings
from gateway.core.errors import UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from gateway.ports import Headers, Take, UpstreamRequest
from gateway.telemetry.logs import Outage, log

FINAL: Final = range(200, 600)
"""Statuses that an answer may have (RFC 9110, 15). 101 told a client that its connection had
changed, and beyond these our server has no words: the client was left without any answer."""


class HttpUpstream:
    """Implements `ports.Upstream` over an httpx transport (aiohttp's unless one is given).

    `first_byte_timeout_s` runs from the last byte sent of the request (and covers the
    connection) to the answer's head; `idle_timeout_s` for each chunk after it. That no answer
    begins is said once in the log, and once that one does again.
    """

    def __init__(
        self, settings: UpstreamSettings, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._settings = settings
        self._base = httpx.URL(settings.base_url)
        self._prefix = settings.base_url.split("://", 1)[1].partition("/")[2].strip("/")
        host = self._base.netloc.rpartition(b"@")[2]
        self._host = (b"host", host)
        self._transport = transport or AiohttpRelay(settings)
        self._timeout = {"connect": settings.connect_timeout_s, "read": None, "pool": None}
        self._outage = Outage(log("upstream"), "upstream")

    async def send(self, request: UpstreamRequest) -> HttpResponse:
        """Send a request and wait for the head of its answer. Raises UpstreamFailed."""
        waiting = asyncio.timeout(self._settings.first_byte_timeout_s)
        stream = self._stream_of(request, waiting)
        try:
            response = await self._sent(request, stream, waiting)
        except UpstreamFailed as exc:
            if not stream.broke:
                # Clients are told its kind alone; whoever runs this needs to know the certificate's
                # fault from a name that nobody knows.
                self._outage.failed(
                    exc.message,
                    host=self._host[1].decode("ascii", "replace"),
                    because=str(exc.__cause__ or ""),
                )
            raise
        self._outage.recovered()
        return response

    async def _sent(
        self, request: UpstreamRequest, stream: WholeBody | Upload, waiting: asyncio.Timeout
    ) -> HttpResponse:
        wire = httpx.Request(
            request.method,
            self._base,
            headers=[self._host, *request.headers, *_framing(request)],
            stream=stream,
            extensions={"target": self._target(request), "timeout": self._timeout},
        )
        try:
            async with waiting:
                response = await self._transport.handle_async_request(wire)
        except TimeoutError as exc:
            raise UpstreamTimedOut(
                "The upstream did not begin to answer within"
                f" {self._settings.first_byte_timeout_s:g} s"
                " (upstream.first_byte_timeout_s). Try again.",
                code="upstream_timeout",
            ) from exc
        except (httpx.TransportError, OSError) as exc:
            raise _translated(exc, "before it answered") from exc
        finally:
            stream.awaited = False
        answer = HttpResponse(response, self._settings.idle_timeout_s)
        if answer.status not in FINAL:
            await answer.close()
            raise UpstreamUnreachable(
                f"The upstream answers with status {answer.status}, which no answer has. See what"
                " stands at upstream.base_url.",
                code="upstream_unreachable",
            )
        return answer

    async def ping(self) -> None:
        """Any answer at all to a small request means: it is there. Raises UpstreamFailed."""
        headers: list[tuple[bytes, bytes]] = [(b"accept", b"application/json")]
        if self._settings.api_key is not None:
            key = self._settings.api_key.get_secret_value()
            headers.append((b"authorization", b"Bearer " + key.encode()))
        response = await self.send(UpstreamRequest("GET", "/models", b"", headers, b""))
        await response.close()

    async def close(self) -> None:
        await self._transport.aclose()

    def _target(self, request: UpstreamRequest) -> bytes:
        path = f"/{self._prefix}{request.path}" if self._prefix else request.path
        target = path.encode("utf-8", "surrogateescape")
        return target + b"?" + request.query if request.query else target

    def _stream_of(self, request: UpstreamRequest, waiting: asyncio.Timeout) -> WholeBody | Upload:
        if isinstance(request.body, bytes):
            return WholeBody(request.body)
        return Upload(request.body, waiting, self._settings.first_byte_timeout_s)


class HttpResponse:
    """Implements `ports.UpstreamResponse`."""

    def __init__(self, response: httpx.Response, idle_timeout_s: float) -> None:
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._idle_timeout_s = idle_timeout_s
        self.status = response.status_code
        self.headers: Headers = response.headers.raw

    async def chunks(self, take: Take | None = None) -> AsyncIterator[bytes]:
        """Raw bytes, each chunk as soon as it came."""
        arriving = aiter(self._stream)
        patience = _Patience(self._idle_timeout_s)

        def taken(data: bytes) -> bool:
            patience.begin()  # with what comes, the next wait begins
            return take is not None and take(data)

        pour = None
        if take is not None and isinstance(self._stream, Arriving):
            pour = self._stream.pour
        try:
            while True:
                patience.begin()
                try:
                    if pour is not None:
                        await pour(taken)
                    chunk = await anext(arriving, None)
                except asyncio.CancelledError:
                    if patience.was_it():
                        raise TimeoutError from None
                    raise
                finally:
                    patience.over()
                if chunk is None:
                    return
                if chunk:
                    yield chunk
        except TimeoutError as exc:
            raise UpstreamTimedOut(
                f"The upstream sent nothing for {self._idle_timeout_s:g} s"
                " (upstream.idle_timeout_s) before its answer was complete.",
                code="upstream_stalled",
            ) from exc
        except (httpx.TransportError, httpx.StreamError, OSError) as exc:
            raise _translated(exc, "in the middle of its answer") from exc
        finally:
            patience.stop()

    async def close(self) -> None:
        """Done with it: an answer not read to its end is cut off at the connection."""
        try:
            await self._stream.aclose()
        except (httpx.TransportError, OSError):
            return  # it was to be closed, and it is


class _Patience:
    """`asyncio.timeout` around each of many short waits, for a fifth of its price: no timer is set
    for a wait, one looks now and then whether the present one has lasted too long."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended_it = False

    def begin(self) -> None:
        """The wait of the task that calls this has begun."""
        self._since = self._loop.time()
        if self._timer is None:
            self._task = asyncio.current_task()
            self._timer = self._loop.call_later(self._limit_s, self._look)

    def over(self) -> None:
        self._since = None

    def was_it(self) -> bool:
        """Whether the wait was cancelled from here and by nobody else."""
        ours, self._ended_it = self._ended_it, False
        return ours and self._task is not None and self._task.uncancel() <= 0

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return  # between two waits: the next one sets a timer
        left_s = self._since + self._limit_s - self._loop.time()
        if left_s > 0.0:
            self._timer = self._loop.call_later(left_s, self._look)
        elif self._task is not None:
            self._ended_it = True
            self._task.cancel()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _framing(request: UpstreamRequest) -> list[tuple[bytes, bytes]]:
    """The length of a body that is there as a whole; an upload brings its own, or is chunked."""
    if not isinstance(request.body, bytes):
        if any(name == b"content-length" for name, _ in request.headers):
            return []
        return [(b"transfer-encoding", b"chunked")]
    if not request.body and request.method not in ("POST", "PUT", "PATCH"):
        return []
    return [(b"content-length", b"%d" % len(request.body))]


def _translated(exc: BaseException, when: str) -> UpstreamFailed:
    if isinstance(exc, httpx.TimeoutException | TimeoutError):
        return UpstreamTimedOut(
            f"The upstream was too slow {when} ({type(exc).__name__}). Try again.",
            code="upstream_timeout",
        )
    return UpstreamUnreachable(
        f"The upstream cannot be reached, or broke the connection {when}"
        f" ({type(exc).__name__}). Check upstream.base_url and that it is up; then try again.",
        code="upstream_unreachable",
    )
