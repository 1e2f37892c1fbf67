"""Request bodies: read whole within limits, or passed on as they come.

A body that is read whole (chat, responses, the memory API) is bounded in size and time, and
unpacked where it was compressed. Uploads pass through untouched, counted as they go. Either
way the client may leave before its body's end: `ClientLeft`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from starlette.types import Receive

from gateway.config import ServerSettings
from gateway.core.coding import codings, decode
from gateway.core.errors import BadRequest, TooLarge
from gateway.web.errors import REQUEST_TIMEOUT
from gateway.web.headers import RawHeaders, value_of

OFF_THE_LOOP_BYTES: Final = 128 * 1024
"""Bodies above this are unpacked and read in a thread, so that no stream waits for them."""


class ClientLeft(Exception):
    """The client closed its connection; there is nobody to answer."""


async def read_whole(
    headers: RawHeaders, receive: Receive, server: ServerSettings, *, is_here: bool = False
) -> tuple[bytes, bool]:
    """The body, unpacked, and whether it had been packed. One that `is_here` needs no waiting for.

    Raises TooLarge, UnsupportedMedia, BadRequest (also, as `request_timeout`, where it did not
    come within `server.body_timeout_s`) and ClientLeft.
    """
    _check_length(headers, server.max_body_bytes, "server.max_body_bytes")
    if is_here:
        body = await _received(receive, server.max_body_bytes)
    else:
        body = await _received_in_time(receive, server)
    names = codings((value_of(headers, b"content-encoding") or b"").decode("latin-1"))
    if not names:
        return body, False
    if len(body) < OFF_THE_LOOP_BYTES // 16:
        # Fifty bytes can unpack to all that is allowed: 0.1 s that nobody else was served in.
        with contextlib.suppress(TooLarge):
            return decode(body, names, min(OFF_THE_LOOP_BYTES, server.max_body_bytes)), True
    return await asyncio.to_thread(decode, body, names, server.max_body_bytes), True


async def _received_in_time(receive: Receive, server: ServerSettings) -> bytes:
    try:
        async with asyncio.timeout(server.body_timeout_s):
            return await _received(receive, server.max_body_bytes)
    except TimeoutError as exc:
        raise BadRequest(
            f"The body did not come within {server.body_timeout_s:g} s. Send it faster, or raise"
            " server.body_timeout_s.",
            code=REQUEST_TIMEOUT,
        ) from exc


async def _received(receive: Receive, limit: int) -> bytes:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > limit:
            raise _too_large(limit, "server.max_body_bytes")
        return body
    parts = bytearray(body)
    while True:
        if len(parts) > limit:
            raise _too_large(limit, "server.max_body_bytes")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        parts += message.get("body", b"")
        if not message.get("more_body", False):
            if len(parts) > limit:
                raise _too_large(limit, "server.max_body_bytes")
            return bytes(parts)


class Upload:
    """A body on its way through: chunk by chunk, in the client's own pace.

    `finished` is set once nothing more will come of it; `left` says that its client went.
    `failure` is what ended it otherwise.
    """

    def __init__(self, headers: RawHeaders, receive: Receive, server: ServerSettings) -> None:
        self._receive = receive
        self._limit = server.max_upload_bytes
        self._timeout_s = server.body_timeout_s
        self.finished = asyncio.Event()
        self.left = False
        self.failure: BadRequest | TooLarge | None = None
        _check_length(headers, self._limit, "server.max_upload_bytes")

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises ClientLeft, TooLarge and BadRequest, and notes which."""
        count = 0
        try:
            while True:
                async with asyncio.timeout(self._timeout_s):
                    message = await self._receive()
                if message["type"] == "http.disconnect":
                    self.left = True
                    raise ClientLeft
                chunk: bytes = message.get("body", b"")
                count += len(chunk)
                if count > self._limit:
                    raise _too_large(self._limit, "server.max_upload_bytes")
                if chunk:
                    yield chunk
                if not message.get("more_body", False):
                    return
        except TimeoutError as exc:
            self.failure = BadRequest(
                f"Nothing more of the body came for {self._timeout_s:g} s"
                " (server.body_timeout_s). Send it again.",
                code=REQUEST_TIMEOUT,
            )
            raise self.failure from exc
        except TooLarge as exc:
            self.failure = exc
            raise
        finally:
            self.finished.set()


def has_body(headers: RawHeaders) -> bool:
    length = value_of(headers, b"content-length")
    if length is not None:
        return length.strip() != b"0"
    return value_of(headers, b"transfer-encoding") is not None


def _check_length(headers: RawHeaders, limit: int, setting: str) -> None:
    """Refuse by what is announced, before a byte of it is read."""
    announced = (value_of(headers, b"content-length") or b"").strip()
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit, setting)


def _too_large(limit: int, setting: str) -> TooLarge:
    return TooLarge(
        f"The body is larger than {limit} bytes. Send less, or raise {setting}.",
        code="body_too_large",
    )
