"""A cross-encoder in a running chat: it has its say in time, or is left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.core.errors import EmbedderUnavailable
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.gateway_process import GatewayProcess, until
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from gateway.ports import Reranker

ANA = {"x-memory-user": "ana"}
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Which tea shop is best?"}]}
TEAS = ("The tea shop in Porto is good", "The tea shop in Faro is better", "That tea shop is best")


class Reader:
    """Likes texts with "best"; may be held up, or fail."""

    def __init__(self) -> None:
        self.hold = asyncio.Event()
        self.hold.set()
        self.failing = False
        self.read = 0

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        self.read += 1
        await self.hold.wait()
        if self.failing:
            raise EmbedderUnavailable("no rereading", code="failing")
        return [float("best" in text) for text in texts]

    async def close(self) -> None:
        """Holds nothing."""


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    async with house(tmp_path, upstream.base_url, redis, memory={"rerank": "on"}) as opened:
        for text in TEAS:
            await opened.know(text, type="interaction")
        yield opened


def reads(gateway: House, reader: Reranker) -> None:
    gateway.services = replace(gateway.services, reranker=reader)


async def asked(gateway: House, **headers: str) -> httpx.Response:
    async with gateway.client(**ANA, **headers) as client:
        answer = await client.post("/v1/chat/completions", json=ASKED)
    assert answer.status_code == 200
    return answer


async def considered(gateway: House, answer: httpx.Response) -> list[dict[str, Any]]:
    await gateway.background.drain(5)
    async with gateway.client(**ANA) as client:
        receipt = await client.get(f"/v1/receipts/{answer.headers['x-memory-receipt-id']}")
    found: list[dict[str, Any]] = receipt.json()["considered"]
    return found


async def test_it_has_its_say_in_a_chat(gateway: House) -> None:
    reader = Reader()
    reads(gateway, reader)
    answer = await asked(gateway)
    first, *rest = await considered(gateway, answer)
    assert (answer.headers["x-memory-status"], reader.read) == ("ok", 1)
    assert first["text"] == TEAS[2]
    assert first["why"]["rerank"] > rest[0]["why"].get("rerank", 0.0)


async def test_it_has_its_say_in_a_search(gateway: House) -> None:
    reads(gateway, Reader())
    async with gateway.client(**ANA) as client:
        query = {"query": "Which tea shop?"}
        found = (await client.post("/v1/memories/search", json=query)).json()["results"]
    assert found[0]["memory"]["text"] == TEAS[2]


async def test_a_slow_one_is_left_out_within_the_deadline(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    reader = Reader()
    reader.hold.clear()  # for ever: the answer comes only because nobody waits for it
    reads(gateway, reader)
    answer = await asked(gateway, x_memory_deadline_ms="300")
    assert reader.read == 1
    assert answer.headers["x-memory-status"] == "partial"
    assert int(answer.headers["x-memory-injected-count"]) > 0
    assert TEAS[2].encode() in upstream.requests[-1].body
    assert all("rerank" not in one["why"] for one in await considered(gateway, answer))


async def test_one_that_fails_costs_the_chat_nothing(gateway: House) -> None:
    reader = Reader()
    reader.failing = True
    reads(gateway, reader)
    answer = await asked(gateway)
    assert answer.headers["x-memory-status"] == "partial"
    assert int(answer.headers["x-memory-injected-count"]) > 0


async def test_by_default_nothing_is_reread(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis) as gateway:
        reader = Reader()
        reads(gateway, reader)
        for text in TEAS:
            await gateway.know(text, type="interaction")
        answer = await asked(gateway)
    assert int(answer.headers["x-memory-injected-count"]) > 0 == reader.read


def test_serve_loads_the_model_that_is_set_and_rereads_with_it(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    pytest.importorskip("fastembed")
    from tests.adapters.tiny_cross_encoder import write_tiny_cross_encoder

    tiny = write_tiny_cross_encoder(tmp_path / "tiny")
    settings = {"memory__rerank": "on", "memory__rerank_model": tiny, "memory__deadline_ms": 3000}
    with (
        GatewayProcess(tmp_path / "data", upstream.base_url, **settings) as gateway,
        httpx.Client(base_url=gateway.url, headers=ANA, timeout=30) as client,
    ):
        sessions = count()
        rows = [{"text": text, "type": "interaction"} for text in TEAS]
        assert client.post("/v1/memories", json=rows).status_code == 201

        def reread() -> bool:
            """The model is loaded by a thread of its own, and recall does not wait for it."""
            session = {"x-memory-session": str(next(sessions)), "x-memory-mode": "readonly"}
            answer = client.post("/v1/chat/completions", json=ASKED, headers=session)
            assert answer.status_code == 200
            receipt = f"/v1/receipts/{answer.headers['x-memory-receipt-id']}"
            kept = until(lambda: (r := client.get(receipt)).status_code == 200 and r.json())
            first = kept["considered"][0]
            return "rerank" in first["why"] and bool(first["text"] == TEAS[2])

        assert until(reread, 30)
