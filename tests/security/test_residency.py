"""An app with a Qdrant and a Redis of its own: nothing of its users rests with the others.

Two real Redis servers, and two collections of a stand-in for a Qdrant server.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.adapters.embedded_redis import EmbeddedRedis
from gateway.config import load
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Person
from gateway.flows.sweep import drain_spool
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.web.app import build_app
from gateway.wiring import GatewayDeployment, open_deployment
from tests.web.house import ADMIN_TOKEN, served

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHAT = {"model": "m", "messages": [{"role": "user", "content": "I live in Lyon"}]}


@pytest.fixture
async def redis_there() -> AsyncIterator[str]:
    """Another redis-server than the one that the tests share."""
    directory = Path(tempfile.mkdtemp(prefix="mg-eu-", dir="/tmp"))
    server = EmbeddedRedis(directory)
    try:
        yield await server.start()
    finally:
        await server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@dataclass
class Both:
    deployment: GatewayDeployment
    client: httpx.AsyncClient


@pytest.fixture
async def both(
    tmp_path: Path,
    qdrant: str,
    redis: Redis,
    redis_server: str,
    redis_there: str,
    upstream: ScriptedUpstream,
) -> AsyncIterator[Both]:
    environ = {
        "DATA_DIR": str(tmp_path / "data"),
        "UPSTREAM__BASE_URL": upstream.base_url,
        "EMBEDDING__PROVIDER": "none",
        "MEMORY__DEADLINE_MS": "5000",
        "EXTRACTION__IDLE_S": "3600",
        "EXTRACTION__MAX_WAIT_S": "3600",
        "ADMIN__TOKEN": ADMIN_TOKEN,
        "QDRANT__URL": qdrant,
        "QDRANT__COLLECTION": "world",
        "REDIS__URL": redis_server,
        "APPS__EU__QDRANT__COLLECTION": "eu",
        "APPS__EU__REDIS__URL": redis_there,
    }
    settings = load(environ={f"GATEWAY_{name}": value for name, value in environ.items()})
    async with AsyncExitStack() as opened:
        deployment = await open_deployment(settings, worker=False)
        opened.push_async_callback(deployment.close)
        url = await opened.enter_async_context(
            served(build_app(deployment, admin_token=ADMIN_TOKEN))
        )
        client = httpx.AsyncClient(base_url=url, headers={"X-Memory-User": "ana"}, timeout=30)
        yield Both(deployment, await opened.enter_async_context(client))


async def written_in(server: Any) -> bytes:
    """Every key of a Redis and what is in it."""
    found = []
    async for key in server.scan_iter():
        found += [key, await server.dump(key) or b""]
    return b"\n".join(found)


async def test_what_a_user_of_an_app_says_rests_in_that_apps_servers_alone(
    both: Both, redis: Redis, redis_there: str
) -> None:
    from redis.asyncio import Redis as Client

    in_eu = {"X-Memory-App": "eu"}
    fact = {"text": "lives in Lyon", "type": "profile"}
    made = await both.client.post("/v1/memories", json=fact, headers=in_eu)
    assert made.status_code == 201, made.text
    chat = await both.client.post("/v1/chat/completions", json=CHAT, headers=in_eu)
    assert chat.headers["x-memory-injected-count"] == "1"
    await both.deployment.background.drain(10)

    eu, world = (both.deployment.services_for(app) for app in ("eu", "default"))
    owner = await eu.directory.owner(Person("eu", "ana"))
    assert owner is not None
    assert await eu.store.count(owner.tenant) == 1
    assert len(await eu.queue.pending(owner)) == 1
    assert await world.store.count(owner.tenant) == 0
    assert await world.directory.owner(Person("eu", "ana")) is None
    here = await written_in(redis)
    async with Client.from_url(redis_there) as client:
        there = await written_in(client)
    for mark in (owner.tenant.encode(), owner.key):
        assert mark in there
        assert mark not in here


async def test_the_same_name_in_both_is_two_people_for_operators_and_erasure(both: Both) -> None:
    fact = {"text": "lives in Lyon", "type": "profile"}
    for app in ("eu", "default"):
        await both.client.post("/v1/memories", json=fact, headers={"X-Memory-App": app})
    admin = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    people = (await both.client.get("/admin/v1/users", headers=admin)).json()["users"]
    assert [(p["app"], p["user"]) for p in people] == [("default", "ana"), ("eu", "ana")]
    receipt = (await both.client.delete("/v1/memories", headers={"X-Memory-App": "eu"})).json()
    assert receipt["completed"]
    assert receipt["counts"]["memories"] == 1
    assert len((await both.client.get("/v1/memories")).json()["memories"]) == 1
    audit = await both.client.get("/admin/v1/audit", headers=admin)
    actions = [(entry["app"], entry["action"]) for entry in audit.json()["entries"]]
    assert actions[0] == ("eu", "erase")
    assert ("default", "create") in actions


async def test_what_waits_on_the_disk_for_an_apps_own_redis_is_not_drained_by_the_others(
    both: Both,
) -> None:
    eu, world = (both.deployment.services_for(app) for app in ("eu", "default"))
    owner = await eu.directory.owner(Person("eu", "ana"), create=True)
    assert owner is not None
    turn = Turn(n=0, role="user", at=1.0, text="I live in Lyon")
    await eu.spool.append(owner, Exchange(id="x1", session="s", at=1.0, turns=(turn,)))
    assert await world.spool.count() == 0
    assert await drain_spool(world) == 0
    assert await drain_spool(eu) == 1
    assert [exchange.id for exchange in await eu.queue.pending(owner)] == ["x1"]
