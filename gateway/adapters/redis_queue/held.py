"""Pending exchanges that this process has opened, by tenant, as of a stamp of Redis.

A conversation asks for what is pending with each of its requests, and each time it is the same
but for the last one, which mostly this process has put there itself. While Redis names the same
stamp, what is held is all there is to know: to ask for 30 exchanges again took this process 40 µs
and Redis 45, beside 10 for opening each new one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from sys import getsizeof
from typing import Final, NamedTuple

from gateway.core.exchange import Exchange
from gateway.core.memory import Instant

HELD_BYTES: Final = 16 * 2**20
"""Some 7,000 short exchanges. Whole tenants go, the longest unused first."""
EXCHANGE_BYTES: Final = 800
"""What an exchange takes beside its turns."""
TURN_BYTES: Final = 600
"""What each of its turns takes beside its words, with what recall notes on it."""
TIMES: Final = 2
"""Its words are there as they were said, and folded to be looked through (`core/waiting`)."""
PENDING_BYTES: Final = 256 * 1024
"""What recall reads of one tenant's pending at most: chat waits for it."""
MOST: Final = 64
"""Exchanges that are held of one tenant, where they are added one by one. Recall asks for 50."""


class Placed(NamedTuple):
    """An exchange behind what orders it: its own time, and its number. `id` is its hidden one,
    `size` that of its record, `room` about the bytes of memory that it takes opened."""

    at: Instant
    number: int
    id: str
    size: int
    room: int
    exchange: Exchange

    @classmethod
    def of(cls, at: Instant, number: int, id: str, size: int, exchange: Exchange) -> Placed:
        """Its room is not told by its record: one emoji makes a text take four bytes a character
        here, where the record has one."""
        words = sum([getsizeof(turn.text) for turn in exchange.turns])
        room = EXCHANGE_BYTES + TURN_BYTES * len(exchange.turns) + TIMES * words
        return cls(at, number, id, size, room, exchange)


class Line:
    """The newest that is pending of a tenant as of a stamp, newest last; `whole`: all of it."""

    __slots__ = ("_asked", "_last", "placed", "room", "size", "stamp", "whole")

    def __init__(self, stamp: bytes, placed: Iterable[Placed], *, whole: bool) -> None:
        self.stamp = stamp
        self.placed = list(placed)
        self.size = sum(one.size for one in self.placed)
        self.room = sum(one.room for one in self.placed)
        self.whole = whole
        self._last = max(self.placed)[:2] if self.placed else (float("-inf"), 0)
        self._asked: tuple[int, list[Exchange]] | None = None

    def add(self, one: Placed, stamp: bytes) -> bool:
        """Take what Redis put behind all others; False where its place is another."""
        if one[:2] < self._last:
            return False
        self.placed.append(one)
        self.size += one.size
        self.room += one.room
        self.stamp, self._last, self._asked = stamp, one[:2], None
        while len(self.placed) > MOST or (self.size > PENDING_BYTES and len(self.placed) > 1):
            gone = self.placed.pop(0)
            self.size -= gone.size
            self.room -= gone.room
            self.whole = False
        return True

    def newest(self, limit: int) -> list[Exchange] | None:
        """So many, the newest last; None where Redis may have more than is held."""
        if len(self.placed) < limit and not self.whole:
            return None
        if self._asked is None or self._asked[0] != limit:
            self._asked = limit, [one.exchange for one in sorted(self.placed[-limit:])]
        return self._asked[1].copy()


class Held:
    """The lines of those who are in conversation now."""

    def __init__(self, limit_bytes: int = HELD_BYTES) -> None:
        self._limit = limit_bytes
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self._room = 0

    def of(self, tenant: str) -> Line | None:
        """What is held of a tenant."""
        line = self._lines.get(tenant)
        if line is not None:
            self._lines.move_to_end(tenant)
        return line

    def keep(self, tenant: str, line: Line) -> None:
        """This is what is pending of a tenant: what was held of it before is dropped."""
        self.drop(tenant)
        self._lines[tenant] = line
        self._make_room(line.room)

    def add(self, tenant: str, one: Placed, stamp: bytes) -> None:
        """Put one more at the end of a tenant's line, which is there."""
        line = self._lines[tenant]
        before = line.room
        if line.add(one, stamp):
            self._make_room(line.room - before)

    def drop(self, tenant: str) -> None:
        """Forget a tenant: it was erased, or has nothing pending."""
        line = self._lines.pop(tenant, None)
        if line is not None:
            self._room -= line.room

    def _make_room(self, more: int) -> None:
        self._room += more
        while self._room > self._limit:
            _, gone = self._lines.popitem(last=False)
            self._room -= gone.room
