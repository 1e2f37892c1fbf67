"""Processes tell one another what they have counted, so that the console can show all of them.

Only where there can be several: with Redis and Qdrant by URL. Each process (gateways and workers)
puts its counts into the shared state every two seconds, where they end by themselves soon after
it does. Whoever shows them reads them all.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from gateway.core.errors import GatewayError, StateUnavailable
from gateway.ports import Services
from gateway.telemetry.counts import Counting, Counts
from gateway.telemetry.metrics import Metrics

EVERY_S: Final = 2.0


async def tell(services: Callable[[], Sequence[Services]], metrics: Metrics) -> None:
    """Tell of this process for as long as it runs; what the shared state cannot take is told
    the next time. The first of `services` keeps it."""
    first = services()[0]
    machine = socket.gethostname()
    name = f"{machine[:40]}:{os.getpid()}:{secrets.token_hex(3)}"
    counting = Counting(metrics, began=first.clock(), machine=machine)
    while True:
        # First of all a pause: a command that opens the stores for a moment is no such process.
        await asyncio.sleep(EVERY_S)
        now = first.clock()
        spooled = await _spooled(first, services())
        if first.tally is not None:
            with suppress(StateUnavailable):
                told = counting.counts(now, spooled=spooled).to_bytes()
                await first.tally.tell(name, told, now=now)


async def _spooled(first: Services, every: Sequence[Services]) -> int:
    """How much waits on this machine's disk; 0 where it cannot be told or read just now.

    Asked of the shared state first: while that is away nobody can be told, and the spool, which
    is read whole to be counted, is long.
    """
    try:
        await first.state.ping()
        return sum([await one.spool.count() for one in every])
    except (GatewayError, OSError):
        return 0


async def told(services: Services) -> list[Counts]:
    """What every process told last; none where none does, or the shared state is away."""
    if services.tally is None:
        return []
    found = []
    with suppress(StateUnavailable):
        for raw in await services.tally.told():
            # A process of another version may tell in another way.
            with suppress(ValueError, TypeError):
                found.append(Counts.from_bytes(raw))
    return found
