"""What is searched with, and what was just said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.batch import kept_turns
from gateway.core.exchange import Exchange, Turn, completing, turn_memory_id
from gateway.core.memory import Memory
from gateway.core.question import (
    BEFORE_CHARS,
    MAX_CHARS,
    MAX_JUST_SAID,
    asked_text,
    cleaned,
    just_said,
    may_name_someone,
)
from tests.core.recall_memories import NOW


def test_a_message_is_searched_with_as_it_is() -> None:
    text = "Where did I park the blue car yesterday?"
    assert asked_text(text, "We talked about food") == text


@pytest.mark.parametrize("text", ["And my sister?", "yes", "What about the second one?", "why?"])
def test_a_short_one_or_one_that_refers_back_is_searched_with_the_turn_before(text: str) -> None:
    assert asked_text(text, "You asked where your brother lives.") == (
        f"{text}\nYou asked where your brother lives."
    )


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


# --- just said ------------------------------------------------------------------------------


def exchange(id: str, *texts: str, session: str = "other") -> Exchange:
    roles = ("user", "assistant")
    turns = tuple(Turn(i, roles[i % 2], text, NOW) for i, text in enumerate(texts))
    return Exchange(id, session, NOW, turns)


def recent(question: str, *exchanges: Exchange, session: str | None = "here") -> list[Memory]:
    return just_said(exchanges, text=question, session=session, known=())


def test_what_the_user_just_said_elsewhere_is_recalled_without_a_shared_word() -> None:
    memories = recent("Where do I live?", exchange("e", "I moved to Lisbon", "How nice!"))
    assert [m.text for m in memories] == ["I moved to Lisbon"]
    assert memories[0].id == turn_memory_id("e", 0)


def test_the_turns_that_share_words_come_first() -> None:
    pending = [exchange("a", "My dog is called Rex"), exchange("b", "I moved to Lisbon")]
    assert recent("Is my dog at home?", *pending)[0].text == "My dog is called Rex"
    assert recent("Who am I?", *pending)[0].text == "I moved to Lisbon"


def test_what_the_assistant_said_must_share_half_of_the_words() -> None:
    pending = exchange("a", "I need ideas for dinner", "Try the ramen bar at the station")
    texts = [m.text for m in recent("Which ramen bar was it?", pending)]
    assert "Try the ramen bar at the station" in texts
    assert len(recent("What about my taxes?", pending)) == 1


def test_this_conversations_own_words_must_match() -> None:
    pending = exchange("a", "My dog is called Rex", "Lovely", session="here")
    assert recent("How tall is Everest?", pending) == []
    assert len(recent("What is my dog called?", pending)) == 1


def test_what_the_store_has_already_is_left_to_it() -> None:
    known = {turn_memory_id("e", 0)}
    assert just_said([exchange("e", "Hello")], text="?", session=None, known=known) == []


def test_a_flood_of_pending_words_is_bounded() -> None:
    pending = [exchange(str(i), f"word{i} " * 2000) for i in range(200)]
    assert len(recent("word199?", *pending)) == MAX_JUST_SAID


@given(st.text(), st.text())
def test_any_message_can_be_searched_with(text: str, before: str) -> None:
    asked = asked_text(text, before)
    assert len(asked) <= MAX_CHARS + BEFORE_CHARS + 2
    asked.encode()


def test_what_was_just_asked_elsewhere_tells_nothing_of_the_asker() -> None:
    said = [exchange("e1", "Which city do I live in?"), exchange("e2", "Thanks!")]
    assert just_said(said, text="Tell me a joke", session="here", known=()) == []
    (asked,) = just_said(said, text="Which city do I live in now?", session="here", known=())
    assert asked.text == "Which city do I live in?"


def test_what_was_said_after_the_asked_time_was_not_known_then() -> None:
    said = [exchange("e1", "I moved to Lisbon")]
    (turn,) = [turn for one in said for turn in one.turns if turn.role == "user"]
    assert just_said(said, text="Where?", session=None, known=(), as_of=turn.at - 1) == []
    assert just_said(said, text="Where?", session=None, known=(), as_of=turn.at) != []


def test_what_was_just_said_is_the_memory_that_will_be_kept_also_of_a_whole_answer_after_all() -> (
    None
):
    whole = completing(exchange("e", "I live in Lyon"))
    (shown,) = just_said([whole], text="Where do I live?", session=None, known=())
    kept = kept_turns([whole], expires_at=None, now=NOW, tool_output=False)
    assert (shown.id, shown.source.exchange_id) == (kept[0].id, kept[0].source.exchange_id)
