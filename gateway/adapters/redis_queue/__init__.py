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
    rule:<t>        hash    when this user falls due, as its app has it; characters waiting; the
                            stamp, which names what is pending and changes whenever that does
    batch:<t>       hash    ids, token, until (0: given back), retry_at, tries, first, plan
    returned:<t>    list    dead letters that were retried, to be batches again as they were
    size:<t>        string  bytes of exchanges and plans, whatever their state
    letters:<t>     hash    dead letter → JSON; and its plan
    seen:<t>        zset    id → when it was accepted; forgotten after `SEEN_S`
    cut:<t>         zset    the same of those whose answer was not complete, and has not come since
    gone:<t>        string  the tenant was erased
    end:<token>     string  how a lease ended  } kept a minute, for a call that is
    claim:<id>      string  what a claim got   } repeated since its answer was lost
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import structlog

from gateway.adapters.redis_queue.held import Placed
from gateway.adapters.redis_queue.letters import Letters
from gateway.adapters.redis_queue.opening import HEADER, accepted_at, hidden, opened, sealed
from gateway.adapters.redis_queue.pending import Pending
from gateway.adapters.redis_queue.room import Room
from gateway.adapters.redis_queue.steps import Steps
from gateway.config import ExtractionSettings, QueueSettings
from gateway.core.delivery import Plan
from gateway.core.errors import LeaseLost, OverBudget, OwnerGone, Unavailable, Unreadable
from gateway.core.exchange import Exchange, completing
from gateway.core.identity import Owner
from gateway.core.memory import Instant
from gateway.core.wire import NEWER, plan_from_bytes, plan_to_bytes
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
CHARACTERS_A_TOKEN: Final = 4
HINT_S: Final = 0.25

