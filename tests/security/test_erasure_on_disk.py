"""Twenty words in every place where a gateway keeps something, an erasure, and a search for them
in every byte on disk and in Redis.

The gateway is whole: Qdrant Edge, a redis-server with its append-only file, the directory, the
spool. A control shows that the search can find: with sealing off the words are there.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from gateway.config import Settings
from gateway.core.delivery import Plan, Put
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Owner, Person
from gateway.core.memory import Entry, Memory
from gateway.flows import between
from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from gateway.web.app import build_app
from gateway.wiring import GatewayDeployment, open_deployment
from tests import loopback
from tests.web.house import ADMIN_TOKEN, served

ANA = Person("default", "ana")
WORDS = tuple(f"zq{name}xv" for name in (
    "fact", "value", "metadata", "corrected", "superseded", "quarantined", "forgotten", "turn",
    "neighbour", "pending", "answer", "leased", "planned", "dead", "spooled", "receipt", "session",
    "idempotency", "imported", "searched",
))  # fmt: skip


@dataclass
class Whole:
    deployment: GatewayDeployment
    client: httpx.AsyncClient
    owner: Owner


@asynccontextmanager
async def whole(data_dir: Path, upstream: ScriptedUpstream, *, seal: bool) -> AsyncIterator[Whole]:
    settings = Settings.model_validate(
        {
            "data_dir": str(data_dir),
            "upstream": {"base_url": upstream.base_url},
            "embedding": {"provider": "none"},
            "memory": {"deadline_ms": 5000},
            "privacy": {"seal": seal},
            "extraction": {"idle_s": 3600, "max_wait_s": 3600},
        }
    )
    deployment = await open_deployment(settings, worker=False)
    try:
        async with served(build_app(deployment, admin_token=ADMIN_TOKEN)) as url:
            headers = {"X-Memory-User": ANA.user, "X-Memory-Session": "zqsessionxv"}
            async with loopback.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
                owner = await deployment.services_for("default").directory.owner(ANA, create=True)
                assert owner is not None
                yield Whole(deployment, client, owner)
    finally:
        await deployment.close()


async def plant(house: Whole, upstream: ScriptedUpstream) -> None:
    """A word of its own in every place."""
    client, owner = house.client, house.owner
    services, now = house.deployment.services_for("default"), house.deployment.clock()

    async def made(text: str, **more: Any) -> str:
        body = {"text": text, "type": "profile", **more}
        answer = await client.post("/v1/memories", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def exchange(word: str) -> Exchange:
        return Exchange(f"exc_{word[2:-2]}", "s", now, (Turn(0, "user", f"I said {word}", now),))

    await made("a zqfactxv", key="home", value="zqvaluexv", metadata={"m": "zqmetadataxv"})
    corrected = await made("a zqcorrectedxv")
    await client.patch(f"/v1/memories/{corrected}", json={"text": "something else"})
    await made("a zqsupersededxv", key="role")
    await made("another role", key="role")
    aside = await made("a zqquarantinedxv")
    await client.patch(f"/v1/memories/{aside}", json={"status": "quarantined"})
    gone = await made("a zqforgottenxv")
    await client.delete(f"/v1/memories/{gone}")
    for text in ("a zqturnxv", "a zqneighbourxv"):
        body = {"text": text, "kind": "turn", "session": "s"}
        assert (await client.post("/v1/memories", json=body)).status_code == 201
    key = {"Idempotency-Key": "zqidempotencyxv"}
    await client.post("/v1/memories", json={"text": "once", "type": "profile"}, headers=key)
    row = {"id": "mem_i", "kind": "fact", "type": "profile", "text": "a zqimportedxv"}
    line = json.dumps({**row, "created_at": "2026-01-01T00:00:00Z"}).encode()
    assert (await client.post("/v1/memories/import", content=line)).status_code == 200
    await client.post("/v1/memories/search", json={"query": "zqsearchedxv"})

    # Work in every state: dead, leased with a plan, pending (from a chat), and on disk.
    await services.queue.put(owner, exchange("zqdeadxv"), now=now)
    lease = await services.queue.lease("w", now=now + 7200)
    assert lease is not None
    await services.queue.bury(lease, reason="in a test", now=now)
    await services.queue.put(owner, exchange("zqleasedxv"), now=now)
    lease = await services.queue.lease("w", now=now + 7200)
    assert lease is not None
    planned = Memory("mem_p", "fact", "a zqplannedxv", now, now, now, type="profile")
    await services.queue.keep_plan(lease, Plan(("exc_leased",), (Put(planned, "zqplannedxv"),)))
    await services.spool.append(owner, exchange("zqspooledxv"))
    upstream.default = Say("You mean the zqanswerxv.")
    chat = [{"role": "user", "content": "zqpendingxv and zqreceiptxv, zqfactxv?"}]
    answer = await client.post("/v1/chat/completions", json={"model": "m", "messages": chat})
    assert answer.headers["x-memory-injected-count"] != "0"
    await house.deployment.background.drain(10)


def spellings(word: str) -> list[bytes]:
    """A word as it may stand in a file: plain, wide, in hexadecimal, in base64."""
    plain = word.encode()
    inner = [base64.b64encode(b"x" * n + plain)[4 if n else 0 : -4] for n in range(3)]
    return [plain, plain.upper(), word.encode("utf-16-le"), plain.hex().encode(), *inner]


def found_on_disk(data_dir: Path, needles: dict[str, list[bytes]]) -> dict[str, list[str]]:
    """Which of these stand in which files."""
    files = [file for file in data_dir.rglob("*") if file.is_file()]
    assert files
    found: dict[str, list[str]] = {}
    for file in files:
        # Logs are made in advance, empty: their zeros need no search.
        content = re.sub(rb"\0{16,}", b"\0" * 16, file.read_bytes())
        for name, ways in needles.items():
            if any(way in content for way in ways):
                found.setdefault(name, []).append(str(file.relative_to(data_dir)))
    return found


async def found_in_redis(house: Whole, needles: dict[str, list[bytes]]) -> set[str]:
    """Which of these stand in any key or value, as Redis dumps them."""
    found: set[str] = set()
    async with redis_of(house) as client:
        async for key in client.scan_iter(count=1000):
            content = key + (await client.dump(key) or b"")
            found |= {name for name, ways in needles.items() if any(w in content for w in ways)}
    return found


def redis_of(house: Whole) -> Any:
    """A client of the gateway's own redis-server."""
    directory = house.deployment.settings.data_dir / "redis"
    socket = directory / "redis.sock"
    if not socket.exists():  # the path was too long for a socket
        socket = Path((directory / "socket-dir").read_text().strip()) / "redis.sock"
    return Redis(unix_socket_path=str(socket))


