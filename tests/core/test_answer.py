"""What chunks and bodies of both APIs say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.answer import MAX_TEXT_CHARS, Answer, ChatAnswer, ResponsesAnswer, ToolCall
from tests.core.json_texts import repeatable


def chat(*deltas: Any, finish: str | None = "stop") -> Answer:
    """An answer of these deltas of choice 0."""
    reader = ChatAnswer()
    for delta in deltas:
        reader.event("message", {"choices": [{"index": 0, "delta": delta}]})
    if finish:
        reader.event("message", {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    return reader.answer("complete", 200)


def call(arguments: str = "", **more: Any) -> dict[str, Any]:
    name = more.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"function": function, **more}


def calls(*deltas: list[dict[str, Any]]) -> list[tuple[str | None, str, str]]:
    answer = chat(*({"tool_calls": d} for d in deltas), finish="tool_calls")
    return [(c.id, c.name, c.arguments) for c in answer.tool_calls]


# --- chat completions --------------------------------------------------------------------


def test_the_first_choice_is_what_is_remembered() -> None:
    reader = ChatAnswer()
    for index, text in ((0, "Hel"), (1, "Bonj"), (0, "lo"), (1, "our")):
        reader.event("", {"choices": [{"index": index, "delta": {"content": text}}]})
    reader.event("", {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]})
    answer = reader.answer("complete", 200)

    assert (answer.text, answer.choices, answer.finish_reason) == ("Hello", 2, None)


def test_usage_model_and_id_are_read_also_from_a_chunk_without_choices() -> None:
    reader = ChatAnswer()
    reader.event("", {"id": "c-1", "model": "m-1", "choices": [{"delta": {"content": "Hi"}}]})
    reader.event("", {"id": "c-1", "choices": [], "usage": {"total_tokens": 7}})
    answer = reader.answer("complete", 200)

    assert (answer.text, answer.model, answer.response_id) == ("Hi", "m-1", "c-1")
    assert answer.usage == {"total_tokens": 7}


def test_usage_is_whole_numbers_whatever_the_upstream_sends() -> None:
    reader = ChatAnswer()
    odd = {"total_tokens": 7.0, "prompt_tokens": float("nan"), "x": "9", "details": {"a": 1}}
    reader.event("", {"usage": odd})

    assert reader.answer("complete", 200).usage == {"total_tokens": 7, "details": {"a": 1}}


@pytest.mark.parametrize("count", [1e308, -1e308, 10**30, float("inf")])
def test_what_no_answer_can_have_taken_is_no_count(count: float) -> None:
    reader = ChatAnswer()
    reader.event("", {"usage": {"total_tokens": count, "prompt_tokens": 3}})

    assert reader.answer("complete", 200).usage == {"prompt_tokens": 3}


def test_a_refusal_is_read() -> None:
    assert chat({"refusal": "I can"}, {"refusal": "not."}).refusal == "I cannot."


def test_a_surrogate_pair_split_over_two_chunks_is_one_character() -> None:
    assert chat({"content": "a\ud83d"}, {"content": "\ude00b"}).text == "a😀b"


def test_content_in_parts_is_read_without_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}]

    assert chat({"content": parts}).text == "Hi"


def test_of_what_is_spoken_the_transcript_is_read() -> None:
    spoken = [{"audio": {"id": "a"}}, *({"audio": {"transcript": t}} for t in ("Hel", "lo"))]

    assert chat(*spoken, {"audio": {"data": "AAAA", "expires_at": 1}}).text == "Hello"
    assert chat({"content": "Hello", "audio": {"transcript": "Hello"}}).text == "Hello"


def test_parallel_tool_calls_are_put_together_by_index() -> None:
    assert calls(
        [call(index=0, id="a", name="f")],
        [call(index=1, id="b", name="g")],
        [call('{"x"', index=0), call('{"y"', index=1)],
        [call(":2}", index=1)],
        [call(":1}", index=0)],
    ) == [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')]


def test_without_index_tool_calls_are_put_together_by_id() -> None:
    assert calls(
        [call("{", id="a", name="f"), call("[", id="b", name="g")],
        [call("]", id="b")],
        [call("}", id="a")],
    ) == [("a", "f", "{}"), ("b", "g", "[]")]


def test_without_index_and_id_a_lone_piece_goes_on_with_the_last_call() -> None:
    assert calls([call("{", id="a", name="f")], [call("[", id="b", name="g")], [call("]")]) == [
        ("a", "f", "{"),
        ("b", "g", "[]"),
    ]


def test_without_index_and_id_pieces_go_by_their_position() -> None:
    assert calls([call("{", name="f"), call("[", name="g")], [call("}"), call("]")]) == [
        (None, "f", "{}"),
        (None, "g", "[]"),
    ]


def test_without_index_and_id_another_name_is_another_call() -> None:
    assert calls([call("{}", name="f")], [call("{}", name="f")]) == [
        (None, "f", "{}"),
        (None, "f", "{}"),
    ]


def test_calls_that_share_an_index_are_told_apart_by_id() -> None:
    assert calls(
        [call("{", index=0, id="a", name="f")],
        [call("{", index=0, id="b", name="g")],
        [call("}", index=0, id="a")],
        [call("}", index=0, id="b")],
    ) == [("a", "f", "{}"), ("b", "g", "{}")]


def test_an_answer_that_ends_in_tool_calls_is_not_final() -> None:
    assert not chat({"tool_calls": [call(index=0, id="a", name="f")]}, finish="tool_calls").final
    assert not chat({"tool_calls": [call(index=0, id="a", name="f")]}, finish="stop").final
    assert not chat({"function_call": {"name": "f", "arguments": "{}"}}, finish=None).final
    assert chat({"content": "Hi"}).final


def test_an_error_object_in_a_chunk_is_an_error() -> None:
    for error in ({"error": {"message": "overloaded"}}, {"error": "overloaded", "choices": []}):
        reader = ChatAnswer()
        reader.event("", error)
        assert reader.answer("error", 200).error
    assert chat({"content": "Hi"}, finish="error").error
    assert not chat({"content": "Hi"}).error


def test_an_answer_in_one_piece_is_read_from_its_message() -> None:
    reader = ChatAnswer()
    reader.body(
        {
            "id": "c-1",
            "model": "m",
            "usage": {"total_tokens": 3},
            "choices": [
                {"index": 1, "message": {"content": "second"}},
                {"index": 0, "message": {"content": "first"}, "finish_reason": "length"},
            ],
        }
    )
    answer = reader.answer("complete", 200)

    assert (answer.text, answer.finish_reason, answer.choices) == ("first", "length", 2)


def test_text_is_kept_up_to_a_bound() -> None:
    answer = chat(*({"content": "x" * 2**20} for _ in range(6)))

    assert len(answer.text) == MAX_TEXT_CHARS
    assert answer.truncated


# --- responses ---------------------------------------------------------------------------


def response(*events: dict[str, Any]) -> Answer:
    reader = ResponsesAnswer()
    for event in events:
        reader.event(event.get("type", "message"), event)
    return reader.answer("complete", 200)


WHOLE = {
    "id": "resp_1",
    "model": "m",
    "status": "completed",
    "usage": {"total_tokens": 5},
    "output": [
        {"type": "reasoning", "summary": [{"text": "hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
    ],
}


def test_the_response_of_the_last_event_is_the_answer() -> None:
    answer = response(
        {"type": "response.created", "response": {"id": "resp_1", "output": []}},
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.completed", "response": WHOLE},
    )

    assert (answer.text, answer.model, answer.response_id) == ("Hello", "m", "resp_1")
    assert (answer.finish_reason, answer.usage) == ("stop", {"total_tokens": 5})
    assert answer.final


def test_where_its_output_is_empty_the_pieces_are_the_answer() -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}
    answer = response(
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.output_text.delta", "delta": "lo"},
        {"type": "response.refusal.delta", "delta": "No."},
        {"type": "response.output_item.added", "item": item},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"a":'},
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": "1}"},
        {"type": "response.completed", "response": {"status": "completed", "output": []}},
    )

    assert (answer.text, answer.refusal) == ("Hello", "No.")
    assert answer.tool_calls == (ToolCall("c1", "f", '{"a":1}'),)
    assert not answer.final


def test_a_finished_item_has_the_whole_call() -> None:
    item = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    answer = response(
        {"type": "response.output_item.added", "item": {**item, "arguments": ""}},
        {"type": "response.output_item.done", "item": item},
    )

    assert answer.tool_calls == (ToolCall("c1", "f", "{}"),)


def test_a_response_in_one_piece_is_read() -> None:
    reader = ResponsesAnswer()
    call = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    reader.body({**WHOLE, "output": [*WHOLE["output"], call]})  # type: ignore[misc]
    answer = reader.answer("complete", 200)

    assert answer.text == "Hello"
    assert answer.tool_calls == (ToolCall("c1", "f", "{}"),)
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("kind", ["computer", "local_shell", "shell", "apply_patch"])
def test_whatever_the_client_is_to_do_is_a_call_until_its_output_is_there(kind: str) -> None:
    call = {"type": f"{kind}_call", "id": "x1", "call_id": "c1", "action": {}}
    output = {"type": f"{kind}_call_output", "call_id": "c1", "output": []}

    for items, final in (([call], False), ([call, output], True)):
        reader = ResponsesAnswer()
        reader.body({**WHOLE, "output": items})
        assert reader.answer("complete", 200).final is final


def test_an_approval_that_is_asked_for_is_a_call() -> None:
    reader = ResponsesAnswer()
    reader.body({**WHOLE, "output": [{"type": "mcp_approval_request", "id": "m1", "name": "f"}]})

    assert not reader.answer("complete", 200).final


def test_an_incomplete_response_ended_for_its_length() -> None:
    details = {"reason": "max_output_tokens"}
    ended = {**WHOLE, "status": "incomplete", "incomplete_details": details}

    assert response({"type": "response.incomplete", "response": ended}).finish_reason == "length"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "message": "overloaded"},
        {"type": "response.failed", "response": {"error": {"message": "x"}}},
    ],
)
def test_failures_of_a_response_are_errors(event: dict[str, Any]) -> None:
    assert response(event).error


# --- hostile shapes ------------------------------------------------------------------------

MEMBERS = [
    "choices",
    "index",
    "delta",
    "message",
    "content",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "error",
    "usage",
    "model",
    "finish_reason",
    "refusal",
    "type",
    "text",
    "item",
    "item_id",
    "response",
    "output",
    "status",
    "function_call",
    "incomplete_details",
    "reason",
    "call_id",
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=4),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(MEMBERS),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=25,
)
kinds = st.sampled_from(
    [
        "message",
        "error",
        "response.output_text.delta",
        "response.output_item.added",
        "response.output_item.done",
        "response.function_call_arguments.delta",
        "response.completed",
        "response.failed",
    ]
)


@repeatable
@given(st.lists(st.tuples(kinds, values), max_size=6), values)
def test_no_shape_of_an_answer_raises(events: list[tuple[str, Any]], body: Any) -> None:
    for reader in (ChatAnswer(), ResponsesAnswer()):
        for name, value in events:
            reader.event(name, value)
        reader.body(body)
        reader.answer("complete", 200).text.encode()
