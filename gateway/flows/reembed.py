"""Changing the embedder over while serving: memories get their vectors anew, a batch at a time.

The store says itself which memories wait for a vector, so nothing is kept of how far it came:
after a death the next sweep, or the next call, goes on. Words find what waits meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from gateway.core.errors import Unavailable
from gateway.flows.sweep import embed_owed
from gateway.ports import Deployment, Services

COUNTED: Final = 10_000_000
AGAIN_S: Final = 1.0
"""Between tries while the embedder or the store is away."""


class Reembedding:
    """One deployment's change of embedder: begun, looked at, over when nothing waits."""

    def __init__(self) -> None:
        self._running = False
        self._total = 0
        self._reason: str | None = None

    async def begin(self, deployment: Deployment) -> None:
        """Embed what waits, in the background; nothing where that is under way already."""
        if self._running:
            return
        self._running = True
        try:
            self._total = await _waiting(deployment.all_services())
        except BaseException:
            self._running = False
            raise
        deployment.background.spawn(self._work(deployment), "reembed")

    async def _work(self, deployment: Deployment) -> None:
        all_services = deployment.all_services()
        try:
            while not deployment.draining:
                given = 0
                try:
                    if not await _waiting(all_services, 1):
                        return
                    for services in all_services:
                        given += await embed_owed(services)
                    self._reason = None
                except Unavailable as exc:
                    self._reason = exc.message
                if not given:
                    await asyncio.sleep(AGAIN_S)
        finally:
            self._running = False

    async def status(self, all_services: Sequence[Services]) -> dict[str, Any]:
        """How many memories have to be embedded, and how many wait still. Raises Unavailable."""
        waiting = await _waiting(all_services)
        return {
            "running": self._running,
            "total": max(self._total, waiting),
            "waiting": waiting,
            "reason": self._reason,
        }


async def _waiting(all_services: Sequence[Services], limit: int = COUNTED) -> int:
    return sum([len(await services.store.unembedded(limit)) for services in all_services])
