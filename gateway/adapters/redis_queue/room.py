"""The bounds that no single slot of Redis can see: exchanges and bytes of the whole queue."""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.adapters.redis_queue.steps import Steps
from gateway.config import QueueSettings
from gateway.core.errors import OverBudget

ROOM_S: Final = 1.0


class Room:
    """What the queue held when last counted, and what this process has added since."""

    def __init__(self, steps: Steps, bounds: QueueSettings) -> None:
        self._steps = steps
        self._bounds = bounds
        self._exchanges = 0
        self._bytes = 0
        self._counted_at = float("-inf")
        self._counting = False

    def taken(self, size: int) -> None:
        """One more exchange, of so many bytes."""
        self._exchanges += 1
        self._bytes += size

    async def check(self, size: int) -> None:
        """Raises OverBudget where so many bytes more are too many. It is counted anew each second,
        and before a no.

        While one put counts, others go by what was counted last: many come within that time.
        """
        bounds = self._bounds
        clock = asyncio.get_running_loop().time
        full = self._exchanges >= bounds.max_pending or self._bytes + size > bounds.max_bytes
        if not full and (self._counting or clock() - self._counted_at < ROOM_S):
            return
        self._counting = True
        try:
            totals = await self._steps.totals()
        finally:
            self._counting = False
        self._exchanges = sum(row.pending + row.leased for row in totals)
        self._bytes = sum(row.bytes for row in totals)
        self._counted_at = clock()
        if self._exchanges >= bounds.max_pending:
            raise OverBudget(
                f"queue.max_pending: {self._exchanges} exchanges wait already. See that workers"
                " run and their extractor answers, or raise the bound"
            )
        if self._bytes + size > bounds.max_bytes:
            raise OverBudget(
                f"queue.max_bytes: {self._bytes} bytes wait already (dead letters included). See"
                " that workers run, retry what is dead, or raise the bound"
            )
