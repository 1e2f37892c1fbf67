"""What is said, on its way: exchanges that wait to be distilled, and who works on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.delivery import Plan
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.core.memory import Instant


@dataclass(frozen=True, slots=True)
class Lease:
    """One user's pending work in one worker's hands until `until`.

    `token` fences: it grows with every lease of this tenant, and a call with an older one
    raises LeaseLost. `plan` is there where an earlier holder had already decided. `since` is when
    the first of the exchanges was accepted: one of a chat log was said long before.
    """

    tenant: str
    token: int
    until: Instant
    exchanges: tuple[Exchange, ...]
    tries: int
    plan: Plan | None = None
    since: Instant | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Work that could not be distilled, whole. `exchanges` is None where its owner is gone."""

    id: str
    tenant: str
    at: Instant
    reason: str
    tries: int
    exchange_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Counts of exchanges: waiting, in a worker's hands, dead; `oldest_s` is the age of the
    oldest one waiting; `bytes` their size in Redis; `due_users` how many users fell due and are
    with no worker: unlike `pending`, nothing that waits on purpose (a pause, a next try)."""

    pending: int
    leased: int
    dead: int
    oldest_s: float
    bytes: int
    due_users: int = 0

    @staticmethod
    def of_all(states: Sequence[QueueStatus]) -> QueueStatus:
        """Several queues as one: apps may have their own."""
        return QueueStatus(
            pending=sum(s.pending for s in states),
            leased=sum(s.leased for s in states),
            dead=sum(s.dead for s in states),
            oldest_s=max((s.oldest_s for s in states), default=0.0),
            bytes=sum(s.bytes for s in states),
            due_users=sum(s.due_users for s in states),
        )


class ExchangeQueue(Protocol):
    """Each user's pending exchanges, and who works on them. Raises QueueUnavailable."""

    async def put(self, owner: Owner, exchange: Exchange, *, now: Instant) -> bool:
        """Accept an exchange; False where one of this id was accepted before (a retry).

        One that is complete takes the place of one whose answer was not, whatever became of
        that. Raises OwnerGone where the tenant was erased, OverBudget at the queue's bounds.
        """
        ...

    async def lease(self, worker: str, *, now: Instant) -> Lease | None:
        """The user that fell due first, or None. Exchanges come in the order of their times,
        as many as a batch may hold."""
        ...

    async def next_due(self) -> Instant | None:
        """When the next user falls due (in the past: one is); None where nothing waits."""
        ...

    async def extend(self, lease: Lease, *, now: Instant) -> Lease:
        """Heartbeat: hold it longer. Raises LeaseLost."""
        ...

    async def keep_plan(self, lease: Lease, plan: Plan) -> None:
        """Keep the decision beside the work, before it is applied. Raises LeaseLost."""
        ...

    async def done(self, lease: Lease, *, now: Instant) -> None:
        """Remove exactly what was leased, and its plan. Raises LeaseLost."""
        ...

    async def give_back(
        self, lease: Lease, *, retry_at: Instant, reason: str, counts_as_try: bool
    ) -> None:
        """Return the work, to fall due at `retry_at`."""
        ...

    async def split(
        self, lease: Lease, keep: int, *, retry_at: Instant, reason: str, tries: int
    ) -> None:
        """Return the work as two batches, the first of `keep` exchanges, in order and before all
        else that waits, with `tries` behind them. Raises LeaseLost, also where a plan is kept."""
        ...

    async def bury(self, lease: Lease, *, reason: str, now: Instant) -> None:
        """Dead-letter the leased work, whole."""
        ...

    async def pending(self, owner: Owner, *, limit: int = 50) -> list[Exchange]:
        """What this user said that is not distilled yet (leased work included), newest last."""
        ...

    async def status(self, *, now: Instant) -> QueueStatus: ...

    async def dead(self, *, limit: int = 100) -> list[DeadLetter]: ...

    async def retry(self, id: str | None = None, *, now: Instant) -> int:
        """Put one dead letter, or all, back in line; how many exchanges."""
        ...

    async def erase(self, tenant: str) -> dict[str, int]:
        """Remove pending, leased, planned and dead work of a tenant and refuse more of it;
        counts by name."""
        ...

    def let_go(self, tenant: str) -> None:
        """Hold nothing for speed of a tenant that was erased, perhaps by another process."""
        ...

    async def count(self, tenant: str) -> int:
        """What of a tenant is still in the queue, in any state."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Spool(Protocol):
    """Exchanges on disk while Redis is away: append-only, checksummed, bounded."""

    async def append(self, owner: Owner, exchange: Exchange) -> None:
        """Raises OverBudget at the spool's bound."""
        ...

    async def drain(self, put: Callable[[Owner, Exchange], Any]) -> int:
        """Hand each spooled exchange to `put`, oldest first, and forget it once taken."""
        ...

    async def erase(self, tenant: str) -> int:
        """Raises SpoolUnavailable, as `count` does, where the disk does not let it."""
        ...

    async def count(self, tenant: str | None = None) -> int: ...
