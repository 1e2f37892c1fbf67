"""Whether what was measured did what it is measured for: recalls that were whole, with something
in them. A store that is away would make any gateway quick."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

LEAST_WHOLE = 0.95
"""The share of recalls that must be whole; the rest may have met their deadline under full load."""
LEAST_INJECTED = 2.0
"""Memories a request, on average. The questions are made of two words of one memory."""


@dataclass(frozen=True)
class Recalls:
    """Counted since a gateway's start."""

    all: float
    whole: float
    injected: float


def recalls(url: str) -> Recalls:
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        told = answer.read().decode()
    found = {"all": 0.0, "whole": 0.0, "injected": 0.0}
    for family in text_string_to_metric_families(told):
        for sample in family.samples:
            if sample.name == "memory_gateway_recalls_total":
                found["all"] += sample.value
                found["whole"] += sample.value if sample.labels["status"] == "ok" else 0.0
            elif sample.name == "memory_gateway_injected_memories_sum":
                found["injected"] += sample.value
    return Recalls(**found)


def checked(before: Recalls, after: Recalls) -> dict[str, float]:
    """The share of whole recalls between the two, and what each request had injected.

    Raises RuntimeError where that is not what the figures beside it are told to be of.
    """
    asked = after.all - before.all
    whole = (after.whole - before.whole) / max(1.0, asked)
    injected = (after.injected - before.injected) / max(1.0, asked)
    if whole < LEAST_WHOLE or injected < LEAST_INJECTED:
        raise RuntimeError(
            f"of {asked:.0f} recalls {whole:.1%} were whole and {injected:.1f} memories were"
            " injected on average: this is no measurement of a gateway with memory"
        )
    return {"whole": whole, "injected": injected}
