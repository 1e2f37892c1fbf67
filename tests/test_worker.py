"""The worker as a whole: it finds what is due, and ends as it is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.adapters.redis_queue import RedisQueue
from gateway.core.errors import QueueUnavailable
from gateway.core.identity import Owner, Person
from gateway.core.memory import Where
from gateway.flows.writing import alone
from gateway.lab.scripted_upstream import Raw, Stall
from gateway.worker import Worker, drain_spools
from tests.flows.workshop import ScriptedModel, Workshop, fact, workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis


@pytest.fixture(scope="module")
def _model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as running:
        yield running


@pytest.fixture
def model(_model: ScriptedModel) -> ScriptedModel:
    return _model.as_new()


@pytest.fixture
async def shop(tmp_path: Path, redis: Redis, model: ScriptedModel) -> AsyncIterator[Workshop]:
    quick = {"idle_s": 0.0, "max_wait_s": 0.0}
    async with workshop(tmp_path, redis, model, extraction=quick) as opened:
        yield opened


async def until(what: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> Any:
    """The first truthy answer of `what`, asked again and again for so long."""
    end = time.monotonic() + seconds
    while not (answer := await what()):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)
    return answer


class Running:
    """A worker beside the test."""

    def __init__(self, shop: Workshop, concurrency: int = 4) -> None:
        self.stop = asyncio.Event()
        self._work = Worker(shop, concurrency).run(self.stop)

    async def __aenter__(self) -> Running:
        self.task = asyncio.create_task(self._work)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 10)


async def test_what_is_said_is_remembered_without_anyone_asking(shop: Workshop) -> None:
    async with Running(shop):
        for n in range(20):
            shop.model.answers.append([fact("User likes tea", quote="I like tea")])
            await shop.said("I like tea", user=f"user{n}")
        for n in range(20):
            await until(lambda n=n: shop.active(f"user{n}"))  # type: ignore[misc]
    assert shop.count("distilled_batches", result="done") == 20


async def test_beside_chats_one_users_memories_are_written_at_a_time(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.settings.embedded
    store = shop.services.store
    put, writing, most = store.put, 0, 0

    async def slow(*args: Any) -> None:
        nonlocal writing, most
        writing += 1
        most = max(most, writing)
        await asyncio.sleep(0.01)
        await put(*args)
        writing -= 1

    monkeypatch.setattr(store, "put", slow)
    for n in range(6):
        shop.model.answers.append([fact("User likes tea", quote="I like tea")])
        await shop.said("I like tea", user=f"user{n}")
    async with Running(shop):
        for n in range(6):
            await until(lambda n=n: shop.active(f"user{n}"))  # type: ignore[misc]
    assert most == 1


async def test_nobody_waits_for_one_whose_memories_somebody_else_writes(shop: Workshop) -> None:
    """Who corrects a memory holds its user's turn while its text is embedded."""
    ana = await shop.owner("ana")
    async with Running(shop), alone(shop.services, ana.tenant):
        for n, user in enumerate(("ana", "ben"), start=1):
            shop.model.answers.append([fact("User likes tea", quote="I like tea")])
            await shop.said("I like tea", user=user)
            await until(lambda n=n: _asked(shop, n))  # type: ignore[misc]
            await asyncio.sleep(0.1)  # ana's plan is kept, and waits
        await until(lambda: shop.active("ben"), 3.0)
        assert not await shop.active("ana")


async def _asked(shop: Workshop, times: int) -> bool:
    return len(shop.model.asked) >= times


async def test_asked_to_stop_it_finishes_what_it_holds(shop: Workshop) -> None:
    async with Running(shop):
        shop.model.answers = [[fact("User likes tea", quote="I like tea")]]
        await shop.said("I like tea")

        async def asked() -> bool:
            return bool(shop.model.asked)

        await until(asked)
    assert await shop.active() == ["User likes tea"]


