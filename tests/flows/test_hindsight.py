"""What was said later counts, whenever what was said before it arrives (docs/reliability.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.memory import Memory
from gateway.flows.applying import apply
from gateway.flows.distil import plan_for
from gateway.flows.vectors import Vectors
from tests.flows.workshop import DAY, NOW, ScriptedModel, Workshop, fact, workshop

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def plain(tmp_path: Path, redis: Redis, model: ScriptedModel) -> AsyncIterator[Workshop]:
    """A worker's surroundings where facts are drawn by rules."""
    async with workshop(tmp_path, redis, model, rules=True) as opened:
        yield opened


async def taken_in(shop: Workshop, user: str, batch: Sequence[Exchange]) -> None:
    """Have one batch distilled, whatever the queue would have made of it."""
    shop.now += 61
    services, owner = shop.services, await shop.owner(user)
    plan = await plan_for(
        services,
        shop.settings_for("default"),
        services.extractor,
        owner,
        batch,
        Vectors(),
        now=shop.now,
    )
    await apply(services, owner, plan, Vectors())


async def left(shop: Workshop, user: str) -> list[tuple[Any, ...]]:
    """What is known in the end, in days since the first telling."""

    def day(at: float | None) -> int | None:
        return None if at is None else round((at - NOW) / DAY)

    def told(m: Memory) -> tuple[Any, ...]:
        return (m.text, m.status, day(m.valid_from), day(m.valid_to))

    facts = await shop.memories(user, statuses=("active", "superseded"))
    return sorted((told(m) for m in facts), key=str)


SAID = (
    "I am vegetarian.",
    "I am no longer vegetarian.",
    "I live in Berlin.",
    "I live in Porto.",
    "I don't live in Berlin anymore.",
    "Please always answer in Spanish.",
    "You don't have to answer in Spanish any more.",
    "Forget that I am vegetarian.",
    "I work at Google.",
    "I no longer work at Google.",
    "I work at Bosch now.",
    "I am allergic to peanuts.",
    "I am vegan.",
    "Forget that I live in Berlin.",
)


@pytest.mark.parametrize("seed", range(30))
async def test_the_outcome_is_that_of_the_order_in_which_things_were_said(
    plain: Workshop, seed: int
) -> None:
    dice = Random(seed)
    plain.now = NOW + 10 * DAY
    for n in range(5):
        said = dice.choices(SAID, k=dice.randint(2, 5))
        order = dice.sample(range(len(said)), len(said))
        cuts = sorted(dice.sample(range(1, len(said)), dice.randint(0, len(said) - 1)))
        edges = [0, *cuts, len(said)]
        batches = [order[a:b] for a, b in pairwise(edges)]
        for who, arriving in (("before", [[i] for i in range(len(said))]), ("after", batches)):
            for batch in arriving:
                exchanges = [
                    plain.exchange(said[i], "All right.", at=NOW + i * DAY, id=f"exc_{n}_{i}")
                    for i in batch
                ]
                await taken_in(plain, f"{who}{n}", exchanges)
        assert await left(plain, f"after{n}") == await left(plain, f"before{n}"), (said, batches)


async def test_what_was_to_be_forgotten_before_it_was_heard_of_is_not_kept(plain: Workshop) -> None:
    told, asked = "I am allergic to peanuts.", "Forget that I am allergic to peanuts."
    plain.now = NOW + 10 * DAY
    await taken_in(plain, "ana", [plain.exchange(asked, "It is forgotten.", at=NOW + 5 * DAY)])
    await taken_in(plain, "ana", [plain.exchange(told, "Noted: peanuts.", at=NOW + DAY)])
    await taken_in(plain, "ana", [plain.exchange(told, at=NOW + 2 * DAY)])
    assert await left(plain, "ana") == []
    assert [turn.text for turn in await plain.turns()] == []
    await taken_in(plain, "ana", [plain.exchange(told, at=NOW + 6 * DAY)])
    assert await plain.active() == ["User is allergic to peanuts"], "told anew, after that"


