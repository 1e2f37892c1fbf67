"""The port `Budget` over Redis: one counter an app and day, shared by all workers.

Keys: `<namespace>:budget:<day>:<hash of the app>`, a number of tokens; gone after two days.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from gateway.adapters.redis_script import FAILURES
from gateway.core.errors import StateUnavailable
from gateway.core.memory import Instant

if TYPE_CHECKING:
    from redis.asyncio import Redis

DAY_S: Final = 86_400
_SPEND: Final = """
local spent = tonumber(redis.call('GET', KEYS[1]) or '0')
if spent > 0 and spent + tonumber(ARGV[1]) > tonumber(ARGV[2]) then return 0 end
redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
"""A batch that is larger than the whole budget goes as the first of its day: it would wait
for ever."""


class RedisBudget:
    """`client` belongs to whoever made it."""

    def __init__(self, client: Redis, *, namespace: str = "mg") -> None:
        self._client = client
        self._namespace = namespace

    async def spend(self, app: str, tokens: int, limit: int, *, now: Instant) -> float:
        if limit <= 0:
            return DAY_S - now % DAY_S
        day = int(now // DAY_S)
        name = hashlib.blake2b(app.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        key = f"{self._namespace}:budget:{day}:{name}"
        try:
            taken = await self._client.eval(_SPEND, 1, key, tokens, limit, 2 * DAY_S)
        except FAILURES as exc:
            raise StateUnavailable(
                f"Redis (the extraction budget) does not answer: {type(exc).__name__}"
            ) from exc
        return 0.0 if taken else DAY_S - now % DAY_S