async def test_cut_short_it_gives_back_what_it_holds(shop: Workshop) -> None:
    shop.model.answers = [Raw(steps=[Stall()])]
    running = Running(shop)
    task = asyncio.create_task(running._work)
    await shop.said("I like tea")

    async def asked() -> bool:
        return bool(shop.model.asked)

    await until(asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    shop.model.answers = [[fact("User likes tea", quote="I like tea")]]
    async with Running(shop):
        await until(shop.active)


async def test_a_queue_that_is_away_is_come_back_to(shop: Workshop) -> None:
    class Away:
        def __init__(self, queue: Any) -> None:
            self.queue, self.failures = queue, 2

        def __getattr__(self, name: str) -> Any:
            return getattr(self.queue, name)

        async def lease(self, *args: Any, **kwargs: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise QueueUnavailable("away")
            return await self.queue.lease(*args, **kwargs)

    shop.put_in(queue=Away(shop.services.queue))
    shop.model.answers = [[fact("User likes tea", quote="I like tea")]]
    await shop.said("I like tea")
    async with Running(shop, concurrency=1):
        await until(shop.active)


async def test_an_answer_that_nobody_foresaw_ends_no_worker(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def next_due(_queue: RedisQueue) -> None:
        nonlocal asked
        asked += 1
        raise ValueError

    async def asked_again() -> bool:
        return asked > 1

    monkeypatch.setattr(RedisQueue, "next_due", next_due)
    monkeypatch.setattr("gateway.worker.OUTAGE_REST_S", 0.01)
    async with Running(shop, 1):
        await until(asked_again)
        shop.model.answers = [[fact("User likes tea", quote="I like tea")]]
        await shop.said("I like tea")
        await until(shop.active)


async def test_what_waits_on_disk_goes_into_the_queue_and_is_remembered(shop: Workshop) -> None:
    shop.model.answers = [[fact("User likes tea", quote="I like tea")]]
    await shop.services.spool.append(await shop.owner(), shop.exchange("I like tea"))
    async with Running(shop):
        await until(shop.active)
    assert await shop.services.spool.count() == 0


async def test_an_app_over_its_budget_of_the_day_waits_for_the_next_and_holds_up_nobody(
    tmp_path: Path, redis: Redis, model: ScriptedModel
) -> None:
    quick = {"idle_s": 0.0, "max_wait_s": 0.0}
    sections: dict[str, Any] = {
        "extraction": quick,
        "apps": {"small": {"extraction": {**quick, "daily_token_budget": 6000}}},
    }
    async with workshop(tmp_path, redis, model, **sections) as shop:
        services = shop.services
        model.answers = [[fact("User likes tea", quote="I like tea")] for _ in range(8)]
        owners = []
        for n in range(4):
            person = Person("small", f"user{n}")
            owner = await services.directory.owner(person, create=True)
            assert owner is not None
            owners.append(owner)
            await services.queue.put(owner, shop.exchange("I like tea"), now=shop.now)
        for n in range(4):
            await shop.said("I like tea", user=f"other{n}")

        async def served(owner: Owner) -> bool:
            where = Where(kinds=("fact",))
            return bool(await services.store.page(owner, where, limit=1))

        async def pending() -> int:
            return (await services.queue.status(now=shop.now)).pending

        async with Running(shop, concurrency=2):
            for n in range(4):
                await until(lambda n=n: shop.active(f"other{n}"))  # type: ignore[misc]

            async def waiting() -> bool:
                return shop.count("distilled_batches", result="waiting") == 2

            await until(waiting)
            assert await pending() == 2
            assert len(model.asked) == 6, "2,500 tokens each: two of this app's four"
            assert [await served(owner) for owner in owners].count(True) == 2
            shop.now += 86_400 / 2 - 61  # nine in the morning in Berlin: seventeen hours are left
            assert await pending() == 2
            assert await services.queue.dead() == []
            shop.now += 86_400
            for owner in owners:
                await until(lambda owner=owner: served(owner))  # type: ignore[misc]
        assert shop.count("distilled_batches", result="done") == 8


async def test_it_sweeps_at_its_start(shop: Workshop) -> None:
    await shop.know("User is away", expires_at=shop.now - 1)
    async with Running(shop):

        async def gone() -> bool:
            return not await shop.memories()

        await until(gone)


async def test_it_works_for_every_set_of_services(
    tmp_path: Path, redis: Redis, model: ScriptedModel, shop: Workshop
) -> None:
    (tmp_path / "b").mkdir()
    quick = {"idle_s": 0.0, "max_wait_s": 0.0}
    async with workshop(tmp_path / "b", redis, model, extraction=quick) as other:
        # Of one Redis, as apps share it; each set has a store and owners of its own.
        queue = RedisQueue(
            redis,
            cipher=other.services.cipher,
            by_tenant=other.services.directory.by_tenant,
            settings=other.settings.queue,
            extraction_for=lambda app: other.settings.app(app).extraction,
            namespace="other",
        )
        other.put_in(queue=queue)
        shop.all_services = lambda: [shop.services, other.services]  # type: ignore[method-assign]
        shop.model.answers = [[fact("User likes tea", quote="I like tea")]] * 2
        await shop.said("I like tea")
        await other.said("I like tea")
        async with Running(shop):
            await until(shop.active)
            await until(other.active)


async def test_where_nobody_distils_what_waits_on_disk_is_handed_over_all_the_same(
    shop: Workshop,
) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(drain_spools(shop, stop))
    await shop.services.spool.append(await shop.owner(), shop.exchange("I like tea"))
    stop.set()
    await asyncio.wait_for(task, 10)
    assert await shop.services.spool.count() == 0
    assert (await shop.services.queue.status(now=shop.services.clock())).pending == 1
