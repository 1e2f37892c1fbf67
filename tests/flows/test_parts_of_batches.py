"""Batches that are not distilled as one: a bad exchange in them, a wish to forget what was said
a moment ago, an answer that comes in full after it broke off."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.errors import LeaseLost
from gateway.flows.remember import remember_next
from tests.flows.workshop import ScriptedModel, Workshop, fact, workshop

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOME = fact("User lives in Berlin", key="home", value="Berlin", quote="I live in Berlin")


def numbers(batch: Mapping[str, Any]) -> Any:
    """A fact for each turn "My number is …"; prose as soon as one turn is bad."""
    if any("bad" in turn["text"] for turn in batch["turns"]):
        return "I would rather not."
    return [
        fact(f"User's number {turn['text'][-1]} is set", turn=turn["n"], quote=turn["text"])
        for turn in batch["turns"]
        if turn["role"] == "user"
    ]


class Reading(list[Any]):
    """Answers without end, each by what is asked."""

    def __bool__(self) -> bool:
        return True

    def pop(self, _: Any = 0) -> Any:
        return numbers


@pytest.mark.parametrize("bad", [0, 3, 5])
async def test_one_bad_exchange_is_dead_lettered_alone_and_the_others_are_distilled(
    shop: Workshop, bad: int
) -> None:
    shop.model.answers = Reading()
    said = [
        await shop.said("a bad one" if n == bad else f"My number is {n}", at=shop.now + n / 10)
        for n in range(6)
    ]
    for _ in range(20):
        await shop.distilled()
    good = [n for n in range(6) if n != bad]
    assert await shop.active() == [f"User's number {n} is set" for n in good]
    made = [(m.source.exchange_id, m.created_at) for m in await shop.memories()]
    assert made == [(said[n].id, said[n].at) for n in good], "once each, as they were said"
    (letter,) = await shop.services.queue.dead()
    assert letter.exchange_ids == (said[bad].id,)
    assert "no usable answer" in letter.reason
    assert shop.count("distilled_batches", result="buried") == 1
    asked = len(shop.model.asked)
    assert asked <= 2 * (5 + 2 * 3) + 3, "each try asks twice; a half is tried twice"


async def test_what_is_retried_comes_after_what_was_said_meanwhile_and_is_kept_once(
    shop: Workshop,
) -> None:
    await shop.said("My number is 1")
    await shop.said("a bad one")
    shop.model.answers = Reading()
    for _ in range(12):
        await shop.distilled()
    shop.model.answers = [[fact("User was bad once", quote="a bad one")]]
    assert await shop.services.queue.retry(now=shop.now) == 1
    await shop.distilled()
    assert await shop.active() == ["User was bad once", "User's number 1 is set"]
    assert await shop.services.queue.dead() == []


async def test_what_was_said_a_moment_ago_can_be_forgotten_at_once(shop: Workshop) -> None:
    def asked(batch: Mapping[str, Any]) -> Any:
        (known,) = batch["known"]
        return [fact("", action="retract", target=known["n"], quote="forget where I live")]

    shop.model.answers = [[HOME], asked]
    await shop.said("I live in Berlin", "Nice.")
    await shop.said("Please forget where I live", "Done.")
    await shop.distilled()
    assert await shop.active() == []
    assert [t.text for t in await shop.turns()] == ["Nice."]
    assert shop.count("distilled_batches", result="split") == 1
    assert await shop.services.queue.count((await shop.owner()).tenant) == 0


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Please forget that I like tea", 2),
        ("Vergiss bitte, was ich gesagt habe", 2),
        ("Delete everything you know about me", 2),
        ("Olvida lo que te dije", 2),
        ("Don't forget that I like tea", 1),
        ("Remove the unused import, please", 1),
        ("How do I delete a branch in git?", 1),
        ("Lösche die letzte Zeile der Tabelle", 1),
    ],
)
async def test_only_a_wish_about_memories_ends_a_batch(
    shop: Workshop, text: str, parts: int
) -> None:
    await shop.said("I drink tea every day")
    await shop.said(text)
    await shop.distilled()
    assert len(shop.model.asked) == parts


async def test_a_whole_answer_counts_once_though_the_broken_one_is_being_distilled(
    shop: Workshop,
) -> None:
    """The retry of a client comes while a worker reads what the broken answer said."""
    await shop.said("I live in Berlin", "Nice pla", outcome="cut_off", id="exc_x")
    owner = await shop.owner()
    whole = shop.exchange("I live in Berlin", "Nice place!", id="exc_x")
    queue = shop.services.queue

    shop.model.answers = [[HOME]]
    shop.now += 61
    lease = await queue.lease("reads the broken one", now=shop.now)
    assert lease is not None
    assert await queue.put(owner, whole, now=shop.now)
    with pytest.raises(LeaseLost):
        await queue.done(lease, now=shop.now)
    assert await remember_next(shop.services, shop.desk, "hand")
    assert await shop.active() == ["User lives in Berlin"]
    assert [t.text for t in await shop.turns()] == ["I live in Berlin", "Nice place!"]
    assert not await queue.put(owner, whole, now=shop.now)


@pytest.mark.parametrize("memory_turns", ["on", "off"])
async def test_a_whole_answer_that_comes_after_all_was_distilled_takes_the_broken_ones_place(
    tmp_path: Path, redis: Redis, model: ScriptedModel, memory_turns: str
) -> None:
    advice = fact(
        "The assistant recommended the Birken", type="interaction", turn=2, quote="Try the Birken"
    )
    async with workshop(tmp_path, redis, model, memory={"turns": memory_turns}) as shop:
        await shop.learn(
            "I live in Berlin", "Try the Bir", outcome="cut_off", id="exc_x", facts=[HOME]
        )
        await shop.learn("I live in Berlin", "Try the Birken!", id="exc_x", facts=[HOME, advice])
        assert await shop.active() == [
            "The assistant recommended the Birken",
            "User lives in Berlin",
        ]
        turns = await shop.turns()
        kept = [("I live in Berlin", {}), ("Try the Birken!", {})] if memory_turns == "on" else []
        assert [(t.text, t.metadata) for t in turns] == kept
        assert {m.source.exchange_id for m in [*turns, *await shop.memories()]} == {"exc_x"}
