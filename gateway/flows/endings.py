"""What a process still holds of people who were erased, perhaps through another process.

Whoever was erased is not found any more, so nothing of them is served; but what caches hold for
speed (standing memories, opened memories and exchanges, keys) would rest there until others take
the place. So every process asks the directory, every other second, who was dropped, and lets go
of them. It does so again for a minute: a request that was under way meanwhile may have put
something back.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.core.errors import Unavailable
from gateway.flows import recall
from gateway.ports import Services
from gateway.telemetry.logs import log

LOOK_S: Final = 2.0
LOOKS: Final = 30
"""How many looks in a row an ended tenant is let go of."""


_log = log("endings")


class Endings:
    """The tenants that one app's services have to let go of."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._since = ""
        self._looks_left: dict[str, int] = {}

    async def watch(self) -> None:
        """Look until cancelled. What was missed while the directory was away is told after."""
        while True:
            try:
                await self.look()
            except Unavailable:
                pass
            except Exception as exc:  # noqa: BLE001 (whatever an adapter does, the next look is due)
                _log.error("endings_look_failed", error=type(exc).__name__)
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Let go of those who were dropped. Raises DirectoryUnavailable."""
        self._since, ended = await self._services.directory.ended(self._since)
        if ended:
            self._services.cipher.let_go()
        self._looks_left |= dict.fromkeys(ended, LOOKS)
        for tenant in self._looks_left:
            let_go(self._services, tenant)
        self._looks_left = {t: left - 1 for t, left in self._looks_left.items() if left > 1}


def let_go(services: Services, tenant: str) -> None:
    """Hold nothing of this tenant in this process."""
    recall.forget(tenant)
    services.directory.let_go(tenant)
    services.queue.let_go(tenant)
    services.store.let_go(tenant)
