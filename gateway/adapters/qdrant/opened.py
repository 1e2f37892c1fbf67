"""Memories that searches opened, kept by user as long as their points stay as they were.

Fetching one takes 6 µs and opening it 4, and a search finds a hundred; looking it up here takes
0.1. Nothing has to tell of writes: a hit comes with its point's stamp, and what was kept of an
older state is not found any more; it is let go once a user has twice as many. They are kept up to
a number of bytes (`qdrant.cache_bytes`), counted closely enough to be planned with.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from itertools import count
from sys import getsizeof
from typing import Final

from gateway.adapters.qdrant.engine import point_of
from gateway.core.memory import Memory

BASE_BYTES: Final = 520
"""What a memory takes beside its text, its key included: 60,000 of a line each were seen to take
632 bytes each, of which 110 are the text."""
VERSION_BYTES: Final = 250
"""What each version of its history takes beside its text."""
KEY_BYTES: Final = 200
"""What a key takes with no memory behind it."""
SHELF_BYTES: Final = 500
"""What a user takes of whom nothing is kept."""
FEW: Final = 128
"""So many need no tidying; a search finds a hundred."""


class Shelf:
    """Opened memories of one tenant, by the keys that searches name them with; None where what was
    found cannot be read, lest each search ask for it again.

    `number` is never given twice: who has brought memories to a shelf of another number has
    brought them to one that is gone. `names`: the sessions and exchanges that its memories share.
    """

    __slots__ = ("bytes", "memories", "most", "names", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.memories: dict[str, Memory | None] = {}
        self.names: dict[str, str] = {}
        self.bytes = SHELF_BYTES
        self.most = FEW

    def tidy(self) -> None:
        """Let go of former states of points: of each the one that came last stays. Looking through
        10,000 takes 1.4 ms, letting go of as many 4 more; each time there are twice as many."""
        former = self.memories
        last = {point_of(key): key for key in former}
        if len(last) < len(former):
            self.memories = {key: former.pop(key) for key in last.values()}
            self.bytes -= sum(map(_bytes_of, former.values()))
            self.names = {}  # what stays has its own
        self.most = max(FEW, 2 * len(last))


class Opened:
    """The shelves."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._shelves: OrderedDict[str, Shelf] = OrderedDict()
        self._numbers = count(1)
        self._bytes = 0

    def shelf(self, tenant: str) -> Shelf:
        """The tenant's shelf, made where there is none."""
        shelf = self._shelves.get(tenant)
        if shelf is None:
            shelf = self._shelves[tenant] = Shelf(next(self._numbers))
            self._add(shelf.bytes)
        else:
            self._shelves.move_to_end(tenant)
        return shelf

    def keep(self, tenant: str, shelf: Shelf, read: Mapping[str, Memory | None]) -> None:
        """Put what was read onto a shelf. Where that is too much, whole users go, the longest
        unused first; onto a shelf that went meanwhile nothing is put."""
        if self._shelves.get(tenant) is not shelf:
            return
        # Of searches at once each may bring the same.
        new = {key: memory for key, memory in read.items() if key not in shelf.memories}
        before = shelf.bytes
        shelf.memories.update(new)
        shelf.bytes += sum(map(_bytes_of, new.values()))
        if len(shelf.memories) > shelf.most:
            shelf.tidy()
        self._add(shelf.bytes - before)

    def _add(self, added: int) -> None:
        self._bytes += added
        while self._bytes > self._limit and self._shelves:
            _, gone = self._shelves.popitem(last=False)
            self._bytes -= gone.bytes

    def drop(self, tenant: str) -> None:
        """Forget a tenant's memories, which were erased."""
        gone = self._shelves.pop(tenant, None)
        self._bytes -= gone.bytes if gone is not None else 0

    def __len__(self) -> int:
        return sum(len(shelf.memories) for shelf in self._shelves.values())


def _bytes_of(memory: Memory | None) -> int:
    if memory is None:
        return KEY_BYTES
    size = BASE_BYTES + getsizeof(memory.text)
    for version in memory.history:
        size += getsizeof(version.text) + VERSION_BYTES
    return size + 4 * len(str(memory.metadata)) if memory.metadata else size
