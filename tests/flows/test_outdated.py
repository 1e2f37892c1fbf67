"""What superseded facts rested on is known, for a bounded number of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.inmemory import InMemoryStore
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Entry, Memory, Source
from gateway.flows import outdated as outdated_
from gateway.flows.outdated import Outdated
from gateway.flows.recall import Question, recall
from tests.flows.workshop import DAY, NOW, Workshop
from tests.flows.workshop import fact as drawn


def fact(id: str, **more: object) -> Memory:
    return Memory(
        id=id,
        kind="fact",
        type="profile",
        text="Lives in Porto.",
        created_at=1.0,
        updated_at=1.0,
        valid_from=1.0,
        source=Source(role="user", via="chat"),
        **more,  # type: ignore[arg-type]
    )


async def test_who_was_asked_for_longest_ago_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outdated_, "MAX_TENANTS", 2)
    outdated, store = Outdated(), InMemoryStore(Bm25Lexicon())
    owners: list[Owner] = [new_owner(Person("default", name)) for name in ("ann", "bob", "cid")]
    now_in_force = fact("new", supersedes="old")
    for owner in owners:
        old = fact("old", status="superseded", superseded_by="new", covers=("t1",))
        await store.put(owner, [Entry(old)])
        assert outdated.turns(owner.tenant, [now_in_force], now=1.0) == (frozenset(), ["old"])
        await outdated.learn(store, owner, ["old"], now=1.0)
        assert outdated.turns(owner.tenant, [now_in_force], now=1.0) == (frozenset({"t1"}), [])
    known = [not outdated.turns(owner.tenant, [now_in_force], now=1.0)[1] for owner in owners]
    assert known == [False, True, True]


async def test_a_value_that_was_brought_back_does_not_outdate_the_turn_that_told_it() -> None:
    outdated, store = Outdated(), InMemoryStore(Bm25Lexicon())
    owner = new_owner(Person("default", "ann"))
    back = fact("first", supersedes="second", covers=("t1",))
    between = fact("second", status="superseded", supersedes="first", covers=("t2",))
    await store.put(owner, [Entry(back), Entry(between)])
    await outdated.learn(store, owner, ["second"], now=1.0)
    assert outdated.turns(owner.tenant, [back], now=1.0) == (frozenset({"t2"}), [])


async def test_what_was_written_while_it_was_looked_up_is_looked_up_again() -> None:
    owner, outdated = new_owner(Person("default", "ann")), Outdated()
    in_force = fact("new", supersedes="old")

    class Written(InMemoryStore):
        """Somebody adds a turn to the old value just after it was read."""

        async def get(self, owner: Owner, ids: Sequence[str]) -> list[Memory]:
            found = await super().get(owner, ids)
            await self.put(owner, [Entry(fact("old", status="superseded", covers=("t1", "t2")))])
            outdated.forget(owner.tenant)
            return found

    store = Written(Bm25Lexicon())
    await store.put(owner, [Entry(fact("old", status="superseded", covers=("t1",)))])
    await outdated.learn(store, owner, ["old"], now=1.0)
    assert outdated.turns(owner.tenant, [in_force], now=1.0) == (frozenset(), ["old"])


async def test_what_another_process_may_have_written_is_looked_up_again_after_a_while() -> None:
    outdated, store = Outdated(), InMemoryStore(Bm25Lexicon())
    owner = new_owner(Person("default", "ann"))
    old = fact("old", status="superseded", superseded_by="new", covers=("t1",))
    await store.put(owner, [Entry(old)])
    await outdated.learn(store, owner, ["old"], now=1.0)
    await store.put(owner, [Entry(replace(old, covers=("t1", "late")))])
    later = 1.0 + outdated_.KEPT_S + 1.0
    assert outdated.turns(owner.tenant, [fact("new", supersedes="old")], now=later)[1] == ["old"]
    await outdated.learn(store, owner, ["old"], now=later)
    told, _ = outdated.turns(owner.tenant, [fact("new", supersedes="old")], now=later)
    assert told == {"t1", "late"}


async def test_former_words_that_arrive_late_are_outdated_at_once(shop: Workshop) -> None:
    def home(place: str) -> list[dict[str, Any]]:
        return [drawn(f"User lives in {place}", key="home", value=place)]

    async def told() -> set[str]:
        question = Question("Where do I live?", deadline_ms=5000.0)
        recalled = await recall(
            shop.services, shop.settings, await shop.owner(), question, now=shop.now
        )
        return {m.text for m in recalled.memories}

    await shop.learn("I live in Porto", facts=home("Porto"), at=NOW - 9 * DAY)
    await shop.learn("I live in Lisbon", facts=home("Lisbon"), at=NOW - 5 * DAY)
    assert "I live in Porto" not in await told()
    await shop.learn("I still live in Porto", facts=home("Porto"), at=NOW - 7 * DAY)
    await shop.learn("I live in Faro", facts=home("Faro"), at=NOW - 12 * DAY)
    assert {t.text for t in await shop.turns()} >= {"I still live in Porto", "I live in Faro"}
    assert await told() == {"User lives in Lisbon", "I live in Lisbon"}
