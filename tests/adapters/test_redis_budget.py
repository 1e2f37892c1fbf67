"""What extraction may spend a day, over a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from gateway.adapters.redis_budget import DAY_S, RedisBudget
from gateway.core.errors import StateUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOON = 20_000 * DAY_S + DAY_S / 2


async def test_a_budget_is_spent_to_its_end_and_renewed_at_midnight(redis: Redis) -> None:
    budget = RedisBudget(redis)
    assert await budget.spend("a", 600, 1000, now=NOON) == 0
    assert await budget.spend("a", 600, 1000, now=NOON) == DAY_S / 2
    assert await budget.spend("a", 400, 1000, now=NOON) == 0
    assert await budget.spend("a", 600, 1000, now=NOON + DAY_S / 2) == 0


async def test_apps_have_budgets_of_their_own(redis: Redis) -> None:
    budget = RedisBudget(redis)
    assert await budget.spend("a", 1000, 1000, now=NOON) == 0
    assert await budget.spend("b", 1000, 1000, now=NOON) == 0


async def test_all_workers_share_it(redis: Redis) -> None:
    waits = await asyncio.gather(
        *(RedisBudget(redis).spend("a", 100, 1000, now=NOON) for _ in range(20))
    )
    assert waits.count(0.0) == 10


async def test_what_is_larger_than_a_days_budget_goes_first_thing(redis: Redis) -> None:
    budget = RedisBudget(redis)
    assert await budget.spend("a", 5000, 1000, now=NOON) == 0
    assert await budget.spend("a", 1, 1000, now=NOON) > 0


async def test_a_budget_of_nothing_is_nothing(redis: Redis) -> None:
    assert await RedisBudget(redis).spend("a", 1, 0, now=NOON) > 0


async def test_a_redis_that_is_away_is_said_to_be() -> None:
    from redis.asyncio import Redis

    async with Redis.from_url("redis://127.0.0.1:9") as nobody:
        with pytest.raises(StateUnavailable):
            await RedisBudget(nobody).spend("a", 1, 10, now=NOON)
