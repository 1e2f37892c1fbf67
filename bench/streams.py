"""Paced streams, many at once: how late each chunk comes, and whether any stream stands still.

`python -m bench.streams HOST PORT STREAMS USERS` prints JSON. The upstream writes into each chunk
the instant at which it sent it (`time.monotonic`, one clock for the whole machine), so that a
chunk's delay needs no pairing of two runs. Streams begin spread over one pause.
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

from bench.data import question
from bench.upstream import CHUNKS, PAUSE_S

_SENT = re.compile(rb'"content":"(\d+\.\d+) ')
STALL_S = 0.040
PATIENCE_S = CHUNKS * PAUSE_S + 30.0


class _Stream(asyncio.Protocol):
    def __init__(self, request: bytes, delays: list[float], gaps: list[float]) -> None:
        self._request, self._delays, self._gaps = request, delays, gaps
        self._last = 0.0
        self._tail = b""
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic()
        found = _SENT.findall(data)
        for sent in found:
            self._delays.append(now - float(sent))
        if found:
            if self._last:
                self._gaps.append(now - self._last - PAUSE_S)
            self._last = now
        self._tail = (self._tail + data)[-64:]
        if b"[DONE]" in self._tail and not self.over.done():
            self.over.set_result(True)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.over.done():
            self.over.set_result(False)


async def run(host: str, port: int, streams: int, users: int) -> dict[str, float]:
    loop, drawn = asyncio.get_running_loop(), random.Random()
    delays: list[float] = []
    gaps: list[float] = []
    made: list[_Stream] = []
    for n in range(streams):
        user = drawn.randrange(users)
        body = json.dumps(
            {
                "model": "bench",
                "stream": True,
                "messages": [{"role": "user", "content": question(user, drawn)}],
            }
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nx-memory-user: user-{user}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        stream = _Stream(head.encode() + body, delays, gaps)
        await loop.create_connection(lambda stream=stream: stream, host, port)  # type: ignore[misc]
        made.append(stream)
        await asyncio.sleep(max(PAUSE_S / streams, 0.002))
        if n % 50 == 49:
            await asyncio.sleep(0.05)
    whole = await asyncio.wait_for(asyncio.gather(*(s.over for s in made)), PATIENCE_S)
    delays.sort()
    return {
        "streams": streams,
        "whole": sum(whole),
        "chunks": len(delays),
        "p50_ms": delays[len(delays) // 2] * 1e3,
        "p99_ms": delays[int(len(delays) * 0.99)] * 1e3,
        "max_ms": delays[-1] * 1e3,
        "stalls": sum(gap > STALL_S for gap in gaps),
        "longest_gap_ms": max(gaps) * 1e3,
    }


if __name__ == "__main__":
    host, port, streams, users = sys.argv[1:5]
    print(json.dumps(uvloop.run(run(host, int(port), int(streams), int(users)))))
