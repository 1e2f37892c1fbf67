"""Pending exchanges that this process has opened before, by tenant and hidden id.

A conversation asks for what is pending with each of its requests, and each time it is the same
but for the last one. Opening one takes 20 µs and sending it costs Redis as much again; looking
it up here takes 0.2. A complete exchange never changes under its id, so that nothing has to
tell of writes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, TypeAlias

from gateway.core.exchange import Exchange
from gateway.core.memory import Instant

HELD_BYTES: Final = 16 * 2**20
"""Whole tenants go, the longest unused first. One tenant has 256 KB at most (`PENDING_BYTES`)."""
EXCHANGE_BYTES: Final = 2_100
"""What an exchange of two turns takes beside its words, with what recall notes on it."""
TIMES: Final = 2
"""Its words are there as they were said, and folded to be looked through (`core/waiting`)."""

Placed: TypeAlias = tuple[Instant, int, Exchange]
"""An exchange with its own time and its sequence number, by which it is ordered."""


class Held:
    """Opened exchanges of those who are in conversation now."""

    def __init__(self, limit_bytes: int = HELD_BYTES) -> None:
        self._limit = limit_bytes
        self._tenants: OrderedDict[str, dict[str, Placed]] = OrderedDict()
        self._bytes = 0

    def of(self, tenant: str) -> Mapping[str, Placed]:
        """What is held of a tenant."""
        held = self._tenants.get(tenant)
        if held is None:
            return {}
        self._tenants.move_to_end(tenant)
        return held

    def keep(self, tenant: str, exchanges: Mapping[str, Placed]) -> None:
        """These are all that is pending of a tenant: what was held besides is dropped."""
        self._bytes += _bytes_of(exchanges) - _bytes_of(self._tenants.pop(tenant, {}))
        if exchanges:
            self._tenants[tenant] = dict(exchanges)
        while self._bytes > self._limit:
            _, gone = self._tenants.popitem(last=False)
            self._bytes -= _bytes_of(gone)

    def drop(self, tenant: str) -> None:
        """Forget a tenant, which was erased."""
        self.keep(tenant, {})

    def newest(self, tenant: str) -> int:
        """The highest sequence number that is held of a tenant, 0 for none."""
        return max((number for _, number, _ in self.of(tenant).values()), default=0)


def _bytes_of(exchanges: Mapping[str, Placed]) -> int:
    return sum(EXCHANGE_BYTES + TIMES * exchange.size for *_, exchange in exchanges.values())
