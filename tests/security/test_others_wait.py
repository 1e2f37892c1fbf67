"""What one caller sends keeps nobody else waiting: hours of reading in a few kilobytes."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from gateway.adapters.bm25 import prepare
from gateway.adapters.extract_rules import RulesExtractor
from gateway.core.coding import decode
from gateway.core.delivery import Put
from gateway.core.errors import BadRequest
from gateway.core.exchange import logged_exchange
from gateway.core.redaction import redact
from gateway.core.suspicion import standing_order, suspicion
from gateway.core.wording import folded
from gateway.core.words import fold
from gateway.flows import distil, receipts
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

TEDIOUS = "DE12 "
"""Each of these may begin an account number: a megabyte of them is looked through for a second."""
PAUSE_S = 1.0
"""Nobody is answered for less than this, in CPU time of this process: a machine that is busy
otherwise takes its own. Some 0.1 s are usual."""


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened


@asynccontextmanager
async def nobody_waits() -> AsyncIterator[None]:
    """While inside, the event loop that everybody is served in is never away for `PAUSE_S`."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.process_time()
            await asyncio.sleep(0.01)
            longest = max(longest, time.process_time() - began)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield
        await asyncio.sleep(0.02)
    finally:
        watching.cancel()
    assert longest < PAUSE_S


async def test_a_long_question_keeps_nobody_waiting_and_has_a_whole_receipt(
    gateway: House,
) -> None:
    memory = await gateway.know("The user has an account in Berlin")
    text = "Where is my account? " + TEDIOUS * 500_000 + "In Berlin?"
    async with gateway.client(x_memory_user="ana") as client:
        async with nobody_waits():
            answer = await client.post(
                "/v1/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": text}]},
            )
            await gateway.background.drain(20)
        receipt = (await client.get(f"/v1/receipts/{answer.headers['x-memory-receipt-id']}")).json()
    assert memory.id in receipt["injected"]
    assert receipt["query"].startswith("Where is my account?")
    assert receipt["query"].endswith("In Berlin?")
    assert len(receipt["query"]) < receipts.QUESTION_CHARS + 10


async def test_many_long_memories_in_one_call_keep_nobody_waiting(gateway: House) -> None:
    many = [{"text": f"{n} {TEDIOUS * 400}", "type": "interaction"} for n in range(1000)]
    async with gateway.client(x_memory_user="ana") as client, nobody_waits():
        answer = await client.post("/v1/memories", json=many)
    assert answer.status_code == 201


@pytest.mark.parametrize("way", ["created", "imported"])
async def test_what_stands_beside_the_texts_of_many_memories_keeps_nobody_waiting(
    gateway: House, way: str
) -> None:
    row = {"text": "x", "type": "profile", "metadata": {"note": [TEDIOUS * 3200]}}
    async with gateway.client(x_memory_user="ana") as client, nobody_waits():
        if way == "created":
            answer = await client.post("/v1/memories", json=[row] * 150)
        else:
            lines = b"\n".join(orjson.dumps({**row, "id": f"mem_{n}"}) for n in range(150))
            answer = await client.post("/v1/memories/import", content=lines)
    assert answer.status_code in (200, 201), answer.text


async def test_a_long_exchange_is_distilled_while_others_are_answered(gateway: House) -> None:
    text = "".join(f"I like tea number {n}. " for n in range(500)) + "http://a?b= " * 1500
    said = [{"role": "user", "content": f"{n}: {text}"} for n in range(100)]
    exchange = logged_exchange(said, at=gateway.now, session=None, timezone=None)
    assert exchange is not None
    services, owner = gateway.services, await gateway.owner()
    plan_of = partial(distil.plan_for, services, gateway.settings, RulesExtractor(), owner)
    async with nobody_waits():
        plan = await plan_of([exchange], distil.Vectors(), now=gateway.now)
    facts = [put for put in plan.writes if isinstance(put, Put) and put.memory.kind == "fact"]
    assert facts


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (suspicion, "अपनेaहिदायतaa" * 2400),
        (standing_order, "beve" + "e" * 32_000),
        (lambda text: redact(text, {"key"}), "-eyJaaaaaaaa" * 30_000),
        (fold, "\u0315\u0300" * 100_000),
        (folded, "\uff9e\u0300" * 100_000),
        (prepare, "\u0344\u0315" * 100_000),
    ],
    ids=[
        *("a word without an end", "a verb without an end", "tokens in a token"),
        *("marks to be put in order", "letters that become marks", "marks that become two"),
    ],
)
def test_a_text_without_a_space_is_read_in_time_that_grows_with_its_length(
    read: Callable[[str], object], text: str
) -> None:
    began = time.process_time()
    read(text)
    assert time.process_time() - began < 2  # 13 s to minutes: no thread had its turn


def test_a_body_of_many_empty_gzip_members_is_read_in_time_that_grows_with_its_length() -> None:
    body = gzip.compress(b"") * 300_000 + gzip.compress(b'{"a":1}') * 2
    began = time.process_time()
    assert decode(body, ("gzip",), 2**20) == b'{"a":1}{"a":1}'
    assert time.process_time() - began < 5  # 14 s when each member had the rest copied
    with pytest.raises(BadRequest):
        decode(body[:-1], ("gzip",), 2**20)
