"""What becomes of work that failed."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.delivery import Verdict
from gateway.core.errors import ExtractorUnavailable, StoreUnavailable, Unreadable
from gateway.core.verdict import verdict


def judged(error: Exception, tries: int = 0, **fields: Any) -> Verdict:
    usual: dict[str, Any] = {"max_tries": 5, "waited_s": 0.0, "now": 1000.0, "dice": 0.5}
    return verdict(error, tries=tries, **{**usual, **fields})


def test_a_fault_of_the_batch_is_tried_ever_further_apart_and_then_buried() -> None:
    error = ExtractorUnavailable("no usable answer", counts_as_try=True)
    waits = [judged(error, tries).retry_at - 1000 for tries in range(4)]
    assert waits == [2, 4, 8, 16]
    assert all(judged(error, tries).counts_as_try for tries in range(4))
    assert judged(error, 4).action == "bury"


def test_a_part_that_is_away_is_waited_for_however_long() -> None:
    for error in (
        StoreUnavailable("away"),
        ExtractorUnavailable("503", counts_as_try=False),
    ):
        verdict = judged(error, tries=99, waited_s=100_000)
        assert (verdict.action, verdict.counts_as_try) == ("retry", False)
        assert verdict.retry_at == 1060


def test_what_an_upstream_asked_to_wait_is_waited_at_least() -> None:
    error = ExtractorUnavailable("429", counts_as_try=False, retry_after_s=120)
    assert judged(error, dice=0.0).retry_at == 1120
    assert judged(error, dice=1.0).retry_at == 1150


def test_retries_are_spread() -> None:
    error = StoreUnavailable("away")
    assert judged(error, dice=0.0).retry_at < judged(error, dice=1.0).retry_at


def test_the_longest_wait_between_tries_is_ten_minutes() -> None:
    error = ExtractorUnavailable("x", counts_as_try=True)
    assert judged(error, tries=30, max_tries=100).retry_at - 1000 == 600


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("the user said: secret"), "ValueError"),
        (Unreadable("damaged"), "Unreadable: damaged"),
        (ExtractorUnavailable("500", counts_as_try=False), "ExtractorUnavailable: 500"),
    ],
)
def test_a_reason_never_quotes_what_a_foreign_error_says(error: Exception, reason: str) -> None:
    assert judged(error).reason == reason
