"""What a sweep puts right."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from gateway.adapters.spool.file import CHUNK
from gateway.core.errors import QueueUnavailable, StoreUnavailable
from gateway.core.identity import Person, new_owner
from gateway.core.memory import Entry, Memory, Probe, Source, Where
from gateway.flows.sweep import FEW, drain_spool, sweep
from tests.flows.workshop import DAY, Workshop, fact


class _Broken:
    """A part of which one call fails."""

    def __init__(self, part: Any, call: str, error: Exception) -> None:
        self._part, self._call, self._error = part, call, error

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            return self._fail
        return getattr(self._part, name)

    async def _fail(self, *_: Any, **__: Any) -> None:
        raise self._error


async def test_expired_memories_go_and_are_counted(shop: Workshop) -> None:
    await shop.know("User is away this week", expires_at=shop.now - 1)
    await shop.know("User is away next week", expires_at=shop.now + 1)
    await shop.know("User is kind")
    swept = await sweep(shop.services, shop.metrics)
    assert swept.expired == 1
    assert shop.count("expired_memories") == 1
    assert await shop.active() == ["User is away next week", "User is kind"]
    assert not (await sweep(shop.services, shop.metrics)).any()


async def test_turns_go_at_the_end_of_their_retention(shop: Workshop) -> None:
    await shop.learn("I live in Berlin", "Nice!", facts=[fact("User lives in Berlin")])
    shop.now += 31 * DAY
    assert (await sweep(shop.services, shop.metrics)).expired == 2
    assert await shop.turns() == []
    assert await shop.active() == ["User lives in Berlin"]


async def test_more_than_one_step_holds_is_swept_in_one_go(shop: Workshop) -> None:
    owner = await shop.owner()
    await shop.services.store.put(
        owner,
        [
            Entry(Memory(f"m{n}", "fact", f"fact {n}", 1, 1, 1, type="profile", expires_at=5))
            for n in range(1100)
        ],
    )
    assert (await sweep(shop.services, shop.metrics)).expired == 1100


async def test_memories_of_nobody_go(shop: Workshop) -> None:
    await shop.know("User lives in Berlin")
    owner = await shop.owner()
    await shop.services.directory.drop(owner)
    await shop.know("User lives in Rome")
    assert (await sweep(shop.services, shop.metrics)).orphans == 1
    assert await shop.services.store.count(owner.tenant) == 0
    assert await shop.active() == ["User lives in Rome"]


async def test_a_store_most_of_whose_owners_the_directory_does_not_know_is_left_as_it_is(
    shop: Workshop,
) -> None:
    """As with the Redis of another house, or where the directory was lost: it can be put right."""
    store = shop.services.store
    strangers = [new_owner(Person("default", f"stranger-{n}")) for n in range(FEW + 1)]
    erased = new_owner(Person("default", "erased"))
    past = Memory("m", "fact", "User is kind", 1, 1, 1, type="profile", expires_at=5)
    for owner in (*strangers, erased):
        await store.put(owner, [Entry(past)])
    await shop.services.directory.keep_erasure(
        {"id": "era_1", "at": 1.0, "app": "default", "users": ["erased"]}
        | {"tenants": [erased.tenant], "completed": True, "counts": {}}
    )
    await shop.know("User lives in Berlin")
    swept = await sweep(shop.services, shop.metrics)
    assert (swept.expired, swept.orphans) == (0, 1)
    assert await store.count(erased.tenant) == 0
    assert [await store.count(owner.tenant) for owner in strangers] == [1] * (FEW + 1)
    await store.erase(strangers[0].tenant)
    assert (await sweep(shop.services, shop.metrics)).orphans == FEW
    assert await shop.active() == ["User lives in Berlin"]


async def test_that_a_vector_is_owed_costs_a_stranger_in_the_store_nothing(
    embedding_shop: Workshop,
) -> None:
    """They were erased for it, in the store of another house too."""
    store = embedding_shop.services.store
    strangers = [new_owner(Person("default", f"stranger-{n}")) for n in range(FEW + 1)]
    for owner in strangers:
        await store.put(owner, [Entry(Memory("m", "fact", "User is kind", 1, 1, 1))])
    await sweep(embedding_shop.services, embedding_shop.metrics)
    assert [await store.count(owner.tenant) for owner in strangers] == [1] * (FEW + 1)


async def test_vectors_that_are_owed_are_given_with_their_windows(embedding_shop: Workshop) -> None:
    shop = embedding_shop
    owner = await shop.owner()
    turns = [
        Memory(f"t{n}", "turn", text, n, n, n, source=Source(session="s"))
        for n, text in enumerate(["My dentist is Dr. Lopez", "Noted", "She moved her practice"])
    ]
    await shop.services.store.put(owner, [Entry(turn) for turn in turns])
    tombstone = replace(turns[0], id="gone", text="", status="forgotten")
    await shop.services.store.put(owner, [Entry(tombstone)])
    assert (await sweep(shop.services, shop.metrics)).embedded == 3
    assert await shop.services.store.unembedded(10) == []
    (vector,) = await shop.services.embedder.embed(["dentist Lopez"])
    found = await shop.services.store.search(owner, Probe("", Where(kinds=("turn",)), dense=vector))
    assert found.lists["dense"][0][0] == "t0"
    assert {id for id, _ in found.lists["dense_window"]} == {"t0", "t1", "t2"}


async def test_without_an_embedder_nothing_is_owed_yet(shop: Workshop) -> None:
    await shop.know("User lives in Berlin")
    assert (await sweep(shop.services, shop.metrics)).embedded == 0


async def test_spooled_exchanges_go_to_the_queue_once_it_is_back(shop: Workshop) -> None:
    owner, queue = await shop.owner(), shop.services.queue
    for n in range(3):
        await shop.services.spool.append(owner, shop.exchange(f"Thing {n}", at=shop.now + n))
    shop.put_in(queue=_Broken(queue, "put", QueueUnavailable("away")))
    await sweep(shop.services, shop.metrics)
    assert await shop.services.spool.count() == 3
    shop.put_in(queue=queue)
    assert await drain_spool(shop.services) == 3
    assert await shop.services.spool.count() == 0
    pending = await queue.pending(owner)
    assert [e.turns[0].text for e in pending] == ["Thing 0", "Thing 1", "Thing 2"]


async def test_while_redis_is_away_what_waits_on_disk_is_not_read_whole_each_time(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, queue = await shop.owner(), shop.services.queue
    for n in range(2 * CHUNK):
        await shop.services.spool.append(owner, shop.exchange(f"Thing {n}", at=shop.now + n))
    read, pread = [], os.pread

    def counted(fd: int, size: int, at: int) -> bytes:
        read.append(found := pread(fd, size, at))
        return found

    monkeypatch.setattr(os, "pread", counted)
    shop.put_in(queue=_Broken(queue, "put", QueueUnavailable("away")))
    await drain_spool(shop.services)
    waiting = shop.settings.data_dir / "spool" / "exchanges.spool"
    assert sum(map(len, read)) < 0.6 * waiting.stat().st_size


async def test_a_part_that_is_away_does_not_stop_the_others(shop: Workshop) -> None:
    await shop.know("User is away this week", expires_at=shop.now - 1)
    shop.put_in(store=_Broken(shop.services.store, "tenants", StoreUnavailable("away")))
    swept = await sweep(shop.services, shop.metrics)
    assert (swept.expired, swept.orphans) == (1, 0)
