"""What is remembered: facts and turns, as plain frozen data.

Times are `Instant`s: seconds since the epoch, UTC, as float (rounded to microseconds), so
that ranking can subtract them. They become RFC 3339 text only at the edge (`rfc3339`).
`valid_*` speak of the world, `created_at`, `updated_at` and `superseded_at` of what we knew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, get_args

from gateway.core.noted import Noted

Instant: TypeAlias = float

Kind = Literal["fact", "turn"]
Type = Literal["profile", "preference", "interaction", "task_state"]
Status = Literal["active", "superseded", "quarantined", "forgotten"]
"""`forgotten` is a tombstone without content: only a memory's history shows it."""
Via = Literal["chat", "api", "import", "user"]
Role = Literal["system", "developer", "user", "assistant", "tool"]
Event = Literal["created", "corrected", "refined", "superseded", "restored", "forgotten"]

KINDS: tuple[Kind, ...] = get_args(Kind)
TYPES: tuple[Type, ...] = get_args(Type)
VIAS: tuple[Via, ...] = get_args(Via)
EVENTS: tuple[Event, ...] = get_args(Event)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a memory came from. `quote` is the user's own words that it rests on."""

    role: str = "user"
    via: Via = "chat"
    exchange_id: str | None = None
    session: str | None = None
    quote: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """An earlier state of a memory, kept in its history. `event` says what ended it."""

    at: Instant
    event: Event
    text: str = ""
    key: str | None = None
    value: str | None = None
    via: Via = "chat"


@dataclass(frozen=True, slots=True)
class Memory(Noted):
    """One remembered fact or turn of one owner.

    `speaker` is who said a turn. `covers` are the ids of the turns that a fact was drawn
    from. `importance` is 0 to 1. `key` and `value` structure a preference (`language`:
    `es`). `valid_from`/`valid_to` bound when it is true (an event's start and end).
    Noted on it: its line in the block and what that costs, where it is offered often
    (`core/choice`).
    """

    id: str
    kind: Kind
    text: str
    created_at: Instant
    updated_at: Instant
    valid_from: Instant
    type: Type | None = None
    key: str | None = None
    value: str | None = None
    importance: float = 0.5
    pinned: bool = False
    status: Status = "active"
    valid_to: Instant | None = None
    expires_at: Instant | None = None
    superseded_at: Instant | None = None
    superseded_by: str | None = None
    supersedes: str | None = None
    source: Source = field(default_factory=Source)
    speaker: str | None = None
    covers: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Version, ...] = ()

    @property
    def session(self) -> str | None:
        return self.source.session


def in_microseconds(memory: Memory) -> Memory:
    """The memory with its times rounded to microseconds, as every store keeps them.

    Finer times do not survive: Qdrant's engine reads 12% of them back one bit off (measured on
    Edge 0.9, 20,000 values), so that what is compared with what was read would differ. Of
    200,000 rounded ones each came back as it was.
    """
    rough = {
        name: round(at, 6)
        for name in _TIMES
        if (at := getattr(memory, name)) is not None and at != round(at, 6)
    }
    return replace(memory, **rough) if rough else memory


_TIMES = ("created_at", "updated_at", "valid_from", "valid_to", "expires_at", "superseded_at")


Vector: TypeAlias = Sequence[float]


@dataclass(frozen=True, slots=True)
class Entry:
    """A memory as a store takes it.

    `dense` is absent where the embedder was away; the store finds such entries again
    (`MemoryStore.unembedded`). `window` is the text of a turn with its neighbours, for the
    lexical window vector; `dense_window` its embedding. `language` (`de`, `german`) is the
    user's where it is known: words are then found by their stems in it too.
    """

    memory: Memory
    dense: Vector | None = None
    window: str | None = None
    dense_window: Vector | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Which of an owner's memories are meant. An empty tuple means: no condition.

    `as_of` keeps what was held true then (valid_from ≤ as_of < valid_to) and lets
    superseded memories in; without it only `statuses` count. `metadata` must match key by
    key; `sessions` are alternatives. `expired_before`: memories whose `expires_at` has passed are
    never returned when it is given. `said_after`: what was created later alone.
    """

    kinds: tuple[Kind, ...] = ()
    types: tuple[Type, ...] = ()
    statuses: tuple[Status, ...] = ("active",)
    as_of: Instant | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    session: str | None = None
    sessions: tuple[str, ...] = ()
    expired_before: Instant | None = None
    said_after: Instant | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """One search: words, a vector, or both; `limit` results a list.

    `standing` asks for a list of that name too: active profile and preference facts, which
    count whatever the question.
    """

    text: str
    where: Where
    limit: int = 50
    dense: Vector | None = None
    language: str | None = None
    standing: int = 0


ListName = Literal[
    "dense", "dense_window", "lexical", "lexical_window", "standing", "dated", "former"
]


@dataclass(frozen=True, slots=True)
class Found:
    """What a store found: for each list, ids with raw scores, best first; and the memories."""

    lists: Mapping[ListName, Sequence[tuple[str, float]]]
    memories: Mapping[str, Memory]


NOTHING_FOUND = Found(lists={}, memories={})


def rfc3339(at: Instant) -> str:
    """An instant as RFC 3339 text in UTC, with microseconds only where there are any."""
    text = datetime.fromtimestamp(round(at, 6), UTC).isoformat()
    return text.replace("+00:00", "Z")


def parse_rfc3339(text: str) -> Instant:
    """Read RFC 3339 text; a time without an offset is taken as UTC, a leap second as the one after
    it (clocks that count seconds since the epoch have none).

    Raises ValueError where it is no such time or lies outside the years 2 to 9998 (so that it
    can be told in any zone).
    """
    # "t" and "z" may be written small.
    written, leaps = _LEAP_SECOND.subn(r"\g<1>59", text.upper())
    moment = datetime.fromisoformat(written)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not 2 <= moment.year <= 9998:
        raise ValueError(f"{text!r} lies outside the years 2 to 9998")
    return round(moment.timestamp() + leaps, 6)


_LEAP_SECOND = re.compile(r"(T\d\d:\d\d:)60(?!\d)")
