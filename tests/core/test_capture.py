"""Capture: only what is new, only what was said, the same exchange for the same words."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.answer import Answer, ToolCall
from gateway.core.capture import (
    MAX_TOOL_CHARS,
    MAX_TURN_CHARS,
    MAX_TURNS,
    answer_marks,
    answered,
    exchange_of,
    fresh_by_shape,
    marks,
    marks_and_alone,
    new_turns,
    query_text,
    response_mark,
    settled,
    user_turn_mark,
)
from gateway.core.chat import ChatRequest, read_chat
from gateway.core.exchange import Exchange, logged_exchange
from gateway.core.injection import blocks, render, splice
from gateway.core.memory import Memory
from gateway.core.responses import read_responses
from gateway.web.schemas import check_sizes

NOW = 1_750_000_000.0


def chat(*messages: Any, **more: Any) -> ChatRequest:
    return read_chat(json.dumps({"model": "m", "messages": messages, **more}).encode())


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text, **more}


def assistant(text: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


CALL = assistant(None, tool_calls=[{"id": "c1", "function": {"name": "f", "arguments": "{}"}}])
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "14°C"}


def said(request: ChatRequest, fresh: int) -> list[tuple[str, str]]:
    return [(turn.role, turn.text) for turn in new_turns(request, fresh, NOW)]


def kept(
    request: ChatRequest, answer: Answer, *, fresh: int, session: str = "s"
) -> Exchange | None:
    return exchange_of(
        request, answer, session=session, fresh=fresh, now=NOW, timezone="UTC", receipt_id="r"
    )


# --- marks -------------------------------------------------------------------------------


def test_the_history_that_is_sent_again_has_the_same_marks() -> None:
    first = chat(system("a"), user("hi"), assistant("hello"))
    then = chat(system("another prompt"), user("hi"), assistant("hello"), user("more"))

    assert marks(then)[:2] == marks(first)
    assert len(marks(then)) == 3


def test_a_second_yes_is_not_taken_for_the_first() -> None:
    found = marks(chat(user("yes"), assistant("ok"), user("yes"), assistant("ok"), user("yes")))

    assert len(set(found)) == 5


def test_marks_inside_a_window_of_the_last_messages_are_those_of_the_whole() -> None:
    messages = [user("a"), assistant("b"), user("c"), assistant("d"), user("e")]

    assert marks(chat(*messages[2:]))[1:] == marks(chat(*messages))[3:]


def test_an_answer_that_is_sent_back_has_the_marks_that_were_foretold() -> None:
    answer = Answer(text=" an \nanswer ")
    after = marks(chat(user("c"), assistant("an answer"), user("e")))[1]
    first = marks(chat(assistant("an answer"), user("e")))[0]

    assert answer_marks(chat(system("s"), user("c")), answer) == (after, first)
    assert answer_marks(chat(assistant("b"), user("c")), answer) == (after, first)
    assert answer_marks(chat(user("a"), assistant("b"), user("c")), answer) == (after,)
    assert answer_marks(chat(user("c")), Answer()) == ()


def test_an_answer_that_comes_back_without_its_thoughts_is_known() -> None:
    thoughtful = "<think>hm\nhm</think>\n\nan answer"
    foretold = answer_marks(chat(user("c")), Answer(text=thoughtful))

    for sent_back in (thoughtful, "an answer"):
        found = marks(chat(user("c"), assistant(sent_back), user("e")))
        assert found[1] == foretold[0]
        assert found == marks(chat(user("c"), assistant("an answer"), user("e")))


LONG = "an answer that goes on and on, so that nobody gives the same one in another conversation"


def test_a_long_answer_has_a_mark_by_itself_whatever_it_was_given_to() -> None:
    foretold = answer_marks(chat(user("a"), assistant("b"), user("c, wrapped")), Answer(text=LONG))
    then = chat(user("a"), assistant("b"), user("c"), assistant(LONG), user("d"), user("e"))

    assert marks(then)[3] not in foretold
    assert marks_and_alone(then)[1] == (foretold[1], 2)


@pytest.mark.parametrize(
    "messages",
    [
        [user("a")],
        [user("a"), assistant(LONG)],
        [assistant(LONG), user("a")],
        [user("a"), assistant("Hello! How can I help you today?"), user("b")],
    ],
    ids=["no answer", "nothing after it", "the first of a window", "a short one"],
)
def test_other_answers_have_none(messages: list[dict[str, Any]]) -> None:
    assert marks_and_alone(chat(*messages))[1] is None


def test_white_space_key_order_and_echoed_blocks_do_not_change_a_mark() -> None:
    block = render([Memory("m", "fact", "Likes tea.", 0, 0, 0, type="profile")])
    plain = chat({"role": "user", "content": "hi there"})
    echoed = chat({"content": f" hi\nthere\n\n{block}", "role": "user"})

    assert marks(plain) == marks(echoed)


def test_what_is_injected_does_not_change_the_marks() -> None:
    request = chat(system("a"), user("hi"))
    memory = Memory("m", "fact", "Likes tea.", 0, 0, 0, type="interaction")

    for placement in ("system", "split", "tail"):
        sent = read_chat(splice(request, blocks([memory], placement)))  # type: ignore[arg-type]
        assert marks(sent) == marks(request)


def test_other_images_are_other_messages() -> None:
    def look(url: str) -> tuple[str, ...]:
        part = {"type": "image_url", "image_url": {"url": url}}
        return marks(chat(user([{"type": "text", "text": "What is it?"}, part])))

    assert look("https://x/cat.png") != look("https://x/dog.png")


def test_a_key_changes_every_mark() -> None:
    request = chat(user("hi"))

    assert marks(request, b"k" * 32) != marks(request)
    assert marks(request, b"k" * 32) == marks(request, b"k" * 32)


def test_the_user_turn_keeps_its_mark_through_a_tool_loop() -> None:
    first = chat(user("hi"), assistant("hello"), user("weather?"))
    second = chat(user("hi"), assistant("hello"), user("weather?"), CALL, RESULT)

    assert user_turn_mark(first) == user_turn_mark(second) == marks(first)[-1]
    assert user_turn_mark(chat(system("only"))) == ""


def test_a_previous_response_leads_to_its_conversation() -> None:
    request = read_responses(b'{"input":"more","previous_response_id":"resp_1"}')

    found = marks(request)
    assert found[0] == response_mark("resp_1")
    assert found[1] == user_turn_mark(request)


def test_the_same_words_to_two_responses_are_two_turns() -> None:
    first, second, again = (
        marks(read_responses(b'{"input":"yes","previous_response_id":"resp_%d"}' % n))
        for n in (1, 2, 2)
    )

    assert set(first).isdisjoint(second)
    assert second == again


# --- what is asked -----------------------------------------------------------------------


def test_the_query_is_the_last_user_message_and_what_was_said_before_it() -> None:
    messages = [user("Berlin?"), assistant("Which one?"), user("The big one"), CALL, RESULT]

    assert query_text(chat(system("s"), *messages)) == ("The big one", "Which one?")
    assert query_text(chat(user("Berlin?"))) == ("Berlin?", "")
    assert query_text(chat(system("s"))) == ("", "")


def test_the_query_does_not_contain_our_own_block() -> None:
    block = render([Memory("m", "fact", "Likes tea.", 0, 0, 0, type="profile")])

    assert query_text(chat(user(f"hi\n\n{block}"))) == ("hi", "")


# --- new turns -----------------------------------------------------------------------------


def test_only_what_was_not_seen_is_new() -> None:
    request = chat(system("s"), user("a"), assistant("b"), user("c"))

    assert said(request, 1) == [("user", "c")]
    assert said(request, 0) == []
    assert said(request, 3) == [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert said(request, 99) == said(request, 3)


def test_an_answer_that_the_client_sends_back_changed_is_not_captured_again() -> None:
    request = chat(user("a"), assistant("b, trimmed by the client"), user("c"))

    assert said(request, 2) == [("user", "c")]


def test_the_system_prompt_is_never_evidence() -> None:
    request = chat(system("The user is Bob."), {"role": "developer", "content": "x"}, user("a"))

    assert said(request, 9) == [("user", "a")]


def test_echoed_blocks_are_never_evidence() -> None:
    block = render([Memory("m", "fact", "Likes tea.", 0, 0, 0, type="profile")])
    request = chat(user(f"a\n\n{block}"), assistant(f"{block[:90]}"), user("b"))

    assert said(request, 3) == [("user", "a"), ("user", "b")]


def test_speakers_images_and_tool_output() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,x"}}
    request = chat(
        user([{"type": "text", "text": "See"}, image], name="Ana"),
        user([image]),
        CALL,
        {"role": "tool", "tool_call_id": "c1", "content": "x" * 10_000},
    )
    turns = new_turns(request, 4, NOW)

    assert [(t.n, t.role, t.speaker, t.at) for t in turns] == [
        (0, "user", "Ana", NOW),
        (1, "tool", None, NOW),
    ]
    assert len(turns[1].text) <= MAX_TOOL_CHARS + 10


def test_of_a_speakers_name_no_more_is_kept_than_an_import_takes_back() -> None:
    said = {"role": "user", "content": "I live in Porto", "name": "n" * 100_000}
    [turn] = new_turns(chat(said), 1, NOW)
    logged = logged_exchange([said], at=NOW, session=None, timezone=None)
    assert logged is not None
    for speaker in (turn.speaker, logged.turns[0].speaker):
        memory = Memory("turn_1", "turn", "x", NOW, NOW, NOW, speaker=speaker)
        check_sizes(memory)


def test_a_huge_turn_keeps_its_start_and_its_end() -> None:
    [turn] = new_turns(chat(user("start " + "x" * 1_000_000 + " end")), 1, NOW)

    assert len(turn.text) <= MAX_TURN_CHARS + 10
    assert turn.text.startswith("start")
    assert turn.text.endswith("end")


def test_of_a_very_long_history_the_newest_turns_are_kept() -> None:
    request = chat(*(user(f"m{i}") for i in range(MAX_TURNS + 50)))
    turns = new_turns(request, 10_000, NOW)

    assert len(turns) == MAX_TURNS
    assert (turns[0].n, turns[-1].text) == (0, f"m{MAX_TURNS + 49}")


def test_thoughts_written_before_an_answer_are_left_out() -> None:
    request = chat(user("a"), assistant("<think>hm\nhm</think>\nb"), user("c <think>x</think>"))

    assert said(request, 3) == [("user", "a"), ("assistant", "b"), ("user", "c <think>x</think>")]
    assert answered(Answer(text="<think>never closed")) == ""


def test_thoughts_whose_opening_tag_stands_in_the_prompt_are_left_out() -> None:
    assert answered(Answer(text="Okay, so he asks\nfor b.\n</think>\n\nb")) == "b"
    for words in ("The tag is called </think> and closes.", "First <think>\nx\n</think>\nthen y"):
        assert answered(Answer(text=words)) == words


def test_without_shared_state_the_last_users_words_are_new() -> None:
    assert fresh_by_shape(chat(user("a"), assistant("b"), user("c"), user("d"))) == 2
    assert fresh_by_shape(chat(user("a"), assistant("b"), user("c"), CALL, RESULT)) == 3
    assert fresh_by_shape(chat(system("s"), user("a"))) == 1
    assert fresh_by_shape(chat(system("s"), assistant("a"))) == 1


# --- exchanges -----------------------------------------------------------------------------


def test_an_exchange_is_what_was_said_and_answered() -> None:
    exchange = kept(
        chat(system("s"), user("a"), assistant("b"), user("c")),
        Answer(text="d", finish_reason="stop", model="m-1"),
        fresh=2,
    )

    assert exchange is not None
    assert [(t.n, t.role, t.text) for t in exchange.turns] == [
        (0, "user", "c"),
        (1, "assistant", "d"),
    ]
    assert (exchange.session, exchange.at, exchange.outcome) == ("s", NOW, "complete")
    assert (exchange.timezone, exchange.receipt_id) == ("UTC", "r")
    assert (exchange.model, exchange.finish_reason, exchange.via) == ("m-1", "stop", "chat")


def test_a_retry_is_the_same_exchange_and_another_turn_is_another() -> None:
    once = kept(chat(user("a")), Answer(text="b"), fresh=1)
    again = kept(chat(user("a")), Answer(text="in other words"), fresh=1)
    later = kept(chat(user("a"), assistant("b"), user("a")), Answer(text="b"), fresh=2)
    elsewhere = kept(chat(user("a")), Answer(text="b"), fresh=1, session="other")

    assert once
    assert again
    assert later
    assert elsewhere
    assert once.id == again.id
    assert once.id.startswith("exc_")
    assert len({once.id, later.id, elsewhere.id}) == 3


def test_a_regeneration_of_what_was_seen_is_nothing_new() -> None:
    assert kept(chat(user("a")), Answer(text="b"), fresh=0) is None


def test_a_tool_loop_is_captured_once_at_its_final_answer() -> None:
    calls = Answer(tool_calls=(ToolCall("c1", "f", "{}"),), finish_reason="tool_calls")
    first, last = chat(user("weather?")), chat(user("weather?"), CALL, RESULT)

    assert kept(first, calls, fresh=1) is None
    exchange = kept(last, Answer(text="Mild."), fresh=3)

    assert exchange is not None
    assert [(t.role, t.text) for t in exchange.turns] == [
        ("user", "weather?"),
        ("tool", "14°C"),
        ("assistant", "Mild."),
    ]
    plain = kept(first, Answer(text="Mild."), fresh=1)
    assert plain is not None
    assert exchange.id == plain.id


def test_a_call_that_the_request_forced_is_the_answer() -> None:
    forced = chat(user("a"), tool_choice={"type": "function", "function": {"name": "f"}})
    calls = Answer(tool_calls=(ToolCall("c1", "f", "{}"),), finish_reason="stop")

    exchange = kept(forced, calls, fresh=1)
    assert exchange is not None
    assert [t.role for t in exchange.turns] == ["user"]


def test_what_was_said_before_the_users_last_words_is_settled() -> None:
    first = chat(system("s"), user("a"), CALL, RESULT)
    then = chat(system("s"), user("a"), CALL, RESULT, user("b"), user("c"), CALL, RESULT)
    before, found, fresh = settled(then, marks(then), 7)

    assert (found, fresh) == (marks(first), 3)
    assert said(before, fresh) == said(first, 3)
    assert settled(then, marks(then), 4)[2] == 0
    assert settled(first, marks(first), 3)[1:] == ((), 0)


def test_results_of_forced_calls_wait_for_what_comes_of_them() -> None:
    calls = Answer(tool_calls=(ToolCall("c2", "f", "{}"),), finish_reason="tool_calls")

    assert kept(chat(user("a"), CALL, RESULT, tool_choice="required"), calls, fresh=2) is None


def test_what_follows_a_forced_call_is_an_exchange_of_its_own() -> None:
    first = kept(chat(user("a")), Answer(text="b"), fresh=1)
    then = kept(chat(user("a"), CALL, RESULT), Answer(text="Mild."), fresh=2)

    assert first is not None
    assert then is not None
    assert [t.role for t in then.turns] == ["tool", "assistant"]
    assert then.id != first.id


def test_an_answer_to_a_call_that_gave_nothing_is_kept() -> None:
    nothing = {**RESULT, "content": ""}
    then = kept(chat(user("a"), CALL, nothing), Answer(text="Done."), fresh=2)

    assert then is not None
    assert [(t.role, t.text) for t in then.turns] == [("assistant", "Done.")]
    assert kept(chat(user("a"), CALL, nothing), Answer(text="Done."), fresh=0) is None


def test_an_answer_that_ended_badly_is_marked_so() -> None:
    for outcome in ("error", "cut_off"):
        answer = Answer(text="b", outcome=outcome)  # type: ignore[arg-type]
        exchange = kept(chat(user("a")), answer, fresh=1)
        assert exchange is not None
        assert exchange.outcome == outcome


def test_a_refused_request_is_no_exchange() -> None:
    assert kept(chat(user("a")), Answer(outcome="error", status=429), fresh=1) is None


def test_a_refusal_is_what_was_answered() -> None:
    assert answered(Answer(refusal="I cannot.")) == "I cannot."


def test_an_answer_that_repeats_our_block_is_kept_without_it() -> None:
    block = render([Memory("m", "fact", "Likes tea.", 0, 0, 0, type="profile")])

    assert answered(Answer(text=f"Sure: {block} there.")) == "Sure:  there."


def test_an_exchange_without_words_is_none() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,x"}}

    assert kept(chat(user([image])), Answer(text="A cat."), fresh=1) is None


def test_a_key_changes_the_id() -> None:
    request = chat(user("a"))
    ids = {
        exchange.id
        for key in (b"", b"k" * 32)
        if (
            exchange := exchange_of(
                request,
                Answer(text="b"),
                session="s",
                fresh=1,
                now=NOW,
                timezone=None,
                receipt_id=None,
                key=key,
            )
        )
    }
    assert len(ids) == 2


def test_a_continued_response_does_not_capture_the_answer_again() -> None:
    request = read_responses(
        b'{"previous_response_id":"resp_1","input":[{"role":"assistant","content":"b"},'
        b'{"role":"user","content":"c"}]}'
    )

    assert said(request, 9) == [("user", "c")]
    assert said(replace(request, previous_response_id=None), 9)[0] == ("assistant", "b")
