"""Counts that no single process has, in Redis 6.2 or newer: days, apps and groups, never names.

Keys of one app share a slot; every one ends by itself:

    {tally:<app>}:<day>:<group>                hash  exchanges, repeated, up, down   100 days
    {tally:<app>}:<day>:<group>:conversations  HyperLogLog of conversation ids       100 days
    {tally:<app>}:<day>:<group>:people         HyperLogLog of tenants                100 days
    {tally:<app>}:<month>:made                 HyperLogLog of fact ids               70 days
    {tally:<app>}:<month>:injected             HyperLogLog of memory ids             70 days
    {tally}:processes                          zset    processes by when they told    1 hour
    {tally}:process:<name>                     string  what it has counted            15 s

A HyperLogLog holds no id that could be read back, and its count errs by about 0.8%.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from gateway.adapters.redis_script import answered
from gateway.core.memory import Instant
from gateway.ports import GROUPS, Group, GroupCounts

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

DAYS_S: Final = 100 * 86_400
MONTHS_S: Final = 70 * 86_400
TOLD_S: Final = 15
"""A process that has not told for so long is taken to have ended."""
HOUR_S: Final = 3600


class RedisTally:
    """Implements ports.Tally on a ready client, which its maker also closes."""

    def __init__(self, client: Redis | RedisCluster) -> None:
        self._client = client

    async def exchange(
        self,
        app: str,
        group: Group,
        *,
        conversation: str,
        tenant: str,
        repeated: bool,
        now: Instant,
    ) -> None:
        key = _day(app, now, group)
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("HINCRBY", key, "exchanges", 1)
        if repeated:
            pipe.execute_command("HINCRBY", key, "repeated", 1)
        pipe.execute_command("PFADD", f"{key}:conversations", f"{tenant}:{conversation}")
        pipe.execute_command("PFADD", f"{key}:people", tenant)
        for name in (key, f"{key}:conversations", f"{key}:people"):
            pipe.execute_command("EXPIRE", name, DAYS_S)
        await answered(pipe.execute())

    async def thumb(self, app: str, group: Group, *, up: bool, by: int, now: Instant) -> None:
        key = _day(app, now, group)
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("HINCRBY", key, "up" if up else "down", by)
        pipe.execute_command("EXPIRE", key, DAYS_S)
        await answered(pipe.execute())

    async def groups(self, app: str, *, days: int, now: Instant) -> dict[Group, GroupCounts]:
        found: dict[Group, GroupCounts] = {}
        for group in GROUPS:
            keys = [_day(app, now - 86_400 * back, group) for back in range(days)]
            pipe = self._client.pipeline(transaction=False)
            for key in keys:
                pipe.execute_command("HGETALL", key)
            pipe.execute_command("PFCOUNT", *(f"{key}:conversations" for key in keys))
            pipe.execute_command("PFCOUNT", *(f"{key}:people" for key in keys))
            *hashes, conversations, people = await answered(pipe.execute())
            sums = {
                name: sum(int(day.get(name.encode(), 0)) for day in map(_fields, hashes))
                for name in ("exchanges", "repeated", "up", "down")
            }
            if any(sums.values()):
                found[group] = GroupCounts(
                    **sums, conversations=int(conversations), people=int(people)
                )
        return found

    async def made(self, app: str, ids: Sequence[str], *, now: Instant) -> None:
        await self._noted(app, "made", ids, now)

    async def injected(self, app: str, ids: Sequence[str], *, now: Instant) -> None:
        await self._noted(app, "injected", ids, now)

    async def _noted(self, app: str, name: str, ids: Sequence[str], now: Instant) -> None:
        if not ids:
            return
        key = f"{_month(app, now)}:{name}"
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("PFADD", key, *ids)
        pipe.execute_command("EXPIRE", key, MONTHS_S)
        await answered(pipe.execute())

    async def never_injected(self, app: str, *, now: Instant) -> tuple[int, int]:
        first = datetime.fromtimestamp(now, UTC).replace(day=1)
        months = [now, (first - timedelta(days=1)).timestamp()]
        made = [f"{_month(app, at)}:made" for at in months]
        injected = [f"{_month(app, at)}:injected" for at in months]
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("PFCOUNT", *made)
        pipe.execute_command("PFCOUNT", *injected)
        pipe.execute_command("PFCOUNT", *made, *injected)
        facts, seen, either = (int(n) for n in await answered(pipe.execute()))
        return facts, min(facts, max(0, either - seen))

    async def tell(self, process: str, counted: bytes, *, now: Instant) -> None:
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("SET", f"{_PROCESS}{process}", counted, "EX", TOLD_S)
        pipe.execute_command("ZADD", _PROCESSES, now, process)
        pipe.execute_command("ZREMRANGEBYSCORE", _PROCESSES, "-inf", now - HOUR_S)
        pipe.execute_command("EXPIRE", _PROCESSES, HOUR_S)
        await answered(pipe.execute())

    async def told(self) -> list[bytes]:
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("ZRANGE", _PROCESSES, 0, -1)
        (names,) = await answered(pipe.execute())
        if not names:
            return []
        pipe = self._client.pipeline(transaction=False)
        pipe.execute_command("MGET", *(f"{_PROCESS}{name.decode()}" for name in names))
        (told,) = await answered(pipe.execute())
        return [raw for raw in told if raw is not None]


_PROCESSES: Final = "{tally}:processes"
_PROCESS: Final = "{tally}:process:"


def _fields(row: Any) -> dict[bytes, Any]:
    """A hash as it is answered: a dictionary, or flat in the older protocol."""
    return row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))


def _day(app: str, now: Instant, group: str) -> str:
    return f"{{tally:{app}}}:{datetime.fromtimestamp(now, UTC):%Y%m%d}:{group}"


def _month(app: str, now: Instant) -> str:
    return f"{{tally:{app}}}:{datetime.fromtimestamp(now, UTC):%Y%m}"
