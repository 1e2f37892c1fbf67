"""With memory, in its shadow, or without: who is where, and what is counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from gateway.config import Settings
from gateway.core.chat import read_chat
from gateway.core.identity import Person
from gateway.flows.groups import group_of, held_out, is_repeated
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.ports import GroupCounts
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

HALF = {"mode": "holdout", "holdout_share": 0.5}


def person_of(*, out: bool) -> str:
    """A user who is of the held-out half, or of the other one."""
    return next(
        f"user-{n}" for n in range(99) if held_out(Person("default", f"user-{n}"), 0.5) is out
    )


async def says(gateway: House, user: str, *texts: str) -> None:
    """One conversation; each request carries what was said before."""
    messages: list[dict[str, str]] = []
    async with gateway.client(x_memory_user=user) as client:
        for text in texts:
            messages.append({"role": "user", "content": text})
            await client.post("/v1/chat/completions", json={"model": "m", "messages": messages})
            messages.append({"role": "assistant", "content": "ok"})
            await gateway.background.drain(5)


async def thumb(gateway: House, user: str, way: str, **more: Any) -> Any:
    async with gateway.client(x_memory_user=user) as client:
        answer = await client.post("/v1/feedback", json={"thumb": way, **more})
    assert answer.status_code == 202
    return answer.json()


async def counts(gateway: House) -> dict[Any, GroupCounts]:
    assert gateway.services.tally is not None
    return await gateway.services.tally.groups("default", days=2, now=gateway.now)


def test_a_stable_share_of_users_is_held_out() -> None:
    people = [Person("default", f"user-{n}") for n in range(2000)]
    out = [person for person in people if held_out(person, 0.2)]
    assert 0.15 < len(out) / len(people) < 0.25
    assert all(held_out(person, 0.5) for person in out)  # a larger share keeps them out


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        ({}, "memory"),
        ({"mode": "shadow"}, "shadow"),
        ({"mode": "holdout", "holdout_share": 1.0}, "holdout"),
        ({"mode": "holdout", "holdout_share": 0.0}, "memory"),
    ],
)
def test_the_mode_tells_the_group(memory: dict[str, Any], expected: str) -> None:
    settings = Settings.model_validate({"memory": memory})
    assert group_of(settings, Person("default", "ana")) == expected


@pytest.mark.parametrize(
    ("texts", "repeated"),
    [
        (["where is my order?"], False),
        (["where is my order?", "where IS my order"], True),
        (["where is my order?", "so, where is my order now?"], True),
        (["where is my order?", "can I pay by card?"], False),
        (["ok", "ok"], False),
    ],
)
def test_a_question_that_is_asked_again_is_seen(texts: list[str], repeated: bool) -> None:
    messages = [{"role": "user", "content": text} for text in texts]
    request = read_chat(orjson.dumps({"model": "m", "messages": messages}))
    assert is_repeated(request) is repeated


async def test_both_groups_are_counted_without_names(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis, memory=HALF) as gateway:
        inside, outside = person_of(out=False), person_of(out=True)
        await says(gateway, inside, "where is my order?")
        await says(gateway, outside, "where is my order?", "and where is my order now?")
        assert (await thumb(gateway, inside, "up"))["group"] == "memory"
        assert (await thumb(gateway, outside, "down"))["group"] == "holdout"
        assert await counts(gateway) == {
            "memory": GroupCounts(exchanges=1, up=1, conversations=1, people=1),
            "holdout": GroupCounts(exchanges=2, repeated=1, down=1, conversations=1, people=1),
        }
        keys = [key async for key in redis.scan_iter("*tally*")]
        assert keys
        assert not [key for key in keys if inside.encode() in key or outside.encode() in key]


async def test_nothing_but_thumbs_is_counted_where_nothing_is_compared(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis) as gateway:
        await says(gateway, "ana", "hello")
        assert await counts(gateway) == {}
        await thumb(gateway, "ana", "up")
        assert await counts(gateway) == {"memory": GroupCounts(up=1)}


async def test_a_second_thumb_for_an_answer_takes_the_place_of_the_first(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis) as gateway:
        await gateway.know("The user likes tea")
        await says(gateway, "ana", "tea?")
        receipts = gateway.services.receipts
        (receipt,) = await receipts.recent(await gateway.owner())
        for way in ("up", "up", "down"):
            await thumb(gateway, "ana", way, receipt_id=receipt["id"])
        assert await counts(gateway) == {"memory": GroupCounts(down=1)}
        (receipt,) = await receipts.recent(await gateway.owner())
        assert receipt["feedback"] == "down"


async def test_facts_that_were_never_injected_are_known(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis) as gateway:
        memory = await gateway.know("The user likes tea")
        tally = gateway.services.tally
        assert tally is not None
        await tally.made("default", [memory.id, "mem_never"], now=gateway.now)
        await says(gateway, "ana", "tea?")
        assert await tally.never_injected("default", now=gateway.now) == (2, 1)