WORDS_SPELLED = {word: spellings(word) for word in WORDS}


async def test_no_word_is_left_of_someone_who_was_erased(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    monkeypatch.setattr("gateway.worker.SPOOL_EVERY_S", 3600)  # what is spooled stays there
    async with whole(data_dir, upstream, seal=True) as house:
        await plant(house, upstream)
        secrets = {"key": [house.owner.key], "name": [ANA.user.encode()]}
        assert "key" in found_on_disk(data_dir, secrets)

        # Even before: what rests is sealed.
        assert found_on_disk(data_dir, WORDS_SPELLED) == {}
        assert await found_in_redis(house, WORDS_SPELLED) == set()

        receipt = (await house.client.delete("/v1/memories")).json()
        assert receipt["completed"] is True
        counts = receipt["counts"]
        for place in ("memories", "pending", "leased", "dead", "plans", "spool", "receipts"):
            assert counts[place] >= 1, counts
        look = await house.client.get(f"/v1/erasures/{receipt['id']}?verify=true")
        assert look.json()["completed"] is True
        assert set(look.json()["remaining"].values()) == {0}

        assert found_on_disk(data_dir, WORDS_SPELLED) == {}
        assert await found_in_redis(house, WORDS_SPELLED) == set()
        assert "key" not in found_on_disk(data_dir, secrets)
        # What answers for the tenant: the fences that keep work in flight out.
        async with redis_of(house) as client:
            keys = [key async for key in client.scan_iter(count=1000)]
        left = [key for key in keys if house.owner.tenant.encode() in key]
        assert all(b"gone" in key for key in left), left
        assert house.owner.tenant not in between.standing_memories._kept
    # What was still to be written at the end is written now.
    assert found_on_disk(data_dir, WORDS_SPELLED) == {}
    assert "key" not in found_on_disk(data_dir, secrets)


async def test_the_search_finds_words_where_they_are_not_sealed(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    data_dir = tmp_path / "data"
    async with whole(data_dir, upstream, seal=False) as house:
        await plant(house, upstream)
        in_redis = await found_in_redis(house, WORDS_SPELLED)
    on_disk = found_on_disk(data_dir, WORDS_SPELLED)
    hashed_all_the_same = {"zqidempotencyxv", "zqsearchedxv"}
    assert set(WORDS) - set(on_disk) - in_redis <= hashed_all_the_same


async def test_what_lands_late_for_the_erased_cannot_be_read_and_is_swept(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    from gateway.flows.sweep import sweep

    async with whole(tmp_path / "data", upstream, seal=True) as house:
        services, now = house.deployment.services_for("default"), house.deployment.clock()
        receipt = (await house.client.delete("/v1/memories")).json()
        late = Memory("mem_l", "fact", "a zqfactxv", now, now, now, type="profile")
        await services.store.put(house.owner, [Entry(late)])
        assert await services.directory.by_tenant(house.owner.tenant) is None
        assert (await house.client.get("/v1/memories")).json()["memories"] == []
        await sweep(services, house.deployment.metrics)
        look = await house.client.get(f"/v1/erasures/{receipt['id']}?verify=true")
        assert look.json()["remaining"]["memories"] == 0


async def test_an_erased_person_begins_anew_with_another_key(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with whole(tmp_path / "data", upstream, seal=True) as house:
        await plant(house, upstream)
        await house.client.delete("/v1/memories")
        await house.client.post("/v1/memories", json={"text": "anew", "type": "profile"})
        listed = (await house.client.get("/v1/memories")).json()["memories"]
        assert [m["text"] for m in listed] == ["anew"]
        owner = await house.deployment.services_for("default").directory.owner(ANA)
        assert owner is not None
        assert owner.key != house.owner.key
        assert owner.tenant != house.owner.tenant
