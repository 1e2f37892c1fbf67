"""Chunks that are handed on in the call that brings them, and what becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from gateway.adapters.upstream import HttpUpstream
from gateway.config import UpstreamSettings
from gateway.core.errors import UpstreamTimedOut, UpstreamUnreachable
from gateway.lab.scripted_upstream import Die, Gate, Raw, ScriptedUpstream, Stall, sse
from gateway.ports import UpstreamRequest
from tests.adapters.raw_server import Peer, raw_server

SOON_S = 5.0
PATIENCE_S = 0.6
ASKED = UpstreamRequest("POST", "/x", b"", [], b"{}")


@pytest.fixture
async def over(upstream: ScriptedUpstream) -> AsyncIterator[HttpUpstream]:
    adapter = HttpUpstream(UpstreamSettings(base_url=upstream.base_url, idle_timeout_s=PATIENCE_S))
    yield adapter
    await adapter.close()


class Taker:
    """Takes what `willing` says yes to, and calls `seen` of each that it took."""

    def __init__(
        self,
        willing: Callable[[bytes], bool] = lambda _: True,
        seen: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.taken: list[bytes] = []
        self._willing, self._seen = willing, seen

    def __call__(self, data: bytes) -> bool:
        if not self._willing(data):
            return False
        self.taken.append(data)
        self._seen(len(self.taken))
        return True


async def read(adapter: HttpUpstream, take: Taker) -> list[bytes]:
    """The chunks that were not taken."""
    response = await adapter.send(ASKED)
    try:
        async with asyncio.timeout(SOON_S):
            return [chunk async for chunk in response.chunks(take)]
    finally:
        await response.close()


async def test_what_is_taken_comes_at_once_and_in_order_and_is_not_yielded(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    gates = [Gate(), Gate()]
    upstream.script(sse(b"one", gates[0], b"two", gates[1], b"three"))
    take = Taker(seen=lambda count: gates[count - 1].open() if count < 3 else None)
    assert await read(over, take) == []
    assert take.taken == [b"one", b"two", b"three"]


async def test_a_chunk_that_is_left_is_yielded_and_what_follows_is_offered_again(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    gates = [Gate(), Gate()]
    upstream.script(sse(b"one", gates[0], b"two", gates[1], b"three"))
    take = Taker(lambda data: data != b"two", seen=lambda _: gates[0].open())
    response = await over.send(ASKED)
    yielded = []
    async with asyncio.timeout(SOON_S):
        async for chunk in response.chunks(take):
            yielded.append((chunk, list(take.taken)))
            gates[1].open()
    assert yielded == [(b"two", [b"one"])]
    assert take.taken == [b"one", b"three"]
    await response.close()


async def test_whoever_takes_nothing_is_yielded_all_of_it(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    body = bytes(range(256)) * 4000
    upstream.script(sse(*(body[n : n + 10_000] for n in range(0, len(body), 10_000))))
    take = Taker(lambda _: False)
    assert b"".join(await read(over, take)) == body
    assert take.taken == []


async def test_whoever_takes_now_and_then_loses_and_doubles_nothing() -> None:
    """Hundreds of thousands of chunks of a byte in one go: aiohttp stops parsing, and goes on
    while it is read."""
    count, offered = 200_000, 0
    body = b"".join(b"1\r\n%c\r\n" % (n % 251) for n in range(count))

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)
        await peer.send(b"0\r\n\r\n")

    whole: list[bytes] = []

    def willing(data: bytes) -> bool:
        nonlocal offered
        offered += 1
        if offered % 3:
            whole.append(data)
            return True
        return False

    async with raw_server(talk) as url:
        adapter = HttpUpstream(UpstreamSettings(base_url=url))
        response = await adapter.send(ASKED)
        async with asyncio.timeout(10):
            async for chunk in response.chunks(willing):
                whole.append(chunk)  # noqa: PERF401 (in one list with what was taken)
        await response.close()
        await adapter.close()
    assert b"".join(whole) == bytes(n % 251 for n in range(count))


async def test_a_break_is_told_after_what_came_before_it(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(b"one", Die()))
    take = Taker()
    with pytest.raises(UpstreamUnreachable, match="middle"):
        await read(over, take)
    assert take.taken == [b"one"]


async def test_a_stall_is_a_timeout_however_much_was_taken_before(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    gates = [Gate(), Gate()]
    upstream.script(sse(b"one", gates[0], b"two", gates[1], b"three", Stall()))
    take = Taker(seen=lambda count: gates[count - 1].open() if count < 3 else None)
    with pytest.raises(UpstreamTimedOut, match="idle_timeout_s"):
        await read(over, take)
    assert take.taken == [b"one", b"two", b"three"]


async def test_each_chunk_taken_begins_the_wait_anew(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    """Three pauses, which together take longer than may pass without a byte."""
    gates = [Gate(), Gate(), Gate()]
    upstream.script(sse(b"0", gates[0], b"1", gates[1], b"2", gates[2], b"3"))
    loop = asyncio.get_running_loop()

    def seen(count: int) -> None:
        if count <= len(gates):
            loop.call_later(PATIENCE_S * 0.4, gates[count - 1].open)

    take = Taker(seen=seen)
    assert await read(over, take) == []
    assert b"".join(take.taken) == b"0123"


async def test_an_answer_that_is_here_as_a_whole_is_read_all_the_same(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(b"{}"))
    take = Taker()
    left = await read(over, take)
    assert b"".join([*take.taken, *left]) == b"{}"


async def test_the_next_answer_on_a_connection_is_not_the_first_ones() -> None:
    more = asyncio.Event()

    async def talk(peer: Peer) -> None:
        for word in (b"one", b"two"):
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await peer.send(b"3\r\n" + word + b"\r\n")
            await asyncio.wait_for(more.wait(), SOON_S)
            await peer.send(b"0\r\n\r\n")
            more.clear()

    async with raw_server(talk) as url:  # it answers twice on one connection, and no third time
        adapter = HttpUpstream(UpstreamSettings(base_url=url))
        first, second = Taker(seen=lambda _: more.set()), Taker(seen=lambda _: more.set())
        assert await read(adapter, first) == await read(adapter, second) == []
        await adapter.close()
    assert (first.taken, second.taken) == ([b"one"], [b"two"])


async def test_leaving_while_chunks_are_taken_ends_the_upstreams_work(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(b"one", Stall()))
    began = asyncio.Event()
    reading = asyncio.create_task(read(over, Taker(seen=lambda _: began.set())))
    await asyncio.wait_for(began.wait(), SOON_S)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1.0)
