"""What the upstream answers to each scene: the `model` that a client asks for names its answer.

Every client plays the same scenes, so one table says what each of them must report. Requests
are told apart by `X-Run`, a header of the clients' own, which the gateway has to pass on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from gateway.lab.scripted_upstream import (
    Die,
    Raw,
    Recorded,
    Say,
    Scripted,
    ScriptedUpstream,
    Stall,
    ToolCall,
    refusal,
    sse,
)

WORDS = "Zwölf Sätze, “quoted”: 日本語 🎉."
CALLS = (
    ToolCall("weather", '{"city": "Ávila"}', "call_a"),
    ToolCall("clock", '{"zone": "Europe/Madrid"}', "call_b"),
)
FILE = bytes(range(256)) * 40
WAIT_S = 1

EXPECTED: dict[str, Any] = {
    "chat": {"text": WORDS, "finish": "stop", "tokens": 10 + len(WORDS.split())},
    "stream": {"text": WORDS, "finish": "stop", "tokens": 10 + len(WORDS.split())},
    "tools": {
        "finish": "tool_calls",
        "calls": [[c.id, c.name, json.loads(c.arguments)] for c in CALLS],
    },
    "tools streamed": {
        "finish": "tool_calls",
        "calls": [[c.id, c.name, json.loads(c.arguments)] for c in CALLS],
    },
    "tool loop": {"text": "It is sunny and it is noon."},
    "structured": {"city": "Ávila", "degrees": 21.5},
    "vision": {"text": "A cat."},
    "refused": {"status": 400, "code": "unknown_parameter"},
    "retry 429": {"text": "At last."},
    "retry 500": {"text": "At last."},
    "cancel": {"text": "Once ", "left": True},
    "broken": {"text": "Once ", "raised": True},
    "error inside": {"text": "Once ", "raised": True},
    "responses": {"text": WORDS, "tokens": 10 + len(WORDS.split())},
    "responses streamed": {"text": WORDS, "tokens": 10 + len(WORDS.split())},
    "responses tools": {"calls": [[c.id, c.name, json.loads(c.arguments)] for c in CALLS]},
    "embeddings": {"sizes": [64, 64]},
    "models": {"ids": ["scripted"]},
    "files": {"name": "ñ.jsonl", "content": FILE.hex()},
}
"""What each scene comes to, whichever client plays it."""


class Cast:
    """The chooser of a scripted upstream, and what it saw of each run."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self.attempts: Counter[tuple[str, str]] = Counter()
        self._open: dict[str, Recorded] = {}
        upstream.default = self.answer

    def answer(self, request: Recorded) -> Scripted:
        run = request.header("x-run") or ""
        if request.path.startswith("/v1/files"):
            return _files(request)
        if request.path.startswith("/v1/models/left"):
            return _json({"id": "left", "left": self._left(run)})
        body = request.json()
        scene: str = body["model"]
        self.attempts[run, scene] += 1
        return self._play(scene, run, request, body)

    def _play(self, scene: str, run: str, request: Recorded, body: Mapping[str, Any]) -> Scripted:
        first = self.attempts[run, scene] == 1
        match scene:
            case "chat" | "stream" | "responses" | "responses streamed":
                return Say(WORDS)
            case "tools" | "tools streamed" | "responses tools":
                return Say(tool_calls=CALLS)
            case "tool loop":
                return _loop(body)
            case "structured":
                return Say('{"city": "Ávila", "degrees": 21.5}')
            case "vision":
                return Say("A cat." if "data:image/png;base64," in request.body.decode() else "?")
            case "refused":
                return refusal(400, "Unknown parameter: 'seeds'", code="unknown_parameter")
            case "retry 429" if first:
                return refusal(
                    429, "slow down", code="rate_limit_exceeded", retry_after=str(WAIT_S)
                )
            case "retry 500" if first:
                return refusal(500, "oops")
            case "retry 429" | "retry 500":
                return Say("At last.")
            case "cancel":
                self._open[run] = request
                return sse(_delta("Once "), Stall())
            case "broken":
                return sse(_delta("Once "), 0.05, Die())
            case "error inside":
                error = {"message": "overloaded", "type": "server_error", "code": None}
                return sse(
                    _delta("Once "), b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
                )
        return Raw(b'{"error":{"message":"no such scene"}}', status=404)

    def _left(self, run: str) -> bool:
        return run in self._open and self._open[run].left.is_set()


def _json(value: Any) -> Raw:
    return Raw(json.dumps(value, ensure_ascii=False).encode())


def _loop(body: Mapping[str, Any]) -> Say:
    results = [m["content"] for m in body["messages"] if m["role"] == "tool"]
    if not results:
        return Say(tool_calls=CALLS)
    return Say("It is sunny and it is noon." if len(results) == 2 else f"{len(results)} results")


def _files(request: Recorded) -> Raw:
    if request.path.endswith("/content"):
        return Raw(FILE, headers=[("content-type", "application/octet-stream")])
    known = b'filename="\xc3\xb1.jsonl"' in request.body or b"filename*=" in request.body
    named = "ñ.jsonl" if known and FILE in request.body else "?"
    return _json(
        {
            "id": "file-1",
            "object": "file",
            "bytes": len(FILE),
            "created_at": 1,
            "filename": named,
            "purpose": "batch",
            "status": "processed",
        }
    )


def _delta(text: str) -> bytes:
    chunk = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "scripted",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"
