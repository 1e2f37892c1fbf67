"""Remembering: one user's pending exchanges, from lease to done.

lease → whose it is → plan (kept before anything is written) → apply → done. Every step may be
the last one of this process: whoever takes the work next finds the plan, if there is one, and
applies it again. What fails goes back with a verdict; what a user said is never dropped but
where that user is no more.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from structlog.contextvars import bound_contextvars

from gateway.config import AppSettings
from gateway.core.batch import takes_back_at, tokens_to_extract
from gateway.core.delivery import Plan, Put
from gateway.core.errors import (
    ExtractorUnavailable,
    GatewayError,
    LeaseLost,
    OwnerGone,
    QueueUnavailable,
    Unavailable,
)
from gateway.core.identity import Owner
from gateway.core.memory import Instant
from gateway.core.verdict import verdict
from gateway.flows.applying import NOT_WAITED_FOR, apply
from gateway.flows.distil import plan_for
from gateway.flows.tasks import beside, ended
from gateway.flows.vectors import Vectors
from gateway.ports import Extractor, Lease, Services
from gateway.telemetry import tracing
from gateway.telemetry.logs import Outage, log
from gateway.telemetry.metrics import Metrics

HEARTBEATS: Final = 3
"""Heartbeats in the time of a lease: two may be lost."""
REST_S: Final = (1.0, 60.0)
"""How long an extractor that is away is left alone: doubled with each failure, within these."""

RESTING: Final = "resting"
OVER_BUDGET: Final = "over_budget"
WAITING: Final = frozenset({RESTING, OVER_BUDGET})
"""Codes of what was not asked at all: it is no failure of the extractor's."""

_log = log("remember")


class _Rest(NamedTuple):
    """How often an extractor failed in a row, until when it is left alone, and since when; whose
    work met that, and when somebody else's may try it: None where it said itself how long."""

    failures: int
    until: Instant
    noted: Instant
    met_by: frozenset[str] = frozenset()
    others_at: Instant | None = None


_NO_REST: Final = _Rest(0, 0.0, float("-inf"))


class Desk:
    """What a process keeps between batches: whom to ask, what to count, who is away.

    `extractor_for` gives an app's extractor (None: nothing is distilled); `settings_for` its
    settings; `dice` spreads retries. Plans of `at_once` users are written at a time to stores that
    this process alone writes to; servers, which an app may have of its own, take what comes.
    """

    def __init__(
        self,
        settings_for: Callable[[str], AppSettings],
        extractor_for: Callable[[str], Extractor | None],
        metrics: Metrics | None = None,
        dice: Callable[[], float] = random.random,
        at_once: int = 512,
    ) -> None:
        self.settings_for = settings_for
        self.extractor_for = extractor_for
        self.metrics = metrics or Metrics()
        self.dice = dice
        self.writing = asyncio.Semaphore(at_once)
        self._rests: dict[str, _Rest] = {}
        self._outages: dict[str, Outage] = {}

    def check_rest(self, extractor: Extractor, now: Instant, tenant: str = "") -> None:
        """Raises ExtractorUnavailable while this one is left alone after it failed.

        It may fail at some users' words alone. Theirs are tried first, as they wait longest, and
        would keep all others waiting: so one who has not met that yet may try it in between.
        """
        rest = self._rests.get(extractor.name)
        if rest is None or now >= rest.until:
            return
        until = rest.until
        if rest.others_at is not None and tenant not in rest.met_by:
            until = min(until, rest.others_at)
        if now >= until:
            pause = until - rest.noted
            self._rests[extractor.name] = rest._replace(noted=now, others_at=now + pause)
            return
        raise ExtractorUnavailable(
            f"{extractor.name} failed a moment ago and is left alone",
            counts_as_try=False,
            retry_after_s=until - now,
            code=RESTING,
        )

    def answered(self, extractor: Extractor) -> None:
        self._rests.pop(extractor.name, None)
        self._outage("extractor").recovered()

    def away(
        self,
        extractor: Extractor,
        error: ExtractorUnavailable,
        *,
        begun: Instant,
        now: Instant,
        tenant: str = "",
    ) -> None:
        """It failed for reasons that other batches will meet too. Calls that were under way when
        that was noted meet the same trouble: they prove nothing new."""
        if error.counts_as_try or error.code in WAITING:
            return
        known = self._rests.get(extractor.name, _NO_REST)
        met_by = known.met_by | {tenant}
        if begun < known.noted and error.retry_after_s is None:
            self._rests[extractor.name] = known._replace(met_by=met_by)
            return
        failures = known.failures + (begun >= known.noted)
        least, most = REST_S
        rest = max(min(most, least * 2.0 ** (failures - 1)), error.retry_after_s or 0.0)
        # One that hangs is not asked by one after the other: they would take every place there is.
        others_at = now + max(least, now - begun) if error.retry_after_s is None else None
        until = max(known.until, now + rest)
        self._rests[extractor.name] = _Rest(failures, until, now, met_by, others_at)

    def failed(self, error: Exception) -> None:
        """Say it once, not once a batch."""
        if isinstance(error, ExtractorUnavailable):
            if error.code not in WAITING:
                self._outage("extractor").failed(error.message)
        elif isinstance(error, Unavailable):
            self._outage(type(error).__name__).failed(error.message)
        else:
            # Only the name: the message of a foreign error may quote what it choked on.
            _log.error("batch_failed", error=type(error).__name__)

    def _outage(self, part: str) -> Outage:
        return self._outages.setdefault(part, Outage(_log, part))


