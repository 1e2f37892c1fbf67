"""The LLM behind the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]
Take = Callable[[bytes], bool]
"""Takes a chunk and says True, or leaves it and says False. It never waits and never raises."""


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to relay. `path` is below the upstream's base URL (`/chat/completions`), still
    percent-encoded; `query` as the client sent it. `body` is whole bytes (their length is said
    for them), or a stream for uploads (a `content-length` among `headers`, or chunked)."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes]


class UpstreamResponse(Protocol):
    """An answer whose head has arrived. `chunks` yields raw bytes as they come; leaving it
    early or calling `close` ends the upstream's work. Raises UpstreamFailed while reading.

    `take` is offered each chunk first, in its order, and what it takes is not yielded: whoever
    can write at once need not be woken for each. An adapter may do without it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    def chunks(self, take: Take | None = None) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class Upstream(Protocol):
    """The LLM behind the gateway. Raises UpstreamUnreachable, UpstreamTimedOut."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...
