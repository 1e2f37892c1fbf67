"""What tests of remembering ask for; see `workshop.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.flows.workshop import ScriptedModel, Workshop, workshop

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture(scope="session")
def _scripted_model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as running:
        yield running


@pytest.fixture
def model(_scripted_model: ScriptedModel) -> ScriptedModel:
    """A scripted language model on a loopback port, as new for each test."""
    return _scripted_model.as_new()


@pytest.fixture
async def shop(tmp_path: Path, redis: Redis, model: ScriptedModel) -> AsyncIterator[Workshop]:
    """A worker's surroundings, without an embedder."""
    async with workshop(tmp_path, redis, model) as opened:
        yield opened


@pytest.fixture
async def embedding_shop(
    tmp_path: Path, redis: Redis, model: ScriptedModel
) -> AsyncIterator[Workshop]:
    """The same, with texts embedded."""
    async with workshop(tmp_path, redis, model, embeds=True) as opened:
        yield opened
