"""A breaker: closed, open, half-open, and how it gets from one to the other."""

from __future__ import annotations

from gateway.core.breaker import FAILURES, FIRST_PAUSE_S, MAX_PAUSE_S, PROBE_S, Breaker


def opened(at: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(at)
    return breaker


def test_a_few_failures_do_not_open_it() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert breaker.allows(0.0)
    assert not breaker.is_open


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.allows(0.0)


def test_failures_in_a_row_open_it_for_a_pause() -> None:
    breaker = opened(100.0)
    assert breaker.is_open
    assert not breaker.allows(100.0)
    assert not breaker.allows(100.0 + FIRST_PAUSE_S - 0.01)


def test_after_the_pause_one_call_passes_and_only_one() -> None:
    breaker = opened(100.0)
    assert breaker.allows(101.0)
    assert not breaker.allows(101.0)
    assert not breaker.allows(102.0)


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = opened(100.0)
    assert breaker.allows(101.0)
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.allows(101.0)
    assert breaker.allows(101.0)


def test_each_probe_that_fails_doubles_the_pause_up_to_a_bound() -> None:
    breaker, now, pause = opened(100.0), 100.0, FIRST_PAUSE_S
    for _ in range(8):
        assert not breaker.allows(now + pause - 0.01)
        now += pause
        assert breaker.allows(now)
        breaker.failed(now)
        pause = min(pause * 2, MAX_PAUSE_S)
    assert pause == MAX_PAUSE_S


def test_a_call_from_before_it_opened_does_not_lengthen_the_pause() -> None:
    breaker = opened(100.0)
    breaker.failed(100.2)
    assert breaker.allows(100.0 + FIRST_PAUSE_S)


def test_a_probe_that_is_never_heard_of_again_makes_room_for_another() -> None:
    breaker = opened(100.0)
    assert breaker.allows(101.0)
    assert breaker.allows(101.0 + PROBE_S)
