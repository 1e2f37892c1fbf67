"""Who tried wrong credentials too often, by address: from there no unknown one is looked at.

A secret of 256 random bits is not guessed at any speed; a token that somebody thought up is, and
a flood of wrong keys costs lookups. So an address that sent some wrong ones within a minute is
told to wait. What it sent with success within the last hour goes on being looked at: behind a
proxy or a shared address, the others' failures do not lock out who was in before.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, TypeVar

from gateway.core.memory import Instant

WINDOW_S: Final = 60.0
KNOWN_S: Final = 3600.0
ADDRESSES: Final = 10_000
"""Kept at most, the longest unused go first: some 5 MB."""

K = TypeVar("K")


class Attempts:
    """Counts of one process. `most` failures a minute and address; 0: nobody waits."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._failed: OrderedDict[str, deque[Instant]] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], Instant] = OrderedDict()

    def wait_s(self, host: str | None, credential: str, *, now: Instant) -> float:
        """Seconds until this address may try this credential; 0.0 where it may now.

        `credential` names it (a key's id, say) and is none itself.
        """
        address = network_of(host)
        failed = self._failed.get(address)
        if failed is None or self._most <= 0:
            return 0.0
        while failed and not 0.0 <= now - failed[0] < WINDOW_S:
            failed.popleft()
        if not failed:
            del self._failed[address]
        if len(failed) < self._most:
            return 0.0
        succeeded = self._known.get((address, credential))
        if succeeded is not None and 0.0 <= now - succeeded < KNOWN_S:
            return 0.0
        return failed[0] + WINDOW_S - now

    def failed(self, host: str | None, *, now: Instant) -> None:
        """A wrong credential came from there."""
        if self._most > 0:
            address = network_of(host)
            self._failed.setdefault(address, deque(maxlen=self._most)).append(now)
            _bound(self._failed, address)

    def succeeded(self, host: str | None, credential: str, *, now: Instant) -> None:
        """A right one came from there."""
        known = network_of(host), credential
        self._known[known] = now
        _bound(self._known, known)

    def __len__(self) -> int:
        return len(self._failed) + len(self._known)


@lru_cache(maxsize=4096)
def network_of(host: str | None) -> str:
    """What counts as one address: an IPv6 network of 64 bits is one machine's."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host or ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return address.packed[:8].hex()
    return str(address)


def _bound(held: OrderedDict[K, Any], latest: K) -> None:
    held.move_to_end(latest)
    while len(held) > ADDRESSES:
        held.popitem(last=False)
