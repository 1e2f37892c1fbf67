"""The queue: each user's pending exchanges in Redis, leased to one worker at a time.

Every step is one Lua script (`lua/queue.lua`), so that a process may die between any two. A
user's exchanges wait in the order of their times until the user falls due (idle time, age,
size); a worker then leases the earliest of them as one batch, which stays the same batch, with
its tries and its plan, until it is done or buried. New exchanges wait behind it.

What Redis holds in clear are tenants, sizes and times. Exchanges, plans and even the ids of
exchanges (derived from what was said) are sealed or keyed with the owner's key.

Keys, all below `<namespace>:{p<n>}:`, n being the tenant's partition: one slot of a cluster.

    due             zset    tenant → when a worker is to look at it: batch due, or lease over
    oldest          zset    tenant → since when its oldest exchange waits
    counts          hash    pending, leased, dead, bytes; token, seq: the last ones given
    dead            zset    dead letter → when it was buried
    exchange:<t>    hash    id → header and sealed exchange; all of them, whatever their state
    waiting:<t>     zset    sequence number and id → the exchange's own time; not in a batch
    accepted:<t>    zset    id → when it was accepted; not in a batch
    rule:<t>        hash    when this user falls due, as its app has it; characters waiting
    batch:<t>       hash    ids, token, until (0: given back), retry_at, tries, first, plan
    returned:<t>    list    dead letters that were retried, to be batches again as they were
    letters:<t>     hash    dead letter → JSON; and its plan
    seen:<t>        zset    id → when it was accepted; forgotten after `SEEN_S`
    gone:<t>        string  the tenant was erased
    end:<token>     string  how a lease ended  } kept a minute, for a call that is
    claim:<id>      string  what a claim got   } repeated since its answer was lost
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import structlog

from gateway.adapters.redis_queue.held import Held, Placed
from gateway.config import ExtractionSettings, QueueSettings
from gateway.core.delivery import Plan
from gateway.core.errors import (
    LeaseLost,
    OverBudget,
    OwnerGone,
    QueueUnavailable,
    Unavailable,
    Unreadable,
)
from gateway.core.exchange import Exchange
from gateway.core.identity import PARTITIONS, Owner, partition_of
from gateway.core.memory import Instant
from gateway.core.wire import (
    NEWER,
    exchange_from_bytes,
    exchange_to_bytes,
    plan_from_bytes,
    plan_to_bytes,
)
from gateway.ports import Cipher, DeadLetter, Lease, QueueStatus

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

_log = structlog.get_logger("gateway.queue")

SEEN_S: Final = 7 * 86_400
"""How long an accepted id is remembered, so that a client's retry is not a second exchange."""
SEEN_MOST: Final = 10_000
GONE_S: Final = 90 * 86_400
"""How long an erased tenant is refused here. The directory knows no such tenant for ever."""
PENDING_BYTES: Final = 256 * 1024
"""What recall reads of the pending at most: chat waits for it."""
CHARACTERS_A_TOKEN: Final = 4
EVERY: Final = 2**31
ROOM_S: Final = 1.0
HINT_S: Final = 0.25

_HEADER: Final = Struct(">dddIB")
"""As the script writes it: at, accepted, sequence number, characters, complete."""
_LOST: Final = "the worker that held it was lost each time (out of memory, killed, or too slow)"
_DAMAGED: Final = "what is stored of it cannot be read: damaged, or its key is another one"

T = TypeVar("T")


