"""Memories by hand beside a worker that writes the same user's memories."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.adapters.redis_writers import RedisWriters
from gateway.core.errors import NotFound, OwnerGone
from gateway.core.memory import Entry, Source, Where
from gateway.flows import between, browse, curate, writing
from gateway.flows.curate import Draft
from gateway.flows.erase import erase
from gateway.flows.writing import alone
from gateway.ports import MemoryStore
from tests.flows.workshop import Workshop, fact


async def create(shop: Workshop, *drafts: Draft, **more: Any) -> list[Any]:
    more = {"via": "api", "now": shop.now, **more}
    return await curate.create(shop.services, shop.settings, await shop.owner(), drafts, **more)


async def correct(shop: Workshop, id: str, **changes: Any) -> Any:
    return await curate.correct(
        shop.services, shop.settings, await shop.owner(), id, changes, via="user", now=shop.now
    )


class Slow:
    """A store whose next write waits for a signal, so that another can come in between."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner
        self.reached = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def put(self, owner: Any, entries: Any) -> None:
        if not self.reached.is_set():
            self.reached.set()
            await self.go.wait()
        await self._inner.put(owner, entries)


async def test_a_correction_while_the_worker_writes_is_neither_lost_nor_undone(
    shop: Workshop,
) -> None:
    await shop.learn(
        "I live in Porto",
        facts=[fact("lives in Porto", key="home", value="Porto")],
    )
    [held] = await shop.memories()
    real = shop.services.store
    slow = Slow(real)
    shop.put_in(store=slow)
    shop.model.answers.append(
        [
            {
                **fact("lives in Faro", key="home", value="Faro", quote="I live in Faro now"),
                "action": "supersede",
                "target": 1,
            }
        ]
    )
    await shop.said("I live in Faro now")
    worker = asyncio.ensure_future(shop.distilled())
    await asyncio.wait_for(slow.reached.wait(), 5)
    person = asyncio.ensure_future(correct(shop, held.id, text="lives in Braga", value="Braga"))
    await asyncio.sleep(0)
    slow.go.set()
    await worker
    corrected = await person
    shop.put_in(store=real)
    [stands] = [m for m in await shop.memories() if m.id == held.id]
    assert stands.text == corrected.text == "lives in Braga"
    assert stands.source.via == "user"
    assert stands.history[-1].text == "lives in Porto"


async def test_a_correction_while_a_batch_is_planned_outranks_it(shop: Workshop) -> None:
    await shop.learn("I live in Porto", facts=[fact("lives in Porto", key="home", value="Porto")])
    [held] = await shop.memories()

    def corrected_meanwhile(_: Any) -> Any:
        return [
            {
                **fact("lives in Faro", key="home", value="Faro", quote="I live in Faro now"),
                "action": "supersede",
                "target": 1,
            }
        ]

    await correct(shop, held.id, text="lives in Braga", value="Braga")
    await shop.learn("I live in Faro now", facts=corrected_meanwhile)
    assert await shop.active() == ["lives in Braga"]


async def test_two_corrections_at_once_both_stand_in_the_history(shop: Workshop) -> None:
    [memory] = await create(shop, Draft("one", "profile"))
    await asyncio.gather(
        correct(shop, memory.id, text="two"), correct(shop, memory.id, text="three")
    )
    versions = await browse.history(shop.services, await shop.owner(), memory.id, now=shop.now)
    assert sorted(v["text"] for v in versions) == ["one", "three", "two"]
    assert [v["current"] for v in versions] == [False, False, True]


async def test_what_a_person_wrote_is_not_replaced_by_what_was_said(shop: Workshop) -> None:
    await create(shop, Draft("Answers in German", "preference", key="language", value="de"))
    await shop.learn(
        "Please answer in Spanish",
        facts=[fact("Answers in Spanish", type="preference", key="language", value="es")],
    )
    assert await shop.active() == ["Answers in German"]


