"""A recall that begins before its conversation is known, and what that may not change."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.core.exchange import Exchange, Turn
from gateway.core.memory import Entry, Memory
from gateway.flows.question import Question, Recalled
from gateway.flows.recall import asked
from gateway.ports import Conversation
from tests.flows.test_recall import DOG, NOW, TEA, House, conversation, fact, texts

ASKED = Question("What does my dog love?", deadline_ms=5000.0)
GERMAN = fact("german", "Speaks German", "preference", key="language", value="de")


async def begun(house: House, known: Conversation | None) -> Recalled:
    """What is recalled where the search began before `known` was."""
    asking = asked(house.services, house.settings, house.owner, ASKED, now=NOW)
    try:
        asking.begin()
        await asyncio.sleep(0)
        return await asking.recall(replace(ASKED, conversation=known))
    finally:
        asking.parts.end()


def told(recalled: Recalled) -> tuple[object, ...]:
    """All of it but for the times."""
    return replace(recalled, stage_ms={}, considered=()), [
        (s.memory.id, s.score, s.left_out) for s in recalled.considered
    ]


async def test_the_search_is_under_way_before_the_conversation_is_known() -> None:
    house = await House().knows(DOG)
    await house.recalls("hello", conversation=conversation(standing_version="7"))
    searches = house.store.searches
    house.store.hold = asyncio.Event()
    asking = asked(house.services, house.settings, house.owner, ASKED, now=NOW)
    asking.begin()
    await asyncio.sleep(0)
    assert house.store.searches == searches + 1
    house.store.hold.set()
    recalled = await asking.recall(replace(ASKED, conversation=conversation()))
    asking.parts.end()
    assert texts(recalled) == [DOG.text]


@pytest.mark.parametrize("kept", [None, "7", "6"], ids=["nothing", "as it is", "as it was before"])
@pytest.mark.parametrize("opened", [True, False], ids=["opened", "state away"])
@pytest.mark.parametrize("also", [(), (GERMAN,)], ids=["", "of a language"])
async def test_it_brings_what_a_recall_brings_that_begins_afterwards(
    kept: str | None, opened: bool, also: tuple[Memory, ...]
) -> None:
    known = conversation(standing_version="7") if opened else None
    found = []
    for early in (False, True):
        house = await House().knows(DOG, *also, *(() if kept == "6" else (TEA,)))
        if kept is not None:
            await house.recalls("hello", conversation=conversation(standing_version=kept))
        if kept == "6":
            await house.knows(TEA)
        turns = (Turn(0, "user", "My dog loves bones", NOW - 9),)
        house.queue.waiting = [Exchange("exc_1", "s9", NOW - 9, turns)]
        if early:
            found.append(told(await begun(house, known)))
        else:
            found.append(told(await house.recalls(ASKED.text, conversation=known)))
    assert found[0] == found[1]


async def test_what_always_counts_is_asked_for_where_it_was_written_to_since() -> None:
    house = await House().knows(DOG)
    await house.recalls("hello", conversation=conversation(standing_version="7"))
    await house.knows(TEA)
    same = await begun(house, conversation(standing_version="7"))
    assert TEA.text not in texts(same)
    searches = house.store.searches
    anew = await begun(house, conversation(standing_version="8"))
    assert TEA.text in texts(anew)
    assert house.store.searches == searches + 2 + 1  # both with a search by vector


async def test_what_always_counts_is_not_kept_as_of_a_write_that_came_after_it() -> None:
    house = await House().knows(DOG, TEA)
    asking = asked(house.services, house.settings, house.owner, ASKED, now=NOW)
    asking.begin()
    await asyncio.sleep(0.01)
    gone = replace(TEA, status="forgotten", text="", key=None, value=None)
    await house.store.put(house.owner, [Entry(gone)])  # while the conversation is opened
    await asking.recall(replace(ASKED, conversation=conversation(standing_version="8")))
    asking.parts.end()
    after = await house.recalls(ASKED.text, conversation=conversation(standing_version="8"))
    assert TEA.text not in texts(after)


async def test_what_is_distilled_meanwhile_is_found_as_waiting_or_as_kept() -> None:
    house = await House().knows(DOG)
    await house.recalls("hello", conversation=conversation(standing_version="7"))
    turns = (Turn(0, "user", "My dog loves bones", NOW - 9),)
    house.queue.waiting = [Exchange("exc_1", "s9", NOW - 9, turns)]
    asking = asked(house.services, house.settings, house.owner, ASKED, now=NOW)
    asking.begin()
    await asyncio.sleep(0.01)
    house.queue.waiting = []  # the worker has put it into the store, after it was searched
    recalled = await asking.recall(replace(ASKED, conversation=conversation(standing_version="7")))
    asking.parts.end()
    assert "My dog loves bones" in texts(recalled)
