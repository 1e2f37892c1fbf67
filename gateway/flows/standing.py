"""What always counts for a user, kept in this process for when the store is late or away.

Kept by tenant (an erased person comes back under another), with the version that the shared
state gave it: any write of any process changes the version, and an entry of another version is
not used, nor an old one, as a write may not have been able to say so. Where the version cannot be
told (the state is away as well), only a fresh one is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.memory import Instant, Memory

MAX_TENANTS = 2000
"""About 15 MB at 20 short memories each, their lines noted."""
FRESH_S = 60.0
KEPT_S = 300.0
"""How long it takes at most until other processes see a write that shared state was not told of."""


@dataclass(frozen=True, slots=True)
class _Kept:
    version: str
    at: Instant
    memories: tuple[Memory, ...]


class StandingCache:
    """Bounded; the least used tenant goes first."""

    def __init__(self, max_tenants: int = MAX_TENANTS) -> None:
        self._max_tenants = max_tenants
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def keep(self, tenant: str, memories: Sequence[Memory], *, version: str, now: Instant) -> None:
        self._kept[tenant] = _Kept(version, now, tuple(memories))
        self._kept.move_to_end(tenant)
        while len(self._kept) > self._max_tenants:
            self._kept.popitem(last=False)

    def get(self, tenant: str, *, version: str, now: Instant) -> tuple[Memory, ...] | None:
        """What was kept and still holds; None where there is nothing to go by."""
        kept = self._kept.get(tenant)
        if kept is None:
            return None
        if kept.version != version and version:
            return None
        if not _is_younger(kept, KEPT_S if version else FRESH_S, now):
            return None
        self._kept.move_to_end(tenant)
        return _unexpired(kept.memories, now)

    def last(self, tenant: str, *, now: Instant) -> tuple[Memory, ...] | None:
        """What was kept last and may still hold: for who asks before the version is known."""
        kept = self._kept.get(tenant)
        if kept is None or not _is_younger(kept, KEPT_S, now):
            return None
        return _unexpired(kept.memories, now)

    def forget(self, tenant: str) -> None:
        self._kept.pop(tenant, None)

    def __len__(self) -> int:
        return len(self._kept)


def _is_younger(kept: _Kept, seconds: float, now: Instant) -> bool:
    return 0.0 <= now - kept.at <= seconds


def _unexpired(memories: Sequence[Memory], now: Instant) -> tuple[Memory, ...]:
    return tuple(m for m in memories if m.expires_at is None or m.expires_at > now)
