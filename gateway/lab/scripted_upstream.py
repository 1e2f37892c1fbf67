"""An upstream that says what it is told to: the demo's model, and every test's.

A real uvicorn on a real loopback port, in a thread of its own, so that what is proved
against it (timing, breaks, leaving clients) holds for real upstreams too. It records each
request raw, and answers from a script: one answer a request, in order; without a script, a
default. Embeddings are deterministic: texts that share words get near vectors.

    with ScriptedUpstream() as upstream:
        upstream.script(Say("Hello"), Raw(status=429, headers=[("retry-after", "7")]))
        ...
        upstream.requests[0].json()
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import json
import math
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import uvicorn

from gateway.flows.tasks import beside, ended

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

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
Chooser: TypeAlias = Callable[["Recorded"], Scripted]


@dataclass
class Recorded:
    """A request as it came. `left` is set once its client is gone before the answer's end."""

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    left: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next(iter(self.values(name)), None)

    def values(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    @property
    def is_extraction(self) -> bool:
        return b"memory_extraction" in self.body


# --- the server ----------------------------------------------------------------------------


class ScriptedUpstream:
    """Runs from `start` to `stop` (or as a context manager). All methods are thread-safe.

    `default` answers what no script does; `facts` answers extraction requests, given the
    request's last message as read JSON (CONTRACT §7).
    """

    def __init__(
        self,
        default: Scripted | Chooser | None = None,
        *,
        facts: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] | None = None,
        dimensions: int = 64,
        port: int = 0,
    ) -> None:
        self.default: Scripted | Chooser = default or Say("ok")
        self.facts = facts
        self.dimensions = dimensions
        self.all: list[Recorded] = []
        self.requests: list[Recorded] = []
        self._script: deque[Scripted | Chooser] = deque()
        self._port = port
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def script(self, *answers: Scripted | Chooser) -> Self:
        """The next requests' answers (extraction, embeddings and models are not counted)."""
        self._script.extend(answers)
        return self

    def renewed(self) -> Self:
        """As new: nothing seen, nothing scripted, running."""
        self.clear()
        self.default, self.facts = Say("ok"), None
        return self if self._server is not None else self.start()

    def clear(self) -> None:
        """Forget the requests seen and the answers not yet given."""
        self.all.clear()
        self.requests.clear()
        self._script.clear()

    def start(self) -> Self:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="scripted-upstream", daemon=True
        )
        self._thread.start()
        waited = threading.Event()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the scripted upstream did not start")
            waited.wait(0.002)
        return self

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=10)
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- one request ---

    async def app(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """The ASGI application, for whoever brings a server of their own."""
        if scope["type"] != "http":
            return
        request = Recorded(
            method=scope["method"],
            path=scope["path"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            headers=list(scope["headers"]),
        )
        if not await _read(request, receive):
            return
        self.all.append(request)
        answer = self._choose(request)
        leaving = beside(_watch(request, receive), "scripted upstream: watch the client")
        try:
            await _give(answer, request, send)
        finally:
            request.done.set()
            await ended(leaving)

    def _choose(self, request: Recorded) -> Scripted:
        if request.path.endswith("/embeddings"):
            return _json(self._embeddings(request.json()))
        if request.path.endswith("/models"):
            return _json({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        if request.is_extraction:
            return self._extraction(request.json())
        self.requests.append(request)
        chosen = self._script.popleft() if self._script else self.default
        return chosen(request) if callable(chosen) else chosen

    def _extraction(self, body: Mapping[str, Any]) -> Say:
        batch = json.loads(body["messages"][-1]["content"])
        facts = list(self.facts(batch)) if self.facts else []
        return Say(json.dumps({"facts": facts}, ensure_ascii=False))

    def _embeddings(self, body: Mapping[str, Any]) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        size = body.get("dimensions") or self.dimensions
        vectors = [embed(text, size) for text in texts]
        if body.get("encoding_format") == "base64":
            shown: list[Any] = [
                base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors
            ]
        else:
            shown = list(vectors)
        data = [
            {"object": "embedding", "index": n, "embedding": one} for n, one in enumerate(shown)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return {"object": "list", "model": body.get("model"), "data": data, "usage": usage}


def embed(text: str, dimensions: int = 64) -> list[float]:
    """A vector of unit length from a text's words, the same on every machine."""
    vector = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()) or [""]:
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        for n in range(0, 8, 2):
            vector[digest[n] % dimensions] += 1.0 if digest[n + 1] & 1 else -1.0
    length = math.sqrt(sum(part * part for part in vector)) or 1.0
    return [part / length for part in vector]


async def _read(request: Recorded, receive: Receive) -> bool:
    """The whole body; False where the client left before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            request.body = b"".join(parts)
            return True


async def _watch(request: Recorded, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not request.done.is_set():
        request.left.set()


async def _give(answer: Scripted, request: Recorded, send: Send) -> None:
    raw = _spoken(answer, request) if isinstance(answer, Say) else answer
    if not await _take(raw.before, request, send):
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw.headers]
    names = {name.lower() for name, _ in headers}
    if raw.steps is None and b"content-length" not in names:
        headers.append((b"content-length", str(len(raw.body)).encode()))
    await send({"type": "http.response.start", "status": raw.status, "headers": headers})
    if raw.steps is None:
        await send({"type": "http.response.body", "body": raw.body})
    elif await _take(raw.steps, request, send):
        await send({"type": "http.response.body", "body": b""})


async def _take(steps: Sequence[Step], request: Recorded, send: Send) -> bool:
    """Take the steps; False where they end in death (uvicorn then closes the connection)."""
    for step in steps:
        match step:
            case bytes():
                await send({"type": "http.response.body", "body": step, "more_body": True})
            case Gate():
                await step.passed()
            case Die():
                return False
            case Stall():
                while not request.left.is_set():  # noqa: ASYNC110 (set in this loop; see Gate)
                    await asyncio.sleep(0.002)
                return False
            case _:
                await asyncio.sleep(step)
    return True


# --- what a model says, in the wire's shapes -------------------------------------------------


def _json(value: Any) -> Raw:
    return Raw(body=json.dumps(value, ensure_ascii=False).encode())


def _spoken(say: Say, request: Recorded) -> Raw:
    body = request.json()
    if request.path.endswith("/responses"):
        raw = _responses_stream(say, body) if body.get("stream") else _json(_response(say, body))
    elif body.get("stream"):
        raw = _chat_stream(say, body)
    else:
        raw = _json(_completion(say, body))
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
