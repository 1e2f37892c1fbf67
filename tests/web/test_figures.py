"""Figures are answered whatever is away."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.core.errors import OverBudget
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import house

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.mark.parametrize("refusal", [OverBudget("another holds it"), PermissionError(13, "no")])
async def test_figures_are_answered_while_the_spool_cannot_be_read(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Exception,
) -> None:
    async def count(_tenant: str | None = None) -> int:
        raise refusal

    async with house(tmp_path, upstream.base_url, redis) as gateway, gateway.client() as client:
        monkeypatch.setattr(gateway.services.spool, "count", count)
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert "memory_gateway_spool_exchanges 0.0" in answer.text


async def test_figures_are_answered_while_redis_hangs(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("gateway.web.figures.PATIENCE_S", 0.05)
    async with house(tmp_path, upstream.base_url, redis) as gateway, gateway.client() as client:
        monkeypatch.setattr(gateway.services.queue, "status", hang)
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert "memory_gateway_spool_exchanges 0.0" in answer.text
