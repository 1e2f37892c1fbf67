"""Over each bound memory is skipped and counted, and the chat goes on: as clients see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.core.errors import QueueUnavailable
from gateway.flows import aftermath, handover
from gateway.lab.scripted_upstream import Gate, Raw, Say, ScriptedUpstream
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

LITTLE = ("I live in Rome",)
MUCH = tuple(f"{n} " + "word " * 6000 for n in range(20))
"""More than half of the smallest bound that bytes may have, in messages that are kept whole."""


async def ask(client: httpx.AsyncClient, texts: Sequence[str], user: str = "ana") -> httpx.Response:
    """A chat whose messages are all the user's."""
    body = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}
    return await client.post("/v1/chat/completions", json=body, headers={"x-memory-user": user})


async def counted(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """A figure of `/metrics`; 0 where it does not stand there."""
    told = ",".join(f'{label}="{value}"' for label, value in labels.items())
    sample = re.escape(f"memory_gateway_{name}{{{told}}}") if told else f"memory_gateway_{name}"
    found = re.search(rf"^{sample} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    return float(found[1]) if found else 0.0


class QueueAway:
    """Redis is away."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any, **__: Any) -> Any:
            raise QueueUnavailable("away")

        return refuse


async def test_more_open_requests_than_are_set_are_answered_without_memory(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    gate = Gate()
    bound = {"max_open_requests": 1}
    async with (
        house(tmp_path, upstream.base_url, redis, server=bound) as gateway,
        gateway.client() as client,
    ):
        await gateway.know("The user is allergic to peanuts")
        upstream.script(Raw(b"{}", before=[gate]), Say("Fine."), Say("Fine."))
        first = asyncio.create_task(ask(client, ["a snack?"]))
        async with asyncio.timeout(5):
            while not upstream.requests:
                await asyncio.sleep(0.005)
        assert await counted(client, "open_requests") == 2  # the chat, and this question
        second = await ask(client, ["another?"])
        gate.open()
        await first
        third = await ask(client, ["and one more?"])
        assert [answer.status_code for answer in (second, third)] == [200, 200]
        assert [answer.headers["x-memory-status"] for answer in (second, third)] == [
            "degraded",
            "ok",
        ]
        assert b"peanuts" not in upstream.requests[1].body
        assert b"peanuts" in upstream.requests[2].body
        assert await counted(client, "memory_skipped_requests_total", reason="open_requests") == 1


@pytest.mark.parametrize(
    ("bound", "texts", "second_user"),
    [
        ({"max_pending": 1}, LITTLE, "bob"),
        ({"max_user_pending": 1}, LITTLE, "ana"),
        ({"max_bytes": 2**20}, MUCH, "bob"),
    ],
    ids=["exchanges", "exchanges of one user", "bytes"],
)
async def test_what_the_queue_has_no_room_for_is_not_kept_and_the_chat_goes_on(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    redis: Redis,
    bound: dict[str, int],
    texts: Sequence[str],
    second_user: str,
) -> None:
    async with (
        house(tmp_path, upstream.base_url, redis, queue=bound) as gateway,
        gateway.client() as client,
    ):
        first = await ask(client, texts)
        kept = await gateway.handed_over()
        second = await ask(client, [*texts, "and this"], second_user)
        await gateway.background.drain(5)
        assert [answer.status_code for answer in (first, second)] == [200, 200]
        assert second.headers["x-memory-status"] == "ok"  # recall is as it was
        assert await gateway.handed_over() == kept
        assert await counted(client, "handovers_total", result="queued") == 1
        assert await counted(client, "handovers_total", result="dropped") == 1
        assert await counted(client, "queue_exchanges", state="pending") == 1


async def test_what_the_disk_has_no_room_for_is_not_kept_and_the_chat_goes_on(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "HELD_CHARS", 0)  # nor does memory: a bound that is no setting
    bound = {"spool_max_bytes": 2**20}
    async with (
        house(tmp_path, upstream.base_url, redis, queue=bound) as gateway,
        gateway.client() as client,
    ):
        gateway.put_in(queue=QueueAway())
        answers = [await ask(client, MUCH, user) for user in ("ana", "bob")]
        await gateway.background.drain(5)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert await counted(client, "handovers_total", result="spooled") == 1
        assert await counted(client, "handovers_total", result="dropped") == 1
        assert 0 < await spooled_bytes(gateway) <= 2**20


async def spooled_bytes(gateway: House) -> int:
    return sum(file.stat().st_size for file in (gateway.settings.data_dir / "spool").iterdir())


async def test_what_a_fault_kept_from_being_handed_over_counts_as_new_when_it_is_sent_again(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = aftermath.hand_over

    async def stumble(*_: Any, **__: Any) -> Any:
        monkeypatch.setattr(aftermath, "hand_over", real)
        raise ValueError

    monkeypatch.setattr(aftermath, "hand_over", stumble)
    upstream.script(Say("Rome is fine."), Say("Tea is fine."))
    async with house(tmp_path, upstream.base_url, redis) as gateway, gateway.client() as client:
        for texts in (["I live in Rome"], ["I live in Rome", "I like tea"]):
            await ask(client, texts)
            await gateway.background.drain(5)
        (exchange,) = await gateway.handed_over()
    assert "I live in Rome" in str(exchange)
    assert "I like tea" in str(exchange)
