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
from contextvars import ContextVar
from typing import Any, Final, cast

import aiohttp
import httpx
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_reqrep import ClientRequest, ClientResponse
from aiohttp.connector import Connection
from aiohttp.helpers import get_env_proxy_for_url
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from gateway.config import UpstreamSettings
from gateway.core.errors import UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from gateway.ports import Headers, UpstreamRequest

MAX_HEADER_BYTES: Final = 256 * 1024
"""Longest line and field of a response head (aiohttp: 8,190; some upstreams send more)."""
MAX_HEADER_COUNT: Final = 512
SLICE_BYTES: Final = 256 * 1024
"""A body is written in pieces of this size at most, so that other streams get their turn."""
KEEP_ALIVE_S: Final = 15.0
AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add; a client that did not send them does not send them here."""


class HttpUpstream:
    """Implements `ports.Upstream` over an httpx transport (aiohttp's unless one is given).

    `first_byte_timeout_s` runs from the last byte sent of the request (and covers the
    connection) to the answer's head; `idle_timeout_s` for each chunk after it.
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

    async def send(self, request: UpstreamRequest) -> HttpResponse:
        """Send a request and wait for the head of its answer."""
        waiting = asyncio.timeout(self._settings.first_byte_timeout_s)
        stream = self._stream_of(request, waiting)
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
        return HttpResponse(response, self._settings.idle_timeout_s)

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

    def _stream_of(self, request: UpstreamRequest, waiting: asyncio.Timeout) -> WholeBody | _Upload:
        if isinstance(request.body, bytes):
            return WholeBody(request.body)
        return _Upload(request.body, waiting, self._settings.first_byte_timeout_s)


class HttpResponse:
    """Implements `ports.UpstreamResponse`."""

    def __init__(self, response: httpx.Response, idle_timeout_s: float) -> None:
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._idle_timeout_s = idle_timeout_s
        self.status = response.status_code
        self.headers: Headers = response.headers.raw

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raw bytes, each chunk as soon as it came."""
        arriving = aiter(self._stream)
        patience = _Patience(self._idle_timeout_s)
        try:
            while True:
                patience.begin()
                try:
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


class WholeBody(httpx.AsyncByteStream):
    """A body that is there as a whole."""

    awaited = True

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if len(self.body) <= SLICE_BYTES:
            if self.body:
                yield self.body
            return
        for start in range(0, len(self.body), SLICE_BYTES):
            yield self.body[start : start + SLICE_BYTES]


class _Upload(httpx.AsyncByteStream):
    """A body on its way through. As long as it comes, the wait for the answer has not begun.

    `awaited` until the head of the answer is there (an answer may come before the last byte).
    """

    def __init__(
        self, body: AsyncIterator[bytes], waiting: asyncio.Timeout, timeout_s: float
    ) -> None:
        self._body = body
        self._waiting = waiting
        self._timeout_s = timeout_s
        self.awaited = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        async for chunk in self._body:
            if self.awaited and not self._waiting.expired():
                self._waiting.reschedule(loop.time() + self._timeout_s)
            yield chunk


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


# --- the transport over aiohttp ----------------------------------------------------------------


class AiohttpRelay(httpx.AsyncBaseTransport):
    """An httpx transport that sends exactly what it is given and raises httpx's errors.

    The request's `target` extension (raw path and query) is what stands in the request line.
    A proxy named in the environment is honoured, looked up once: aiohttp would look it up in
    a thread for each request, and read passwords from `~/.netrc`.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self._settings = settings
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        session = self._session or self._open()
        try:
            response = await self._once_or_again(session, request)
        except FOREIGN as exc:
            raise as_httpx(exc, request) from exc
        return httpx.Response(
            response.status, headers=list(response.raw_headers), stream=_Arriving(response)
        )

    async def _once_or_again(
        self, session: aiohttp.ClientSession, request: httpx.Request
    ) -> ClientResponse:
        try:
            return await self._send(session, request)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # A kept-alive connection that the upstream closed just before it was used again.
            # Only where not one byte was written is it known that nothing was done with it.
            if not _sending.get().unsent or not isinstance(request.stream, WholeBody):
                raise
            return await self._send(session, request)

    async def _send(self, session: aiohttp.ClientSession, request: httpx.Request) -> ClientResponse:
        url = request.url
        target = _text(request.extensions["target"])
        return await session.request(
            request.method,
            URL(f"{url.scheme}://{url.netloc.decode('ascii')}{target}", encoded=True),
            headers=CIMultiDict(
                [
                    (_text(name), _text(value))
                    for name, value in request.headers.raw
                    if name != b"transfer-encoding"  # aiohttp says it, and refuses to twice
                ]
            ),
            data=_payload(request),
            allow_redirects=False,
        )

    def _open(self) -> aiohttp.ClientSession:
        """Made at the first request: a session belongs to the event loop it is made in."""
        settings = self._settings
        secure = settings.base_url.startswith("https:")
        proxy = None
        try:
            proxy, proxy_auth = get_env_proxy_for_url(URL(settings.base_url))
        except LookupError:
            proxy_auth = None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.max_connections,
                keepalive_timeout=KEEP_ALIVE_S,
                # httpx's context knows certifi's authorities and SSL_CERT_FILE; a slim image
                # has none of its own. TCP_NODELAY is set by asyncio and uvloop themselves.
                ssl=httpx.create_ssl_context() if secure else True,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=AUTOMATIC,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
            auto_decompress=False,
            request_class=_Request,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADER_COUNT,
            proxy=proxy,
            proxy_auth=proxy_auth,
        )
        return self._session

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Request(ClientRequest):
    """Notes whether the connection was already gone when the first byte was to be written."""

    unsent = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if hdrs.CONTENT_LENGTH not in kwargs["headers"]:
            self.headers.pop(hdrs.CONTENT_LENGTH, None)  # aiohttp's own "0", for a DELETE
        _sending.set(self)

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        # aiohttp keeps the head back to send it with the body, from here.
        self.unsent = conn.protocol is None or not conn.protocol.is_connected()
        await super().write_bytes(writer, conn, content_length)


