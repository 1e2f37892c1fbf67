"""httpx's transport over aiohttp: what goes out is what it was given, and errors are httpx's."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast

import aiohttp
import httpx
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_reqrep import ClientRequest, ClientResponse, ConnectionKey
from aiohttp.connector import Connection
from aiohttp.helpers import get_env_proxy_for_url
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from gateway.adapters.upstream.bodies import SLICE_BYTES, WholeBody
from gateway.adapters.upstream.foreign import FOREIGN, as_httpx
from gateway.adapters.upstream.pouring import PouringProtocol
from gateway.config import UpstreamSettings
from gateway.ports import Take

MAX_HEADER_BYTES: Final = 256 * 1024
"""Longest line and field of a response head (aiohttp: 8,190; some upstreams send more)."""
MAX_HEADER_COUNT: Final = 512
KEEP_ALIVE_S: Final = 15.0
AUTOMATIC: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Headers that aiohttp would add; a client that did not send them does not send them here."""


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
            response.status, headers=list(response.raw_headers), stream=Arriving(response)
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
            connector=_Connector(
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


class _Connector(aiohttp.TCPConnector):
    """Connections whose answers can be poured, and that are not used again once closed.

    An upstream may have closed one while this process was stopped or busy: the loop has not
    read the end yet, so that aiohttp takes it for open. A POST written to it is lost, and is
    not sent again (RFC 9110, 9.2.2): that cost a chat a 502. So its socket is looked at first.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        factory: Any = partial(PouringProtocol, loop=self._loop)
        self._factory = factory

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """A kept connection. Each that is not fit is closed, and the next one taken."""
        while (kept := await super()._get(key, traces)) is not None:
            if not _has_something_to_read(kept):
                return kept
            kept.close()
        return None


def _has_something_to_read(idle: Connection) -> bool:
    """Between two answers only the end of a connection, or a break of HTTP, can be read."""
    of_it = None if idle.transport is None else idle.transport.get_extra_info("socket")
    if of_it is None:
        return False
    looking = select.poll()  # `select.select` knows no descriptor above 1,023
    looking.register(of_it.fileno(), select.POLLIN)
    return bool(looking.poll(0))


class Arriving(httpx.AsyncByteStream):
    """An answer's bytes as the network brings them."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response
        self._left = b""

    async def pour(self, take: Take) -> None:
        """Hand to `take` what comes, at once, until the answer ends or breaks or `take` leaves a
        chunk: iterating gives that one next, and what follows."""
        connection = self._response.connection  # None: the answer is here as a whole
        if connection is not None and isinstance(connection.protocol, PouringProtocol):
            self._left = await connection.protocol.pour(self._response.content, take)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content = self._response.content
        try:
            while chunk := self._left or await content.readany():
                self._left = b""
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
