"""Erased through one gateway: what the others hold for speed goes too.

Two whole deployments in the server mode share one Redis and a stand-in for a Qdrant server. They
live in this one process, where what stands of a user is kept once, so that the erasure itself is
done part by part, without the step that lets go of it here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.adapters import cipher
from gateway.config import Settings
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Owner, Person
from gateway.core.memory import Probe, Where
from gateway.flows import between, curate, endings, erase
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.ports import Services
from gateway.web.app import build_app
from gateway.wiring import GatewayDeployment, open_deployment
from tests.web.house import served

ANA = Person("default", "ana")
Two = tuple[GatewayDeployment, GatewayDeployment]


@pytest.fixture
async def two(
    tmp_path: Path,
    qdrant: str,
    redis_url: str,
    upstream: ScriptedUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Two]:
    monkeypatch.setattr(endings, "LOOK_S", 0.05)
    async with AsyncExitStack() as opened:
        both = []
        for name in ("one", "other"):
            settings = Settings.model_validate(
                {
                    "data_dir": str(tmp_path / name),
                    "upstream": {"base_url": upstream.base_url},
                    "embedding": {"provider": "none"},
                    "admin": {"token": "an-admin-token-for-tests"},
                    "qdrant": {"url": qdrant, "collection": "erased-elsewhere"},
                    "redis": {"url": redis_url},
                    "extraction": {"provider": "none", "idle_s": 3600, "max_wait_s": 3600},
                }
            )
            deployment = await open_deployment(settings, worker=False)
            opened.push_async_callback(deployment.close)
            both.append(deployment)
        yield both[0], both[1]


def held(services: Services, owner: Owner) -> dict[str, bool]:
    """What this process holds of an owner, cache by cache."""
    store: Any = services.store
    queue: Any = services.queue
    directory: Any = services.directory
    return {
        "opened memories": bool(store._opened.shelf(owner.tenant).memories),
        "opened exchanges": queue._pending._held.of(owner.tenant) is not None,
        "standing memories": owner.tenant in between.standing_memories._kept,
        "owners": any(k.owner.tenant == owner.tenant for k in directory._cache.values()),
        "keys": cipher._aead.cache_info().currsize > 0,
    }


async def warmed(deployment: GatewayDeployment) -> Owner:
    """Have everything there is of ana opened and held in this process."""
    services, now = deployment.services_for("default"), deployment.clock()
    owner = await services.directory.owner(ANA)
    assert owner is not None
    found = await services.store.search(owner, Probe("Where is home?", Where()))
    assert [memory.text for memory in found.memories.values()] == ["home is Porto"]
    assert len(await services.queue.pending(owner)) == 1
    standing = tuple(found.memories.values())
    between.standing_memories.keep(owner.tenant, standing, version="v", now=now)
    return owner


async def test_what_another_process_holds_of_the_erased_goes_within_seconds(two: Two) -> None:
    one, other = (deployment.services_for("default") for deployment in two)
    now = two[0].clock()
    owner = await one.directory.owner(ANA, create=True)
    assert owner is not None
    draft = curate.Draft("home is Porto", "profile")
    await curate.create(one, two[0].settings_for("default"), owner, [draft], via="api", now=now)
    said = Exchange("exc_1", "s", now, (Turn(0, "user", "my home is Porto", now),))
    await one.queue.put(owner, said, now=now)
    assert await warmed(two[1]) == owner
    assert all(held(other, owner).values())

    # As an erasure does, but for the one step that lets go of it in the process that erases.
    await one.directory.drop(owner)
    await one.queue.erase(owner.tenant)
    await one.store.erase(owner.tenant)

    async with asyncio.timeout(10):
        while any(held(other, owner).values()):
            await asyncio.sleep(0.01)


async def test_what_a_request_under_way_puts_back_goes_with_a_later_look(two: Two) -> None:
    one, other = (deployment.services_for("default") for deployment in two)
    owner = await one.directory.owner(ANA, create=True)
    assert owner is not None
    await other.directory.ended()
    watching = endings.Endings(other)
    await watching.look()
    await one.directory.drop(owner)
    await watching.look()
    between.standing_memories.keep(owner.tenant, (), version="v", now=two[1].clock())
    await watching.look()
    assert not held(other, owner)["standing memories"]
    for _ in range(endings.LOOKS):
        await watching.look()
    assert not watching._looks_left, "a tenant is let go of for ever"


# --- who comes back at once, by way of another gateway -----------------------------------------


@pytest.fixture
async def erased(two: Two, monkeypatch: pytest.MonkeyPatch) -> Owner:
    """Ana, who was erased through one gateway a moment ago; the other still knows her as she was,
    as it does for a second."""
    one, other = (deployment.services_for("default") for deployment in two)
    monkeypatch.setattr(endings, "let_go", lambda *_: None)
    owner = await one.directory.owner(ANA, create=True)
    assert owner is not None
    assert await other.directory.owner(ANA) == owner
    assert await other.directory.by_tenant(owner.tenant) == owner
    assert (await erase.erase(one, ANA, now=two[0].clock()))["completed"]
    return owner


async def test_what_is_said_through_another_gateway_after_an_erasure_is_kept(
    two: Two, erased: Owner
) -> None:
    async with served(build_app(two[1])) as url, httpx.AsyncClient(base_url=url) as client:
        chat = {"model": "m", "messages": [{"role": "user", "content": "I live in Rome now"}]}
        headers = {"X-Memory-User": "ana"}
        answer = await client.post("/v1/chat/completions", json=chat, headers=headers)
        assert answer.headers["x-memory-status"] == "ok"
    await two[1].background.drain(5)
    one = two[0].services_for("default")
    anew = await one.directory.owner(ANA)
    assert anew is not None
    assert anew != erased
    assert [e.turns[0].text for e in await one.queue.pending(anew)] == ["I live in Rome now"]


async def test_what_is_written_through_another_gateway_after_an_erasure_is_hers(
    two: Two, erased: Owner
) -> None:
    async with served(build_app(two[1])) as url, httpx.AsyncClient(base_url=url) as client:
        fact = {"text": "lives in Rome", "type": "profile"}
        headers = {"X-Memory-User": "ana"}
        answer = await client.post("/v1/memories", json=fact, headers=headers)
        assert answer.status_code == 201
    one = two[0].services_for("default")
    assert await one.store.count(erased.tenant) == 0
    anew = await one.directory.owner(ANA)
    assert anew is not None
    assert await one.store.count(anew.tenant) == 1


async def test_a_log_sent_through_another_gateway_after_an_erasure_is_taken(
    two: Two, erased: Owner
) -> None:
    said = {"messages": [{"role": "user", "content": "I live in Rome"}], "at": "2026-01-01"}
    async with served(build_app(two[1])) as url, httpx.AsyncClient(base_url=url) as client:
        headers, log = {"X-Memory-User": "ana"}, {"exchanges": [said, {**said, "at": "2026-01-02"}]}
        answer = await client.post("/v1/exchanges", json=log, headers=headers)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 2
