"""What was just said, before it is distilled."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.batch import kept_turns
from gateway.core.exchange import Exchange, Turn, completing, turn_memory_id
from gateway.core.memory import Memory
from gateway.core.waiting import MAX_JUST_SAID, just_said
from gateway.core.wire import exchange_to_bytes
from tests.core.recall_memories import NOW


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


def test_what_was_worked_out_of_an_exchange_is_no_part_of_it() -> None:
    fresh, read = (exchange("e", "I moved to Lisbon", "How nice!") for _ in range(2))
    (memory,) = recent("Where do I live?", read)
    assert recent("Where do I live?", read)[0] is memory
    assert read == fresh
    assert hash(read) == hash(fresh)
    assert repr(read) == repr(fresh)
    assert exchange_to_bytes(read) == exchange_to_bytes(fresh)
    assert recent("Where?", replace(read, id="f"))[0].id == turn_memory_id("f", 0)
