"""Requests to the responses API, mapped to messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.chat import NotForUs
from gateway.core.errors import BadRequest
from gateway.core.responses import read_responses


def body_of(**members: Any) -> bytes:
    return json.dumps({"model": "m", **members}, ensure_ascii=False).encode()


def test_instructions_are_the_system_message_and_a_string_is_the_users() -> None:
    request = read_responses(body_of(input="Grüße", instructions="Be kind.", stream=True))

    assert (request.api, request.model, request.stream) == ("responses", "m", True)
    assert [(m.role, m.text) for m in request.messages] == [
        ("system", "Be kind."),
        ("user", "Grüße"),
    ]


def test_items_of_input_are_messages_where_someone_says_or_does_something() -> None:
    request = read_responses(
        body_of(
            input=[
                {"type": "message", "role": "developer", "content": "Rules."},
                {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
                {"type": "reasoning", "summary": []},
                {"type": "function_call", "call_id": "c1", "name": "w", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "14°C"},
                {"type": "function_call_output", "output": [{"type": "input_text", "text": "x"}]},
                {"type": "item_reference", "id": "msg_1"},
                {"id": "msg_2"},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Mild."}],
                },
            ]
        )
    )

    assert [(m.role, m.text) for m in request.messages] == [
        ("developer", "Rules."),
        ("user", "Weather?"),
        ("assistant", ""),
        ("tool", "14°C"),
        ("tool", "x"),
        ("assistant", "Mild."),
    ]
    assert request.messages[2].tool_calls
    assert request.messages[3].tool_call_id == "c1"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ({"type": "local_shell_call_output", "call_id": "c1", "output": "40%"}, "40%"),
        ({"type": "shell_call_output", "call_id": "c1", "output": [{"stdout": "40%"}]}, ""),
        ({"type": "computer_call_output", "call_id": "c1", "output": {"image_url": "x"}}, ""),
        ({"type": "apply_patch_call_output", "call_id": "c1", "status": "completed"}, ""),
        ({"type": "mcp_approval_response", "approval_request_id": "c1", "approve": True}, ""),
    ],
)
def test_what_the_client_did_for_the_model_is_a_result(output: dict[str, Any], text: str) -> None:
    (done,) = read_responses(body_of(input=[output])).messages

    assert (done.role, done.text, done.tool_call_id) == ("tool", text, "c1")


def test_what_the_upstream_keeps_is_named() -> None:
    request = read_responses(
        body_of(input="hi", previous_response_id="resp_1", conversation={"id": "conv_1"})
    )

    assert request.previous_response_id == "resp_1"
    assert request.conversation == "conv_1"
    assert read_responses(body_of(input="hi", conversation="conv_2")).conversation == "conv_2"


@pytest.mark.parametrize(
    ("store", "kept"), [({}, True), (True, True), (None, True), (False, False)]
)
def test_the_upstream_keeps_a_request_unless_it_is_told_not_to(store: Any, kept: bool) -> None:
    members = {} if store == {} else {"store": store}
    assert read_responses(body_of(input="Hi", **members)).kept is kept


def test_input_may_be_absent_where_the_upstream_has_it() -> None:
    assert read_responses(body_of(previous_response_id="resp_1")).messages == ()
    assert read_responses(body_of(prompt={"id": "p"})).messages == ()


def test_absent_input_is_a_bad_request_otherwise() -> None:
    with pytest.raises(BadRequest, match='"input" is absent') as caught:
        read_responses(body_of())
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "members",
    [
        {"input": 7},
        {"input": ["hi"]},
        {"input": [{"role": "user", "content": 7}]},
        {"input": [{"content": "hi"}]},
        {"input": "hi", "instructions": ["x"]},
    ],
)
def test_anything_else_that_is_odd_is_not_for_us(members: dict[str, Any]) -> None:
    with pytest.raises(NotForUs):
        read_responses(body_of(**members))
