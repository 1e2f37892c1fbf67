"""Receipts on a real redis-server: sealed, few per user, gone when their time is over."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.redis_receipts import RedisReceipts
from gateway.config import Settings, load
from gateway.core.errors import StateUnavailable
from gateway.core.identity import Owner, Person, new_owner


def settings(**environ: str) -> Settings:
    return load(environ={f"GATEWAY_{name}": value for name, value in environ.items()})


def receipts_on(redis: Redis, **environ: str) -> RedisReceipts:
    return RedisReceipts(redis, AesGcmCipher(), settings(**environ).app)


@pytest.fixture
def receipts(redis: Redis) -> RedisReceipts:
    return receipts_on(redis)


@pytest.fixture
def ann() -> Owner:
    return new_owner(Person("default", "ann"))


def receipt(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"rcp_{n}", "considered": [{"id": "m1", "score": 0.5}], **more}


async def test_a_receipt_is_found_by_its_id(receipts: RedisReceipts, ann: Owner) -> None:
    await receipts.keep(ann, receipt(1, stage="full"))
    assert await receipts.get(ann, "rcp_1") == receipt(1, stage="full")
    assert await receipts.get(ann, "rcp_2") is None


async def test_another_users_receipt_is_not_found(receipts: RedisReceipts, ann: Owner) -> None:
    bob = new_owner(Person("default", "bob"))
    await receipts.keep(ann, receipt(1))
    assert await receipts.get(bob, "rcp_1") is None
    assert await receipts.recent(bob) == []


async def test_recent_ones_come_newest_first(receipts: RedisReceipts, ann: Owner) -> None:
    for n in range(5):
        await receipts.keep(ann, receipt(n))
    assert [r["id"] for r in await receipts.recent(ann, limit=3)] == ["rcp_4", "rcp_3", "rcp_2"]


async def test_a_user_keeps_the_newest_so_many(redis: Redis, ann: Owner) -> None:
    receipts = receipts_on(redis, RECEIPTS__MAX_PER_USER="3")
    for n in range(7):
        await receipts.keep(ann, receipt(n))
    assert [r["id"] for r in await receipts.recent(ann)] == ["rcp_6", "rcp_5", "rcp_4"]
    assert await receipts.count(ann.tenant) == 3
    assert await receipts.get(ann, "rcp_3") is None


async def test_a_receipt_past_its_time_is_not_shown_and_then_removed(
    redis: Redis, ann: Owner
) -> None:
    receipts = receipts_on(redis, RETENTION__RECEIPTS="1h")
    await receipts.keep(ann, receipt(1))
    (order,) = [key async for key in redis.scan_iter("*:at")]
    score = await redis.zscore(order, "rcp_1")
    await redis.zadd(order, {"rcp_1": score - 3601})
    assert await receipts.get(ann, "rcp_1") is None
    assert await receipts.recent(ann) == []
    await receipts.keep(ann, receipt(2))
    assert await receipts.count(ann.tenant) == 1
    for key in [key async for key in redis.scan_iter("*")]:
        assert 0 < await redis.ttl(key) <= 3600


async def test_apps_keep_receipts_for_their_own_time(redis: Redis) -> None:
    own = settings(RETENTION__RECEIPTS="2h", APPS__LONG__RETENTION__RECEIPTS="never")
    receipts = RedisReceipts(redis, AesGcmCipher(), own.app)
    for app in ("short", "long"):
        owner = new_owner(Person(app, "ann"))
        await receipts.keep(owner, receipt(1))
        (key,) = [key async for key in redis.scan_iter(f"*{owner.tenant}")]
        assert (await redis.ttl(key) > 86_400) is (app == "long")


async def test_a_large_receipt_loses_the_ends_of_its_lists(redis: Redis, ann: Owner) -> None:
    receipts = receipts_on(redis, RECEIPTS__MAX_BYTES="2048")
    considered = [{"id": f"m{n}", "score": n} for n in range(500)]
    await receipts.keep(ann, receipt(1, considered=considered, injected=["m0"]))
    found = await receipts.get(ann, "rcp_1")
    assert found is not None
    assert found["truncated"] is True
    assert found["injected"] == ["m0"]
    assert 10 < len(found["considered"]) < 100
    assert found["considered"] == considered[: len(found["considered"])]


async def test_a_receipt_that_no_cutting_makes_fit_keeps_its_id(redis: Redis, ann: Owner) -> None:
    receipts = receipts_on(redis, RECEIPTS__MAX_BYTES="1024")
    await receipts.keep(ann, receipt(1, note="x" * 5000))
    assert await receipts.get(ann, "rcp_1") == {"id": "rcp_1", "truncated": True}


async def test_no_words_of_a_receipt_rest_in_redis(
    receipts: RedisReceipts, ann: Owner, redis: Redis
) -> None:
    await receipts.keep(ann, receipt(1, query="planted words"))
    for key in [key async for key in redis.scan_iter("*")]:
        assert b"planted" not in await redis.dump(key)


async def test_erasure_removes_all_and_fences_what_is_in_flight(
    receipts: RedisReceipts, ann: Owner
) -> None:
    bob = new_owner(Person("default", "bob"))
    for owner in (ann, bob):
        for n in range(3):
            await receipts.keep(owner, receipt(n))
    assert await receipts.erase(ann.tenant) == 3
    await receipts.keep(ann, receipt(9))
    assert await receipts.count(ann.tenant) == 0
    assert await receipts.recent(ann) == []
    assert await receipts.count(bob.tenant) == 3


async def test_an_absent_redis_is_unavailable_and_never_an_empty_answer(ann: Owner) -> None:
    async with Redis(host="127.0.0.1", port=1, retry=None) as client:
        receipts = receipts_on(client)
        calls: list[Any] = [
            receipts.keep(ann, receipt(1)),
            receipts.get(ann, "rcp_1"),
            receipts.recent(ann),
            receipts.erase(ann.tenant),
            receipts.count(ann.tenant),
        ]
        for call in calls:
            with pytest.raises(StateUnavailable):
                await call
