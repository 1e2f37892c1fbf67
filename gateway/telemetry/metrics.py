"""Every figure that the gateway publishes, by name; one registry of its own per process.

Names follow Prometheus: base units (seconds, bytes), `_total` on counters, what is counted
last. Labels take their values from closed sets in the code, never from a request: a user,
an app or a model name that a caller chooses would grow the registry without bound. Nothing
here is read back to decide anything. A new figure is made here and nowhere else;
`docs/observe.md` says what to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from gateway import __version__

M = TypeVar("M", Counter, Histogram)

PREFIX = "memory_gateway"
TOGETHER: Final[bool] = values.ValueClass._multiprocess  # nothing public tells
"""Several processes on one port (`serve --workers`): values stand in files that all of them read,
so that whichever is asked answers for all. The supervisor chooses it, by the variable
PROMETHEUS_MULTIPROC_DIR, which counts when prometheus_client is imported."""

QUICK_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
"""Buckets for what happens before the upstream is asked; 0.15 s is the default deadline."""
SLOW_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Buckets for what waits on a language model."""
COUNTS = (0, 1, 2, 5, 10, 20, 40, 80)
TOKENS = (0, 50, 100, 200, 400, 800, 1600, 3200)
SCORES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0)


class Children(dict[Any, M]):
    """What a figure counts under each set of its labels, looked up once: `labels` takes a lock and
    0.6 µs, and a chat has nine. One label is a key by itself, several are a tuple."""

    def __init__(self, of: M) -> None:
        super().__init__()
        self._of: M = of

    def __missing__(self, labels: str | tuple[str, ...]) -> M:
        named = (labels,) if isinstance(labels, str) else labels
        child: M = self._of.labels(*named)
        self[labels] = child
        return child


