"""A breaker: closed, open, half-open, and how it gets from one to the other."""

from __future__ import annotations

from gateway.core.breaker import FAILURES, FIRST_PAUSE_S, MAX_PAUSE_S, PROBE_S, Breaker


def opened(at: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(at, begun=at)
    return breaker


def test_a_few_failures_do_not_open_it() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0, begun=0.0)
    assert breaker.allows(0.0)
    assert not breaker.is_open


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.failed(0.0, begun=0.0)
        breaker.succeeded()
    assert breaker.allows(0.0)


def test_calls_that_were_under_way_together_count_as_one_failure() -> None:
    breaker = Breaker()
    for late in range(FAILURES + 11):
        breaker.failed(0.15 + late / 1000, begun=late / 1000)
    assert not breaker.is_open


def test_many_at_once_open_it_when_each_round_of_them_fails() -> None:
    breaker = Breaker()
    for round_ in range(FAILURES):
        assert not breaker.is_open
        for _ in range(16):
            breaker.failed((round_ + 1) * 0.15, begun=round_ * 0.15)
    assert breaker.is_open


def test_a_stream_of_calls_that_all_come_late_opens_it() -> None:
    breaker, begun = Breaker(), 0.0
    while not breaker.is_open:
        begun += 0.01
        assert begun < FAILURES * 0.17
        breaker.failed(begun + 0.15, begun=begun)


def test_a_failure_right_after_a_success_is_the_first_one_again() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(1.0, begun=1.0)
    breaker.succeeded()
    breaker.failed(1.1, begun=0.9)
    for _ in range(FAILURES - 2):
        breaker.failed(1.2, begun=1.2)
    assert not breaker.is_open
    breaker.failed(1.3, begun=1.3)
    assert breaker.is_open


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
        breaker.failed(now, begun=now)
        pause = min(pause * 2, MAX_PAUSE_S)
    assert pause == MAX_PAUSE_S


def test_a_call_from_before_it_opened_does_not_lengthen_the_pause() -> None:
    breaker = opened(100.0)
    breaker.failed(100.2, begun=99.9)
    assert breaker.allows(100.0 + FIRST_PAUSE_S)


def test_a_call_from_before_it_opened_does_not_speak_for_the_probe() -> None:
    breaker = opened(100.0)
    now = 100.0 + FIRST_PAUSE_S
    assert breaker.allows(now)
    breaker.failed(now + 0.1, begun=99.9)
    breaker.failed(now + 0.2, begun=now)  # the probe itself
    assert not breaker.allows(now + 0.1 + 2 * FIRST_PAUSE_S)
    assert breaker.allows(now + 0.2 + 2 * FIRST_PAUSE_S)


def test_a_probe_that_is_never_heard_of_again_makes_room_for_another() -> None:
    breaker = opened(100.0)
    assert breaker.allows(101.0)
    assert breaker.allows(101.0 + PROBE_S)
