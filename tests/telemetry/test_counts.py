"""What several processes have counted, as one."""

from __future__ import annotations

import pytest

from gateway.telemetry.counts import WINDOW_S, Counting, Counts, added, quantile_ms
from gateway.telemetry.metrics import Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_counts_are_told_by_their_labels_and_added_up(metrics: Metrics) -> None:
    other = Metrics()
    metrics.recalls.labels("ok", "full").inc(3)
    other.recalls.labels("ok", "full").inc()
    other.recalls.labels("partial", "lexical").inc()
    both = added([Counting(m, began=at).counts(100.0) for m, at in ((metrics, 7.0), (other, 5.0))])
    assert both.of("recalls") == {"ok full": 4.0, "partial lexical": 1.0}
    assert both.sum("recalls") == 5.0
    assert (both.since, both.processes) == (5.0, 2)


def test_what_is_sent_is_what_arrives(metrics: Metrics) -> None:
    metrics.requests.labels("chat", "2xx").inc()
    metrics.recall_seconds.observe(0.003)
    counts = Counting(metrics, began=1.0, machine="a").counts(2.0, spooled=4)
    assert Counts.from_bytes(counts.to_bytes()) == counts
    with pytest.raises(TypeError):
        Counts.from_bytes(b'{"of": "another version"}')


def test_latencies_are_those_of_the_last_minutes_of_every_process(metrics: Metrics) -> None:
    counting = Counting(metrics, began=0.0)
    metrics.recall_seconds.observe(2.0)
    counting.counts(0.0)
    metrics.recall_seconds.observe(0.004)
    assert sum(counting.counts(WINDOW_S - 1).recall.values()) == 1
    slow = Metrics()
    slow.recall_seconds.observe(0.9)
    both = added([counting.counts(WINDOW_S), Counting(slow, began=0.0).counts(WINDOW_S)])
    assert sum(both.recall.values()) == 2
    assert quantile_ms(both.recall, 0.25) == pytest.approx(3.5)
    assert quantile_ms(both.recall, 1.0) == 1000.0


def test_processes_of_one_machine_share_a_spool(metrics: Metrics) -> None:
    machines = ("a", "a", "b")
    told = [Counting(metrics, began=0.0, machine=m).counts(1.0, spooled=3) for m in machines]
    assert sum(added(told).spooled.values()) == 6


def test_without_a_latency_there_is_no_quantile() -> None:
    assert quantile_ms({"0.1": 0.0, "inf": 0.0}, 0.5) is None
    assert quantile_ms({"0.1": 0.0, "inf": 2.0}, 0.5) == 100.0
