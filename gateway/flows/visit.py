"""One request on its journey: what it asks, for whom, and what has been found out so far.

Plain data, passed from step to step of `flows/answer` and on to `flows/aftermath`.
"""

from __future__ import annotations

from asyncio import TimerHandle
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from gateway.config import AppSettings
from gateway.core.chat import Api, ChatRequest
from gateway.core.errors import GatewayError
from gateway.core.identity import Owner, Person
from gateway.core.memory import Instant
from gateway.flows.limits import AS_SET, Room
from gateway.flows.recall import Recalled
from gateway.ports import Conversation, Headers, Injected, Services
from gateway.telemetry.tracing import NO_SPAN, Span

Mode = Literal["full", "readonly", "writeonly", "off"]

MAX_SESSION_CHARS: Final = 256


@dataclass(frozen=True, slots=True)
class Options:
    """What a request says of its own memory. `max_tokens` and `deadline_ms` can only lower the
    settings; `receipt` asks for one where only a share of requests keep theirs."""

    mode: Mode = "full"
    session: str | None = None
    as_of: Instant | None = None
    timezone: str | None = None
    max_tokens: int | None = None
    deadline_ms: float | None = None
    receipt: bool = False


@dataclass(frozen=True, slots=True)
class Who:
    """Whose request it is, and what goes upstream with it. `charge` counts the tokens that it
    used against its key's limit, where it has one."""

    person: Person | None
    app: str
    options: Options
    headers: Headers
    charge: Callable[[int], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it came in, its body read whole. `identify` tells whose it is; the body may
    name them (None where it cannot be read). It raises RequestRefused."""

    api: Api
    path: str
    query: bytes
    body: bytes
    identify: Callable[[ChatRequest | None], Awaitable[Who]]


@dataclass(frozen=True, slots=True)
class Report:
    """What memory did for one answer, for its head."""

    status: Literal["ok", "partial", "degraded", "off"]
    stage: Literal["full", "lexical", "profile", "none"] = "none"
    injected: int = 0
    tokens: int = 0
    latency_ms: float = 0.0
    receipt_id: str | None = None


OFF = Report("off")


class ClientGone(Exception):
    """Nobody is there any more to take the answer."""


class Client(Protocol):
    """Who is answered. `start` comes first, then chunks, then `end` or `broke`; or `fail`
    alone. Each may raise ClientGone."""

    async def start(self, status: int, headers: Headers, report: Report) -> None: ...

    async def chunk(self, data: bytes) -> None: ...

    def take(self, data: bytes) -> bool:
        """A chunk, if it can go out without waiting; False: it did not, it is `chunk`'s."""
        ...

    async def end(self) -> None: ...

    async def broke(self, error: GatewayError) -> None:
        """The upstream broke in the middle of its answer."""
        ...

    async def fail(self, error: GatewayError, report: Report) -> None:
        """There is no answer."""
        ...


@dataclass(slots=True)
class Visit:
    """What is known of a request as it goes along. `request` is None where the body is the
    upstream's to judge. `reads` and `writes`: memory is recalled for it, and kept of it;
    `left_out`: it is not kept as somebody wants it so. `body` goes upstream, and of it `block` is
    ours. `injected` is still to be noted, at the end of the answer or, `noting`, a moment from
    now. For the log alone: `why` there was no recall, or none with all of its parts, and
    `upstream_request`, by which the upstream, and so its client, knows this request."""

    ask: Ask
    who: Who
    settings: AppSettings
    services: Services
    request: ChatRequest | None
    now: Instant
    reads: bool = False
    writes: bool = False
    left_out: bool = False
    held_out: bool = False
    skipped: str | None = None
    owner: Owner | None = None
    marks: tuple[str, ...] = ()
    turn_mark: str = ""
    conversation: Conversation | None = None
    room: Room = AS_SET
    recalled: Recalled | None = None
    body: bytes = b""
    block: str = ""
    injected: Injected | None = None
    noting: TimerHandle | None = None
    report: Report = field(default=OFF)
    why: str = ""
    upstream_ms: float = 0.0
    upstream_request: str = ""
    span: Span = NO_SPAN

    @property
    def named_session(self) -> str | None:
        """The conversation as the client names it: in its header, or as the upstream's own."""
        kept = self.request.conversation if self.request is not None else None
        if kept and (len(kept) > MAX_SESSION_CHARS or not kept.isprintable()):
            kept = None  # no upstream's id, whatever it is
        return self.who.options.session or kept or None

    @property
    def person(self) -> Person:
        """Only where there is one: memory is read or written for somebody."""
        assert self.who.person is not None  # noqa: S101 (for the type; `reads`, `writes` say so)
        return self.who.person
