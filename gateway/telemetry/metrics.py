"""Every figure that the gateway publishes, by name; one registry of its own per process."""

from __future__ import annotations

from prometheus_client import CollectorRegistry


class Metrics:
    """All counters, gauges and histograms, made once and passed to whoever counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
