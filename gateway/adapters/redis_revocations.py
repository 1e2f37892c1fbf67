"""The port `Revocations` over Redis: what was taken back, until it would have ended by itself.

Keys: `<namespace>:revoked:<hash of the name>`, a string with the time; gone at its end.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gateway.adapters.redis_script import answered
from gateway.core.memory import Instant

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


class RedisRevocations:
    """`client` belongs to whoever made it."""

    def __init__(self, client: Redis | RedisCluster, *, namespace: str = "mg") -> None:
        self._client = client
        self._namespace = namespace

    async def revoke(self, name: str, *, now: Instant, until: Instant) -> None:
        if until > now:
            kept_ms = int((until - now) * 1000) + 1
            command = ("SET", self._key(name), repr(now), "PX", kept_ms)
            await answered(self._client.execute_command(*command))

    async def revoked_at(self, name: str) -> Instant | None:
        text = await answered(self._client.execute_command("GET", self._key(name)))
        return None if text is None else float(text)

    def _key(self, name: str) -> str:
        hashed = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=16).hexdigest()
        return f"{self._namespace}:revoked:{hashed}"