async def test_a_forgotten_fact_does_not_come_back_with_a_redelivery(shop: Workshop) -> None:
    exchange = await shop.learn("I live in Porto", facts=[fact("lives in Porto")])
    [memory] = await shop.memories()
    await curate.forget(shop.services, await shop.owner(), memory.id, now=shop.now)
    assert await shop.active() == []
    assert await shop.turns() == []
    await shop.services.queue.put(await shop.owner(), exchange, now=shop.now)
    await shop.distilled()
    assert await shop.active() == []
    with pytest.raises(NotFound):
        await browse.read(shop.services, await shop.owner(), memory.id, now=shop.now)


async def test_what_is_written_for_someone_erased_meanwhile_does_not_stay(
    shop: Workshop,
) -> None:
    owner = await shop.owner()
    real = shop.services.store
    slow = Slow(real)
    shop.put_in(store=slow)
    writing = asyncio.ensure_future(create(shop, Draft("late", "profile")))
    await asyncio.wait_for(slow.reached.wait(), 5)
    shop.put_in(store=real)
    receipt = await erase(shop.services, owner.person, now=shop.now)
    assert receipt["completed"]
    slow.go.set()
    with pytest.raises(OwnerGone):
        await writing
    assert await real.count(owner.tenant) == 0


async def test_a_turn_that_arrives_late_takes_its_place_among_its_neighbours(
    embedding_shop: Workshop,
) -> None:
    shop = embedding_shop
    owner = await shop.owner()

    def turn(text: str, at: float) -> Draft:
        return Draft(text, None, kind="turn", session="s", created_at=at)

    for n in range(30):
        await create(shop, turn(f"Remark number {n}.", shop.now + 10 * n))
    await create(shop, turn("The accordion is here.", shop.now + 95))
    found = await shop.services.store.search(owner, _probe("accordion", Where(kinds=("turn",))))
    texts = {found.memories[id].text for id, _ in found.lists["lexical_window"]}
    assert texts == {
        "Remark number 9.",
        "The accordion is here.",
        "Remark number 10.",
        "Remark number 11.",
    }
    assert await shop.services.store.unembedded(10) == []


def _probe(text: str, where: Where) -> Any:
    from gateway.core.memory import Probe

    return Probe(text, where)


async def test_writers_of_one_person_wait_for_one_another_and_not_for_others(
    shop: Workshop,
) -> None:
    order: list[str] = []

    async def write(tenant: str, name: str, held: asyncio.Event) -> None:
        async with alone(shop.services, tenant):
            order.append(f"{name} in")
            await held.wait()
            order.append(f"{name} out")

    first, rest = asyncio.Event(), asyncio.Event()
    rest.set()
    tasks = [asyncio.ensure_future(write("a", "one", first))]
    await asyncio.sleep(0)
    tasks.append(asyncio.ensure_future(write("a", "two", rest)))
    tasks.append(asyncio.ensure_future(write("b", "other", rest)))
    await asyncio.wait_for(tasks[2], 1)
    first.set()
    await asyncio.gather(*tasks)
    assert order == ["one in", "other in", "other out", "one out", "two in", "two out"]


