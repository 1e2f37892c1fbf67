"""Wrong credentials are counted by address, and those who were in before stay in."""

from __future__ import annotations

import pytest

from gateway.core import attempts
from gateway.core.attempts import Attempts, network_of

NOON = 1_790_000_000.0
HERE, THERE = "192.0.2.1", "192.0.2.2"


def tired(host: str = HERE, most: int = 3) -> Attempts:
    """Of one address as many have failed as may, a second apart."""
    held = Attempts(most)
    for second in range(most):
        assert held.wait_s(host, "key", now=NOON + second) == 0.0
        held.failed(host, now=NOON + second)
    return held


def test_after_so_many_failures_an_address_waits_until_the_first_is_a_minute_old() -> None:
    held = tired()
    assert held.wait_s(HERE, "key", now=NOON + 3) == 57.0
    assert held.wait_s(HERE, "another key", now=NOON + 3) == 57.0
    assert held.wait_s(HERE, "key", now=NOON + 60) == 0.0
    held.failed(HERE, now=NOON + 60)
    assert held.wait_s(HERE, "key", now=NOON + 60) == 1.0


def test_other_addresses_do_not_wait() -> None:
    assert tired().wait_s(THERE, "key", now=NOON + 3) == 0.0


def test_what_was_right_from_there_within_the_hour_goes_on_being_looked_at() -> None:
    held = Attempts(3)
    held.succeeded(HERE, "key", now=NOON - 3000)
    for _ in range(5):
        held.failed(HERE, now=NOON)
    assert held.wait_s(HERE, "key", now=NOON) == 0.0
    assert held.wait_s(HERE, "another", now=NOON) == 60.0
    for _ in range(3):
        held.failed(HERE, now=NOON + 601)
    assert held.wait_s(HERE, "key", now=NOON + 601) == 60.0


def test_a_clock_that_is_set_back_keeps_nobody_out() -> None:
    assert tired().wait_s(HERE, "key", now=NOON - 1000) == 0.0


def test_nobody_waits_where_it_is_off() -> None:
    held = Attempts(0)
    for _ in range(100):
        held.failed(HERE, now=NOON)
    assert held.wait_s(HERE, "key", now=NOON) == 0.0
    assert len(held) == 0


def test_the_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ADDRESSES", 10)
    held = tired()
    for n in range(30):
        held.failed(f"10.0.0.{n}", now=NOON + 3)
        held.succeeded(f"10.0.0.{n}", "key", now=NOON + 3)
    assert len(held) == 20
    assert held.wait_s(HERE, "key", now=NOON + 3) == 0.0, "the longest unused goes first"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8::1", "2001:db8::ffff:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        (None, ""),
    ],
)
def test_one_machines_addresses_are_one(one: str | None, other: str) -> None:
    assert network_of(one) == network_of(other)
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
