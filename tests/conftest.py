"""What any test may ask for. Keep it small: what one room needs stands in that room."""

from __future__ import annotations

import asyncio
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import structlog

from gateway.adapters.embedded_redis import EmbeddedRedis, find_server
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.telemetry import logs
from tests import in_memory
from tests.gateway_process import free_port

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

# The same examples in every run, and none fails for being slow on a busy machine: neither in
# running nor in being drawn (a second for ten is seen there).
hypothesis.settings.register_profile(
    "repeatable",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def quick_path() -> Iterator[Path]:
    """A directory in memory where there is room, else on a disk: an embedded store opens in half
    the time (0.14 s, and 0.3)."""
    path = Path(tempfile.mkdtemp(prefix="mg-", dir=in_memory.place()))
    yield path
    for _ in range(100):  # a process that is ending may write to the last
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            break
        time.sleep(0.02)


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


@pytest.fixture(scope="session")
def cluster_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis Cluster of one node, which refuses keys of two slots like any other."""
    port, folder = free_port(), tmp_path_factory.mktemp("cluster")
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    kind = ["--cluster-enabled", "yes", "--appendonly", "yes", "--save", ""]
    server = subprocess.Popen([find_server(), *place, *kind], stdout=subprocess.DEVNULL)
    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(_join(port))
        yield port
    finally:
        server.terminate()
        server.wait()


async def _join(port: int) -> None:
    from redis.asyncio import Redis
    from redis.exceptions import ConnectionError as NotUp

    async with asyncio.timeout(20), Redis(host="127.0.0.1", port=port) as node:
        while True:
            try:
                await node.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))
                break
            except NotUp:
                await asyncio.sleep(0.01)
        while b"cluster_state:ok" not in await node.execute_command("CLUSTER", "INFO"):
            await asyncio.sleep(0.01)


@pytest.fixture
async def cluster(cluster_port: int) -> AsyncIterator[RedisCluster]:
    """A client of that cluster, which is empty at the start of each test."""
    from redis.asyncio.cluster import RedisCluster

    async with RedisCluster(host="127.0.0.1", port=cluster_port) as client:
        await client.flushall()
        yield client


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Any test may configure logs, by running a command too: they are afterwards as they were. A
    level that one left behind kept lines from the next, whichever that was."""
    root = logging.getLogger()
    handlers, level, threshold = list(root.handlers), root.level, logs._Said.threshold
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    logs._Said.threshold = threshold
