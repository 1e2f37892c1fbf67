"""How the directory speaks to Redis: commands, scripts, and what their failures mean.

What chats wait for goes through a breaker. It stands here, not around the directory: what is
answered from memory while Redis is away would count there as Redis's own answer, and close it.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.adapters.redis_script import FAILURES, Script
from gateway.config import Settings
from gateway.core.breaker import LATE_S, Breaker
from gateway.core.errors import DirectoryUnavailable
from gateway.core.identity import Person
from gateway.ports import Clock

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

T = TypeVar("T")

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
        tell_open: Callable[[bool], object],
    ) -> None:
        self._client = client
        self._clock = clock
        self._settings = settings
        self._cached_s = cached_s
        self._breaker = Breaker()
        self._tell_open = tell_open
        self._told_open = False

    async def ping(self) -> None:
        await self._ask("PING")

    async def close(self) -> None:
        """Nothing: the client is closed by whoever made it."""

    async def _for_a_chat(self, ask: Callable[[], Awaitable[T]], patience_s: float | None) -> T:
        """What `ask` tells, waited for so long. Raises DirectoryUnavailable: at once, and nothing
        is asked, while Redis failed a moment ago.

        A Redis that stood still had each chat of a user who was not known here wait its whole
        deadline, however long it stood: queue and state have breakers, but are asked after this.
        """
        began = time.monotonic()
        if not (self._breaker.is_well or self._breaker.allows(began)):
            raise DirectoryUnavailable(
                "Redis, as directory of users, failed a moment ago and is not asked again yet",
                code="breaker_open",
            )
        try:
            async with asyncio.timeout(patience_s):
                answer = await ask()
        except (DirectoryUnavailable, TimeoutError) as exc:
            self._failed(began)
            if isinstance(exc, DirectoryUnavailable):
                raise
            raise unavailable(exc) from exc
        except asyncio.CancelledError:
            # Most often the deadline of a recall: it ends before the client's own timeout.
            if time.monotonic() - began >= LATE_S:
                self._failed(began)
            raise
        except Exception:
            # Whatever else it raises (a record that cannot be read): Redis answered.
            self._answered()
            raise
        self._answered()
        return answer

    def _answered(self) -> None:
        if not self._breaker.is_well:
            self._breaker.succeeded()
            self._tell()

    def _failed(self, began: float) -> None:
        self._breaker.failed(time.monotonic(), begun=began)
        self._tell()

    def _tell(self) -> None:
        if self._told_open != self._breaker.is_open:
            self._told_open = self._breaker.is_open
            self._tell_open(self._told_open)

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


def hashed(person: Person) -> str:
    """What stands for a person in the names of keys."""
    name = f"{person.app}\0{person.user}".encode()
    return hashlib.blake2b(name, digest_size=16).hexdigest()
