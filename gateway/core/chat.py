"""A chat completion request, read in place: what was said, and where a block could be put.

Nothing here changes or re-serialises a body. `read_chat` finds the byte offsets of the
messages and of their contents (`core/scan`); `core/injection` inserts at them. What the
upstream may like but this reader does not is `NotForUs`: forwarded without memory. What is
plainly a mistake of the caller's is `BadRequest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.core.errors import BadRequest
from gateway.core.noted import Noted
from gateway.core.scan import (
    NotForUs,
    Span,
    array_reader,
    object_reader,
    read_body,
    read_value,
    text_of,
    whole,
)

__all__ = ["Api", "ChatRequest", "Message", "NotForUs", "Slot", "read_chat"]

Api = Literal["chat", "responses"]

SlotKind = Literal["string", "parts", "content_key", "message", "instructions_key"]

TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of content parts that are text, and the member that holds it."""
ATTACHMENT_SAMPLE = 32 * 1024
"""Characters at each end of an attachment that its fingerprint covers, beside its length."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in the body where text can be put by insertion alone.

    `at` is a byte offset: before the closing quote of a string, before the closing bracket of
    an array of parts, or just inside an object or array that is to get a new first member.
    `empty`: nothing stands there yet (so no blank line, no comma).
    """

    kind: SlotKind
    at: int
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `text` is a string's or the text parts' content ("" if there is none);
    refusals count as text. `start` and `end` bound the message in the body, in bytes.

    `slot` is where text can be added to its content; None where that takes more than an
    insertion (null). `attachments` are fingerprints of what is not text.
    """

    role: str
    text: str
    name: str | None
    tool_calls: bool
    tool_call_id: str | None
    start: int
    end: int
    slot: Slot | None = None
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatRequest(Noted):
    """A request for an answer, of either API. For responses, `instructions` and input items
    are mapped to messages.

    `new_system` is where a system message of our own can be put, `conversation` and
    `previous_response_id` are the upstream's own state that the request builds on, `kept` says
    that it becomes part of it: the result of a call may then come without what was asked.
    `forced_tool` says that the caller wants a tool called, whatever the model would, as structured
    output is often asked for: the call is the answer then, and perhaps no tool loop follows.
    Noted on it: who said what (`core/capture`).
    """

    body: bytes
    api: Api
    model: str
    stream: bool
    messages: tuple[Message, ...]
    user: str | None = None
    safety_identifier: str | None = None
    new_system: Slot | None = None
    conversation: str | None = None
    previous_response_id: str | None = None
    kept: bool = False
    forced_tool: bool = False


def read_content(view: str, at: int) -> tuple[Any, int]:
    return _parts(view, at) if view.startswith("[", at) else read_value(view, at)


_parts = array_reader(read_value)
read_message = object_reader({"content": read_content})
_READERS = {"messages": array_reader(read_message)}


def read_chat(body: bytes) -> ChatRequest:
    """Read the body of `POST /v1/chat/completions`.

    Raises BadRequest where it is no JSON object or `messages` is absent, no array or empty;
    NotForUs for anything else that is odd.
    """
    members = read_body(body, _READERS)
    messages = members.get("messages")
    if messages is None or not isinstance(messages.value, list) or not messages.value:
        found = "absent" if messages is None else "empty"
        if messages is not None and not isinstance(messages.value, list):
            found = "not an array"
        raise BadRequest(
            f'"messages" is {found}. Send an array of at least one message, such as'
            ' {"role": "user", "content": "Hello"}.',
            param="messages",
        )
    return ChatRequest(
        body=body,
        api="chat",
        model=read_model(body, members),
        stream=read_stream(members),
        messages=tuple(_message(body, item) for item in messages.value),
        user=text_of(body, members.get("user")),
        safety_identifier=text_of(body, members.get("safety_identifier")),
        new_system=Slot("message", messages.start + 1),
        forced_tool=forces_a_call(members),
    )


def _message(body: bytes, item: Span) -> Message:
    if not isinstance(item.value, dict):
        raise NotForUs("a message that is no object")
    members: Mapping[str, Span] = item.value
    member = members.get
    text, slot, attachments = content_of(body, item, member("content"))
    calls = member("tool_calls") or member("function_call")
    return Message(
        role=required_role(body, members),
        text=text or text_of(body, member("refusal")) or "",
        name=text_of(body, member("name")),
        tool_calls=bool(calls and calls.value),
        tool_call_id=text_of(body, member("tool_call_id")),
        start=item.start,
        end=item.end,
        slot=slot,
        attachments=attachments,
    )


def content_of(
    body: bytes, item: Span, content: Span | None
) -> tuple[str, Slot | None, tuple[str, ...]]:
    """Text, slot and attachments of a message's content: a string, an array of parts, null,
    or none at all."""
    if content is None:
        return "", Slot("content_key", item.start + 1), ()
    if content.value is None:
        return "", None, ()
    if isinstance(content.value, str):
        slot = Slot("string", content.end - 1, empty=content.value == "")
        return text_of(body, content) or "", slot, ()
    if isinstance(content.value, list):
        slot = Slot("parts", content.end - 1, empty=not content.value)
        text, attachments = read_parts(body, content.value)
        return text, slot, attachments
    raise NotForUs("content that is neither text nor parts")


def read_parts(body: bytes, parts: Iterable[Span]) -> tuple[str, tuple[str, ...]]:
    """The text of content parts, a line each, and fingerprints of those that are not text."""
    texts: list[str] = []
    attachments: list[str] = []
    for part in parts:
        if not isinstance(part.value, dict):
            raise NotForUs("a content part that is no object")
        kind = str(part.value.get("type"))
        key = TEXT_PARTS.get(kind)
        if key is None:
            attachments.append(f"{kind}:{_fingerprint(part.value)}")
            continue
        text = part.value.get(key)
        if isinstance(text, str) and not text.isascii() and not body.isascii():
            # The view showed bytes, not characters: read this part again as UTF-8.
            text = read_value(body[part.start : part.end].decode(), 0)[0][key]
        if isinstance(text, str):
            texts.append(whole(text))
    return "\n".join(texts), tuple(attachments)


def read_model(body: bytes, members: Mapping[str, Span]) -> str:
    """The model's name; "" where there is none (some deployments have it in their path)."""
    model = members.get("model")
    if model is not None and not isinstance(model.value, str | None):
        raise NotForUs("a model that is no string")
    return text_of(body, model) or ""


