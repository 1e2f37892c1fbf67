"""Steps of the queue's script, sent to the partition that they concern.

Everything that the queue asks of Redis goes through here, and so does every error that Redis
may answer with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gateway.adapters.redis_script import FAILURES, probe
from gateway.core.errors import LeaseLost, QueueUnavailable
from gateway.core.identity import PARTITIONS, partition_of
from gateway.core.memory import Instant
from gateway.ports import Lease

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

T = TypeVar("T")


class Totals(NamedTuple):
    """One partition's counts, and since when its oldest exchange waits."""

    pending: int
    leased: int
    dead: int
    bytes: int
    since: Instant | None


class Steps:
    """The script over a client, which belongs to whoever made it."""

    def __init__(self, client: Redis | RedisCluster, namespace: str) -> None:
        from redis.asyncio.cluster import RedisCluster
        from redis.exceptions import NoScriptError

        self._client: Any = client
        self._clustered = isinstance(client, RedisCluster)
        self._no_script = NoScriptError
        self._script = Path(__file__).parents[1].joinpath("lua", "queue.lua").read_bytes()
        self._sha = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()
        self._probe = probe(f"{namespace}:")
        self._due_keys = [f"{namespace}:{{p{n}}}:due" for n in range(PARTITIONS)]

    async def of(self, tenant: str, step: str, *args: Any) -> Any:
        """A step that concerns one tenant, in the tenant's slot."""
        return await self.at(partition_of(tenant), step, tenant, *args)

    async def held(self, lease: Lease, step: str, *args: Any) -> None:
        """A step of who holds a lease. Raises LeaseLost."""
        if not await self.of(lease.tenant, step, lease.token, *args):
            raise LeaseLost("this work is not held any more: its lease ran out, or it was erased")

    async def at(self, partition: int, step: str, *args: Any) -> Any:
        """A step in a partition."""
        return await self._translated(self._evaluate([self._due_keys[partition]], step, *args))

    async def stamp(self, tenant: str) -> bytes | None:
        """What names all that is pending of a tenant now: None where nothing is, empty where it is
        of a program that knew no stamps. A plain command: Redis answers in 1 µs, to a script in 6.
        """
        key = self._due_keys[partition_of(tenant)].removesuffix("due") + f"rule:{tenant}"
        stamp, rule = await self._translated(
            self._client.execute_command("HMGET", key, "stamp", "idle")
        )
        return b"" if stamp is None and rule is not None else stamp

    async def tops(self) -> list[tuple[Instant, int]]:
        """(when its first user falls due, partition) of each partition that has any.

        One script where one server holds all slots: 0.3 ms. A cluster refuses scripts across
        slots, and its pipelines refuse scripts: 64 plain commands, 1 ms.
        """
        if not self._clustered:
            tops = await self._translated(self._evaluate(self._due_keys, "tops"))
            return [(float(top), n) for n, top in enumerate(tops) if top]
        rows = await self.of_each("ZRANGE", "due", 0, 0, "WITHSCORES")
        return [(float(row[0][1]), n) for n, row in enumerate(map(pairs, rows)) if row]

    async def totals(self) -> list[Totals]:
        """What is in each partition."""
        if self._clustered:
            counts = await self.of_each("HMGET", "counts", "pending", "leased", "dead", "bytes")
            oldest = await self.of_each("ZRANGE", "oldest", 0, 0, "WITHSCORES")
            rows = [
                (*count, first[0][1] if first else None)
                for count, first in zip(counts, map(pairs, oldest), strict=True)
            ]
        else:
            rows = await self._translated(self._evaluate(self._due_keys, "totals"))
        totals = []
        for *numbers, since in rows:
            pending, leased, dead, size = (int(n or 0) for n in numbers)
            totals.append(Totals(pending, leased, dead, size, float(since) if since else None))
        return totals

    async def overdue(self, now: Instant) -> int:
        """How many users fell due by now and are with nobody."""
        if self._clustered:
            return sum(await self.of_each("ZCOUNT", "due", "-inf", now))
        return int(await self._translated(self._evaluate(self._due_keys, "overdue", now)))

    async def of_each(self, command: str, kind: str, *args: Any) -> list[Any]:
        """One plain reading command for each partition's key of a kind; the answers, in order."""

        async def ask() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for key in self._due_keys:
                pipe.execute_command(command, key.removesuffix("due") + kind, *args)
            return list(await pipe.execute())

        return await self._translated(ask())

    async def ping(self) -> None:
        await self._translated(self._client.execute_command(*self._probe))

    async def _evaluate(self, keys: Sequence[str], step: str, *args: Any) -> Any:
        try:
            return await self._client.evalsha(self._sha, len(keys), *keys, step, *args)
        except self._no_script:  # a fresh server, or one that was flushed
            return await self._client.eval(self._script, len(keys), *keys, step, *args)

    async def _translated(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except FAILURES as exc:
            raise QueueUnavailable(
                f"Redis (the queue) does not answer as it should: {type(exc).__name__}:"
                f" {str(exc)[:200]}. See that it runs, has room, and that redis.url is right"
            ) from exc


def pairs(row: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Members with their scores: flat in the older protocol, in pairs in the newer one."""
    if row and isinstance(row[0], list | tuple):
        return [(name, score) for name, score in row]
    return list(zip(row[::2], row[1::2], strict=True))
