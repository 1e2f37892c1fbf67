"""Gateway keys and the audit of gateways that share servers, in Redis 6.2 or newer.

Keys, none of which ends by itself:

    dir:keys   hash    gateway keys by id, hashed
    dir:audit  stream  the audit: appended to, trimmed by age, never rewritten

A key is kept in the process for a second: so long a revoked one may still count elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import orjson
from redis.exceptions import RedisError

from gateway.config import Settings, seconds_of
from gateway.core.errors import DirectoryUnavailable
from gateway.core.keys import GatewayKey
from gateway.core.memory import Instant
from gateway.ports import Clock

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

CACHED: Final = 10_000
CACHED_S: Final = 1.0
PAGE: Final = 500


class RedisKeyStore:
    """Implements ports.KeyStore on a ready client, which its maker also closes."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        clock: Clock,
        settings: Settings,
        cached_s: float = CACHED_S,
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = settings
        self._cached_s = cached_s
        self._cache: dict[str, tuple[float, GatewayKey]] = {}

    async def add(self, key: GatewayKey) -> None:
        await self._ask("HSET", "dir:keys", key.id, orjson.dumps(asdict(key)))

    async def find(self, id: str) -> GatewayKey | None:
        ends, key = self._cache.get(id, (0.0, None))
        if key is not None and time.monotonic() < ends:
            return key
        text = await self._ask("HGET", "dir:keys", id)
        if text is None:
            return None
        key = GatewayKey(**orjson.loads(text))
        if len(self._cache) >= CACHED:
            self._cache.clear()
        self._cache[id] = (time.monotonic() + self._cached_s, key)
        return key

    async def all(self) -> list[GatewayKey]:
        keys = [GatewayKey(**orjson.loads(text)) for text in await self._ask("HVALS", "dir:keys")]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def revoke(self, id: str, at: Instant) -> bool:
        """Whether there is such a key; one revoked before keeps its time."""
        text = await self._ask("HGET", "dir:keys", id)
        if text is None:
            return False
        key = GatewayKey(**orjson.loads(text))
        if key.revoked_at is None:
            await self.add(replace(key, revoked_at=at))
        self._cache.pop(id, None)
        return True

    async def audit(self, entry: Mapping[str, Any]) -> None:
        """Kept for `retention.audit`; `at` is now where the entry does not say."""
        now = self._clock()
        kept_s = seconds_of(self._settings.retention.audit)
        trim = () if kept_s is None else ("MINID", "~", max(int((now - kept_s) * 1000), 0))
        whole = orjson.dumps({"at": now, **entry})
        await self._ask("XADD", "dir:audit", *trim, "*", "entry", whole)

    async def audited(
        self, *, limit: int = 100, app: str | None = None, user: str | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before: bytes | str = "+"
        while len(found) < limit:
            page = await self._ask("XREVRANGE", "dir:audit", before, "-", "COUNT", PAGE)
            for _, values in page:
                entry = orjson.loads(values[b"entry"])
                if app in (None, entry.get("app")) and user in (None, entry.get("user")):
                    found.append(entry)
            if len(page) < PAGE:
                break
            before = b"(" + page[-1][0]
        return found[:limit]

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._client.execute_command(*command)
        except (RedisError, OSError) as exc:
            raise DirectoryUnavailable(
                f"Redis, as keeper of gateway keys, does not answer ({type(exc).__name__});"
                " check redis.url",
                code="directory_unavailable",
            ) from exc
