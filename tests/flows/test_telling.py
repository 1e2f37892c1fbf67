"""Processes tell what they have counted, and each shows all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.core.errors import OverBudget
from gateway.flows import telling
from gateway.flows.tasks import beside, ended
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.telemetry.counts import added
from gateway.telemetry.metrics import Metrics
from tests.web.house import house

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_what_every_process_counted_is_told_until_it_ends(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "EVERY_S", 0.01)
    async with house(tmp_path, upstream.base_url, redis) as gateway:
        services = gateway.services
        assert await telling.told(services) == []
        tasks = []
        for n in (1, 2):
            metrics = Metrics()
            metrics.facts.labels("add").inc(n)
            tasks.append(beside(telling.tell(lambda: [services], metrics), f"process {n}"))
        async with asyncio.timeout(10):
            while len(await telling.told(services)) < 2:
                await asyncio.sleep(0.01)
        for task in tasks:
            await ended(task)
        assert added(await telling.told(services)).of("facts") == {"add": 3.0}
        assert services.tally is not None
        await services.tally.tell("of another version", b'{"odd": 1}', now=gateway.now)
        assert len(await telling.told(services)) == 2
        for key in await redis.keys("{tally}:process:*"):
            assert 0 < await redis.ttl(key) <= 15
            await redis.delete(key)
        assert await telling.told(services) == []


async def test_a_spool_that_cannot_be_read_does_not_end_the_telling(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "EVERY_S", 0.01)
    refusals: list[Exception] = [OverBudget("held by another process"), PermissionError(13, "no")]

    async def count(_tenant: str | None = None) -> int:
        if refusals:
            raise refusals.pop()
        return 3

    async with house(tmp_path, upstream.base_url, redis) as gateway:
        services = gateway.services
        monkeypatch.setattr(services.spool, "count", count)
        task = beside(telling.tell(lambda: [services], Metrics()), "tell")
        async with asyncio.timeout(10):
            while [sum(one.spooled.values()) for one in await telling.told(services)] != [3.0]:
                await asyncio.sleep(0.01)
        await ended(task)
