"""Which days a question asks about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.memory import parse_rfc3339
from gateway.core.when import (
    MAX_DATES,
    asked_spans,
    asks_of_a_time_alone,
    match,
    names_a_time,
    without_times,
)

NOW = parse_rfc3339("2026-06-17T12:00:00Z")


def fits(question: str, day: str, *, timezone: str | None = None) -> float:
    spans = asked_spans(question, years=(2020, 2026), now=NOW, timezone=timezone)
    return match(spans, parse_rfc3339(f"{day}T12:00:00Z"))


@pytest.mark.parametrize(
    "question",
    [
        "What happened on 7 May 2025?",
        "what happened on May 7, 2025",
        "What happened on the 7th of May, 2025?",
        "What happened on 2025-05-07?",
        "Was ist am 7. Mai 2025 passiert?",
        "¿Qué pasó el 7 de mayo de 2025?",
        "Que s'est-il passé le 7 mai 2025 ?",
        "Cosa è successo il 7 maggio 2025?",
    ],
)
def test_a_day_is_read_in_many_spellings(question: str) -> None:
    assert fits(question, "2025-05-07") == 1.0
    assert fits(question, "2024-05-07") == 0.0


def test_the_days_after_a_day_count_less_and_less() -> None:
    question = "What did she do on 7 May 2025?"
    values = [
        fits(question, day) for day in ("2025-05-07", "2025-05-12", "2025-05-18", "2025-06-15")
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] == 1.0
    assert values[-1] == 0.0


def test_a_month_without_a_year_is_that_month_of_any_year() -> None:
    assert fits("Where did we go in August?", "2024-08-20") > 0
    assert fits("Where did we go in August?", "2021-08-02") > 0
    assert fits("Where did we go in August?", "2024-03-20") == 0


def test_a_year_alone_counts_a_little() -> None:
    assert 0 < fits("Which films did I see in 2023?", "2023-11-02") < 0.5


@pytest.mark.parametrize("question", ["May I come?", "Which way did they march?", "a mars bar"])
def test_everyday_words_are_no_months(question: str) -> None:
    assert asked_spans(question, years=(2020, 2026), now=NOW, timezone=None) == ()


def test_relative_phrases_are_taken_from_now() -> None:
    assert fits("What did I cook yesterday?", "2026-06-16") == 1.0
    assert fits("What did I cook last month?", "2026-05-11") == 1.0
    assert fits("What did I cook yesterday?", "2026-06-01") == 0.0


def test_a_weekday_is_the_last_one_where_the_question_is_of_the_past() -> None:
    assert fits("What did I cook on Monday?", "2026-06-15") == 1.0
    assert fits("What do I have on Monday?", "2026-06-22") == 1.0
    assert fits("What am I cooking tomorrow?", "2026-06-18") == 1.0


@pytest.mark.parametrize(
    ("question", "alone"),
    [
        ("What did I tell you last Tuesday?", True),
        ("What did we talk about yesterday?", True),
        ("what did we discuss on May 7?", True),
        ("What's on my calendar tomorrow?", True),
        ("What did I cook yesterday?", False),
        ("What's the weather like today?", False),
        ("What did I tell you?", False),
        ("May I come?", False),
        ("", False),
        ("Who is April?", False),
        ("What did I tell you in April?", True),
    ],
)
def test_a_question_may_be_about_a_time_and_nothing_else(question: str, alone: bool) -> None:
    assert asks_of_a_time_alone(question) is alone


def test_without_its_times_a_question_is_what_it_is_about() -> None:
    assert without_times("Did I swim on 7 May 2025 or last week?").split() == [
        *("did", "i", "swim", "on", "or", "?")
    ]


@pytest.mark.parametrize(
    "question", ["on 31 February 2025", "on 7 May 9999", "2025-13-45", "in 1023", "99 May 2025"]
)
def test_days_that_cannot_be_are_left_alone(question: str) -> None:
    assert asked_spans(question, years=(1970, 9998), now=NOW, timezone="Nowhere/Land") == ()


def test_a_list_of_dates_is_bounded() -> None:
    question = " ".join(f"on {day} May 2025," for day in range(1, 29)) * 100
    spans = asked_spans(question, years=(2020, 2026), now=NOW, timezone=None)
    assert len(spans) <= 3 * MAX_DATES


PIECES = (
    *("May", "march", "Août", "on", "in", "last", "this", "week", "yesterday", "3 days ago", "7"),
    *("2025", "2025-03", "1999-12-31", "during 2024", "mayor", "the last", "Ana's", "_may_", "dog"),
)


@given(st.lists(st.sampled_from(PIECES)), st.sampled_from([" ", ", ", "-", "\n", ""]))
def test_where_no_time_is_named_there_is_no_span_to_look_for(said: list[str], between: str) -> None:
    text = between.join(said)
    if not names_a_time(text):
        assert asked_spans(text, years=(2020, 2026), now=NOW, timezone=None) == ()


def test_most_questions_name_no_time() -> None:
    assert not names_a_time("What did I say about the cello and my dog?")
    assert names_a_time("What did I say in May?")
