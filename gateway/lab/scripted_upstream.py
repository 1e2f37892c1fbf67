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
from gateway.lab.script import (
    MODEL,
    Die,
    Gate,
    Raw,
    Say,
    Scripted,
    Stall,
    Step,
    ToolCall,
    as_json,
    refusal,
    spoken,
    sse,
)

__all__ = [
    "MODEL",
    "Die",
    "Gate",
    "Raw",
    "Recorded",
    "Say",
    "Scripted",
    "ScriptedUpstream",
    "Stall",
    "Step",
    "ToolCall",
    "embed",
    "refusal",
    "sse",
]

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

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
    request's last message as read JSON (docs/formats.md).
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
            return as_json(self._embeddings(request.json()))
        if request.path.endswith("/models"):
            return as_json({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
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
    raw = spoken(answer, request.path, request.json()) if isinstance(answer, Say) else answer
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