class Metrics:
    """All counters, gauges and histograms, made once and passed to whoever counts."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
        self._requests()
        self._recall()
        self._remembering()
        self._models()
        self._parts()
        # Those that each chat counts in.
        self.requests_by = Children(self.requests)
        self.request_seconds_by = Children(self.request_seconds)
        self.recalls_by = Children(self.recalls)
        self.recall_stage_seconds_by = Children(self.recall_stage_seconds)
        self.handovers_by = Children(self.handovers)

    def render(self) -> bytes:
        """All figures in Prometheus' text format (`content_type`): of all processes that share
        the port. There, figures of a process (`process_…`) are left out: they would be any one's.
        """
        if not TOGETHER:
            return generate_latest(self.registry)
        every = CollectorRegistry()
        MultiProcessCollector(every)  # type: ignore[no-untyped-call]
        return generate_latest(every)

    # --- HTTP ------------------------------------------------------------------------------

    def _requests(self) -> None:
        self.requests = self._counter(
            "requests", "Requests answered, by route and status class.", ["route", "status"]
        )
        self.request_seconds = self._histogram(
            "request_duration_seconds",
            "From a request's first byte in to its last byte out.",
            SLOW_S,
            ["route"],
        )
        self.open_requests = self._gauge(
            "open_requests", "Requests being served now.", together="livesum"
        )
        self.refused_requests = self._counter(
            "refused_requests", "Requests that the gateway itself refused.", ["code"]
        )
        self.skipped_memory = self._counter(
            "memory_skipped_requests",
            "Chats served without memory, by reason: a bound, a body that is not read here, …",
            ["reason"],
        )
        self.upstream_first_byte_seconds = self._histogram(
            "upstream_first_byte_seconds",
            "From forwarding a request to the head of the upstream's answer.",
            SLOW_S,
        )
        self.upstream_failures = self._counter(
            "upstream_failures", "Upstream calls without a whole answer.", ["kind"]
        )
        self.upstream_retries = self._counter(
            "upstream_plain_retries",
            "Enriched requests that the upstream refused and that were sent again as they came.",
            ["status"],
        )

    # --- recall ----------------------------------------------------------------------------

    def _recall(self) -> None:
        self.recalls = self._counter(
            "recalls", "Recalls by how they ended and how far they came.", ["status", "stage"]
        )
        self.recall_seconds = self._histogram(
            "recall_duration_seconds", "A recall as a whole, bounded by its deadline.", QUICK_S
        )
        self.recall_stage_seconds = self._histogram(
            "recall_stage_duration_seconds", "One stage of a recall.", QUICK_S, ["stage"]
        )
        self.recall_hits = self._counter(
            "recalls_with_memories", "Recalls that brought at least one memory."
        )
        self.recall_score = self._histogram(
            "recall_best_score", "Score of the best memory of a recall.", SCORES
        )
        self.made_facts = self._gauge(
            "facts_made", "Facts made this month and last, over all processes; an estimate."
        )
        self.never_injected = self._gauge(
            "facts_never_injected", "Those of them that were never injected; an estimate."
        )
        self.injected_memories = self._histogram(
            "injected_memories", "Memories put into one request.", COUNTS
        )
        self.injected_tokens = self._histogram(
            "injected_tokens", "Estimated tokens put into one request.", TOKENS
        )
        self.added_seconds = self._histogram(
            "added_latency_seconds",
            "What memory added to a request before it went upstream.",
            QUICK_S,
        )

    # --- remembering -----------------------------------------------------------------------

    def _remembering(self) -> None:
        self.handovers = self._counter(
            "handovers",
            "Exchanges handed over: queued, spooled, duplicate, dropped.",
            ["result"],
        )
        self.queue_exchanges = self._gauge(
            "queue_exchanges", "Exchanges in the queue: pending, leased, dead.", ["state"]
        )
        self.queue_oldest_seconds = self._gauge(
            "queue_oldest_seconds", "Age of the oldest exchange that waits."
        )
        self.queue_due_users = self._gauge(
            "queue_due_users", "Users that fell due and are with no worker."
        )
        self.queue_bytes = self._gauge("queue_bytes", "Size of the queue in Redis.")
        self.spool_exchanges = self._gauge(
            "spool_exchanges", "Exchanges that wait on this machine's disk for Redis."
        )
        self.batches = self._counter(
            "distilled_batches",
            "Batches by what became of them: done, retried, waiting (for a budget), split, buried,"
            " lost.",
            ["result"],
        )
        self.distil_seconds = self._histogram(
            "distil_duration_seconds", "One batch from lease to done.", SLOW_S
        )
        self.distil_lag_seconds = self._histogram(
            "distil_lag_seconds",
            "From what a user said to its memory being written.",
            (1, 5, 10, 20, 30, 60, 120, 300, 900, 3600, 86_400),
        )
        self.facts = self._counter(
            "extracted_facts", "Facts that were written, by action.", ["action"]
        )
        self.dropped_facts = self._counter(
            "extraction_dropped_facts", "Facts that a guard refused, by reason.", ["reason"]
        )
        self.skipped_facts = self._counter(
            "extraction_skipped",
            "What gave nothing to write: exchanges that are small talk (trivial), facts that"
            " are known, forgotten or outdone already, later turns that no model could read again"
            " (later_words), by reason.",
            ["reason"],
        )
        self.quarantined = self._counter(
            "quarantined_memories",
            "Memories put aside for a person to review, by reason.",
            ["reason"],
        )
        self.superseded_soon = self._counter(
            "memories_superseded_soon", "Facts replaced within a day of their making."
        )
        self.written_turns = self._counter("written_turns", "Turns that were kept.")
        self.expired = self._counter("expired_memories", "Memories removed at their end.")
        self.swept = self._counter(
            "swept_records", "Left-overs that a sweep mended: orphans, vectors owed.", ["kind"]
        )
        self.erasures = self._counter("erasures", "Users erased.")

    # --- models ----------------------------------------------------------------------------

    def _models(self) -> None:
        self.embedder_calls = self._counter(
            "embedder_calls", "Calls of the embedder: ok, failed, loading, none.", ["use", "result"]
        )
        self.embedder_seconds = self._histogram(
            "embedder_duration_seconds", "One call of the embedder.", QUICK_S, ["use"]
        )
        self.embedded_texts = self._counter("embedded_texts", "Texts embedded.", ["use"])
        self.query_cache = self._counter(
            "query_cache_lookups", "Look-ups of query embeddings: hit, miss.", ["result"]
        )
        self.extractor_calls = self._counter(
            "extractor_calls", "Calls of the extractor: ok, failed, refused.", ["result"]
        )
        self.extractor_seconds = self._histogram(
            "extractor_duration_seconds", "One call of the extractor.", SLOW_S
        )
        self.extractor_tokens = self._counter(
            "extractor_tokens", "Tokens that the extractor's upstream counted.", ["direction"]
        )

    # --- parts -----------------------------------------------------------------------------

    def _parts(self) -> None:
        self.part_up = self._gauge(
            "part_up",
            "1 while a part answers: upstream, store, queue, embedder, …",
            ["part"],
        )
        self.breaker_open = self._gauge(
            "breaker_open",
            "1 while a part is not asked because it failed.",
            ["part"],
            together="livemax",
        )
        self.tasks = self._gauge("tasks", "Tasks of the event loop: they end with their work.")
        build = self._gauge("build_info", "Always 1; the version as a label.", ["version"])
        build.labels(__version__).set(1)

    # --- making them -----------------------------------------------------------------------

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        together: Literal["livemostrecent", "livesum", "livemax"] = "livemostrecent",
    ) -> Gauge:
        """`together`: what several processes' values come to; most are of what they share."""
        return Gauge(
            f"{PREFIX}_{name}", text, labels, registry=self.registry, multiprocess_mode=together
        )

    def _histogram(
        self, name: str, text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(
            f"{PREFIX}_{name}", text, labels, buckets=tuple(buckets), registry=self.registry
        )
