"""How the directory speaks to Redis: commands, scripts, and what their failures mean."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final

from gateway.adapters.redis_script import FAILURES, Script
from gateway.config import Settings
from gateway.core.errors import DirectoryUnavailable
from gateway.ports import Clock

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

CACHED: Final = 20_000
CACHED_S: Final = 1.0
FORMERLY_S: Final = 900.0
"""How long what Redis told last is gone by while it is away."""
PATIENCE_S: Final = 0.05
"""How long Redis is waited for where there is such an answer to go by."""
PAGE: Final = 500


class Wire:
    """A ready client, which its maker also closes, and what every part of the directory needs."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        clock: Clock,
        settings: Settings,
        cached_s: float,
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = settings
        self._cached_s = cached_s

    async def ping(self) -> None:
        await self._ask("PING")

    async def close(self) -> None:
        """Nothing: the client is closed by whoever made it."""

    async def _run(self, script: Script, key: str, *args: Any) -> Any:
        return await _answered(script.run(self._client, (key,), *args))

    async def _ask(self, *command: Any) -> Any:
        return await _answered(self._client.execute_command(*command))


async def _answered(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except FAILURES as exc:
        raise unavailable(exc) from exc


def fields_of(entry: Any) -> dict[bytes, bytes]:
    """The fields of a stream's entry: redis-py makes a dict of them, `RedisWire` hands on the
    list that Redis sent."""
    if isinstance(entry, dict):
        return entry
    return dict(zip(entry[::2], entry[1::2], strict=True))


def keeps_a_log(told: Any) -> bool:
    """Whether `INFO persistence` tells of an append-only file; a dict of redis-py's, or text."""
    if isinstance(told, dict):
        return bool(told["aof_enabled"])
    return b"aof_enabled:1" in told


def unavailable(exc: Exception) -> DirectoryUnavailable:
    return DirectoryUnavailable(
        f"Redis, as directory of users, does not answer ({type(exc).__name__}); check redis.url",
        code="directory_unavailable",
    )
