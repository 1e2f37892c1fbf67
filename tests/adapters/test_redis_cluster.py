"""State, receipts and directory on a real Redis Cluster: no script reaches over two slots."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.directory_redis import RedisDirectory
from gateway.adapters.redis_budget import RedisBudget
from gateway.adapters.redis_fleet import redis_fleet
from gateway.adapters.redis_receipts import RedisReceipts
from gateway.adapters.redis_state import RedisState
from gateway.adapters.redis_tally import RedisTally
from gateway.config import load
from gateway.core.errors import Unavailable
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.keys import make_key
from gateway.ports import Injected, Opening
from tests.contract.queue_house import House
from tests.gateway_process import free_port

NOON = 1_790_000_000.0
SLOTS = 16_384
WIRING: Any = {"clock": lambda: NOON, "settings": load(environ={})}


@pytest.fixture
def ann() -> Owner:
    return new_owner(Person("default", "ann"))


async def test_conversation_state_works_in_a_cluster(cluster: Any, ann: Owner) -> None:
    state = RedisState(cluster, AesGcmCipher())
    opening = Opening(("m1",), None, NOON, 3600.0)
    found = await state.open(ann, opening)
    await state.note_injected(ann, found.session, Injected(("a",), "t"), now=NOON)
    await state.note_seen(ann, found.session, ["m1", "m2"], now=NOON)
    await state.touch_standing(ann.tenant)
    assert (await state.open(ann, opening)).injected == ("a",)
    assert await state.once(ann, "k", b"answer") == b"answer"
    assert await state.allow("bucket", 1, 10, now=NOON) == 0.0
    await state.remember_limit("default", "m", {"max_chars": 9})
    assert await state.limits("default", "m") == {"max_chars": 9}
    assert await state.erase(ann.tenant) > 0
    assert await state.count(ann.tenant) == 0
    await state.ping()


async def test_receipts_work_in_a_cluster(cluster: Any, ann: Owner) -> None:
    receipts = RedisReceipts(cluster, AesGcmCipher(), WIRING["settings"].app)
    await receipts.keep(ann, {"id": "rcp_1"})
    assert await receipts.get(ann, "rcp_1") == {"id": "rcp_1"}
    assert await receipts.recent(ann) == [{"id": "rcp_1"}]
    assert await receipts.count(ann.tenant) == 1
    assert await receipts.erase(ann.tenant) == 1


async def test_the_directory_works_in_a_cluster(cluster: Any) -> None:
    directory = RedisDirectory(cluster, cached_s=0.0, **WIRING)
    ann, slack = Person("default", "ann"), Person("default", "slack")
    owner = await directory.owner(ann, create=True)
    assert owner is not None
    await directory.link(slack, ann)
    assert await directory.owner(slack) == owner
    assert await directory.by_tenant(owner.tenant) == owner
    assert await directory.links(ann) == ["slack"]
    assert await directory.people() == [ann]
    await directory.unlink(slack)
    await directory.drop(owner)
    await directory.compact()
    assert await cluster.get("dir:uncompacted") is None
    await directory.keep_erasure({"id": "era_1"})
    assert await directory.erased() == [{"id": "era_1"}]
    await directory.ping()


async def test_gateway_keys_and_the_audit_work_in_a_cluster(cluster: Any) -> None:
    keys = RedisDirectory(cluster, cached_s=0.0, **WIRING)
    _, key = make_key("default", now=NOON)
    await keys.add(key)
    assert await keys.all() == [key]
    assert await keys.revoke(key.id, NOON)
    await keys.audit({"action": "read"})
    assert len(await keys.audited()) == 1


ASKED: dict[str, Callable[[Any, Owner], Awaitable[Any]]] = {
    "state": lambda client, ann: RedisState(client, AesGcmCipher()).open(
        ann, Opening(("m1",), None, NOON, 3600.0)
    ),
    "limits": lambda client, _: RedisState(client, AesGcmCipher()).limits("default", "m"),
    "receipts": lambda client, ann: RedisReceipts(
        client, AesGcmCipher(), WIRING["settings"].app
    ).get(ann, "rcp_1"),
    "directory": lambda client, ann: RedisDirectory(client, **WIRING).owner(ann.person),
    "erasure": lambda client, ann: RedisDirectory(client, **WIRING).drop(ann),
    "queue": lambda client, ann: House(client).queue().pending(ann, limit=1),
    "all of the queue": lambda client, _: House(client).queue().status(now=NOON),
    "tally": lambda client, _: RedisTally(client).told(),
    "budget": lambda client, _: RedisBudget(client).spend("default", 1, 10, now=NOON),
}


@pytest.mark.parametrize("part", ASKED)
async def test_a_cluster_that_is_away_is_unavailable(part: str, ann: Owner) -> None:
    client = redis_fleet(f"redis+cluster://127.0.0.1:{free_port()}", timeout_s=1)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await ASKED[part](client, ann)
    await client.aclose()
