"""The figures of a running gateway in one look: for `/metrics` and for the console's overview.

What Redis knows (the queue, what was never injected) is asked at most once in two seconds,
however often these figures are. Counters and histograms are this process's own, since its start;
with several processes Prometheus adds them up, the console shows the one that answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from gateway import __version__
from gateway.core.errors import Unavailable
from gateway.core.memory import rfc3339
from gateway.ports import Deployment, QueueStatus
from gateway.web.health import Readiness

CACHED_S: Final = 2.0
WINDOW_S: Final = 300.0
"""Latencies are those of the last five minutes, as far as anybody looked that long."""

Buckets = dict[float, float]


class Figures:
    """Reads what `Metrics` has counted, and keeps its gauges fresh."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._readiness = Readiness(deployment)
        self._queue: QueueStatus | None = None
        self._spooled = 0
        self._facts: tuple[int, int] = (0, 0)
        self._until = 0.0
        self._asking = asyncio.Lock()
        self._began = deployment.clock()
        self._samples: deque[tuple[float, Mapping[str, Buckets]]] = deque(maxlen=400)

    async def refresh(self) -> None:
        """Ask Redis what the gauges say. What is away keeps its last value."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now < self._until:
                return
            self._until = now + CACHED_S
            self._queue = await self._queues()
            self._facts = await self._never_injected()
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
        return QueueStatus(
            pending=sum(s.pending for s in states),
            leased=sum(s.leased for s in states),
            dead=sum(s.dead for s in states),
            oldest_s=max((s.oldest_s for s in states), default=0.0),
            bytes=sum(s.bytes for s in states),
        )

    async def _never_injected(self) -> tuple[int, int]:
        made = never = 0
        for app in ("default", *self._deployment.settings.apps):
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
        metrics.spool_exchanges.set(self._spooled)
        metrics.made_facts.set(self._facts[0])
        metrics.never_injected.set(self._facts[1])

    async def overview(self) -> dict[str, Any]:
        """Everything that the console's first page shows."""
        await self.refresh()
        parts = await self._readiness.checks()
        m = self._deployment.metrics
        now = self._deployment.clock()
        recent = self._recent(now, {"recall": m.recall_seconds, "added": m.added_seconds})
        recalls = _by_labels(m.recalls)
        made, never = self._facts
        return {
            "at": rfc3339(now),
            "since": rfc3339(self._began),
            "version": __version__,
            "draining": self._deployment.draining,
            "traffic": {
                "requests": _sum(m.requests),
                "by_route": _by_labels(m.requests),
                "open": _sum(m.open_requests),
            },
            "recall": {
                "count": sum(recalls.values()),
                "by_status": recalls,
                "with_memories": _sum(m.recall_hits),
                "p50_ms": _quantile_ms(recent["recall"], 0.5),
                "p95_ms": _quantile_ms(recent["recall"], 0.95),
                "added_p50_ms": _quantile_ms(recent["added"], 0.5),
                "added_p95_ms": _quantile_ms(recent["added"], 0.95),
                "scores": list(_buckets(m.recall_score).items())[:-1],
            },
            "memory": {
                "facts": _by_labels(m.facts),
                "turns": _sum(m.written_turns),
                "quarantined": _by_labels(m.quarantined),
                "refused": _by_labels(m.dropped_facts),
                "superseded_soon": _sum(m.superseded_soon),
                "expired": _sum(m.expired),
                "erasures": _sum(m.erasures),
                "made": made,
                "never_injected": never,
            },
            "queue": None if self._queue is None else _queue(self._queue, self._spooled),
            "failures": {
                "upstream": _by_labels(m.upstream_failures),
                "sent_again_plain": _by_labels(m.upstream_retries),
                "refused": _by_labels(m.refused_requests),
                "without_memory": _by_labels(m.skipped_memory),
                "handovers": {k: n for k, n in _by_labels(m.handovers).items() if k == "dropped"},
                "batches": {k: n for k, n in _by_labels(m.batches).items() if k != "done"},
            },
            "parts": parts,
        }

    def _recent(self, now: float, histograms: Mapping[str, Histogram]) -> Mapping[str, Buckets]:
        """Each histogram's counts of the last minutes: now, less what they were then."""
        current = {name: _buckets(histogram) for name, histogram in histograms.items()}
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()
        before = self._samples[0][1] if self._samples else {}
        if not self._samples or now - self._samples[-1][0] >= 1.0:
            self._samples.append((now, current))
        recent = {
            name: {edge: n - before.get(name, {}).get(edge, 0.0) for edge, n in counts.items()}
            for name, counts in current.items()
        }
        # Nothing new since somebody first looked: what there was before says more than nothing.
        return {name: c if any(c.values()) else current[name] for name, c in recent.items()}


def _queue(status: QueueStatus, spooled: int) -> dict[str, float]:
    return {
        "pending": status.pending,
        "leased": status.leased,
        "dead": status.dead,
        "oldest_s": round(status.oldest_s, 1),
        "bytes": status.bytes,
        "spooled": spooled,
    }


def _by_labels(metric: MetricWrapperBase) -> dict[str, float]:
    """Values by their labels, joined; without what only says when it began."""
    return {
        " ".join(sample.labels.values()): sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created") and sample.value
    }


def _sum(metric: MetricWrapperBase) -> float:
    return sum(_by_labels(metric).values())


def _buckets(histogram: Histogram) -> Buckets:
    """How many fell into each bucket, by its upper edge; not cumulative."""
    found: Buckets = {}
    before = 0.0
    for family in histogram.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                found[float(sample.labels["le"])] = sample.value - before
                before = sample.value
    return found


def _quantile_ms(buckets: Buckets, share: float) -> float | None:
    """By straight lines within buckets; what lies above the last edge counts as that edge."""
    total = sum(buckets.values())
    if not total:
        return None
    wanted, seen, low = share * total, 0.0, 0.0
    for edge, count in buckets.items():
        if count and seen + count >= wanted:
            if edge == float("inf"):
                return round(low * 1000, 2)
            return round((low + (edge - low) * (wanted - seen) / count) * 1000, 2)
        seen += count
        low = edge if edge != float("inf") else low
    return round(low * 1000, 2)
