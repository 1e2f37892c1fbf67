"""How the directory speaks to Redis: commands, scripts, and what their failures mean."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import NoScriptError, RedisError

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


class Script:
    """A Lua script of this directory's, and the hash that Redis keeps it under."""

    __slots__ = ("sha", "text")

    def __init__(self, name: str) -> None:
        folder = Path(__file__).parent.parent / "lua"
        self.text = (folder / f"directory_{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


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
        try:
            return await self._ask("EVALSHA", script.sha, 1, key, *args)
        except _NotLoaded:
            return await self._ask("EVAL", script.text, 1, key, *args)

    async def _ask(self, *command: Any) -> Any:
        try:
            return await self._client.execute_command(*command)
        except NoScriptError:
            raise _NotLoaded from None
        except (RedisError, OSError) as exc:
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


class _NotLoaded(Exception):
    """Redis does not know the script: it was restarted, or sees it for the first time."""


def unavailable(exc: Exception) -> DirectoryUnavailable:
    return DirectoryUnavailable(
        f"Redis, as directory of users, does not answer ({type(exc).__name__}); check redis.url",
        code="directory_unavailable",
    )
