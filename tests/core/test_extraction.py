"""The request of an extraction, and every way in which its answer comes."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.extraction import (
    ACTIONS,
    MAX_ANSWER_CHARS,
    ExtractionBatch,
    ExtractionTurn,
    KnownMemory,
    NoAnswer,
    faults_of,
    read_answer,
    request_json,
    response_schema,
    salvage,
    shown_texts,
    whole_number,
)
from gateway.core.memory import Memory, parse_rfc3339

AT = parse_rfc3339("2026-05-23T09:00:00+02:00")
FACT = {"action": "add", "type": "profile", "text": "x", "turn": 1, "quote": "x"}
WHOLE = json.dumps({"facts": [FACT, FACT]})


def test_the_request_is_the_contracts() -> None:
    known = Memory("mem_1", "fact", "User lives in Köln", AT, AT, AT, type="profile")
    turn = ExtractionTurn(1, "user", AT, "Grüße aus Köln", "exc_1", "turn_1", session="s")
    batch = ExtractionBatch(AT, "Europe/Berlin", (KnownMemory(1, known),), (turn,))
    assert json.loads(request_json(batch)) == {
        "now": "2026-05-23T09:00:00+02:00",
        "timezone": "Europe/Berlin",
        "known": [{"n": 1, "type": "profile", "key": None, "text": "User lives in Köln"}],
        "turns": [
            {
                "n": 1,
                "role": "user",
                "at": "2026-05-23T09:00:00+02:00",
                "text": "Grüße aus Köln",
            }
        ],
    }


def test_the_schema_is_strict_and_names_every_field() -> None:
    items = response_schema()["properties"]["facts"]["items"]
    assert items["additionalProperties"] is False
    assert items["required"] == list(items["properties"])
    assert items["properties"]["action"]["enum"] == list(ACTIONS)


@pytest.mark.parametrize(
    "answer",
    [
        WHOLE,
        f"```json\n{WHOLE}\n```",
        f"Here you are:\n\n{WHOLE}\n\nAnything else?",
        f"<think>maybe {{'facts': 1}}</think>\n{WHOLE}",
        f"<think>one</think><THINKING>{{}}</THINKING>{WHOLE}<think>torn off",
        WHOLE.replace("}]}", "},]}"),
        json.dumps([FACT, FACT]),
        f"\ufeff{WHOLE}",
        '{"note": [1, 2]} ' + WHOLE,
        WHOLE + WHOLE,
    ],
)
def test_facts_are_found_in_whatever_wrapping(answer: str) -> None:
    assert read_answer(answer) == [FACT, FACT]


def test_a_single_fact_by_itself_is_one() -> None:
    assert read_answer(json.dumps(FACT)) == [FACT]


def test_no_facts_is_an_answer() -> None:
    assert read_answer('{"facts": []}') == []


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "   ",
        "I could not find any facts.",
        '{"facts": 1}',
        '{"fact": []}',
        "[]",
        "[1, 2]",
        "[" * 100_000,
        '{"a":' * 5000,
        "x" * (MAX_ANSWER_CHARS + 1),
        WHOLE[:-20],
        "null",
    ],
)
def test_what_holds_no_facts_is_no_answer(answer: str) -> None:
    with pytest.raises(NoAnswer):
        read_answer(answer)


def test_a_model_that_begins_to_think_again_and_again_holds_nobody_up() -> None:
    began = time.monotonic()
    with pytest.raises(NoAnswer):
        read_answer("<think>" * 100_000)
    assert time.monotonic() - began < 5.0


def test_whole_facts_are_saved_from_a_torn_answer() -> None:
    assert salvage(WHOLE[:-20]) == [FACT]
    assert salvage("torn") == []


@given(st.text(alphabet='{}[]",:facts \n`0', max_size=200))
def test_reading_raises_nothing_but_no_answer(text: str) -> None:
    with contextlib.suppress(NoAnswer):
        read_answer(text)
    salvage('"facts"' + text)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (3.0, 3),
        ("3", 3),
        (" 4 ", 4),
        (True, None),
        (3.5, None),
        ("x", None),
        (10**12, None),
    ],
)
def test_numbers_are_read_as_models_write_them(value: Any, number: int | None) -> None:
    assert whole_number(value) == number


def test_faults_say_what_to_mend() -> None:
    faults = faults_of([FACT, 1, {**FACT, "action": "drop", "type": "x", "text": 5, "turn": "a"}])
    assert [fault.split(" ")[0] for fault in faults] == [
        "facts[1]",
        "facts[2].action",
        "facts[2].type",
        "facts[2].text",
        "facts[2].turn",
    ]
    assert faults_of([FACT]) == []


def test_long_texts_are_shown_by_both_ends() -> None:
    shown = shown_texts(["short", "a" * 5000 + "b" * 5000], 2000)
    assert shown[0] is None
    assert shown[1] is not None
    assert shown[1].startswith("aaa")
    assert shown[1].endswith("bbb")
    assert len(shown[1]) < 1100
    assert shown_texts(["a" * 10], 2000) == [None]
