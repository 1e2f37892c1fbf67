"""Privacy at the door: what is not to be remembered is written down nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

WORD = "zqwhisperxv"


async def said(client: httpx.AsyncClient, text: str, **headers: str) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await client.post("/v1/chat/completions", json=body, headers=named)
    assert answer.status_code == 200
    return answer


async def written_down(gateway: House, client: httpx.AsyncClient, redis: Redis) -> str:
    """All that a user's own calls show of what was kept, and all of Redis as it stands."""
    await gateway.background.drain(5)
    exchanges = await gateway.services.queue.pending(await gateway.owner())
    shown = "".join(turn.text for exchange in exchanges for turn in exchange.turns)
    for receipt in (await client.get("/v1/receipts")).json()["receipts"]:
        shown += (await client.get(f"/v1/receipts/{receipt['id']}")).text
    shown += (await client.get("/v1/memories")).text
    async for key in redis.scan_iter(count=1000):
        shown += repr(key) + repr(await redis.dump(key))
    return shown


@pytest.mark.parametrize("mode", ["readonly", "off", "writeonly", "full"])
async def test_a_request_is_kept_as_its_mode_says(
    gateway: House, redis: Redis, upstream: ScriptedUpstream, mode: str
) -> None:
    await gateway.know("allergic to peanuts")
    async with gateway.client(X_Memory_User="ana") as client:
        answer = await said(client, f"peanuts {WORD}?", X_Memory_Mode=mode)
        assert (WORD in await written_down(gateway, client, redis)) is (
            mode in ("writeonly", "full")
        )
    recalled = b"allergic" in upstream.requests[-1].body
    assert recalled is (mode in ("readonly", "full"))
    assert (answer.headers["x-memory-status"] == "off") is not recalled


@pytest.mark.parametrize(("setting", "kept"), [(True, False), (False, True)])
async def test_off_the_record_is_heeded_where_the_setting_is_on(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, setting: bool, kept: bool
) -> None:
    sections: dict[str, Any] = {"memory": {"off_the_record": setting}}
    async with house(tmp_path, upstream.base_url, redis, **sections) as gateway:
        await gateway.know("allergic to peanuts")
        async with gateway.client(X_Memory_User="ana") as client:
            await said(client, f"Off the record: what of {WORD} and peanuts?")
            assert (WORD in await written_down(gateway, client, redis)) is kept
    assert b"allergic" in upstream.requests[-1].body


async def test_what_must_never_be_stored_is_taken_out_everywhere(
    gateway: House, redis: Redis, upstream: ScriptedUpstream
) -> None:
    card, key = "4111 1111 1111 1111", "sk-abcdefghijklmnopqrstuvwxyz123456"
    await gateway.know("allergic to peanuts")
    async with gateway.client(X_Memory_User="ana") as client:
        await said(client, f"peanuts on card {card} with {key} please")
        assert card.encode() in upstream.requests[-1].body  # the chat itself is not touched
        kept = await written_down(gateway, client, redis)
    assert "peanuts on card" in kept
    assert card not in kept
    assert key not in kept