class Asked(RedisWriters):
    """Tells when somebody asks for a turn."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.by = 0
        self.again = asyncio.Event()

    async def take(self, tenant: str) -> str:
        self.by += 1
        if self.by == 2:
            self.again.set()
        return await super().take(tenant)


@pytest.mark.parametrize("first", ["worker", "person"])
async def test_a_correction_in_one_process_and_a_worker_in_another_undo_nothing(
    shop: Workshop, redis: Redis, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    await shop.learn("I live in Porto", facts=[fact("lives in Porto", key="home", value="Porto")])
    [held] = await shop.memories()
    slow, writers = Slow(shop.services.store), Asked(redis)
    shop.put_in(store=slow, writers=writers)
    refined = fact("lives in Porto, by the river", key="home", value="Porto", quote="by the river")
    shop.model.answers.append([{**refined, "action": "refine", "target": 1}])
    await shop.said("I live in Porto, by the river")
    steps = {
        "worker": lambda: shop.distilled(),
        "person": lambda: correct(shop, held.id, text="lives in Braga", value="Braga"),
    }

    # Whoever comes first stands between its look and its write while the other begins.
    begun = asyncio.ensure_future(steps.pop(first)())
    await asyncio.wait_for(slow.reached.wait(), 5)
    monkeypatch.setattr(writing, "_locks", {})  # another process has locks of its own
    [other] = [asyncio.ensure_future(step()) for step in steps.values()]
    asking = asyncio.ensure_future(writers.again.wait())
    await asyncio.wait((other, asking), return_when=asyncio.FIRST_COMPLETED, timeout=5)
    asking.cancel()
    slow.go.set()
    await asyncio.wait_for(asyncio.gather(begun, other), 10)

    shop.put_in(writers=None)
    assert await shop.active() == ["lives in Braga"]
    assert await redis.keys("*:writing:*") == []


async def test_a_fact_forgotten_leaves_turns_that_say_something_else(shop: Workshop) -> None:
    [turn, fact_] = await create(
        shop,
        Draft("I like tea and I live in Porto", None, kind="turn"),
        Draft("likes tea", "preference"),
    )
    owner = await shop.owner()
    drawn = replace(fact_, covers=(turn.id,), source=Source(quote="I like coffee"))
    await shop.services.store.put(owner, [Entry(drawn)])
    await curate.forget(shop.services, owner, fact_.id, now=shop.now)
    assert [m.text for m in await shop.turns()] == [turn.text]


async def test_a_fact_forgotten_takes_along_the_answer_that_repeats_it(shop: Workshop) -> None:
    # A quote is believed however it is written (`stands_in`), and looked for so.
    drawn = fact("lives in Porto", quote="i live in porto", key="home", value="Porto")
    await shop.learn(
        "I live in Porto. And I like tea.",
        "Porto, how lovely!",
        facts=[drawn],
    )
    await shop.learn("What goes with port wine?", "Cheese does.")
    [home] = await shop.memories(kinds=("fact",))
    await curate.forget(shop.services, await shop.owner(), home.id, now=shop.now)
    left = {turn.text for turn in await shop.turns()}
    assert left == {"What goes with port wine?", "Cheese does."}


async def test_a_fact_forgotten_takes_along_what_told_it_again_in_other_words(
    shop: Workshop,
) -> None:
    drawn = fact("likes jazz", quote="I like jazz")
    await shop.learn("I like jazz.", facts=[drawn])
    again = fact("", action="duplicate", target=1, quote="I enjoy jazz")
    await shop.learn("Did I say that I enjoy jazz?", facts=[again])
    [jazz] = await shop.memories(kinds=("fact",))
    await curate.forget(shop.services, await shop.owner(), jazz.id, now=shop.now)
    assert await shop.turns() == []


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("I like tea.", "Would you like to hear a joke?"),
        ("I have a cat.", "Have you seen the news?"),
        ("It is not mine.", "Paris is the capital of France."),
    ],
)
async def test_an_answer_that_shares_everyday_words_alone_stays(
    shop: Workshop, said: str, answer: str
) -> None:
    await shop.learn(said, answer, facts=[fact(said.rstrip("."), quote=said)])
    [known] = await shop.memories(kinds=("fact",))
    await curate.forget(shop.services, await shop.owner(), known.id, now=shop.now)
    assert {turn.text for turn in await shop.turns()} == {answer}


async def test_what_is_forgotten_is_not_kept_as_what_always_counts(shop: Workshop) -> None:
    owner = await shop.owner()
    [home, _] = await create(
        shop, Draft("Lives in Porto", "profile"), Draft("Likes tea", "preference")
    )
    between.standing_memories.keep(owner.tenant, [home], version="1", now=shop.now)
    await curate.forget(shop.services, owner, home.id, now=shop.now)
    assert between.standing_memories.last(owner.tenant, now=shop.now) is None
