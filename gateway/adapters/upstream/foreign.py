"""aiohttp's errors as httpx has them: the next room knows httpx's alone."""

from __future__ import annotations

from typing import Final

import aiohttp
import httpx
from aiohttp.http_exceptions import HttpProcessingError

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
    """An error of aiohttp as httpx has it; without its words, which may quote a whole URL, but with
    the system's, who could not connect: a name that is not known, a certificate that is over."""
    said = type(exc).__name__
    systems = getattr(exc, "certificate_error", None) or getattr(exc, "os_error", None)
    if isinstance(exc, aiohttp.ClientConnectorError) and systems is not None:
        said = f"{said}: {systems}"
    for kind, meaning in KINDS:
        if isinstance(exc, kind):
            return meaning(said, request=request)
    return httpx.ReadError(said, request=request)