@pytest.mark.parametrize("requests", [1, 2])
async def test_of_what_was_told_at_one_instant_the_later_words_count(
    plain: Workshop, requests: int
) -> None:
    plain.now = NOW + 10 * DAY
    for user, said, over in (
        ("ana", ("I am vegetarian.", "I am no longer vegetarian."), ["superseded"]),
        ("bob", ("I am no longer vegetarian.", "I am vegetarian."), ["active"]),
        ("eve", ("I am vegetarian.", "Forget that I am vegetarian."), []),
    ):
        exchanges = [plain.exchange(text, at=NOW, id=f"exc_{n}") for n, text in enumerate(said)]
        if requests == 1:
            turns = [replace(e.turns[0], n=n) for n, e in enumerate(exchanges)]
            exchanges = [replace(exchanges[0], turns=tuple(turns))]
        await taken_in(plain, user, exchanges)
        assert [status for _, status, *_ in await left(plain, user)] == over


async def test_what_is_over_is_forgotten_too_where_that_is_asked_for(plain: Workshop) -> None:
    plain.now = NOW + 10 * DAY
    for n, text in enumerate(("I work at Google.", "I work at Bosch now.")):
        await taken_in(plain, "ana", [plain.exchange(text, at=NOW + n * DAY)])
    await taken_in(
        plain, "ana", [plain.exchange("Forget that I work at Google.", at=NOW + 3 * DAY)]
    )
    assert await left(plain, "ana") == [("User works at Bosch", "active", 1, None)]