async def remember_next(services: Services, desk: Desk, worker: str) -> bool:
    """Take the user who fell due first, if any, and see their exchanges remembered.

    False where nobody is due. Raises QueueUnavailable (and what `lease` raises) where the
    queue cannot be asked; every other failure is answered for here. Cancelled, it gives the
    work back.
    """
    lease = await services.queue.lease(worker, now=services.clock())
    if lease is None:
        return False
    # Around what becomes of it in the end too: which exchange was dead-lettered nobody could tell.
    with bound_contextvars(
        exchanges=[exchange.id for exchange in lease.exchanges],
        receipts=[exchange.receipt_id for exchange in lease.exchanges if exchange.receipt_id],
    ):
        await _taken(services, desk, lease)
    return True


async def _taken(services: Services, desk: Desk, lease: Lease) -> None:
    begun = time.perf_counter()
    heart = beside(_beat(services, desk, lease), "keep the lease")
    ids = [exchange.id for exchange in lease.exchanges]
    try:
        with tracing.span(
            "distil",
            "consumer",
            {"messaging.batch.message_count": len(ids), "memory.exchange_id": ids[0]},
            links=[exchange.trace for exchange in lease.exchanges],
        ):
            result = await _remembered(services, desk, lease)
    except LeaseLost:
        result = "lost"
        await _swept_if_gone(services, lease)
    except QueueUnavailable:
        desk.metrics.batches.labels("lost").inc()
        raise
    except asyncio.CancelledError:
        with suppress(GatewayError):
            await services.queue.give_back(
                lease, retry_at=services.clock(), reason="the worker ended", counts_as_try=False
            )
        raise
    except Exception as exc:  # noqa: BLE001
        # Whatever a batch does to the code that distils it must end in a verdict on that
        # batch: an error that escaped would stop the worker, and come again after its restart.
        result = await _judged(services, desk, lease, exc)
    finally:
        await ended(heart)
    desk.metrics.batches.labels(result).inc()
    desk.metrics.distil_seconds.observe(time.perf_counter() - begun)


async def _remembered(services: Services, desk: Desk, lease: Lease) -> str:
    owner = await services.directory.by_tenant(lease.tenant)
    if owner is None:
        raise OwnerGone("this user was erased; what was said before is not kept")
    vectors = Vectors()
    plan = lease.plan
    if plan is None and (early := _done_first(desk, lease, owner)):
        await services.queue.split(
            lease, early, retry_at=services.clock(), reason="in two steps", tries=lease.tries
        )
        return "split"
    if plan is None:
        plan = await _planned(services, desk, lease, owner, vectors)
        if plan.writes:
            await services.queue.keep_plan(lease, plan)
    if await services.directory.by_tenant(lease.tenant) is None:
        raise OwnerGone("this user was erased while the exchanges were distilled")
    in_turn = desk.writing if services.writers is None else NOT_WAITED_FOR
    await apply(services, owner, plan, vectors, in_turn=in_turn)
    await services.queue.done(lease, now=services.clock())
    await _swept_if_gone(services, lease)
    _count(desk, plan, lease, services.clock())
    await _tallied(services, owner, plan)
    _log.info("distilled", app=owner.app, writes=len(plan.writes))
    return "done"


def _done_first(desk: Desk, lease: Lease, owner: Owner) -> int | None:
    """How many exchanges are to be distilled before the others are looked at."""
    return takes_back_at(lease.exchanges) if desk.extractor_for(owner.app) is not None else None


async def _planned(
    services: Services, desk: Desk, lease: Lease, owner: Owner, vectors: Vectors
) -> Plan:
    settings = desk.settings_for(owner.app)
    extractor = desk.extractor_for(owner.app)
    now = services.clock()
    if extractor is None:
        return await plan_for(services, settings, None, owner, lease.exchanges, vectors, now=now)
    desk.check_rest(extractor, now, lease.tenant)
    await _within_budget(services, settings, owner, lease, now)
    begun = time.perf_counter()
    try:
        with tracing.span("plan", attributes={"memory.extractor": extractor.name}):
            plan = await plan_for(
                services, settings, extractor, owner, lease.exchanges, vectors, now=now
            )
    except ExtractorUnavailable as exc:
        desk.metrics.extractor_calls.labels("failed").inc()
        desk.away(extractor, exc, begun=now, now=services.clock(), tenant=lease.tenant)
        raise
    if "skipped.trivial" not in dict(plan.notes):
        desk.metrics.extractor_calls.labels("ok").inc()
        desk.metrics.extractor_seconds.observe(time.perf_counter() - begun)
        desk.answered(extractor)
    return plan


