"""Chat completion requests, read in place."""

from __future__ import annotations

import base64
import json
import time
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.chat import NotForUs, Slot, read_chat
from gateway.core.errors import BadRequest
from tests.core.json_texts import Object, documents, repeatable, texts, write


def body_of(*messages: Any, **others: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **others}, ensure_ascii=False).encode()


def test_role_text_name_and_tool_ids_are_read() -> None:
    request = read_chat(
        body_of(
            {"role": "system", "content": "Be kind."},
            {"role": "user", "name": "Zoë", "content": "Grüße, 東京"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]},
            {"role": "tool", "tool_call_id": "c1", "content": "14°C"},
            stream=True,
            user="u1",
            safety_identifier="s1",
        )
    )

    assert (request.api, request.model, request.stream) == ("chat", "m", True)
    assert (request.user, request.safety_identifier) == ("u1", "s1")
    assert [m.role for m in request.messages] == ["system", "user", "assistant", "tool"]
    assert [m.text for m in request.messages] == ["Be kind.", "Grüße, 東京", "", "14°C"]
    assert request.messages[1].name == "Zoë"
    assert [m.tool_calls for m in request.messages] == [False, False, True, False]
    assert request.messages[3].tool_call_id == "c1"


def test_the_span_of_a_message_is_its_object_in_the_body() -> None:
    body = b' { "messages" : [ {"role":"user", "content":"\xc3\xa9"} , {"role":"user"}\n] }'

    first, second = read_chat(body).messages

    assert body[first.start : first.end] == b'{"role":"user", "content":"\xc3\xa9"}'
    assert body[second.start : second.end] == b'{"role":"user"}'


def test_text_parts_are_joined_and_other_parts_are_attachments() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    part = {"type": "text", "text": "What is ü?"}
    [message] = read_chat(body_of({"role": "user", "content": [part, image, part]})).messages

    assert message.text == "What is ü?\nWhat is ü?"
    assert len(message.attachments) == 1


def test_equal_attachments_have_equal_fingerprints_whatever_marks_clients_add() -> None:
    def attachment(data: str, **extra: Any) -> tuple[str, ...]:
        part = {"type": "image_url", "image_url": {"url": data}, **extra}
        return read_chat(body_of({"role": "user", "content": [part]})).messages[0].attachments

    cat, dog = "data:," + "a" * 100_000, "data:," + "a" * 99_999 + "b"
    assert attachment(cat) == attachment(cat, cache_control={"type": "ephemeral"})
    assert attachment(cat) != attachment(dog)


def test_a_refusal_counts_as_text() -> None:
    request = read_chat(
        body_of(
            {"role": "assistant", "content": None, "refusal": "I cannot."},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "Ich möchte nicht."}]},
        )
    )

    assert [m.text for m in request.messages] == ["I cannot.", "Ich möchte nicht."]


def test_lone_surrogates_do_not_reach_what_is_remembered() -> None:
    [message] = read_chat(
        rb'{"messages":[{"role":"user","content":"cut \ud83d off \ud83d\ude00"}]}'
    ).messages

    assert message.text == "cut \ufffd off 😀"


@repeatable
@given(
    st.lists(st.tuples(texts, texts, documents), min_size=1, max_size=4),
    documents,
    st.randoms(use_true_random=False),
)
def test_any_spelling_of_a_request_is_read_as_json_reads_it(
    turns: list[tuple[str, str, Any]], extra: Any, taste: Random
) -> None:
    messages = []
    for shadowed, text, other in turns:
        pairs: list[tuple[str, Any]] = [("role", "user"), ("x", other), ("content", text)]
        taste.shuffle(pairs)
        messages.append(Object((("content", shadowed), *pairs)))
    members = [("messages", messages), ("z", extra)]
    taste.shuffle(members)
    body = write(Object((("messages", "shadowed"), *members)), taste).encode()

    request = read_chat(body)

    assert [m.text for m in request.messages] == [text for _, text, _ in turns]
    expected = json.loads(body, parse_int=float)["messages"]
    spans = [json.loads(body[m.start : m.end], parse_int=float) for m in request.messages]
    assert json.dumps(spans) == json.dumps(expected)


def test_where_text_can_be_added_depends_on_the_content() -> None:
    body = body_of(
        {"role": "user", "content": "hi"},
        {"role": "user", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": []},
        {"role": "user"},
        {"role": "user", "content": None},
    )
    slots = [m.slot for m in read_chat(body).messages]

    kinds = [(slot.kind, slot.empty) if slot else None for slot in slots]
    assert kinds == [
        ("string", False),
        ("string", True),
        ("parts", False),
        ("parts", True),
        ("content_key", False),
        None,
    ]
    assert read_chat(body).new_system == Slot("message", body.index(b"[") + 1)


@pytest.mark.parametrize(
    "body", [b'{"model":"m"}', b'{"messages":null}', b'{"messages":{}}', b'{"messages":[]}']
)
def test_messages_that_are_absent_no_array_or_empty_are_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r'"messages" is .* Send an array') as caught:
        read_chat(body)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":["hi"]}',
        b'{"messages":[{"content":"hi"}]}',
        b'{"messages":[{"role":7,"content":"hi"}]}',
        b'{"messages":[{"role":"user","content":7}]}',
        b'{"messages":[{"role":"user","content":{"text":"hi"}}]}',
        b'{"messages":[{"role":"user","content":["hi"]}]}',
        b'{"messages":[{"role":"user","content":"hi"}],"stream":"yes"}',
        b'{"messages":[{"role":"user","content":"hi"}],"model":4}',
    ],
)
def test_anything_else_that_is_odd_is_not_for_us(body: bytes) -> None:
    with pytest.raises(NotForUs):
        read_chat(body)


def test_parts_of_odd_types_do_not_disturb() -> None:
    body = body_of({"role": "user", "content": [{"type": ["x"]}, {"type": "text", "text": 7}, {}]})

    assert read_chat(body).messages[0].text == ""


def test_a_missing_model_and_a_null_stream_flag_are_fine() -> None:
    request = read_chat(b'{"messages":[{"role":"user","content":"hi"}],"stream":null}')

    assert (request.model, request.stream) == ("", False)


def test_a_named_tool_choice_is_seen() -> None:
    named = {"type": "function", "function": {"name": "answer"}}

    assert read_chat(body_of({"role": "user"}, tool_choice=named)).forced_tool
    assert not read_chat(body_of({"role": "user"}, tool_choice="auto")).forced_tool


TOOLS = [{"type": "function", "function": {"name": "answer"}}]


@pytest.mark.parametrize(
    ("more", "forced"),
    [
        ({"tool_choice": "required"}, True),
        ({"tool_choice": "any"}, True),
        ({"tool_choice": {"type": "custom", "custom": {"name": "answer"}}}, True),
        ({"tool_choice": {"type": "allowed_tools", "mode": "required", "tools": TOOLS}}, True),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": TOOLS},
                }
            },
            True,
        ),
        ({"function_call": {"name": "answer"}}, True),
        ({"tool_choice": "none"}, False),
        ({"tool_choice": None}, False),
        ({"tool_choice": ["required"]}, False),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": TOOLS}}, False),
        ({"tool_choice": {"type": "file_search"}}, False),
        ({"function_call": "auto"}, False),
    ],
)
def test_a_call_may_be_forced_in_other_words(more: dict[str, Any], forced: bool) -> None:
    assert read_chat(body_of({"role": "user"}, **more)).forced_tool is forced


def test_ten_megabytes_of_image_are_read_at_memory_speed() -> None:
    data = base64.b64encode(bytes(7_500_000)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    body = body_of({"role": "user", "content": [{"type": "text", "text": "東京"}, part]})

    start = time.perf_counter()
    request = read_chat(body)
    seconds = time.perf_counter() - start

    assert request.messages[0].text == "東京"
    assert seconds < 1.0  # 0.03 s on the machine it was written on
