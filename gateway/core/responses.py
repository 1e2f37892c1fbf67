"""A request to the responses API, read in place into the same shape as a chat completion.

`instructions` stands for the first system message, a string input for a user message, and
of a list's items those that are said or done by someone are messages: `message` items,
calls that the client is to answer (assistant) and their outputs (tool). Reasoning items,
references and the calls of the upstream's own tools are not looked at.

A new block goes into a new `instructions` member where there is none: the upstream does not
carry instructions over with `previous_response_id`, so blocks do not pile up in its state.
A stored `prompt` has instructions of its own, which a member of ours would replace: there,
and where `instructions` is null, a system item is put first in the list of input.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.chat import (
    ChatRequest,
    Message,
    NotForUs,
    Slot,
    content_of,
    forces_a_call,
    read_content,
    read_model,
    read_parts,
    read_stream,
    required_role,
)
from gateway.core.errors import BadRequest
from gateway.core.scan import Span, array_reader, object_reader, read_body, text_of

__all__ = ["read_responses"]

_ITEM = object_reader({"content": read_content, "output": read_content})
_READERS = {"input": array_reader(_ITEM)}

_BY_CALL_ID = ("function", "custom_tool", "computer", "local_shell", "shell", "apply_patch")
CALLS = frozenset({*(f"{tool}_call" for tool in _BY_CALL_ID), "mcp_approval_request"})
OUTPUTS = frozenset({*(f"{tool}_call_output" for tool in _BY_CALL_ID), "mcp_approval_response"})


def read_responses(body: bytes) -> ChatRequest:
    """Read the body of `POST /v1/responses`.

    Raises BadRequest where it is no JSON object, or `input` is absent with nothing that could
    stand for it; NotForUs for anything else that is odd.
    """
    members = read_body(body, _READERS)
    given = members.get("input")
    conversation = _conversation(body, members)
    previous = text_of(body, members.get("previous_response_id"))
    if given is None and not (conversation or previous or "prompt" in members):
        raise BadRequest(
            '"input" is absent. Send a string, or an array of input items such as'
            ' {"role": "user", "content": "Hello"}.',
            param="input",
        )
    return ChatRequest(
        body=body,
        api="responses",
        model=read_model(body, members),
        stream=read_stream(members),
        messages=(*_instructions(body, members), *_input(body, given)),
        user=text_of(body, members.get("user")),
        safety_identifier=text_of(body, members.get("safety_identifier")),
        new_system=_new_system(body, members, given),
        conversation=conversation,
        previous_response_id=previous,
        kept=_is_kept(members),
        forced_tool=forces_a_call(members),
    )


def _conversation(body: bytes, members: Mapping[str, Span]) -> str | None:
    """`conversation` is an id, or an object that holds one."""
    span = members.get("conversation")
    if span is not None and isinstance(span.value, dict):
        id = span.value.get("id")
        return id if isinstance(id, str) else None
    return text_of(body, span)


def _is_kept(members: Mapping[str, Span]) -> bool:
    """The upstream keeps what it answers, unless it is told not to."""
    store = members.get("store")
    return store is None or store.value is not False


def _instructions(body: bytes, members: Mapping[str, Span]) -> tuple[Message, ...]:
    span = members.get("instructions")
    if span is None or span.value is None:
        return ()
    if not isinstance(span.value, str):
        raise NotForUs("instructions that are no string")
    slot = Slot("string", span.end - 1, empty=span.value == "")
    return (_said("system", text_of(body, span) or "", span, slot),)


def _input(body: bytes, given: Span | None) -> tuple[Message, ...]:
    if given is None or given.value is None:
        return ()
    if isinstance(given.value, str):
        slot = Slot("string", given.end - 1, empty=given.value == "")
        return (_said("user", text_of(body, given) or "", given, slot),)
    if not isinstance(given.value, list):
        raise NotForUs("input that is neither text nor items")
    items = (_item(body, item) for item in given.value)
    return tuple(item for item in items if item is not None)


def _item(body: bytes, item: Span) -> Message | None:
    if not isinstance(item.value, dict):
        raise NotForUs("an input item that is no object")
    members: Mapping[str, Span] = item.value
    kind = text_of(body, members.get("type")) or "message"
    call_id = text_of(body, members.get("call_id") or members.get("approval_request_id"))
    if kind in CALLS:
        return Message("assistant", "", None, True, call_id, item.start, item.end)
    if kind in OUTPUTS:
        text = _output(body, members.get("output"))
        return Message("tool", text, None, False, call_id, item.start, item.end)
    if kind != "message" or not ("role" in members or "content" in members):
        return None  # an item of another type, or a bare reference to one ({"id": ...})
    role = required_role(body, members)
    text, slot, attachments = content_of(body, item, members.get("content"))
    return _said(role, text, item, slot, attachments)


def _output(body: bytes, output: Span | None) -> str:
    if output is not None and isinstance(output.value, list):
        return read_parts(body, output.value)[0]
    return text_of(body, output) or ""


def _said(
    role: str, text: str, span: Span, slot: Slot | None, attachments: tuple[str, ...] = ()
) -> Message:
    return Message(role, text, None, False, None, span.start, span.end, slot, attachments)


def _new_system(body: bytes, members: Mapping[str, Span], given: Span | None) -> Slot | None:
    if "instructions" not in members and not _stored_prompt(members):
        return Slot("instructions_key", _past_the_brace(body))
    if given is not None and isinstance(given.value, list):
        return Slot("message", given.start + 1, empty=not given.value)
    return None


def _stored_prompt(members: Mapping[str, Span]) -> bool:
    prompt = members.get("prompt")
    return prompt is not None and prompt.value is not None


def _past_the_brace(body: bytes) -> int:
    """Only white space stands before the object's own brace."""
    return body.index(b"{") + 1