_LOST: Final = "the worker that held it was lost each time (out of memory, killed, or too slow)"
_DAMAGED: Final = "what is stored of it cannot be read: damaged, or its key is another one"


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
        self._steps = Steps(client, namespace)
        self._cipher = cipher
        self._by_tenant = by_tenant
        self._settings = settings
        self._extraction_for = extraction_for
        self._room = Room(self._steps, settings)
        self._letters = Letters(self._steps, cipher, by_tenant)
        self._pending = Pending(self._steps, cipher)
        self._hints: list[tuple[Instant, int]] = []
        self._hinted_at: Instant = 0.0
        self._looking = asyncio.Lock()

    # --- producers -------------------------------------------------------------------------

    async def put(self, owner: Owner, exchange: Exchange, *, now: Instant) -> bool:
        """Accept an exchange; False where one of this id was accepted before (a retry).

        One whose answer was cut off or failed gives way to one of the same id that is complete:
        while nothing is decided about it in its place (who has it leased loses the lease), after
        that as an exchange of its own that completes it. Raises OwnerGone, OverBudget,
        QueueUnavailable.
        """
        id = hidden(owner, exchange.id)
        record = sealed(self._cipher, owner, id, exchange)
        await self._room.check(len(record))
        rule = self._extraction_for(owner.app)
        drops = self._pending.drops
        code, *told = await self._steps.of(
            owner.tenant,
            "put",
            id,
            repr(exchange.at),
            repr(now),
            exchange.size,
            int(exchange.outcome == "complete"),
            record,
            rule.idle_s,
            rule.max_wait_s,
            rule.max_batch_tokens * CHARACTERS_A_TOKEN,
            rule.max_batch_exchanges,
            self._settings.max_user_pending,
            self._settings.max_user_bytes,
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
        if code == -3:
            raise OverBudget(
                f"queue.max_user_bytes: {self._settings.max_user_bytes} bytes of this user would be"
                " exceeded (dead letters included). See that a worker runs and its extractor"
                " answers, and retry what is dead"
            )
        if code == 3:
            return await self.put(owner, completing(exchange), now=now)
        if code == 1:
            self._room.taken(len(record))
            number, before, stamp = told
            placed = Placed.of(exchange.at, number, id, HEADER.size + len(record), exchange)
            self._pending.added(owner.tenant, placed, before=before, stamp=stamp, drops=drops)
        return bool(code)

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
            answer = await self._steps.at(
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
        return min((due for due, _ in await self._steps.tops()), default=None)

    async def _due_partition(self, now: Instant) -> int | None:
        """A partition where somebody is due, the longest overdue first.

        One look at all of them serves the leases after it: what comes later falls due later.
        """
        async with self._looking:
            if not self._hints or abs(now - self._hinted_at) > HINT_S:
                self._hints = [top for top in await self._steps.tops() if top[0] <= now]
                self._hinted_at = now
                heapify(self._hints)
            return heappop(self._hints)[1] if self._hints else None

    async def _opened(self, answer: Sequence[Any], until: Instant, now: Instant) -> Lease | None:
        tenant, token, tries, sealed_plan, *pairs = answer
        since = min(map(accepted_at, pairs[1::2]), default=now)
        lease = Lease(tenant.decode(), int(token), until, (), int(tries), since=since)
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
                exchanges.append(opened(self._cipher, owner, id.decode(), record))
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
            _log.error("exchanges_buried", reason=_DAMAGED, count=len(damaged))
            await self._steps.held(lease, "bury", _DAMAGED, repr(now), *damaged)
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
        await self._steps.held(lease, "extend", repr(until))
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
        await self._steps.held(lease, "keep_plan", sealed)

    async def done(self, lease: Lease, *, now: Instant) -> None:
        """Remove exactly what was leased, and its plan. Raises LeaseLost."""
        await self._steps.held(lease, "done", repr(now))

    async def give_back(
        self, lease: Lease, *, retry_at: Instant, reason: str, counts_as_try: bool
    ) -> None:
        """Return the work, the same batch, to fall due at `retry_at`. Raises LeaseLost."""
        await self._steps.held(
            lease, "give_back", repr(retry_at), _text(reason), int(counts_as_try)
        )
        self._hints.clear()

    async def split(
        self, lease: Lease, keep: int, *, retry_at: Instant, reason: str, tries: int
    ) -> None:
        """Return the work as two batches, the first of `keep` exchanges, in their order and before
        all else that waits; both with `tries` behind them. Raises LeaseLost, also where a plan
        was kept: it is one for all."""
        await self._steps.held(lease, "split", keep, repr(retry_at), _text(reason), tries)
        self._hints.clear()

    async def bury(self, lease: Lease, *, reason: str, now: Instant) -> None:
        """Dead-letter the leased work, whole, with its plan. Raises LeaseLost."""
        await self._steps.held(lease, "bury", _text(reason), repr(now))

    # --- what is known of one user ---------------------------------------------------------

    async def pending(self, owner: Owner, *, limit: int = 50) -> list[Exchange]:
        """What this user said that is not distilled yet (leased work included), newest last.

        The newest of it, bounded by `limit` and `PENDING_BYTES`. The same objects each time, for
        as long as they are held.
        """
        return await self._pending.newest(owner, limit)

    async def erase(self, tenant: str) -> dict[str, int]:
        """Remove pending, leased, planned and dead work of a tenant and refuse more of it."""
        self._pending.drop(tenant)
        counts = await self._steps.of(tenant, "erase", GONE_S)
        return dict(zip(("pending", "leased", "dead", "plans"), map(int, counts), strict=True))

    def let_go(self, tenant: str) -> None:
        """Hold none of this tenant's opened exchanges."""
        self._pending.drop(tenant)

    async def count(self, tenant: str) -> int:
        """What of a tenant is still in the queue, in any state."""
        return int(await self._steps.of(tenant, "count"))

    # --- what operators see ----------------------------------------------------------------

    async def status(self, *, now: Instant) -> QueueStatus:
        totals, due_users = await asyncio.gather(self._steps.totals(), self._steps.overdue(now))
        pending = sum(row.pending for row in totals)
        oldest = min((row.since for row in totals if row.since is not None), default=now)
        return QueueStatus(
            pending=pending,
            leased=sum(row.leased for row in totals),
            dead=sum(row.dead for row in totals),
            oldest_s=max(0.0, now - oldest),
            bytes=sum(row.bytes for row in totals),
            due_users=due_users,
        )

    async def dead(self, *, limit: int = 100) -> list[DeadLetter]:
        """Dead letters, newest first."""
        return await self._letters.dead(limit=limit)

    async def retry(self, id: str | None = None, *, now: Instant) -> int:
        """Put one dead letter, or all, back in line with all their tries; how many exchanges."""
        count = await self._letters.retry(id, now=now)
        self._hints.clear()
        return count

    async def ping(self) -> None:
        await self._steps.ping()

    async def close(self) -> None:
        """Nothing of its own is open: the client is its maker's to close."""


def _text(reason: str) -> bytes:
    return reason[:500].encode("utf-8", "replace")
