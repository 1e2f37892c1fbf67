"""What the attacks ask for: a worker's surroundings with a scripted model, and a whole gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.flows.workshop import ScriptedModel, Workshop, workshop
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture(scope="session")
def _scripted_model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as running:
        yield running


@pytest.fixture
def model(_scripted_model: ScriptedModel) -> ScriptedModel:
    """A scripted language model, as new for each test."""
    return _scripted_model.as_new()


@pytest.fixture
async def shop(tmp_path: Path, redis: Redis, model: ScriptedModel) -> AsyncIterator[Workshop]:
    """A worker's surroundings."""
    async with workshop(tmp_path, redis, model) as opened:
        yield opened


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    """A gateway with default settings before the scripted upstream."""
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened
