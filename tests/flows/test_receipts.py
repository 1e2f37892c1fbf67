"""Receipts: what they keep, what is looked up, and what leaves them when it is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from gateway.core.memory import Entry, Memory, Source
from gateway.flows import curate, receipts
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened


async def asked(gateway: House, text: str, **headers: str) -> str | None:
    """Ask as Ana; the id of the receipt, once it is kept."""
    async with gateway.client(x_memory_user="ana", **headers) as client:
        answer = await client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": text}]},
        )
    await gateway.background.drain(5)
    return answer.headers.get("x-memory-receipt-id")


async def kept(gateway: House, id: str | None) -> dict[str, Any]:
    assert id is not None
    found = await gateway.services.receipts.get(await gateway.owner(), id)
    assert found is not None
    return found


async def test_a_receipt_can_be_read_as_soon_as_the_answer_is_there(gateway: House) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        for text in ("my very first question", "and a second one"):
            answer = await client.post(
                "/v1/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": text}]},
            )
            id = answer.headers["x-memory-receipt-id"]
            assert (await client.get(f"/v1/receipts/{id}")).status_code == 200
        unknown = await client.get(f"/v1/receipts/rcp_{'0' * 24}")
        assert unknown.status_code == 404


async def told(gateway: House, id: str | None) -> dict[str, Any]:
    owner = await gateway.owner()
    return await receipts.explained(gateway.services, owner, await kept(gateway, id))


async def correct(gateway: House, memory: Memory, text: str) -> None:
    await curate.correct(
        gateway.services,
        gateway.settings,
        await gateway.owner(),
        memory.id,
        {"text": text},
        via="user",
        now=gateway.now,
    )


async def test_what_is_kept_holds_ids_and_no_memorys_words(gateway: House) -> None:
    memory = await gateway.know("The user is allergic to peanuts")
    receipt = await kept(gateway, await asked(gateway, "a snack for me?"))
    assert memory.id in receipt["injected"]
    assert b"peanuts" not in orjson.dumps(receipt)
    assert set(receipt["versions"]) == {"gateway", "settings", "template", "extraction_prompt"}


async def test_a_receipt_shows_the_block_as_it_was_sent_after_a_correction(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    memory = await gateway.know("The user lives in Rome")
    id = await asked(gateway, "where do I live?")
    gateway.now += 60
    await correct(gateway, memory, "The user lives in Milan")
    shown = await told(gateway, id)
    assert shown["block_exact"]
    assert "Rome" in shown["block"]
    assert shown["block"] in upstream.requests[0].json()["messages"][0]["content"]
    assert shown["memories"][0]["text_now"] == "The user lives in Milan"


async def test_what_was_forgotten_is_in_no_receipt(gateway: House) -> None:
    memory = await gateway.know("The user collects stamps")
    other = await asked(gateway, "what do I do on Sundays?")
    about = await asked(gateway, "The user collects stamps, what else?")
    await curate.forget(gateway.services, await gateway.owner(), memory.id, now=gateway.now)
    shown = await told(gateway, about)
    assert shown["query"] == ""  # what was said itself is another memory, until it is forgotten
    assert b"stamps" not in orjson.dumps({**shown, "exchange": None})
    shown = await told(gateway, other)
    assert shown["query"] == "what do I do on Sundays?"
    assert not shown["block_exact"]
    assert b"stamps" not in orjson.dumps(shown)


async def test_a_receipt_names_the_facts_drawn_from_its_exchange(gateway: House) -> None:
    receipt = await asked(gateway, "I moved to Oslo")
    exchange = (await gateway.handed_over())[0]
    fact = Memory(
        id="mem_drawn",
        kind="fact",
        type="profile",
        text="The user lives in Oslo",
        created_at=gateway.now + 1,
        updated_at=gateway.now + 1,
        valid_from=gateway.now,
        source=Source(exchange_id=exchange.id, quote="I moved to Oslo"),
    )
    await gateway.services.store.put(await gateway.owner(), [Entry(fact)])
    shown = await told(gateway, receipt)
    assert [one["id"] for one in shown["drawn"]] == ["mem_drawn"]
    assert shown["exchange"]["distilled"] is False
    assert shown["exchange"]["turns"][0]["text"] == "I moved to Oslo"


async def test_a_receipt_is_kept_on_demand_where_only_a_share_is(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis, receipts={"share": 0.0}) as gateway:
        await gateway.know("The user likes tea")
        assert await asked(gateway, "tea?") is None
        assert await asked(gateway, "tea again?", x_memory_receipt="on") is not None
    strict = {"share": 0.0, "on_demand": False}
    async with house(tmp_path, upstream.base_url, redis, receipts=strict) as gateway:
        assert await asked(gateway, "tea?", x_memory_receipt="on") is None


async def test_recalls_are_recorded_only_where_that_is_asked_for(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, gateway: House
) -> None:
    await gateway.know("The user likes tea")
    assert "recorded" not in await kept(gateway, await asked(gateway, "tea?"))
    (tmp_path / "2").mkdir()
    async with house(tmp_path / "2", upstream.base_url, redis, receipts={"record": True}) as on:
        memory = await on.know("The user likes tea")
        recorded = (await kept(on, await asked(on, "tea?")))["recorded"]
        assert recorded["would_inject"] == [memory.id]
        assert recorded["present"] == ["tea?"]


def test_versions_change_with_the_settings_and_not_with_secrets() -> None:
    from gateway.config import Settings

    def of(**memory: Any) -> dict[str, str]:
        return receipts.versions(Settings.model_validate({"memory": memory}))

    assert of() == of()
    assert of(max_tokens=100)["settings"] != of()["settings"]
    assert of(template="x")["template"] != of()["template"]
    keyed = Settings.model_validate({"upstream": {"api_key": "sk-one"}})
    other = Settings.model_validate({"upstream": {"api_key": "sk-two"}})
    assert receipts.versions(keyed) == receipts.versions(other)
