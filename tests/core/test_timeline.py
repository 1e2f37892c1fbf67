"""Dates as they are said, against the time and place they were said at."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.memory import parse_rfc3339
from gateway.core.timeline import (
    anchored,
    is_zone,
    local_rfc3339,
    resolve,
    shown,
    zone_of,
)

SATURDAY = parse_rfc3339("2026-05-23T09:00:00+02:00")
BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("2026-05-22", "2026-05-22"),
        ("2026-05", "2026-05"),
        ("2026", "2026"),
        ("2026-W21", "2026-05-18 to 2026-05-24"),
        ("2024-01/2024-03", "2024-01-01 to 2024-03-31"),
        ("2026-05-22T23:30:00+00:00", "2026-05-23"),
        ("2026-05-22T10:00", "2026-05-22"),
        ("today", "2026-05-23"),
        ("Yesterday.", "2026-05-22"),
        ("last night", "2026-05-22"),
        ("the day before yesterday", "2026-05-21"),
        ("tomorrow", "2026-05-24"),
        ("the day after tomorrow", "2026-05-25"),
        ("3 days ago", "2026-05-20"),
        ("three days ago", "2026-05-20"),
        ("a week ago", "2026-05-16"),
        ("a couple of weeks ago", "2026-05-09"),
        ("two months from now", "2026-07"),
        ("in two weeks", "2026-06-06"),
        ("in 3 months' time", None),
        ("an hour ago", "2026-05-23"),
        ("last week", "2026-05-11 to 2026-05-17"),
        ("this week", "2026-05-18 to 2026-05-24"),
        ("next week", "2026-05-25 to 2026-05-31"),
        ("this weekend", "2026-05-23 to 2026-05-24"),
        ("last month", "2026-04"),
        ("next year", "2027"),
        ("the past 3 weeks", "2026-05-02 to 2026-05-23"),
        ("last Tuesday", "2026-05-19"),
        ("last Saturday", "2026-05-16"),
        ("next Friday", "2026-05-29"),
        ("on Monday", "2026-05-25"),
        ("fri", "2026-05-29"),
        ("last summer", "2025-06-01 to 2025-08-31"),
        ("next winter", "2026-12-01 to 2027-02-28"),
        ("end of the month", "2026-05-31"),
        ("beginning of next year", "2027-01-01"),
        ("May 2023", "2023-05"),
        ("last May", "2025-05"),
        ("early June", "2026-06-01 to 2026-06-10"),
        ("late February", "2026-02-21 to 2026-02-28"),
        ("July 4th", "2026-07-04"),
        ("4 July 2024", "2024-07-04"),
        ("December 30", "2025-12-30"),
        ("in 2019", "2019"),
    ],
)
def test_a_phrase_means_a_span_of_days(said: str, meant: str | None) -> None:
    span = resolve(said, said_at=SATURDAY, timezone=BERLIN)
    assert (shown(span, BERLIN) if span else None) == meant


@pytest.mark.parametrize("said", ["February 29", "29 February"])
@pytest.mark.parametrize("told", ["2028-02-20", "2028-03-02", "2027-12-01"])
def test_the_29_of_february_is_that_of_the_leap_year_nearby(said: str, told: str) -> None:
    span = resolve(said, said_at=parse_rfc3339(f"{told}T12:00:00Z"), timezone=BERLIN)
    assert span is not None
    assert shown(span, BERLIN) == "2028-02-29"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "soon",
        "2026-13-01",
        "31 February",
        "9999-01-01",
        "0001-01-01",
        "99999 days ago",
        "x" * 999,
    ],
)
def test_what_is_no_date_is_none(said: str) -> None:
    assert resolve(said, said_at=SATURDAY, timezone=BERLIN) is None


def test_yesterday_depends_on_where_it_is_said() -> None:
    midnight = parse_rfc3339("2026-05-23T23:30:00Z")
    assert shown(resolve("yesterday", said_at=midnight, timezone="UTC"), "UTC") == "2026-05-22"  # type: ignore[arg-type]
    tokyo = resolve("yesterday", said_at=midnight, timezone="Asia/Tokyo")
    assert tokyo is not None
    assert shown(tokyo, "Asia/Tokyo") == "2026-05-23"


def test_a_day_on_which_clocks_change_is_shorter() -> None:
    span = resolve("2026-03-29", said_at=SATURDAY, timezone=BERLIN)
    assert span is not None
    assert span.end - span.start == 23 * 3600


def test_an_unknown_timezone_is_utc() -> None:
    assert zone_of("Mars/Base") is UTC
    assert zone_of("../../etc/passwd") is UTC
    assert zone_of("Europe") is UTC
    assert zone_of(None) is UTC
    assert not is_zone("Mars/Base")
    assert is_zone("UTC")
    assert is_zone(BERLIN)


def test_times_are_shown_with_the_users_offset() -> None:
    assert local_rfc3339(SATURDAY + 0.7, BERLIN) == "2026-05-23T09:00:00+02:00"
    assert local_rfc3339(SATURDAY, "UTC") == "2026-05-23T07:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "set_"),
    [
        ("User ran yesterday", "User ran yesterday (2026-05-22)"),
        (
            "User goes to Rome next week with May",
            "User goes to Rome next week (2026-05-25 to 2026-05-31) with May",
        ),
        (
            "User will move in two weeks to Paris",
            "User will move in two weeks (2026-06-06) to Paris",
        ),
        ("User runs every Friday", "User runs every Friday"),
        ("User was born in 1990", "User was born in 1990"),
        ("User ran yesterday (a Friday)", "User ran yesterday (a Friday)"),
    ],
)
def test_a_relative_date_in_a_text_gets_its_day_beside_it(text: str, set_: str) -> None:
    assert anchored(text, said_at=SATURDAY, timezone=BERLIN)[0] == set_


def test_the_first_date_in_a_text_is_when_it_was() -> None:
    _, span = anchored("User ran yesterday", said_at=SATURDAY, timezone=BERLIN)
    assert span is not None
    assert datetime.fromtimestamp(span.start, zone_of(BERLIN)).isoformat() == (
        "2026-05-22T00:00:00+02:00"
    )


@given(st.text(max_size=120))
def test_no_text_is_an_error(text: str) -> None:
    resolve(text, said_at=SATURDAY, timezone=BERLIN)
    anchored(text, said_at=SATURDAY, timezone=BERLIN)


@given(st.integers(-2_000_000_000, 7_000_000_000), st.sampled_from(["yesterday", "last month"]))
def test_the_past_lies_before_what_is_said(at: int, said: str) -> None:
    span = resolve(said, said_at=float(at), timezone="America/New_York")
    assert span is not None
    assert span.start < span.end <= at
