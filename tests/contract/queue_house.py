"""What the queue's two suites share: real queues, owners that can be erased, exchanges."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.redis_queue import RedisQueue
from gateway.config import ExtractionSettings, QueueSettings
from gateway.core.exchange import Exchange, Outcome, Turn
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Instant

BATCHING = ExtractionSettings(idle_s=10, max_wait_s=60, max_batch_tokens=100, max_batch_exchanges=4)
BOUNDS = QueueSettings(lease_s=30, max_tries=3)


class House:
    """One Redis with any number of queues over it, each as a process of its own would have."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.namespace = f"test-{secrets.token_hex(4)}"
        self.owners: dict[str, Owner] = {}

    def queue(
        self,
        bounds: QueueSettings = BOUNDS,
        batching: ExtractionSettings = BATCHING,
        **per_app: ExtractionSettings,
    ) -> RedisQueue:
        return RedisQueue(
            self.client,
            cipher=AesGcmCipher(),
            by_tenant=self.by_tenant,
            settings=bounds,
            extraction_for=lambda app: per_app.get(app, batching),
            namespace=self.namespace,
        )

    def owner(self, user: str = "ann", app: str = "default") -> Owner:
        owner = new_owner(Person(app, user))
        self.owners[owner.tenant] = owner
        return owner

    async def by_tenant(self, tenant: str) -> Owner | None:
        return self.owners.get(tenant)

    async def keys(self) -> set[bytes]:
        return {key async for key in self.client.scan_iter(f"{self.namespace}:*", count=1000)}

    async def clean(self) -> None:
        for key in await self.keys():
            await self.client.delete(key)


@asynccontextmanager
async def house_at(url: str) -> AsyncIterator[House]:
    async with Redis.from_url(url) as client:
        house = House(client)
        try:
            yield house
        finally:
            await house.clean()


def exchange(
    id: str = "x1",
    at: Instant = 1000.0,
    text: str = "I moved to Porto",
    outcome: Outcome = "complete",
) -> Exchange:
    return Exchange(id, "session", at, (Turn(0, "user", text, at),), outcome=outcome)
