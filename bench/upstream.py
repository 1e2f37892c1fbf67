"""The upstream that every gateway is measured against: it answers at once, and is never the
bottleneck (8 µs of CPU a request; `make bench` measures it alone, as `direct`).

No framework: a protocol on uvloop that knows just enough of HTTP to find a request's end. It
answers a chat with a canned completion, a chat with `"stream": true` with `CHUNKS` events paced
at `PAUSE_S` (or as many as its `max_tokens` says), each with the instant at which it was written
(so that what a gateway adds to each can be told), and `/embeddings` with a vector for each text,
that depends on it.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from typing import cast

import uvloop

PAUSE_S = 0.02
CHUNKS = 150
DIMENSIONS = 384

_ASKED_FOR = re.compile(rb'"max_tokens": ?(\d+)')

WORDS = "Noted. The answer to what you asked is short, and it is the same every time it is asked."


def _head(kind: str, length: int) -> bytes:
    return (f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n").encode()


_COMPLETION = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "bench",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": WORDS},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
).encode()
COMPLETION = _head("application/json", len(_COMPLETION)) + _COMPLETION
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def vector_of(text: bytes) -> list[float]:
    """A unit-ish vector that depends on the text alone."""
    drawn = random.Random(text)
    return [round(drawn.uniform(-0.1, 0.1), 4) for _ in range(DIMENSIONS)]


_VECTORS = [json.dumps(vector_of(str(n).encode())) for n in range(512)]


def _embedding(body: bytes) -> bytes:
    """A vector for each text. Drawing 384 numbers takes longer than the rest: each is one of 512
    that were drawn before."""
    asked = json.loads(body)["input"]
    texts = [asked] if isinstance(asked, str) else asked
    data = ",".join(
        f'{{"object":"embedding","index":{n},"embedding":{_VECTORS[hash(text) % len(_VECTORS)]}}}'
        for n, text in enumerate(texts)
    )
    answer = (
        f'{{"object":"list","model":"bench","data":[{data}],'
        f'"usage":{{"prompt_tokens":{8 * len(texts)},"total_tokens":{8 * len(texts)}}}}}'
    ).encode()
    return _head("application/json", len(answer)) + answer


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._gone = True

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            size, at = 0, head.find(b"content-length:")
            if at >= 0:
                size = int(head[at + 15 :].partition(b"\r\n")[0])
            elif b"transfer-encoding: chunked" in head:
                last = self._received.find(b"0\r\n\r\n", end + 4)
                if last < 0:
                    return
                size = last + 5 - (end + 4)
            if len(self._received) < end + 4 + size:
                return
            body = self._received[end + 4 : end + 4 + size]
            self._received = self._received[end + 4 + size :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        assert self._transport is not None
        if b"/embeddings" in head[: head.find(b"\r")]:
            self._transport.write(_embedding(body))
        elif b'"stream":true' in body or b'"stream": true' in body:
            self._transport.write(STREAM_HEAD)
            asked = _ASKED_FOR.search(body)
            self._chunk(int(asked[1]) if asked else CHUNKS, self._loop.time())
        else:
            self._transport.write(COMPLETION)

    def _chunk(self, left: int, due: float) -> None:
        assert self._transport is not None
        if self._gone:
            return
        if not left:
            self._transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
            return
        event = (
            b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,'
            b'"model":"bench","choices":[{"index":0,"delta":{"content":"%.6f "},'
            b'"finish_reason":%s}]}\n\n' % (time.monotonic(), b'"stop"' if left == 1 else b"null")
        )
        self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
        due += PAUSE_S
        self._loop.call_at(due, self._chunk, left - 1, due)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        _Connection, "127.0.0.1", port, backlog=4096
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