async def test_later_words_are_read_again_with_what_is_new_alone(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    await shop.learn("My tea is green", facts=[fact("User drinks green tea")], at=NOW)
    await shop.learn("I sold the old bike", at=NOW + 5 * DAY)
    sold = fact("User sold the bike", action="supersede", target=1, quote="I sold the old bike")
    shop.model.answers.append([fact("User has a bike", quote="I have a bike")])
    shop.model.answers.append([sold])
    await shop.said("I have a bike", at=NOW + DAY)
    await shop.distilled()
    asked = shop.model.asked[-1]
    assert [known["text"] for known in asked["known"]] == ["User has a bike"]
    assert [turn["text"] for turn in asked["turns"]] == ["I sold the old bike"]
    assert await left(shop, "ana") == [
        ("User drinks green tea", "active", 0, None),
        ("User has a bike", "superseded", 1, 5),
    ]


async def test_what_ended_is_found_among_many_turns_that_only_name_it(plain: Workshop) -> None:
    plain.now = NOW + 10 * DAY
    said = ["I am no longer vegetarian.", *(f"A vegetarian dish, number {n}?" for n in range(79))]
    for start in range(0, len(said), 40):
        some = [
            plain.exchange(text, at=NOW + DAY + start + n, id=f"exc_{start}_{n}")
            for n, text in enumerate(said[start : start + 40])
        ]
        await taken_in(plain, "ana", some)
    await taken_in(plain, "ana", [plain.exchange("I am vegetarian.", at=NOW)])
    assert [fact[1] for fact in await left(plain, "ana")] == ["superseded"]


async def test_of_many_things_told_late_each_has_ended_that_was_taken_back(plain: Workshop) -> None:
    plain.now = NOW + 10 * DAY
    towns = [f"{first}{last}" for first in ("Ober", "Unter") for last in "abcdefghijkl"]
    for day, told in ((1, "I no longer like {}."), (0, "I like {}.")):
        some = [
            plain.exchange(told.format(town), at=NOW + day * DAY + n, id=f"exc_{day}_{n}")
            for n, town in enumerate(towns)
        ]
        await taken_in(plain, "ana", some)
    assert [fact[1] for fact in await left(plain, "ana")] == ["superseded"] * len(towns)


async def test_a_second_request_counts_in_the_budget_of_the_day(
    tmp_path: Path, redis: Redis, model: ScriptedModel
) -> None:
    async with workshop(tmp_path, redis, model, extraction={"daily_token_budget": 8000}) as shop:
        shop.now = NOW + 10 * DAY
        await shop.learn("I sold the old bike", at=NOW + 5 * DAY)
        await shop.learn("I have a bike", facts=[fact("User has a bike")], at=NOW + DAY)
        await shop.said("And a car", at=NOW + DAY)
        await shop.distilled()
        assert len(model.asked) == 3, "what came last waits for the next day"


async def test_a_model_is_asked_once_where_nothing_said_later_is_about_what_is_new(
    shop: Workshop,
) -> None:
    shop.now = NOW + 10 * DAY
    await shop.learn("The weather is fine", at=NOW + 5 * DAY)
    asked = len(shop.model.asked)
    await shop.learn("I have a bike", facts=[fact("User has a bike")], at=NOW + DAY)
    assert len(shop.model.asked) == asked + 1


async def test_what_took_place_does_not_end(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    await shop.learn("My bike is in the garage", at=NOW + 5 * DAY)
    asked = len(shop.model.asked)
    bought = fact("User bought a bike", type="interaction")
    await shop.learn("I bought a bike", facts=[bought], at=NOW + DAY)
    assert len(shop.model.asked) == asked + 1


async def test_what_a_turn_told_itself_is_not_ended_by_it(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    porto = fact("User lives in Porto", quote="I live in Porto", key="home", value="Porto")
    berlin = fact("User lives in Berlin", quote="I live in Berlin", key="home", value="Berlin")
    shop.model.answers.append([berlin, {**porto, "turn": 2}])
    shop.model.answers.append(
        lambda batch: [{**porto, "action": "supersede", "target": k["n"]} for k in batch["known"]]
    )
    await shop.said("I live in Berlin", at=NOW)
    await shop.said("I left Berlin, I live in Porto", at=NOW + 3 * DAY)
    await shop.distilled()
    assert [known["text"] for known in shop.model.asked[-1]["known"]] == ["User lives in Berlin"]
    assert await left(shop, "ana") == [
        ("User lives in Berlin", "superseded", 0, 3),
        ("User lives in Porto", "active", 3, None),
    ]


async def test_later_words_that_say_it_again_do_not_end_it(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    tea = fact("User drinks green tea", quote="I drink green tea")
    await shop.learn("Yes, I drink green tea", facts=[], at=NOW + 5 * DAY)
    shop.model.answers += [[tea], [{**tea, "action": "supersede", "target": 1}]]
    await shop.said("I drink green tea", at=NOW)
    await shop.distilled()
    assert await left(shop, "ana") == [("User drinks green tea", "active", 0, None)]


async def test_what_is_yet_to_come_has_not_ended_what_is(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    coming = fact(
        "User will work at Siemens",
        action="supersede",
        target=1,
        quote="I go to Siemens",
        event_start="2026-09-01",
    )
    shop.model.answers += [[fact("User works at Bosch", quote="I work at Bosch")], [coming]]
    await shop.said("I work at Bosch", at=NOW)
    await shop.said("I work at Bosch no longer from September on: I go to Siemens", at=NOW + DAY)
    await shop.distilled()
    assert await left(shop, "ana") == [("User works at Bosch", "active", 0, None)]


async def test_later_words_that_no_model_can_read_cost_no_fact(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    await shop.learn("I sold the old bike", at=NOW + 5 * DAY)
    bike = fact("User has a bike", quote="I have a bike")
    shop.model.answers += [[bike], "Of course!", "Of course!"]
    await shop.said("I have a bike", at=NOW + DAY)
    await shop.distilled()
    assert await shop.active() == ["User has a bike"]
    assert shop.count("extraction_skipped", reason="later_words") == 1


async def test_a_former_value_told_once_more_is_not_a_telling_of_the_next(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    for n, town in ((0, "Berlin"), (5, "Porto")):
        home = fact(f"User lives in {town}", key="home", value=town)
        await shop.learn(f"I live in {town}", facts=[home], at=NOW + n * DAY)

    def again(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        n = next(known["n"] for known in batch["known"] if "Berlin" in known["text"])
        said = batch["turns"][0]["text"]
        return [fact("User lives in Berlin", action="duplicate", target=n, quote=said)]

    await shop.learn("As I said, I live in Berlin", facts=again, at=NOW + 2 * DAY)
    then = ("User lives in Berlin", "superseded", 0, 5)
    assert await left(shop, "ana") == [then, ("User lives in Porto", "active", 5, None)]
    # What is over is shown where something may be to be forgotten.
    said = "I live in Berlin again, and forget the recipe"
    await shop.learn(said, facts=again, at=NOW + 8 * DAY)
    assert await left(shop, "ana") == [
        ("User lives in Berlin", "active", 8, None),
        then,
        ("User lives in Porto", "superseded", 5, 8),
    ]


@pytest.mark.parametrize("words", ["User works at Google", ""])
@pytest.mark.parametrize(
    "between", ["I no longer work at Google", "I work at Bosch", "Forget that I work at Google"]
)
async def test_what_ends_and_holds_again_in_one_batch_holds(
    shop: Workshop, between: str, words: str
) -> None:
    shop.now = NOW + 10 * DAY
    google = fact("User works at Google", key="employer", value="Google")
    await shop.learn("I work at Google", facts=[google], at=NOW)
    ended = fact("User works at Bosch", key="employer", value="Bosch", target=1, quote=between)
    ended["action"] = "supersede" if "Bosch" in between else "retract"
    again = {**google, "action": "duplicate", "target": 1, "turn": 2, "quote": "I work at Google"}
    again["text"] = words
    shop.model.answers.append([ended, again])
    await shop.said(between, at=NOW + DAY)
    await shop.said("I work at Google again", at=NOW + 3 * DAY)
    await shop.distilled()
    assert await shop.active() == ["User works at Google"]
    assert ("User works at Google", "active", 3, None) in await left(shop, "ana")


@pytest.mark.parametrize("action", ["add", "duplicate", "supersede"])
async def test_an_older_telling_does_not_bridge_what_had_ended_between(
    shop: Workshop, action: str
) -> None:
    shop.now = NOW + 10 * DAY

    def job(firm: str, **fields: Any) -> dict[str, Any]:
        return fact(f"User works at {firm}", key="employer", value=firm, **fields)

    await shop.learn("I work at Airbus", facts=[job("Airbus")], at=NOW)
    await shop.learn("I work at Bosch", facts=[job("Bosch")], at=NOW + 4 * DAY)
    ended = fact("", action="retract", target=1)
    await shop.learn("I no longer work at Bosch", facts=[ended], at=NOW + 5 * DAY)
    await shop.learn("I work at Lidl", facts=[job("Lidl")], at=NOW + 8 * DAY)
    late = job("Siemens" if action == "supersede" else "Lidl", action=action, target=1)
    await shop.learn(f"I am with {late['value']}", facts=[late], at=NOW + 2 * DAY)
    assert await left(shop, "ana") == [
        ("User works at Airbus", "superseded", 0, 2),
        ("User works at Bosch", "superseded", 4, 5),
        ("User works at Lidl", "active", 8, None),
        (late["text"], "superseded", 2, 4),
    ]


async def test_what_is_said_to_be_over_once_more_does_not_hold_again(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    google = fact("User works at Google", key="employer", value="Google")
    await shop.learn("I work at Google", facts=[google], at=NOW)
    ended = fact("", action="retract", target=1, quote="I no longer work at Google")
    again = {**ended, "action": "duplicate", "turn": 2, "quote": "I used to work at Google"}
    shop.model.answers.append([ended, again])
    await shop.said("I no longer work at Google", at=NOW + DAY)
    await shop.said("Yes, I used to work at Google", at=NOW + 3 * DAY)
    await shop.distilled()
    assert await shop.active() == []


async def test_of_a_value_told_twice_the_one_that_held_then_is_over(shop: Workshop) -> None:
    shop.now = NOW + 10 * DAY
    await shop.learn("I quit Google", at=NOW + 2 * DAY)
    told = [
        fact(f"User works at {f}", key="employer", value=f, quote=f"I work at {f}")
        for f in ("Google", "Bosch", "Google")
    ]
    quit_ = fact("", action="retract", quote="I quit Google")
    shop.model.answers += [
        [{**job, "turn": n} for n, job in enumerate(told, start=1)],
        lambda batch: [
            {**quit_, "target": max(k["n"] for k in batch["known"] if "Google" in k["text"])}
        ],
    ]
    for day, job in zip((0, 4, 6), told, strict=True):
        await shop.said(f"I work at {job['value']}", at=NOW + day * DAY)
    await shop.distilled()
    assert await left(shop, "ana") == [
        ("User works at Bosch", "superseded", 4, 6),
        ("User works at Google", "active", 6, None),
        ("User works at Google", "superseded", 0, 2),
    ]