class RedisQueue:
    """The port `ExchangeQueue` over Redis 6.2 or later, Valkey, or a cluster of them.

    `client` answers with bytes and belongs to whoever made it; its timeouts bound every call.
    `by_tenant` finds the owner of leased work (`Directory.by_tenant`); where there is none any
    more, that work is dropped. `extraction_for` gives an app's batching.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        cipher: Cipher,
        by_tenant: Callable[[str], Awaitable[Owner | None]],
        settings: QueueSettings,
        extraction_for: Callable[[str], ExtractionSettings],
        namespace: str = "mg",
    ) -> None:
        from redis.asyncio.cluster import RedisCluster
        from redis.exceptions import NoScriptError, RedisError

        self._client: Any = client
        self._clustered = isinstance(client, RedisCluster)
        self._no_script = NoScriptError
        self._foreign = (RedisError, OSError)
        self._script = Path(__file__).parents[1].joinpath("lua", "queue.lua").read_bytes()
        self._sha = hashlib.sha1(self._script, usedforsecurity=False).hexdigest()
        self._due_keys = [f"{namespace}:{{p{n}}}:due" for n in range(PARTITIONS)]
        self._cipher = cipher
        self._by_tenant = by_tenant
        self._settings = settings
        self._extraction_for = extraction_for
        self._room = _Room()
        self._held_open = Held()
        self._hints: list[tuple[Instant, int]] = []
        self._hinted_at: Instant = 0.0
        self._looking = asyncio.Lock()

    # --- producers -------------------------------------------------------------------------

    async def put(self, owner: Owner, exchange: Exchange, *, now: Instant) -> bool:
        """Accept an exchange; False where one of this id was accepted before (a retry).

        One whose answer was cut off or failed gives way, while it waits, to one of the same
        id that is complete. Raises OwnerGone, OverBudget, QueueUnavailable.
        """
        id = _hidden(owner, exchange.id)
        sealed = self._cipher.seal(owner, exchange_to_bytes(exchange), f"exchange:{id}")
        await self._check_room(len(sealed))
        rule = self._extraction_for(owner.app)
        code = await self._step(
            owner.tenant,
            "put",
            id,
            repr(exchange.at),
            repr(now),
            exchange.size,
            int(exchange.outcome == "complete"),
            sealed,
            rule.idle_s,
            rule.max_wait_s,
            rule.max_batch_tokens * CHARACTERS_A_TOKEN,
            rule.max_batch_exchanges,
            self._settings.max_user_pending,
            SEEN_S,
            SEEN_MOST,
        )
        if code == -1:
            raise OwnerGone("this user was erased; what was said before is not kept")
        if code == -2:
            raise OverBudget(
                f"queue.max_user_pending: {self._settings.max_user_pending} exchanges of this"
                " user wait already. See that a worker runs and its extractor answers"
            )
        if code == 1:
            self._room.exchanges += 1
            self._room.bytes += len(sealed)
        return bool(code)

    async def _check_room(self, size: int) -> None:
        """The bounds that no single slot can see: counted anew each second and before a no.

        While one put counts, others go by what was counted last: many come within that time.
        """
        room, bounds = self._room, self._settings
        clock = asyncio.get_running_loop().time
        full = room.exchanges >= bounds.max_pending or room.bytes + size > bounds.max_bytes
        if not full and (room.counting or clock() - room.counted_at < ROOM_S):
            return
        room.counting = True
        try:
            totals = await self._totals()
        finally:
            room.counting = False
        room.exchanges = sum(row.pending + row.leased for row in totals)
        room.bytes = sum(row.bytes for row in totals)
        room.counted_at = clock()
        if room.exchanges >= bounds.max_pending:
            raise OverBudget(
                f"queue.max_pending: {room.exchanges} exchanges wait already. See that workers"
                " run and their extractor answers, or raise the bound"
            )
        if room.bytes + size > bounds.max_bytes:
            raise OverBudget(
                f"queue.max_bytes: {room.bytes} bytes wait already (dead letters included). See"
                " that workers run, retry what is dead, or raise the bound"
            )

    # --- workers ---------------------------------------------------------------------------

    async def lease(self, worker: str, *, now: Instant) -> Lease | None:
        """The user that fell due first, or None; nothing is waited for.

        A batch whose holder was lost comes again, as it was, with one try more; after its
        last it is dead-lettered here. Raises QueueUnavailable, Unavailable where the owner
        cannot be looked up, and Unreadable for what only a newer program can read (it is
        given back).
        """
        until = now + self._settings.lease_s
        while (partition := await self._due_partition(now)) is not None:
            answer = await self._step_at(
                partition,
                "lease",
                f"{worker}:{secrets.token_hex(8)}",
                repr(now),
                repr(until),
                self._settings.max_tries,
                _LOST,
            )
            if not answer:
                continue  # somebody else was quicker
            if (next_due := float(answer[0])) <= now:
                heappush(self._hints, (next_due, partition))
            if (lease := await self._opened(answer[1:], until, now)) is not None:
                return lease
        return None

    async def next_due(self) -> Instant | None:
        """When the next user falls due (or has: then it lies in the past); None: nothing waits.

        An idle worker sleeps until then, or a quarter of a second where that is sooner.
        """
        return min((due for due, _ in await self._tops()), default=None)

    async def _due_partition(self, now: Instant) -> int | None:
        """A partition where somebody is due, the longest overdue first.

        One look at all of them serves the leases after it: what comes later falls due later.
        """
        async with self._looking:
            if not self._hints or abs(now - self._hinted_at) > HINT_S:
                self._hints = [top for top in await self._tops() if top[0] <= now]
                self._hinted_at = now
                heapify(self._hints)
            return heappop(self._hints)[1] if self._hints else None

    async def _tops(self) -> list[tuple[Instant, int]]:
        """(when its first user falls due, partition) of each partition that has any.

        One script where one server holds all slots: 0.3 ms. A cluster refuses scripts across
        slots, and its pipelines refuse scripts: 64 plain commands, 1 ms.
        """
        if not self._clustered:
            tops = await self._translated(self._evaluate(self._due_keys, "tops"))
            return [(float(top), n) for n, top in enumerate(tops) if top]
        rows = await self._of_each("ZRANGE", "due", 0, 0, "WITHSCORES")
        return [(float(row[0][1]), n) for n, row in enumerate(map(_pairs, rows)) if row]

    async def _opened(self, answer: Sequence[Any], until: Instant, now: Instant) -> Lease | None:
        tenant, token, tries, sealed_plan, *pairs = answer
        lease = Lease(tenant.decode(), int(token), until, (), int(tries))
        try:
            owner = await self._by_tenant(lease.tenant)
        except Unavailable:
            await self._release(lease, now)
            raise
        if owner is None:
            await self.erase(lease.tenant)
            return None
        exchanges, damaged = [], []
        for id, record in zip(pairs[::2], pairs[1::2], strict=True):
            try:
                exchanges.append(self._exchange(owner, id.decode(), record))
            except Unreadable as exc:
                await self._raise_newer(exc, lease, now)
                damaged.append(id)
        plan = None
        if sealed_plan:
            try:
                plan = plan_from_bytes(self._cipher.open(owner, sealed_plan, "plan"))
            except Unreadable as exc:
                await self._raise_newer(exc, lease, now)
                damaged, exchanges = [], []
                await self.bury(lease, reason=_DAMAGED, now=now)
        if damaged:
            _log.error("stored exchanges cannot be read; dead-lettered", count=len(damaged))
            await self._held(lease, "bury", _DAMAGED, repr(now), *damaged)
        return replace(lease, exchanges=tuple(exchanges), plan=plan) if exchanges else None

    async def _raise_newer(self, exc: Unreadable, lease: Lease, now: Instant) -> None:
        if exc.code == NEWER:
            await self._release(lease, now + self._settings.lease_s)
            raise exc

    async def _release(self, lease: Lease, retry_at: Instant) -> None:
        await self.give_back(lease, retry_at=retry_at, reason="not begun", counts_as_try=False)

    async def extend(self, lease: Lease, *, now: Instant) -> Lease:
        """Heartbeat: hold it `queue.lease_s` from now. Raises LeaseLost."""
        until = now + self._settings.lease_s
        await self._held(lease, "extend", repr(until))
        return replace(lease, until=until)

    async def keep_plan(self, lease: Lease, plan: Plan) -> None:
        """Keep the decision beside the work, before it is applied.

        The first plan stands: keeping another raises LeaseLost, as being too late does. After
        QueueUnavailable it may or may not be kept; apply nothing, the redelivery knows.
        """
        owner = await self._by_tenant(lease.tenant)
        if owner is None:
            raise LeaseLost("the user of this work was erased meanwhile")
        sealed = self._cipher.seal(owner, plan_to_bytes(plan), "plan")
        await self._held(lease, "keep_plan", sealed)

    async def done(self, lease: Lease, *, now: Instant) -> None:
        """Remove exactly what was leased, and its plan. Raises LeaseLost."""
        await self._held(lease, "done", repr(now))

    async def give_back(
        self, lease: Lease, *, retry_at: Instant, reason: str, counts_as_try: bool
    ) -> None:
        """Return the work, the same batch, to fall due at `retry_at`. Raises LeaseLost."""
        await self._held(lease, "give_back", repr(retry_at), _text(reason), int(counts_as_try))
        self._hints.clear()

    async def bury(self, lease: Lease, *, reason: str, now: Instant) -> None:
        """Dead-letter the leased work, whole, with its plan. Raises LeaseLost."""
        await self._held(lease, "bury", _text(reason), repr(now))

    async def _held(self, lease: Lease, step: str, *args: Any) -> None:
        if not await self._step(lease.tenant, step, lease.token, *args):
            raise LeaseLost("this work is not held any more: its lease ran out, or it was erased")

    # --- what is known of one user ---------------------------------------------------------

    async def pending(self, owner: Owner, *, limit: int = 50) -> list[Exchange]:
        """What this user said that is not distilled yet (leased work included), newest last.

        The newest of it, bounded by `limit` and `PENDING_BYTES`.
        """
        tenant = owner.tenant
        found = await self._pending(owner, limit, self._held_open.newest(tenant))
        if found is None:  # something that is not held any more was taken to be
            found = await self._pending(owner, limit, 0) or {}
        self._held_open.keep(tenant, found)
        return [exchange for *_, exchange in sorted(found.values(), key=lambda each: each[:2])]

    async def _pending(self, owner: Owner, limit: int, upto: int) -> dict[str, Placed] | None:
        """Those that are complete and were numbered `upto` or before come as ids alone."""
        held = self._held_open.of(owner.tenant)
        pairs = await self._step(owner.tenant, "pending", limit, PENDING_BYTES, upto)
        found: dict[str, Placed] = {}
        for hidden, record in zip(pairs[::2], pairs[1::2], strict=True):
            id = hidden.decode()
            if not record:
                if id not in held:
                    return None
                found[id] = held[id]
                continue
            try:
                at, _, sequence, *_ = _HEADER.unpack_from(record)
                found[id] = (at, sequence, self._exchange(owner, id, record))
            except Unreadable:
                continue  # a worker will come upon it and say so; recall has no use for it
        return found

    async def erase(self, tenant: str) -> dict[str, int]:
        """Remove pending, leased, planned and dead work of a tenant and refuse more of it."""
        self._held_open.drop(tenant)
        counts = await self._step(tenant, "erase", GONE_S)
        return dict(zip(("pending", "leased", "dead", "plans"), map(int, counts), strict=True))

    def let_go(self, tenant: str) -> None:
        """Hold none of this tenant's opened exchanges."""
        self._held_open.drop(tenant)

    async def count(self, tenant: str) -> int:
        """What of a tenant is still in the queue, in any state."""
        return int(await self._step(tenant, "count"))

    # --- what operators see ----------------------------------------------------------------

    async def status(self, *, now: Instant) -> QueueStatus:
        totals = await self._totals()
        pending = sum(row.pending for row in totals)
        oldest = min((row.since for row in totals if row.since is not None), default=now)
        return QueueStatus(
            pending=pending,
            leased=sum(row.leased for row in totals),
            dead=sum(row.dead for row in totals),
            oldest_s=max(0.0, now - oldest),
            bytes=sum(row.bytes for row in totals),
        )

    async def dead(self, *, limit: int = 100) -> list[DeadLetter]:
        """Dead letters, newest first."""
        found = []
        for id in await self._letters(limit):
            tenant = _tenant_of(id)
            told = await self._step(tenant, "letter", id, own=False)
            if told is None:
                continue  # retried or erased since it was listed
            letter = json.loads(told)
            found.append(
                DeadLetter(
                    id=id,
                    tenant=tenant,
                    at=float(letter["at"]),
                    reason=letter["reason"],
                    tries=int(letter["tries"]),
                    exchange_ids=await self._ids_in(tenant, letter["ids"].split()),
                )
            )
        return found

    async def retry(self, id: str | None = None, *, now: Instant) -> int:
        """Put one dead letter, or all, back in line with all their tries; how many exchanges.

        Each comes back as the batch that it was, with the plan that it had.
        """
        ids = [id] if id is not None else await self._letters(EVERY)
        count = 0
        for each in reversed(ids):  # in the order in which they were buried
            count += int(await self._step(_tenant_of(each), "retry", each, repr(now), own=False))
        self._hints.clear()
        return count

    async def _letters(self, limit: int) -> list[str]:
        rows = await self._of_each("ZREVRANGE", "dead", 0, limit - 1, "WITHSCORES")
        letters = sorted(
            ((float(at), name) for row in rows for name, at in _pairs(row)), reverse=True
        )
        return [name.decode() for _, name in letters[:limit]]

    async def _ids_in(self, tenant: str, hidden: Sequence[str]) -> tuple[str, ...]:
        """The ids as their makers know them; none where nobody can read them any more."""
        owner = await self._by_tenant(tenant)
        if owner is None:
            return ()
        ids = []
        for id, record in zip(hidden, await self._step(tenant, "records", *hidden), strict=True):
            try:
                ids.append(self._exchange(owner, id, record or b"").id)
            except Unreadable:
                continue  # it is listed all the same, without its id
        return tuple(ids)

    async def _totals(self) -> list[_Totals]:
        if self._clustered:
            counts = await self._of_each("HMGET", "counts", "pending", "leased", "dead", "bytes")
            oldest = await self._of_each("ZRANGE", "oldest", 0, 0, "WITHSCORES")
            rows = [
                (*count, first[0][1] if first else None)
                for count, first in zip(counts, map(_pairs, oldest), strict=True)
            ]
        else:
            rows = await self._translated(self._evaluate(self._due_keys, "totals"))
        totals = []
        for *numbers, since in rows:
            pending, leased, dead, size = (int(n or 0) for n in numbers)
            totals.append(_Totals(pending, leased, dead, size, float(since) if since else None))
        return totals

    # --- Redis -----------------------------------------------------------------------------

    async def ping(self) -> None:
        await self._translated(self._client.ping())

    async def close(self) -> None:
        """Nothing of its own is open: the client is its maker's to close."""

    def _exchange(self, owner: Owner, id: str, record: bytes) -> Exchange:
        sealed = record[_HEADER.size :]
        return exchange_from_bytes(self._cipher.open(owner, sealed, f"exchange:{id}"))

    async def _step(self, tenant: str, step: str, *args: Any, own: bool = True) -> Any:
        """Run a step in the tenant's slot; `own` steps take the tenant as first argument."""
        first = (tenant,) if own else ()
        return await self._step_at(partition_of(tenant), step, *first, *args)

    async def _step_at(self, partition: int, step: str, *args: Any) -> Any:
        return await self._translated(self._evaluate([self._due_keys[partition]], step, *args))

    async def _evaluate(self, keys: Sequence[str], step: str, *args: Any) -> Any:
        try:
            return await self._client.evalsha(self._sha, len(keys), *keys, step, *args)
        except self._no_script:  # a fresh server, or one that was flushed
            return await self._client.eval(self._script, len(keys), *keys, step, *args)

    async def _of_each(self, command: str, kind: str, *args: Any) -> list[Any]:
        """One plain reading command for each partition's key of a kind; the answers, in order."""

        async def ask() -> list[Any]:
            pipe = self._client.pipeline(transaction=False)
            for key in self._due_keys:
                pipe.execute_command(command, key.removesuffix("due") + kind, *args)
            return list(await pipe.execute())

        return await self._translated(ask())

    async def _translated(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except self._foreign as exc:
            raise QueueUnavailable(
                f"Redis (the queue) does not answer as it should: {type(exc).__name__}:"
                f" {str(exc)[:200]}. See that it runs, has room, and that redis.url is right"
            ) from exc


class _Totals(NamedTuple):
    """One partition's counts, and since when its oldest exchange waits."""

    pending: int
    leased: int
    dead: int
    bytes: int
    since: Instant | None


class _Room:
    """What the queue held when last counted, and what this process has added since."""

    def __init__(self) -> None:
        self.exchanges = 0
        self.bytes = 0
        self.counted_at = float("-inf")
        self.counting = False


def _hidden(owner: Owner, exchange_id: str) -> str:
    """An exchange's name in Redis: its own id is a fingerprint of words, which can be guessed."""
    known = exchange_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(known, key=owner.key, digest_size=16).hexdigest()


def _pairs(row: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Members with their scores: flat in the older protocol, in pairs in the newer one."""
    if row and isinstance(row[0], list | tuple):
        return [(name, score) for name, score in row]
    return list(zip(row[::2], row[1::2], strict=True))


def _tenant_of(letter: str) -> str:
    return letter.rpartition("-")[0]


def _text(reason: str) -> bytes:
    return reason[:500].encode("utf-8", "replace")
