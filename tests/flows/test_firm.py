"""`queue.durable = "always"`: who has the end of an answer knows that what was said is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.flows import answer as answering
from gateway.lab.scripted_upstream import Gate, Say, ScriptedUpstream, sse
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
WORDS = b'data: {"type":"response.output_text.delta","choices":[{"delta":{"content":"Glad"}}]}\n\n'
LAST = {
    CHAT: b"data: [DONE]\n\n",
    RESPONSES: b'event: response.completed\ndata: {"type":"response.completed","response":{}}\n\n',
}


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    upstream.default = Say("Gladly.")
    async with house(tmp_path, upstream.base_url, redis, queue={"durable": "always"}) as opened:
        yield opened


class Held:
    """Holds what is put into the queue back until `go_on` is set."""

    def __init__(self, gateway: House) -> None:
        self.came, self.go_on = asyncio.Event(), asyncio.Event()
        self._put = gateway.services.queue.put
        gateway.services.queue.put = self.put  # type: ignore[method-assign]

    async def put(self, *args: Any, **kwargs: Any) -> bool:
        self.came.set()
        await self.go_on.wait()
        return await self._put(*args, **kwargs)


def body_of(text: str, *, stream: bool) -> dict[str, Any]:
    return {
        "model": "m",
        "stream": stream,
        "messages": [{"role": "user", "content": text}],
        "input": text,
    }


async def asked(gateway: House, path: str, *, stream: bool, into: bytearray) -> None:
    async with (
        gateway.client(x_memory_user="ana") as client,
        client.stream("POST", path, json=body_of("I live in Rome", stream=stream)) as response,
    ):
        async for chunk in response.aiter_raw():
            into += chunk


async def test_a_whole_answer_comes_once_what_was_said_is_handed_over(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flows.handover.QUEUE_S", 30.0)
    held, got = Held(gateway), bytearray()
    async with asyncio.TaskGroup() as group:
        group.create_task(asked(gateway, CHAT, stream=False, into=got))
        await held.came.wait()
        await asyncio.sleep(0.05)  # for what should not come
        assert got == b""
        held.go_on.set()
    assert b"Gladly." in got
    said = await gateway.handed_over()
    assert [[turn.text for turn in one.turns] for one in said] == [["I live in Rome", "Gladly."]]


@pytest.mark.parametrize("path", LAST)
async def test_a_streams_words_do_not_wait_and_its_end_does(
    gateway: House, upstream: ScriptedUpstream, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flows.handover.QUEUE_S", 30.0)
    gate = Gate()
    upstream.script(sse(WORDS, gate, LAST[path]))
    held, got = Held(gateway), bytearray()
    async with asyncio.TaskGroup() as group:
        group.create_task(asked(gateway, path, stream=True, into=got))
        while WORDS not in got:
            await asyncio.sleep(0.002)
        gate.open()
        await held.came.wait()
        await asyncio.sleep(0.05)  # for what should not come
        assert got == WORDS
        held.go_on.set()
    assert got == WORDS + LAST[path]
    assert len(await gateway.handed_over()) == 1


@pytest.mark.parametrize(("path", "torn"), [(CHAT, b"NE]"), (RESPONSES, b'pleted",')])
async def test_a_streams_end_waits_also_where_the_network_tore_it(
    gateway: House,
    upstream: ScriptedUpstream,
    path: str,
    torn: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.flows.handover.QUEUE_S", 30.0)
    gate, at = Gate(), LAST[path].index(torn)
    first, rest = WORDS + LAST[path][:at], LAST[path][at:]
    upstream.script(sse(first, gate, rest))
    held, got = Held(gateway), bytearray()
    async with asyncio.TaskGroup() as group:
        group.create_task(asked(gateway, path, stream=True, into=got))
        while got != first:
            await asyncio.sleep(0.002)
        gate.open()
        await held.came.wait()
        await asyncio.sleep(0.05)  # for what should not come
        assert got == first
        held.go_on.set()
    assert got == first + rest


async def test_a_hand_over_that_hangs_holds_no_answer_back_for_long(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "FIRM_S", 0.05)
    monkeypatch.setattr("gateway.flows.handover.QUEUE_S", 30.0)
    held, got = Held(gateway), bytearray()
    async with asyncio.timeout(10):
        await asked(gateway, CHAT, stream=True, into=got)
    assert got.endswith(b"data: [DONE]\n\n")
    held.go_on.set()
