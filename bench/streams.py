"""Paced streams, many at once: how late each chunk comes, and whether any stream stands still.

`python -m bench.streams HOST PORT STREAMS USERS CHUNKS [PID]` prints JSON. The upstream writes into
each chunk the instant at which it sent it (`time.monotonic`, one clock for the whole machine), so
that a chunk's delay needs no pairing of two runs.

Streams begin one after the other, `OPENED_PER_S` a second: each begins with a recall, and more at
once would measure an overload of those. Chunks are told apart by when they came: while streams
were still being opened, or once all were open (until the first one ended). With a PID, the CPU
time of that process is taken over the latter time: what a chunk costs.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import cast

import uvloop

from bench.data import question
from bench.upstream import PAUSE_S

_SENT = re.compile(rb'"content":"(\d+\.\d+) ')
STALL_S = 0.040
OPENED_PER_S = 100.0


class Times:
    """Of every chunk: when it came, how late, and how long after the one before it."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.delays: list[float] = []
        self.gaps: list[tuple[float, float]] = []
        self.first_end = float("inf")

    def between(self, begin: float, end: float) -> dict[str, float]:
        within = sorted(
            delay for at, delay in zip(self.came, self.delays, strict=True) if begin <= at < end
        )
        gaps = [gap for at, gap in self.gaps if begin <= at < end]
        return {
            "chunks": len(within),
            "p50_ms": within[len(within) // 2] * 1e3,
            "p99_ms": within[int(len(within) * 0.99)] * 1e3,
            "max_ms": within[-1] * 1e3,
            "stalls": sum(gap > STALL_S for gap in gaps),
            "longest_gap_ms": max(gaps) * 1e3,
        }


class _Stream(asyncio.Protocol):
    def __init__(self, request: bytes, times: Times) -> None:
        self._request, self._times = request, times
        self._last = 0.0
        self._tail = b""
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now, times = time.monotonic(), self._times
        found = _SENT.findall(data)
        for sent in found:
            times.came.append(now)
            times.delays.append(now - float(sent))
        if found:
            if self._last:
                times.gaps.append((now, now - self._last - PAUSE_S))
            self._last = now
        self._tail = (self._tail + data)[-64:]
        if b"[DONE]" in self._tail and not self.over.done():
            times.first_end = min(times.first_end, now)
            self.over.set_result(True)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.over.done():
            self.over.set_result(False)


def _request(user: int, chunks: int, drawn: random.Random) -> bytes:
    body = json.dumps(
        {
            "model": "bench",
            "stream": True,
            "max_tokens": chunks,
            "messages": [{"role": "user", "content": question(user, drawn)}],
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nx-memory-user: user-{user}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _cpu_s(pid: int) -> float:
    """CPU time of a process, to the nanosecond (`/proc/PID/stat` counts hundredths)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


async def run(
    host: str, port: int, streams: int, users: int, chunks: int, pid: int | None
) -> dict[str, float]:
    loop, drawn, times = asyncio.get_running_loop(), random.Random(), Times()
    requests = [_request(drawn.randrange(users), chunks, drawn) for _ in range(streams)]
    made: list[_Stream] = []
    begin = loop.time()
    for n, request in enumerate(requests):
        stream = _Stream(request, times)
        await loop.create_connection(lambda stream=stream: stream, host, port)  # type: ignore[misc]
        made.append(stream)
        await asyncio.sleep(max(0.0, begin + (n + 1) / OPENED_PER_S - loop.time()))
    await asyncio.sleep(0.5)  # the last one's recall is over
    opened, used = time.monotonic(), _cpu_s(pid) if pid else 0.0
    end = begin + chunks * PAUSE_S - 0.3
    await asyncio.sleep(max(0.1, end - loop.time()))
    closing, used = time.monotonic(), _cpu_s(pid) - used if pid else 0.0
    if times.first_end < closing:
        raise RuntimeError("streams ended before all were open: ask for more chunks")
    patience_s = chunks * PAUSE_S + 30.0
    whole = await asyncio.wait_for(asyncio.gather(*(s.over for s in made)), patience_s)
    steady = times.between(opened, closing)
    return {
        "streams": streams,
        "whole": sum(whole),
        **steady,
        **{f"{k}_opening": v for k, v in times.between(0.0, opened).items()},
        "stalls_in_all": sum(gap > STALL_S for _, gap in times.gaps),
        "cpu_us": used / steady["chunks"] * 1e6,
    }


if __name__ == "__main__":
    host, port, streams, users, chunks, *rest = sys.argv[1:]
    pid = int(rest[0]) if rest else None
    print(json.dumps(uvloop.run(run(host, int(port), int(streams), int(users), int(chunks), pid))))
