"""Erasing a person: every place, every name, and nothing that comes back."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import NotFound, QueueUnavailable, StoreUnavailable
from gateway.core.identity import Person
from gateway.core.memory import Entry, Memory
from gateway.flows.erase import erase, find, finish_all, verify
from gateway.flows.sweep import sweep
from gateway.ports import Opening
from tests.flows.workshop import Workshop, fact

ANA = Person("default", "ana")
SLACK = Person("default", "slack:U1")


class Away:
    def __init__(self, error: type[Exception]) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: Any, **__: Any) -> Any:
            raise self._error(f"away: {name}")

        return refuse


async def full_house(shop: Workshop, user: str = "ana") -> str:
    """A user with something in every place; their tenant."""
    await shop.learn("I live in Porto", facts=[fact("lives in Porto")], user=user)
    owner = await shop.owner(user)
    await shop.said("I drink tea", user=user)
    await shop.services.spool.append(owner, shop.exchange("I play chess"))
    marks = ("m1", "m2")
    opening = Opening(marks=marks, session="s", now=shop.now, idle_gap_s=3600)
    await shop.services.state.open(owner, opening)
    await shop.services.state.note_seen(owner, "s", marks, now=shop.now)
    await shop.services.state.once(owner, "k", b"answer")
    await shop.services.receipts.keep(owner, {"id": "rcp_1", "query": "Porto"})
    return owner.tenant


async def left_of(shop: Workshop, tenant: str) -> dict[str, int]:
    s = shop.services
    return {
        "queue": await s.queue.count(tenant),
        "spool": await s.spool.count(tenant),
        "state": await s.state.count(tenant),
        "receipts": await s.receipts.count(tenant),
        "memories": await s.store.count(tenant),
    }


async def test_every_place_is_emptied_and_counted(shop: Workshop) -> None:
    tenant = await full_house(shop)
    before = await left_of(shop, tenant)
    assert all(before.values()), before
    receipt = await erase(shop.services, ANA, now=shop.now)
    assert receipt["completed"]
    for place in ("memories", "spool", "receipts"):
        assert receipt["counts"][place] == before[place]
    assert receipt["counts"]["pending"] == 1
    assert not any((await left_of(shop, tenant)).values())
    look = await verify(shop.services, ANA, receipt["id"])
    assert look["completed"]
    assert set(look["remaining"]) == {"directory", *before}


async def test_another_user_keeps_everything(shop: Workshop) -> None:
    await full_house(shop)
    bobs = await full_house(shop, "bob")
    before = await left_of(shop, bobs)
    await erase(shop.services, ANA, now=shop.now)
    assert await left_of(shop, bobs) == before


async def test_a_person_is_erased_under_each_of_their_names(shop: Workshop) -> None:
    slacks = await full_house(shop, SLACK.user)
    anas = await full_house(shop)
    await shop.services.directory.link(SLACK, ANA)
    receipt = await erase(shop.services, SLACK, now=shop.now)
    for tenant in (slacks, anas):
        assert not any((await left_of(shop, tenant)).values())
    for name in (SLACK, ANA):
        assert (await find(shop.services, name, receipt["id"]))["completed"]
        assert (await verify(shop.services, name, receipt["id"]))["completed"]
    with pytest.raises(NotFound):
        await find(shop.services, Person("default", "bob"), receipt["id"])
    with pytest.raises(NotFound):
        await find(shop.services, Person("other", "ana"), receipt["id"])


async def test_what_was_in_a_workers_hands_does_not_come_back(shop: Workshop) -> None:
    said = await shop.said("I live in Porto")
    owner = await shop.owner()

    async def erased_while_it_is_read() -> None:
        await erase(shop.services, ANA, now=shop.now)

    lease = await shop.services.queue.lease("w", now=shop.now + 61)
    assert lease is not None
    assert [e.id for e in lease.exchanges] == [said.id]
    await erased_while_it_is_read()
    await shop.distilled()
    assert await shop.services.store.count(owner.tenant) == 0
    assert await shop.memories() == []


@pytest.mark.parametrize(
    ("part", "error"), [("store", StoreUnavailable), ("queue", QueueUnavailable)]
)
async def test_what_could_not_be_reached_is_finished_by_the_sweep(
    shop: Workshop, part: str, error: type[Exception]
) -> None:
    tenant = await full_house(shop)
    real = getattr(shop.services, part)
    shop.put_in(**{part: Away(error)})
    receipt = await erase(shop.services, ANA, now=shop.now)
    assert not receipt["completed"]
    assert await finish_all(shop.services) == 1
    shop.put_in(**{part: real})
    assert any((await left_of(shop, tenant)).values())
    await sweep(shop.services, shop.metrics)
    assert not any((await left_of(shop, tenant)).values())
    done = await find(shop.services, ANA, receipt["id"])
    assert done["completed"]
    assert await finish_all(shop.services) == 0


async def test_a_gateway_that_dies_while_it_erases_leaves_it_to_be_finished(
    shop: Workshop,
) -> None:
    class Dies(Exception):
        pass

    tenant = await full_house(shop)
    real = shop.services.store
    shop.put_in(store=Away(Dies))
    with pytest.raises(Dies):
        await erase(shop.services, ANA, now=shop.now)
    shop.put_in(store=real)
    assert await shop.services.directory.owner(ANA) is None
    await sweep(shop.services, shop.metrics)
    assert not any((await left_of(shop, tenant)).values())
    [record] = await shop.services.directory.erased()
    assert record["completed"]


async def test_looking_again_finds_what_landed_late_and_then_removes_it(
    shop: Workshop,
) -> None:
    owner = await shop.owner()
    receipt = await erase(shop.services, ANA, now=shop.now)
    at = shop.now
    late = Memory("mem_late", "fact", "late", at, at, at, type="profile")
    await shop.services.store.put(owner, [Entry(late)])
    look = await verify(shop.services, ANA, receipt["id"])
    assert (look["completed"], look["remaining"]["memories"]) == (False, 1)
    look = await verify(shop.services, ANA, receipt["id"])
    assert (look["completed"], look["remaining"]["memories"]) == (True, 0)


async def test_erasing_again_counts_nothing(shop: Workshop) -> None:
    await full_house(shop)
    await erase(shop.services, ANA, now=shop.now)
    again = await erase(shop.services, ANA, now=shop.now)
    assert (again["completed"], again["counts"]) == (True, {})
