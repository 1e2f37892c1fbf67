"""What any test may ask for. Keep it small: what one room needs stands in that room."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.adapters.embedded_redis import EmbeddedRedis
from gateway.lab.scripted_upstream import ScriptedUpstream

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture(scope="session")
def _scripted_upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture
def upstream(_scripted_upstream: ScriptedUpstream) -> ScriptedUpstream:
    """A scripted upstream on a real uvicorn; `upstream.base_url` is where it listens.

    One server for the whole run (its end takes 0.2 s); each test finds it as new.
    """
    return _scripted_upstream.renewed()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of one real redis-server for the whole run, on a unix socket with a short path."""
    directory = Path(tempfile.mkdtemp(prefix="mg-test-", dir="/tmp"))
    server = EmbeddedRedis(directory)
    # A loop factory keeps the runner's hands off the thread's current loop.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            yield runner.run(server.start())
        finally:
            runner.run(server.stop())
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def redis(redis_server: str) -> AsyncIterator[Redis]:
    """A client of that server, which is empty at the start of each test."""
    from redis.asyncio import Redis

    async with Redis.from_url(redis_server) as client:
        await client.flushall()
        yield client


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of that server, which is empty at the start of each test."""
    from redis import Redis

    with Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server
