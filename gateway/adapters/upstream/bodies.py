"""Bodies of requests on their way out, as both transports take them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx

SLICE_BYTES: Final = 256 * 1024
"""A body is written in pieces of this size at most, so that other streams get their turn."""


class WholeBody(httpx.AsyncByteStream):
    """A body that is there as a whole."""

    awaited = True
    broke = False

    def __init__(self, body: bytes) -> None:
        self.body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if len(self.body) <= SLICE_BYTES:
            if self.body:
                yield self.body
            return
        for start in range(0, len(self.body), SLICE_BYTES):
            yield self.body[start : start + SLICE_BYTES]


class Upload(httpx.AsyncByteStream):
    """A body on its way through. As long as it comes, the wait for the answer has not begun.

    `awaited` until the head of the answer is there (an answer may come before the last byte).
    `broke`: it did not come to its end, for which no upstream is to blame.
    """

    def __init__(
        self, body: AsyncIterator[bytes], waiting: asyncio.Timeout, timeout_s: float
    ) -> None:
        self._body = body
        self._waiting = waiting
        self._timeout_s = timeout_s
        self.awaited = True
        self.broke = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        try:
            async for chunk in self._body:
                if self.awaited and not self._waiting.expired():
                    self._waiting.reschedule(loop.time() + self._timeout_s)
                yield chunk
        except Exception:
            self.broke = True
            raise
