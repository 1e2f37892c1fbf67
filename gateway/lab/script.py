"""What a scripted upstream can be told to say, and how a model's words look on the wire.

`Say` is an answer of the model, in whichever shape the request asks for (chat or responses,
whole or streamed). `Raw` is exactly the bytes and steps given, for everything that a real
upstream should not do and does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

CREATED = 1_700_000_000
MODEL = "scripted"


# --- what can be scripted ------------------------------------------------------------------


class Gate:
    """A point in a stream that is passed once the test (in any thread) opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    async def passed(self) -> None:
        # Polled, as the event is set from another thread's loop; a millisecond is far below
        # anything that is measured through a gate.
        while not self._open.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Die:
    """The connection is closed here, whatever was promised."""


class Stall:
    """Nothing more comes; ends when the client leaves."""


Step: TypeAlias = bytes | float | Gate | Die | Stall
"""Bytes are sent as one chunk; a number is a pause in seconds."""


@dataclass(frozen=True)
class ToolCall:
    """A function call in an answer; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True)
class Say:
    """An answer of the model, as the request wants it: whole or streamed, chat or responses.

    Streamed, `text` comes word by word with `pause_s` between chunks.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    pause_s: float = 0.0
    headers: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Raw:
    """Exactly these bytes: `steps` one after the other, or `body` in one.

    A `content-length` is sent for a `body`, and a `steps` answer is chunked, unless
    `headers` say otherwise. `before` happens before the head is sent.
    """

    body: bytes = b""
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    steps: Sequence[Step] | None = None
    before: Sequence[Step] = ()


def sse(*chunks: bytes | Step, status: int = 200, before: Sequence[Step] = ()) -> Raw:
    """An event stream of exactly these steps."""
    return Raw(
        status=status,
        headers=(("content-type", "text/event-stream; charset=utf-8"),),
        steps=chunks,
        before=before,
    )


def refusal(status: int, message: str, *, code: str | None = None, **headers: str) -> Raw:
    """An OpenAI-shaped error."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Raw(
        body=json.dumps({"error": error}).encode(),
        status=status,
        headers=[("content-type", "application/json"), *named],
    )


Scripted: TypeAlias = Say | Raw


# --- what a model says, in the wire's shapes -------------------------------------------------


def as_json(value: Any) -> Raw:
    """An answer of one JSON value."""
    return Raw(body=json.dumps(value, ensure_ascii=False).encode())


def spoken(say: Say, path: str, body: Mapping[str, Any]) -> Raw:
    """The answer as this request wants it."""
    if path.endswith("/responses"):
        raw = _responses_stream(say, body) if body.get("stream") else as_json(_response(say, body))
    elif body.get("stream"):
        raw = _chat_stream(say, body)
    else:
        raw = as_json(_completion(say, body))
    return Raw(raw.body, raw.status, [*raw.headers, *say.headers], raw.steps)


def _usage(say: Say) -> dict[str, int]:
    words = len(say.text.split())
    return {"prompt_tokens": 10, "completion_tokens": words, "total_tokens": 10 + words}


def _finish(say: Say) -> str:
    return say.finish_reason or ("tool_calls" if say.tool_calls else "stop")


def _tool(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _completion(say: Say, body: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": say.text or None}
    message["refusal"] = say.refusal
    if say.tool_calls:
        message["tool_calls"] = [_tool(call) for call in say.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(say)}
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": CREATED,
        "model": body.get("model", MODEL),
        "choices": [choice],
        "usage": _usage(say),
    }


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*|\s+", text)


def _chat_stream(say: Say, body: Mapping[str, Any]) -> Raw:
    def event(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**head, "choices": [choice]})

    head = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": body.get("model", MODEL),
    }
    deltas: list[Mapping[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in _words(say.text)]
    deltas += [{"refusal": word} for word in _words(say.refusal or "")]
    for n, call in enumerate(say.tool_calls):
        opening = {**_tool(call), "index": n}
        opening["function"] = {"name": call.name, "arguments": ""}
        deltas.append({"tool_calls": [opening]})
        part = {"index": n, "function": {"arguments": call.arguments}}
        deltas.append({"tool_calls": [part]})
    events = [event(delta) for delta in deltas]
    events.append(event({}, _finish(say)))
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(_data({**head, "choices": [], "usage": _usage(say)}))
    events.append(b"data: [DONE]\n\n")
    return sse(*_paced(events, say.pause_s))


def _data(value: Any, event: str | None = None) -> bytes:
    named = f"event: {event}\n" if event else ""
    return f"{named}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _paced(events: Sequence[bytes], pause_s: float) -> list[Step]:
    if not pause_s:
        return list(events)
    return list(itertools.chain.from_iterable((event, pause_s) for event in events))


def _response(say: Say, body: Mapping[str, Any], status: str = "completed") -> dict[str, Any]:
    output: list[dict[str, Any]] = [
        {
            "id": f"fc_{n}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for n, call in enumerate(say.tool_calls)
    ]
    if say.text or not output:
        output.append(_message(say.text))
    words = len(say.text.split())
    return {
        "id": "resp_scripted",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": body.get("model", MODEL),
        "output": output if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {"input_tokens": 10, "output_tokens": words, "total_tokens": 10 + words},
    }


def _message(text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def _responses_stream(say: Say, body: Mapping[str, Any]) -> Raw:
    numbers = itertools.count()

    def event(kind: str, **fields: Any) -> bytes:
        return _data({"type": kind, "sequence_number": next(numbers), **fields}, kind)

    whole = _response(say, body)
    events = [event("response.created", response=_response(say, body, "in_progress"))]
    for n, item in enumerate(whole["output"]):
        at = {"item_id": item["id"], "output_index": n}
        events.append(event("response.output_item.added", output_index=n, item=item))
        if item["type"] == "message":
            part = {**at, "content_index": 0}
            blank = {"type": "output_text", "text": "", "annotations": []}
            events.append(event("response.content_part.added", **part, part=blank))
            events += [
                event("response.output_text.delta", **part, delta=word, logprobs=[])
                for word in _words(say.text)
            ]
            events.append(event("response.output_text.done", **part, text=say.text, logprobs=[]))
        else:
            events.append(
                event("response.function_call_arguments.done", **at, arguments=item["arguments"])
            )
        events.append(event("response.output_item.done", output_index=n, item=item))
    events.append(event("response.completed", response=whole))
    return sse(*_paced(events, say.pause_s))
