"""The figures: sound names, units and labels, held for all of them at once."""

from __future__ import annotations

import re

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import PREFIX, Metrics


def _own() -> dict[str, Counter | Gauge | Histogram]:
    return {
        name: value
        for name, value in vars(Metrics()).items()
        if isinstance(value, Counter | Gauge | Histogram)
    }


def test_names_are_lower_case_words_with_the_gateways_prefix() -> None:
    for figure in _own().values():
        assert re.fullmatch(rf"{PREFIX}(_[a-z]+)+", figure._name)


def test_times_are_in_seconds_and_sizes_in_bytes() -> None:
    for figure in _own().values():
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)\b", figure._name)
        if isinstance(figure, Histogram) and "duration" in figure._name:
            assert figure._name.endswith("_seconds")


def test_no_label_takes_its_values_from_a_caller() -> None:
    for figure in _own().values():
        assert not {"user", "app", "model", "session", "path", "tenant"} & set(figure._labelnames)


def test_every_figure_says_what_it_counts() -> None:
    for figure in _own().values():
        assert figure._documentation.strip().endswith((".", "…"))


def test_what_is_rendered_reads_back_as_prometheus_text() -> None:
    metrics = Metrics()
    metrics.requests.labels("chat", "2xx").inc()
    metrics.recall_seconds.observe(0.012)
    families = {f.name: f for f in text_string_to_metric_families(metrics.render().decode())}
    assert families["memory_gateway_requests"].type == "counter"
    assert families["memory_gateway_requests"].samples[0].value == 1
    assert families["memory_gateway_recall_duration_seconds"].type == "histogram"
    assert families["memory_gateway_build_info"].samples[0].labels["version"]


def test_two_gateways_in_one_process_count_apart() -> None:
    one, two = Metrics(), Metrics()
    one.erasures.inc()
    assert b"memory_gateway_erasures_total 1.0" in one.render()
    assert b"memory_gateway_erasures_total 0.0" in two.render()


def test_what_is_counted_by_its_labels_at_once_is_the_same_figure() -> None:
    metrics = Metrics()
    metrics.requests_by["chat/completions", "2xx"].inc()
    metrics.requests.labels("chat/completions", "2xx").inc()
    metrics.request_seconds_by["own"].observe(0.01)
    told = metrics.render().decode()
    assert 'memory_gateway_requests_total{route="chat/completions",status="2xx"} 2.0' in told
    assert 'memory_gateway_request_duration_seconds_count{route="own"} 1.0' in told
