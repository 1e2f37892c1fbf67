"""What the shard's process knows of the memories that the gateway holds opened.

A search finds some forty points, and the gateway has opened many of them before (`opened`).
Payloads go only where they are new, in the answer itself: asking for them afterwards would be a
second round trip, sending them all another 12 µs each.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

SENT_POINTS: Final = 200_000
"""So many points are known to have been sent: 14 MB where so many were."""
SHELF_POINTS: Final = 7
"""A shelf counts as so many more, for it takes 500 bytes with nothing on it."""


class Sent:
    """Which payloads went to which shelf of the gateway, so that none goes there twice.

    That something was sent does not say that it was kept: the gateway asks again for what it
    misses. So this may be wrong, and nothing but hashes of points and their versions is held.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shelves: OrderedDict[str, tuple[int, set[int]]] = OrderedDict()
        self._points = 0

    def add(self, tenant: str, number: int, keys: Sequence[str]) -> list[int]:
        """The places of those that are new to this shelf; from now on they were sent."""
        if tenant not in self._shelves:
            self._shelves[tenant] = number, set()
            self._points += SHELF_POINTS
        known, sent = self._shelves[tenant]
        if known != number:  # it was emptied since
            self._points -= len(sent)
            sent = set()
            self._shelves[tenant] = number, sent
        self._shelves.move_to_end(tenant)
        new = [place for place, key in enumerate(keys) if hash(key) not in sent]
        sent.update([hash(keys[place]) for place in new])
        self._points += len(new)
        while self._points > self._limit:
            _, (_, gone) = self._shelves.popitem(last=False)
            self._points -= len(gone) + SHELF_POINTS
        return new

    def __len__(self) -> int:
        return len(self._shelves)
