"""Where an exchange goes when it is handed over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.errors import DirectoryUnavailable, OverBudget, QueueUnavailable
from gateway.core.exchange import Exchange, Turn
from gateway.core.identity import Person
from gateway.flows import handover
from gateway.flows.handover import Underway, hand_over, owner_at_last
from gateway.flows.tasks import TaskGroupOfBackground
from tests.web.house import NOW, House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def gateway(tmp_path: Path, redis: Redis) -> AsyncIterator[House]:
    async with house(tmp_path, "http://127.0.0.1:9/v1", redis) as opened:
        yield opened


def exchange(text: str = "I live in Rome", id: str = "exc_1") -> Exchange:
    return Exchange(id=id, session="s", at=NOW, turns=(Turn(0, "user", text, NOW),))


async def give(gateway: House, one: Exchange) -> str:
    owner = await gateway.owner()
    return await hand_over(gateway.services, gateway.settings, owner, one, now=NOW)


def failing(part: Any, name: str, error: Exception) -> None:
    async def fail(*_: Any, **__: Any) -> Any:
        raise error

    setattr(part, name, fail)


async def test_an_exchange_goes_to_the_queue_once(gateway: House) -> None:
    assert await give(gateway, exchange()) == "queued"
    assert await give(gateway, exchange()) == "duplicate"
    assert [one.id for one in await gateway.handed_over()] == ["exc_1"]


async def test_while_the_queue_is_away_it_goes_to_disk(gateway: House) -> None:
    failing(gateway.services.queue, "put", QueueUnavailable("away"))
    assert await give(gateway, exchange()) == "spooled"
    assert await gateway.services.spool.count() == 1


async def test_while_the_queue_hangs_it_is_on_disk_within_a_second(gateway: House) -> None:
    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    gateway.services.queue.put = hang  # type: ignore[method-assign]
    async with asyncio.timeout(1.0):
        assert await give(gateway, exchange()) == "spooled"


async def test_of_an_erased_user_nothing_is_kept(gateway: House) -> None:
    owner = await gateway.owner()
    await gateway.services.queue.erase(owner.tenant)
    given = await hand_over(gateway.services, gateway.settings, owner, exchange(), now=NOW)
    assert given == "dropped"
    assert await gateway.services.spool.count() == 0


async def test_at_the_bounds_of_queue_and_disk_it_is_dropped_not_raised(gateway: House) -> None:
    failing(gateway.services.queue, "put", OverBudget("full"))
    assert await give(gateway, exchange()) == "dropped"
    failing(gateway.services.queue, "put", QueueUnavailable("away"))
    failing(gateway.services.spool, "append", OverBudget("full"))
    assert await give(gateway, exchange()) == "dropped"


async def test_what_a_full_disk_refuses_waits_in_memory_until_there_is_room(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "PATIENCE_S", (0.0, 0.0, 0.0))
    owner, put, tries = await gateway.owner(), gateway.services.queue.put, 0

    async def full_at_first(*args: Any, **kwargs: Any) -> bool:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise QueueUnavailable("MISCONF no space left on device")
        return await put(*args, **kwargs)

    gateway.services.queue.put = full_at_first  # type: ignore[method-assign]
    failing(gateway.services.spool, "append", OverBudget("no space left on device"))
    given = await hand_over(
        gateway.services, gateway.settings, owner, exchange(), now=NOW, patient=True
    )
    assert given == "queued"
    assert [one.id for one in await gateway.handed_over()] == ["exc_1"]


async def test_what_waits_in_memory_is_bounded_in_size_and_time(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(gateway.services.queue, "put", QueueUnavailable("away"))
    failing(gateway.services.spool, "append", OverBudget("no space left on device"))
    monkeypatch.setattr(handover, "PATIENCE_S", (0.0,))
    owner = await gateway.owner()

    async def give_patiently() -> str:
        async with asyncio.timeout(5):
            return await hand_over(
                gateway.services, gateway.settings, owner, exchange(), now=NOW, patient=True
            )

    assert await give_patiently() == "dropped"
    monkeypatch.setattr(handover, "PATIENCE_S", (60.0,))
    monkeypatch.setattr(handover, "HELD_CHARS", 10)
    assert await give_patiently() == "dropped"


@pytest.mark.parametrize("padding", ["", " and more" * 1000], ids=["short", "long"])
async def test_what_must_not_be_stored_is_taken_out_before_the_queue(
    gateway: House, padding: str
) -> None:
    await give(gateway, exchange("my card is 4111 1111 1111 1111" + padding))
    kept = await gateway.handed_over()
    assert "4111" not in kept[0].turns[0].text


async def test_whose_it_is_is_asked_again_while_the_directory_is_away(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "OWNER_RETRIES_S", (0.0, 0.0))
    real = gateway.services.directory.owner
    tries = 0

    async def at_the_third_try(person: Person, *, create: bool = False) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise DirectoryUnavailable("away")
        return await real(person, create=create)

    monkeypatch.setattr(gateway.services.directory, "owner", at_the_third_try)
    assert await owner_at_last(gateway.services, Person("default", "ana")) is not None
    tries = -10
    assert await owner_at_last(gateway.services, Person("default", "ana")) is None


async def test_the_next_request_of_a_person_can_wait_for_what_is_under_way() -> None:
    background = TaskGroupOfBackground()
    underway = Underway(background)
    ana, bob = Person("a", "ana"), Person("a", "bob")
    go = asyncio.Event()
    underway.spawn(ana, go.wait(), "hand over")  # type: ignore[arg-type]
    assert underway.any(ana)
    assert not underway.any(bob)
    waiting = asyncio.create_task(underway.settled(ana))
    await asyncio.sleep(0)
    assert not waiting.done()
    go.set()
    await waiting
    await background.drain(1)
    assert not underway.any(ana)


async def test_what_is_under_way_ends_with_an_error_too() -> None:
    background = TaskGroupOfBackground()
    underway = Underway(background)
    ana = Person("a", "ana")

    async def fail() -> None:
        raise ValueError

    underway.spawn(ana, fail(), "hand over")
    await background.drain(1)
    assert not underway.any(ana)