def read_stream(members: Mapping[str, Span]) -> bool:
    stream = members.get("stream")
    if stream is None or stream.value is None:
        return False
    if not isinstance(stream.value, bool):
        raise NotForUs("a stream flag that is neither true nor false")
    return stream.value


def required_role(body: bytes, members: Mapping[str, Span]) -> str:
    role = text_of(body, members.get("role"))
    if not role:
        raise NotForUs("a message without a role")
    return role


def forces_a_call(members: Mapping[str, Span]) -> bool:
    """One named tool, or any ("required"; Mistral's word is "any"): also as agents' frameworks ask
    for structured output, which give the answer's shape as one tool among others. `function_call`
    is what `tool_choice` was called before."""
    span, before = members.get("tool_choice"), members.get("function_call")
    choice = span.value if span is not None else None
    if not isinstance(choice, dict):
        return choice in ("required", "any") or (
            before is not None and isinstance(before.value, dict)
        )
    if choice.get("type") == "allowed_tools":  # of chat in an object of its own
        inner = choice.get("allowed_tools")
        return (inner if isinstance(inner, dict) else choice).get("mode") == "required"
    return choice.get("type") in ("function", "custom")


def _fingerprint(part: Mapping[str, Any]) -> str:
    """Tells attachments apart by their longest string (a URL, the data): markers that clients
    move about, such as `cache_control`, do not count."""
    longest = max(_strings(part), key=len, default="")
    if len(longest) > 2 * ATTACHMENT_SAMPLE:
        sample = longest[:ATTACHMENT_SAMPLE] + longest[-ATTACHMENT_SAMPLE:]
    else:
        sample = longest
    data = f"{len(longest)}:{sample}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _strings(value: Any) -> Iterable[str]:
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
