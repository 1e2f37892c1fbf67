"""What of a model's answer is believed; the whole way is in tests/flows/test_distillation_cases."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import shipped
from gateway.core.extraction import PROMPT, ExtractionBatch, ExtractionTurn, KnownMemory
from gateway.core.guards import House, Judged, examples_in, judge
from gateway.core.memory import Memory, Source, parse_rfc3339

AT = parse_rfc3339("2026-05-23T09:00:00+02:00")


def turn(n: int, role: str, text: str, **fields: Any) -> ExtractionTurn:
    return ExtractionTurn(n, role, AT, text, f"exc_{n}", f"turn_{n}", **fields)


def known(n: int, text: str, role: str = "user") -> KnownMemory:
    memory = Memory(f"mem_{n}", "fact", text, AT, AT, AT, type="profile", source=Source(role=role))
    return KnownMemory(n, memory)


BATCH = ExtractionBatch(
    AT,
    "Europe/Berlin",
    (known(1, "User lives in Rome"), known(2, "The assistant suggested jam", role="assistant")),
    (
        turn(1, "user", "I moved to Berlin last week"),
        turn(2, "assistant", "Congratulations! Try the lakes."),
        turn(3, "tool", "temperature: 20"),
    ),
)


def proposed(**fields: Any) -> dict[str, Any]:
    return {
        "action": "add",
        "type": "profile",
        "text": "User lives in Berlin",
        "turn": 1,
        "quote": "I moved to Berlin",
        **fields,
    }


def judged(house: House = House(), **fields: Any) -> Judged:  # noqa: B008 (frozen)
    return judge([proposed(**fields)], BATCH, house)


def test_a_number_that_a_model_puts_together_from_its_halves_is_not_kept() -> None:
    house = House(redact=("card",))
    for fields in ({"text": "User's card is 4111 1111 1111 1111"}, {"value": "4111111111111111"}):
        done = judged(house, key="card", **fields)
        assert (done.facts, done.dropped) == ((), {"redacted": 1})


def test_a_fact_that_passes_is_typed_and_tied_to_its_turn() -> None:
    (fact,) = judged(key="home", value="Berlin", importance=0.7).facts
    assert (fact.key, fact.value, fact.importance) == ("home", "Berlin", 0.7)
    assert fact.turn.turn_id == "turn_1"
    assert fact.quote == "I moved to Berlin"
    assert fact.quarantine is None


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("Home City", "Berlin", ("home_city", "Berlin")),
        ("home", None, ("home", None)),
        ("home", 5, ("home", "5")),
        ("home", True, ("home", "true")),
        ("badge", 1234567, ("badge", "1234567")),
        ("height", 1.75, ("height", "1.75")),
        ("children", 2.0, ("children", "2")),
        ("home", 10**400, ("home", None)),
        ("home", float("inf"), ("home", None)),
        ("home", "x" * 500, ("home", None)),
        ("", "Berlin", (None, None)),
        ("a" * 100, "Berlin", (None, None)),
        ("drop table;", "x", (None, None)),
        (None, "Berlin", (None, None)),
        (["home"], "Berlin", (None, None)),
        ("null", "null", (None, None)),
        ("None", "Berlin", (None, None)),
        ("N/A", "Berlin", (None, None)),
        ("home", "null", ("home", None)),
    ],
)
def test_keys_and_values_are_brought_into_shape_or_left_out(
    key: Any, value: Any, expected: tuple[str | None, str | None]
) -> None:
    (fact,) = judged(key=key, value=value).facts
    assert (fact.key, fact.value) == expected


@pytest.mark.parametrize(
    ("importance", "kept"),
    [
        (2, 1.0),
        (-1, 0.0),
        ("0.3", 0.3),
        (None, 0.5),
        (float("nan"), 0.5),
        ([], 0.5),
        (10**400, 0.5),
    ],
)
def test_importance_lies_between_nothing_and_one(importance: Any, kept: float) -> None:
    (fact,) = judged(importance=importance).facts
    assert fact.importance == kept


@pytest.mark.parametrize(
    ("ttl", "kept"), [(7, 7), (0, None), (-1, None), (10**6, 3650), ("x", None)]
)
def test_a_time_to_live_is_days_within_ten_years(ttl: Any, kept: int | None) -> None:
    (fact,) = judged(ttl_days=ttl).facts
    assert fact.ttl_days == kept


def test_dates_are_resolved_against_the_turns_own_time() -> None:
    (fact,) = judged(event_start="last week").facts
    assert fact.span is not None
    assert fact.span.start == parse_rfc3339("2026-05-11T00:00:00+02:00")
    assert not fact.ended
    (fact,) = judged(event_start="2020-01-01", event_end="2021").facts
    assert fact.ended
    (fact,) = judged(event_start="2021-01-01", event_end="2020").facts
    assert not fact.ended
    (fact,) = judged(event_start="soon", event_end=["x"]).facts
    assert fact.span is None


def test_a_denied_type_is_refused_and_an_allowed_one_passes() -> None:
    assert judged(House(deny_types=("profile",))).dropped == {"type_not_allowed": 1}
    assert judged(House(allow_types=("preference",))).dropped == {"type_not_allowed": 1}
    assert judged(House(allow_types=("profile",))).facts


def test_tool_output_counts_only_where_it_is_allowed_and_only_as_what_happened() -> None:
    said = {
        "turn": 3,
        "quote": "temperature: 20",
        "type": "interaction",
        "text": "It was 20 degrees",
    }
    assert judged(**said).dropped == {"tool_output": 1}
    assert judged(House(tool_output=True), **said).facts
    assert judged(House(tool_output=True), **{**said, "type": "profile"}).dropped == {
        "not_the_users_word": 1
    }


def test_the_assistant_may_refine_its_own_word_and_no_other() -> None:
    said = {"turn": 2, "quote": "Try the lakes", "type": "interaction", "action": "refine"}
    assert judged(**said, target=2).facts
    assert judged(**said, target=1).dropped == {"not_the_users_word": 1}


def test_the_shipped_prompts_examples_are_found_in_it() -> None:
    examples = examples_in(shipped(PROMPT).read_text("utf-8"))
    assert len(examples) == 3
    assert all(example.text and example.quote for example in examples)


def test_an_example_is_believed_where_the_user_really_said_it() -> None:
    examples = examples_in(shipped(PROMPT).read_text("utf-8"))
    batch = ExtractionBatch(AT, "UTC", (), (turn(1, "user", examples[1].quote),))
    fact = proposed(text=examples[1].text, quote=examples[1].quote)
    assert judge([fact], batch, House(examples=examples)).facts
    other = ExtractionBatch(AT, "UTC", (), (turn(1, "user", "what a day"),))
    fact = proposed(text=examples[1].text, quote="what a day")
    assert judge([fact], other, House(examples=examples)).dropped == {"from_the_prompt": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["action", "target", "type", "key", "value", "text", "turn", "quote", "importance",
     "event_start", "event_end", "ttl_days"]
)  # fmt: skip


@given(
    st.lists(st.dictionaries(FIELDS, JSON), max_size=4), st.dictionaries(FIELDS, JSON, max_size=3)
)
def test_whatever_a_model_answers_is_judged_without_an_error(
    answer: list[dict[str, Any]], twist: dict[str, Any]
) -> None:
    all_of_it = [*answer, {**proposed(), **twist}]
    result = judge(all_of_it, BATCH, House())
    assert len(result.facts) + sum(result.dropped.values()) == len(all_of_it)
