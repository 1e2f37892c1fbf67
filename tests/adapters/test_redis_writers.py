"""One writer of a tenant at a time, over a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.adapters import redis_writers
from gateway.adapters.redis_writers import RedisWriters
from gateway.core.errors import StateUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEY = "*:writing:ana"


async def test_the_next_writer_of_a_tenant_waits_and_anothers_does_not(redis: Redis) -> None:
    one, other = RedisWriters(redis), RedisWriters(redis)
    token = await one.take("ana")
    waiting = asyncio.ensure_future(other.take("ana"))
    await other.take("bob")
    assert not waiting.done()
    await one.leave("ana", token)
    assert await asyncio.wait_for(waiting, 5) != token


async def test_a_writer_that_died_keeps_nobody_out_for_long(redis: Redis) -> None:
    writers = RedisWriters(redis)
    token = await writers.take("ana")
    [key] = await redis.keys(KEY)
    assert 0 < await redis.pttl(key) <= redis_writers.HELD_MS
    await redis.pexpire(key, 1000)
    assert await writers.keep("ana", token)
    assert await redis.pttl(key) > 1000
    await redis.delete(key)  # as when its time is over
    assert not await writers.keep("ana", token)


async def test_who_comes_back_late_does_not_end_anothers_turn(redis: Redis) -> None:
    writers = RedisWriters(redis)
    late = await writers.take("ana")
    await redis.delete(*await redis.keys(KEY))
    token = await writers.take("ana")
    await writers.leave("ana", late)
    assert not await writers.keep("ana", late)
    assert await writers.keep("ana", token)


async def test_patience_has_an_end(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_writers, "PATIENCE_S", 0.0)
    writers = RedisWriters(redis)
    await writers.take("ana")
    with pytest.raises(StateUnavailable, match="another process") as refused:
        await writers.take("ana")
    assert refused.value.code == "busy"


async def test_nobody_writes_where_it_cannot_be_told_whose_turn_it_is() -> None:
    from redis.asyncio import Redis

    async with Redis(port=1, retry=None) as nowhere:
        with pytest.raises(StateUnavailable):
            await RedisWriters(nowhere).take("ana")
