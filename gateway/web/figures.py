"""The figures of a running gateway in one look: for `/metrics` and for the console's overview.

What Redis knows (the queue, what was never injected) is asked at most once in two seconds,
however often these figures are. Counters and histograms on `/metrics` are this process's own,
since its start. The overview adds up what all processes told of themselves (`flows/telling`);
where nobody tells, there is only this one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from gateway import __version__
from gateway.core.errors import GatewayError, Unavailable
from gateway.core.identity import DEFAULT_APP
from gateway.core.memory import Instant, rfc3339
from gateway.flows import telling
from gateway.ports import Deployment, QueueStatus
from gateway.telemetry.counts import Counting, Counts, added, quantile_ms
from gateway.web.health import Readiness

CACHED_S: Final = 2.0
PATIENCE_S: Final = 2.0
"""Who asks for figures gets them, also while Redis hangs: Prometheus gives up after ten seconds."""


class Figures:
    """Reads what `Metrics` has counted, and keeps its gauges fresh."""

    def __init__(self, deployment: Deployment, readiness: Readiness) -> None:
        self._deployment = deployment
        self._readiness = readiness
        self._queue: QueueStatus | None = None
        self._spooled = 0
        self._facts: tuple[int, int] = (0, 0)
        self._until = 0.0
        self._asking = asyncio.Lock()
        self._counting = Counting(deployment.metrics, began=deployment.clock())

    async def refresh(self) -> None:
        """Ask Redis what the gauges say. What is away keeps its last value."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now < self._until:
                return
            self._until = now + CACHED_S
            try:
                async with asyncio.timeout(PATIENCE_S):
                    self._queue, self._facts = await asyncio.gather(
                        self._queues(), self._never_injected()
                    )
            except TimeoutError:
                self._queue = None
            with suppress(GatewayError, OSError):
                self._spooled = sum(
                    [await services.spool.count() for services in self._deployment.all_services()]
                )
        self._set_gauges()

    async def _queues(self) -> QueueStatus | None:
        """All queues as one; None where one cannot be asked."""
        at = self._deployment.clock()
        try:
            states = [await s.queue.status(now=at) for s in self._deployment.all_services()]
        except Unavailable:
            return None
        return QueueStatus.of_all(states)

    async def _never_injected(self) -> tuple[int, int]:
        made = never = 0
        for app in (DEFAULT_APP, *self._deployment.settings.apps):
            tally = self._deployment.services_for(app).tally
            if tally is None:
                continue
            try:
                counts = await tally.never_injected(app, now=self._deployment.clock())
            except Unavailable:
                return self._facts
            made, never = made + counts[0], never + counts[1]
        return made, never

    def _set_gauges(self) -> None:
        metrics = self._deployment.metrics
        if self._queue is not None:
            metrics.queue_exchanges.labels("pending").set(self._queue.pending)
            metrics.queue_exchanges.labels("leased").set(self._queue.leased)
            metrics.queue_exchanges.labels("dead").set(self._queue.dead)
            metrics.queue_oldest_seconds.set(self._queue.oldest_s)
            metrics.queue_bytes.set(self._queue.bytes)
            metrics.queue_due_users.set(self._queue.due_users)
        metrics.spool_exchanges.set(self._spooled)
        metrics.tasks.set(len(asyncio.all_tasks()))
        metrics.made_facts.set(self._facts[0])
        metrics.never_injected.set(self._facts[1])

    async def overview(self) -> dict[str, Any]:
        """Everything that the console's first page shows."""
        await self.refresh()
        parts = await self._readiness.checks()
        now = self._deployment.clock()
        c = await self._counts(now)
        recalls = c.of("recalls")
        made, never = self._facts
        return {
            "at": rfc3339(now),
            "since": rfc3339(c.since),
            "processes": c.processes,
            "version": __version__,
            "draining": self._deployment.draining,
            "traffic": {
                "requests": c.sum("requests"),
                "by_route": c.of("requests"),
                "open": c.sum("open_requests"),
            },
            "recall": {
                "count": sum(recalls.values()),
                "by_status": recalls,
                "with_memories": c.sum("recall_hits"),
                "p50_ms": quantile_ms(c.recall, 0.5),
                "p95_ms": quantile_ms(c.recall, 0.95),
                "added_p50_ms": quantile_ms(c.added, 0.5),
                "added_p95_ms": quantile_ms(c.added, 0.95),
                "scores": [[float(edge), n] for edge, n in c.scores.items() if edge != "inf"],
            },
            "memory": {
                "facts": c.of("facts"),
                "turns": c.sum("written_turns"),
                "quarantined": c.of("quarantined"),
                "refused": c.of("dropped_facts"),
                "superseded_soon": c.sum("superseded_soon"),
                "expired": c.sum("expired"),
                "erasures": c.sum("erasures"),
                "made": made,
                "never_injected": never,
            },
            "queue": None if self._queue is None else self._queue_of(self._queue, c),
            "failures": {
                "upstream": c.of("upstream_failures"),
                "sent_again_plain": c.of("upstream_retries"),
                "refused": c.of("refused_requests"),
                "without_memory": c.of("skipped_memory"),
                "handovers": {k: n for k, n in c.of("handovers").items() if k == "dropped"},
                "batches": {k: n for k, n in c.of("batches").items() if k != "done"},
            },
            "parts": parts,
        }

    async def _counts(self, now: Instant) -> Counts:
        """What all processes have counted; this one alone where no process tells."""
        told = await telling.told(self._deployment.services_for(DEFAULT_APP))
        return added(told or [self._counting.counts(now, spooled=self._spooled)])

    def _queue_of(self, status: QueueStatus, counts: Counts) -> dict[str, float]:
        return {
            "pending": status.pending,
            "leased": status.leased,
            "dead": status.dead,
            "oldest_s": round(status.oldest_s, 1),
            "bytes": status.bytes,
            "spooled": sum(counts.spooled.values()),
        }