_sending: ContextVar[_Request] = ContextVar("_sending")


class _Arriving(httpx.AsyncByteStream):
    """An answer's bytes as the network brings them."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while chunk := await content.readany():
                yield chunk
        except FOREIGN as exc:
            # What came before the break was said: aiohttp would drop it (`readany` raises
            # before it looks into its buffer).
            if left := b"".join(content._buffer)[content._buffer_offset :]:
                yield left
            raise as_httpx(exc) from exc

    async def aclose(self) -> None:
        self._response.close()


def _payload(request: httpx.Request) -> bytes | httpx.AsyncByteStream | None:
    stream = request.stream
    if isinstance(stream, WholeBody) and len(stream.body) <= SLICE_BYTES:
        return stream.body or None
    return cast("httpx.AsyncByteStream", stream)


def _text(raw: bytes) -> str:
    """Bytes of a head as aiohttp wants them: it writes text as UTF-8. What is not UTF-8 can
    only be sent as the same characters."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


FOREIGN: Final = (
    aiohttp.ClientError,
    HttpProcessingError,
    aiohttp.EofStream,  # the connection ended between two answers
    OSError,  # TimeoutError is one
    RuntimeError,  # aiohttp: "Connection closed.", "Session is closed"
    ValueError,  # aiohttp: a header or URL that it will not write
)
"""All that aiohttp raises from a request or its body; a test goes through its exceptions."""

KINDS: Final[tuple[tuple[type[BaseException], type[httpx.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (TimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (HttpProcessingError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.ReadError),
)
"""The first that fits; whatever else breaks is a connection that broke (ReadError)."""


def as_httpx(exc: BaseException, request: httpx.Request | None = None) -> httpx.TransportError:
    """An error of aiohttp as httpx has it; without its words, which may quote a whole URL."""
    said = type(exc).__name__
    for kind, meaning in KINDS:
        if isinstance(exc, kind):
            return meaning(said, request=request)
    return httpx.ReadError(said, request=request)
