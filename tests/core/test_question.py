"""What is searched with, and what was just said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.question import (
    BEFORE_CHARS,
    MAX_CHARS,
    asked_text,
    asks,
    asks_for_all,
    asks_of_the_past,
    cleaned,
    may_name_someone,
)


def test_a_message_is_searched_with_as_it_is() -> None:
    text = "Where did I park the blue car yesterday?"
    assert asked_text(text, "We talked about food") == text


@pytest.mark.parametrize("text", ["And my sister?", "yes", "What about the second one?", "why?"])
def test_a_short_one_or_one_that_refers_back_is_searched_with_the_turn_before(text: str) -> None:
    assert asked_text(text, "You asked where your brother lives.") == (
        f"{text}\nYou asked where your brother lives."
    )


@pytest.mark.parametrize("text", ["in July?", "Priya?", "What is it called?", "Wie heißt sie?"])
def test_so_is_one_of_few_words_or_with_a_word_that_points_at_something(text: str) -> None:
    assert asked_text(text, "You have a cat.") != text


@pytest.mark.parametrize(
    "text",
    [
        "What's my cat called?",
        "Where does my sister work?",
        "Who is my boss?",
        "¿Dónde vive mi hermano?",
        "Wie heißt denn mein Hund?",
    ],
)
def test_a_whole_question_is_searched_with_as_it_is_however_few_its_words(text: str) -> None:
    assert asked_text(text, "Boil the pasta for nine minutes.") == text


def test_of_a_long_turn_before_its_end_is_taken() -> None:
    assert asked_text("why?", "x" * 5000 + "END").endswith("END")
    assert len(asked_text("why?", "x" * 5000)) <= BEFORE_CHARS + 10


def test_of_a_gigantic_message_the_beginning_and_the_end_are_searched_with() -> None:
    text = asked_text("START " + "word " * 54_000 + "END")
    assert text.startswith("START")
    assert text.endswith("END")
    assert len(text) <= MAX_CHARS + 1


def test_what_cannot_be_seen_is_not_searched_with() -> None:
    assert cleaned("a\x00b\ud800c\u200bd") == "a b c d"


@pytest.mark.parametrize("text", ["", " ", "\x00\x01", "🙂"])
def test_an_empty_message_stays_empty_enough(text: str) -> None:
    asked_text(text, "before")
    assert asked_text(text).strip() in ("", "🙂")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What does Melanie like?", True),
        ("Melanie's job?", True),
        ("What is my favourite colour?", False),
        ("where do I live", False),
        ("Was macht Jürgen?", True),
    ],
)
def test_a_capital_within_a_question_may_be_a_name(text: str, expected: bool) -> None:
    assert may_name_someone(text) is expected


@given(st.text(), st.text())
def test_any_message_can_be_searched_with(text: str, before: str) -> None:
    asked = asked_text(text, before)
    assert len(asked) <= MAX_CHARS + BEFORE_CHARS + 2
    asked.encode()


@pytest.mark.parametrize(
    ("text", "past"),
    [
        ("Where did I live before?", True),
        ("Which cities did I use to live in?", True),
        ("Where was I living in February?", True),
        ("What was my old job?", True),
        ("Where have I lived so far?", True),
        ("Wo habe ich früher gewohnt?", True),
        ("我以前住在哪里？", True),
        ("以前はどこに住んでいましたか？", True),
        ("Where do I live?", False),
        ("What did I tell you about my dog?", False),
        ("我住在哪里？", False),
    ],
)
def test_whether_the_past_is_asked_for_is_told_by_its_words(text: str, past: bool) -> None:
    assert asks_of_the_past(text) is past


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Priya?", ("Priya?",)),
        ("Thanks!", ()),
        ("What's my cat called?\n\nOnce upon a time. The end.", ("What's my cat called?",)),
        ("Once upon a time. The end.\nWhere do I live?", ("Where do I live?",)),
        ("Who was she? He went on. Where do I live?", ("Who was she?", "Where do I live?")),
        ("Summarise this: it rained. Why? Nobody knew.", ()),
        ("从前有一座山。我住在哪里？", ("我住在哪里？",)),
        ("x" * 5000 + "?", ()),
        ("", ()),
    ],
)
def test_what_is_asked_stands_first_or_last(text: str, expected: tuple[str, ...]) -> None:
    assert asks(text) == expected


@pytest.mark.parametrize(
    ("text", "wants_all"),
    [
        ("How many dogs do I have?", True),
        ("How much have I spent so far?", True),
        ("List all my appointments", True),
        ("Wie viele Kinder habe ich?", True),
        ("¿Cuántos hijos tengo?", True),
        ("Combien de chats ai-je ?", True),
        ("Сколько у меня детей?", True),
        ("我有几个孩子？", True),
        ("What is my dog called?", False),
        ("Is that all right?", False),
    ],
)
def test_whether_a_question_counts_or_lists_is_told_by_its_words(
    text: str, wants_all: bool
) -> None:
    assert asks_for_all(text) is wants_all
