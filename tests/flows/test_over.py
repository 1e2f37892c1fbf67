"""What was given up, with nothing in its place, is not told by the words that told it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.core.identity import Owner
from gateway.flows import curate
from gateway.flows.recall import Question, recall
from tests.flows.workshop import DAY, NOW, Workshop, fact

PORTO = fact("User lives in Porto", key="home", value="Porto", quote="I live in Porto")
ENDED = fact("", action="retract", target=1)


def left_porto(batch: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    known = next(k["n"] for k in batch["known"] if "Porto" in k["text"])
    return [{**ENDED, "target": known, "quote": "I have left Porto"}]


async def told(shop: Workshop, question: str = "Where do I live?", **more: float) -> set[str]:
    asked = Question(question, deadline_ms=5000.0, as_of=more.get("as_of"))
    owner = await shop.owner()
    recalled = await recall(shop.services, shop.settings, owner, asked, now=shop.now)
    return {memory.text for memory in recalled.memories}


async def moved_out(shop: Workshop) -> None:
    await shop.learn("I live in Porto", facts=[PORTO], at=NOW - 9 * DAY)
    assert "I live in Porto" in await told(shop)
    await shop.learn("I have left Porto for good", facts=[ENDED], at=NOW - 5 * DAY)


async def test_it_is_not_injected_unless_the_question_is_of_the_past(shop: Workshop) -> None:
    await moved_out(shop)
    assert "I live in Porto" not in await told(shop)
    assert "I live in Porto" in await told(shop, "Where did I live before?")
    assert "I live in Porto" in await told(shop, as_of=NOW - 6 * DAY)


async def test_nor_is_what_arrives_late_and_was_over_by_then(shop: Workshop) -> None:
    await moved_out(shop)
    await shop.learn("So I live in Porto", facts=[PORTO], at=NOW - 7 * DAY)
    assert not {"I live in Porto", "So I live in Porto"} & await told(shop)


async def test_it_is_told_again_where_a_person_brings_the_fact_back(shop: Workshop) -> None:
    await moved_out(shop)
    [home] = await shop.memories()

    async def correct(status: str) -> None:
        await curate.correct(
            shop.services,
            shop.settings,
            await shop.owner(),
            home.id,
            {"status": status},
            via="user",
            now=shop.now,
        )

    await correct("active")
    assert "I live in Porto" in await told(shop)
    await correct("superseded")
    assert "I live in Porto" not in await told(shop)


async def test_a_turn_that_says_something_else_as_well_is_told_where_its_fact_stands(
    shop: Workshop,
) -> None:
    jazz = fact("User likes jazz", type="preference", quote="like jazz")
    home = {**PORTO, "quote": "live in Porto"}
    await shop.learn("I live in Porto and like jazz", facts=[home, jazz])
    await shop.learn("I have left Porto", facts=left_porto)
    assert "User likes jazz" in await shop.active()
    assert "I live in Porto and like jazz" not in await told(shop)


async def test_what_a_forgotten_value_had_replaced_does_not_hold_again(shop: Workshop) -> None:
    for deleted in (False, True):
        user = f"ana{deleted}"
        await shop.learn("I live in Porto", facts=[PORTO], at=NOW - 9 * DAY, user=user)
        rome = fact("User lives in Rome", key="home", value="Rome")
        await shop.learn("I live in Rome now", facts=[rome], at=NOW - 5 * DAY, user=user)
        owner = await shop.owner(user)
        if deleted:
            (home,) = await shop.memories(user, statuses=("active",))
            await curate.forget(shop.services, owner, home.id, now=shop.now)
        else:
            gone = fact("", action="retract", target=1)
            await shop.learn("Forget where I live", facts=[gone], user=user)

        async def injected(question: str, owner: Owner = owner) -> set[str]:
            asked = Question(question, deadline_ms=5000.0)
            recalled = await recall(shop.services, shop.settings, owner, asked, now=shop.now)
            return {memory.text for memory in recalled.memories}

        assert await injected("Where do I live?") == set()
        assert "I live in Porto" in await injected("Where did I live before?")
