"""The port `Writers` over Redis: who of all processes may change a tenant's memories now.

Keys: `{p<n>}:writing:<tenant>`, a string with the writer's token; gone when it leaves, or when it
has said nothing for `HELD_MS` (its process died).
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from gateway.adapters.redis_script import Script, answered
from gateway.core.errors import StateUnavailable
from gateway.core.identity import partition_of

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

HELD_MS: Final = 15_000
POLL_S: Final = (0.005, 0.01, 0.02, 0.05)
"""Between tries, the last one from then on: a write takes some milliseconds."""
PATIENCE_S: Final = 20.0

_HOLD = Script("writers_hold")


class RedisWriters:
    """`client` belongs to whoever made it."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client = client

    async def take(self, tenant: str) -> str:
        token = secrets.token_hex(8)
        command = ("SET", _key(tenant), token, "NX", "PX", HELD_MS)
        give_up = asyncio.get_running_loop().time() + PATIENCE_S
        tries = 0
        while not await answered(self._client.execute_command(*command)):
            if asyncio.get_running_loop().time() > give_up:
                raise StateUnavailable(
                    "this user's memories are being written by another process; try again",
                    code="busy",
                )
            await asyncio.sleep(POLL_S[min(tries, len(POLL_S) - 1)])
            tries += 1
        return token

    async def keep(self, tenant: str, token: str) -> bool:
        return bool(await answered(_HOLD.run(self._client, (_key(tenant),), token, HELD_MS)))

    async def leave(self, tenant: str, token: str) -> None:
        await answered(_HOLD.run(self._client, (_key(tenant),), token, 0))


def _key(tenant: str) -> str:
    return f"{{p{partition_of(tenant)}}}:writing:{tenant}"