async def _within_budget(
    services: Services, settings: AppSettings, owner: Owner, lease: Lease, now: Instant
) -> None:
    """Raises ExtractorUnavailable where the app has spent its tokens of the day: work waits."""
    limit = settings.extraction.daily_token_budget
    if limit is None or services.budget is None:
        return
    wait_s = await services.budget.spend(
        owner.app, tokens_to_extract(sum(e.size for e in lease.exchanges)), limit, now=now
    )
    if wait_s > 0:
        raise ExtractorUnavailable(
            "extraction.daily_token_budget is spent; what was said waits until it is renewed",
            counts_as_try=False,
            retry_after_s=wait_s,
            code=OVER_BUDGET,
        )


# --- what may go wrong -------------------------------------------------------------------------


async def _judged(services: Services, desk: Desk, lease: Lease, error: Exception) -> str:
    """Give back, halve or bury what failed; what the queue itself cannot take, the lease's end
    will."""
    if isinstance(error, OwnerGone):
        with suppress(GatewayError):
            await services.queue.erase(lease.tenant)
            await services.store.erase(lease.tenant)
        return "lost"
    desk.failed(error)
    now = services.clock()
    owner = None
    with suppress(Unavailable):
        owner = await services.directory.by_tenant(lease.tenant)
    settings = desk.settings_for(owner.app if owner is not None else "")
    since = now if lease.since is None else lease.since
    judged = verdict(
        error,
        tries=lease.tries,
        max_tries=settings.queue.max_tries,
        waited_s=max(0.0, now - since),
        now=now,
        dice=desk.dice(),
        # A plan is one for the whole batch, and may be applied in part.
        exchanges=1 if lease.plan is not None else len(lease.exchanges),
    )
    try:
        if judged.action == "split":
            await services.queue.split(
                lease,
                judged.keep,
                retry_at=judged.retry_at,
                reason=judged.reason,
                tries=judged.tries,
            )
            return "split"
        if judged.action == "bury":
            await services.queue.bury(lease, reason=judged.reason, now=now)
            app = owner.app if owner is not None else None
            _log.error("batch_buried", app=app, reason=judged.reason)
            return "buried"
        await services.queue.give_back(
            lease,
            retry_at=judged.retry_at,
            reason=judged.reason,
            counts_as_try=judged.counts_as_try,
        )
    except (LeaseLost, QueueUnavailable):
        return "lost"
    over_budget = isinstance(error, ExtractorUnavailable) and error.code == OVER_BUDGET
    return "waiting" if over_budget else "retried"


async def _swept_if_gone(services: Services, lease: Lease) -> None:
    """Erased while we were writing: whatever went in goes again, now and not at the sweep."""
    with suppress(Unavailable):
        if await services.directory.by_tenant(lease.tenant) is None:
            await services.store.erase(lease.tenant)


async def _beat(services: Services, desk: Desk, lease: Lease) -> None:
    """Hold the lease while the work goes on; it ends with the work, or once it is lost."""
    pause = max(0.05, (lease.until - services.clock()) / HEARTBEATS)
    while True:
        await asyncio.sleep(pause)
        try:
            await services.queue.extend(lease, now=services.clock())
        except LeaseLost:
            return  # the next step that needs the lease finds out
        except QueueUnavailable as exc:
            desk.failed(exc)


# --- figures -----------------------------------------------------------------------------------


async def _tallied(services: Services, owner: Owner, plan: Plan) -> None:
    """Note which facts were made, to know later which of them were never used."""
    put = [w.memory for w in plan.writes if isinstance(w, Put)]
    made = [m.id for m in put if m.kind == "fact" and m.status == "active"]
    if services.tally is not None:
        with suppress(Unavailable):
            await services.tally.made(owner.app, made, now=services.clock())


def _count(desk: Desk, plan: Plan, lease: Lease, now: Instant) -> None:
    metrics = desk.metrics
    for note, count in plan.notes:
        kind, _, name = note.partition(".")
        if kind == "turns":
            metrics.written_turns.inc(count)
        elif kind == "superseded_soon":
            metrics.superseded_soon.inc(count)
        elif kind == "quarantined":
            metrics.quarantined.labels(name).inc(count)
        elif kind == "dropped":
            metrics.dropped_facts.labels(name).inc(count)
        elif kind == "skipped":
            metrics.skipped_facts.labels(name).inc(count)
        else:
            metrics.facts.labels(name).inc(count)
    for exchange in lease.exchanges:
        metrics.distil_lag_seconds.observe(max(0.0, now - exchange.at))
