"""What processes have counted, as plain numbers that can be sent and added up: for the console.

Prometheus adds up what it scrapes; the console has no Prometheus. Each process says what it has
counted since it began, and what fell into the buckets of its latencies in the last minutes;
`added` makes one of several. Nothing here names a user or a request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import orjson
from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from gateway.core.memory import Instant
from gateway.telemetry.metrics import Metrics

WINDOW_S: Final = 300.0
"""Latencies are those of the last five minutes."""
SAMPLE_S: Final = 5.0

COUNTED: Final = (
    "requests",
    "open_requests",
    "recalls",
    "recall_hits",
    "facts",
    "written_turns",
    "quarantined",
    "dropped_facts",
    "superseded_soon",
    "expired",
    "erasures",
    "upstream_failures",
    "upstream_retries",
    "refused_requests",
    "skipped_memory",
    "handovers",
    "batches",
)
"""Counters of `Metrics` (and one gauge) that are told by their labels."""

Values = dict[str, float]
Buckets = dict[str, float]
"""How many fell into each bucket, by its upper edge as text; not cumulative."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What `processes` processes have counted; the first of them began at `since`.

    `spooled` is by machine, whose processes share a spool.
    """

    since: Instant
    processes: int = 1
    values: Mapping[str, Values] = field(default_factory=dict)
    scores: Buckets = field(default_factory=dict)
    recall: Buckets = field(default_factory=dict)
    added: Buckets = field(default_factory=dict)
    spooled: Values = field(default_factory=dict)

    def of(self, name: str) -> Values:
        return dict(self.values.get(name, {}))

    def sum(self, name: str) -> float:
        return sum(self.values.get(name, {}).values())

    def to_bytes(self) -> bytes:
        return orjson.dumps(asdict(self))

    @staticmethod
    def from_bytes(raw: bytes) -> Counts:
        """Raises ValueError, TypeError for what another version of the program wrote."""
        return Counts(**orjson.loads(raw))


class Counting:
    """Reads one process's metrics; its window is right if it is asked every few seconds."""

    def __init__(self, metrics: Metrics, *, began: Instant, machine: str = "") -> None:
        self._metrics = metrics
        self._began = began
        self._machine = machine
        kept = int(WINDOW_S / SAMPLE_S) + 1
        self._samples: deque[tuple[Instant, Buckets, Buckets]] = deque(maxlen=kept)

    def counts(self, now: Instant, *, spooled: int = 0) -> Counts:
        m = self._metrics
        recall, added = self._recent(now, _buckets(m.recall_seconds), _buckets(m.added_seconds))
        return Counts(
            since=self._began,
            values={name: found for name in COUNTED if (found := _values(getattr(m, name)))},
            scores=_buckets(m.recall_score),
            recall=recall,
            added=added,
            spooled={self._machine: spooled} if spooled else {},
        )

    def _recent(self, now: Instant, *present: Buckets) -> list[Buckets]:
        """The counts of the last minutes: now, less what they were then."""
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()
        before: Sequence[Buckets] = self._samples[0][1:] if self._samples else ({}, {})
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, present[0], present[1]))
        recent = [
            {edge: n - then.get(edge, 0.0) for edge, n in counts.items()}
            for counts, then in zip(present, before, strict=True)
        ]
        # Nothing new since somebody first looked: what there was before says more than nothing.
        return [r if any(r.values()) else p for r, p in zip(recent, present, strict=True)]


def added(counts: Iterable[Counts]) -> Counts:
    """All of them as one. At least one is needed."""
    every = list(counts)
    return Counts(
        since=min(one.since for one in every),
        processes=sum(one.processes for one in every),
        values={
            name: _sums(one.values.get(name, {}) for one in every)
            for name in COUNTED
            if any(name in one.values for one in every)
        },
        scores=_sums(one.scores for one in every),
        recall=_sums(one.recall for one in every),
        added=_sums(one.added for one in every),
        # Each process of a machine counts the same files, at slightly different times.
        spooled={
            machine: max(one.spooled.get(machine, 0) for one in every)
            for machine in {machine for one in every for machine in one.spooled}
        },
    )


def quantile_ms(buckets: Buckets, share: float) -> float | None:
    """By straight lines within buckets; what lies above the last edge counts as that edge."""
    total = sum(buckets.values())
    if not total:
        return None
    wanted, seen, low = share * total, 0.0, 0.0
    for edge, count in sorted((float(edge), n) for edge, n in buckets.items()):
        if count and seen + count >= wanted:
            if edge == float("inf"):
                break
            return round((low + (edge - low) * (wanted - seen) / count) * 1000, 2)
        seen += count
        low = edge if edge != float("inf") else low
    return round(low * 1000, 2)


def _sums(parts: Iterable[Values]) -> Values:
    sums: Values = {}
    for part in parts:
        for name, n in part.items():
            sums[name] = sums.get(name, 0.0) + n
    return sums


def _values(metric: MetricWrapperBase) -> Values:
    """Values by their labels, joined; without what only says when it began."""
    return {
        " ".join(sample.labels.values()): sample.value
        for family in metric.collect()
        for sample in family.samples
        if not sample.name.endswith("_created") and sample.value
    }


def _buckets(histogram: Histogram) -> Buckets:
    found: Buckets = {}
    before = 0.0
    for family in histogram.collect():
        for sample in family.samples:
            if sample.name.endswith("_bucket"):
                found[str(float(sample.labels["le"]))] = sample.value - before
                before = sample.value
    return found
