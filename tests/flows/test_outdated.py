"""What superseded facts rested on is known, for a bounded number of users."""

from __future__ import annotations

import pytest

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.inmemory import InMemoryStore
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Entry, Memory, Source
from gateway.flows import outdated as outdated_
from gateway.flows.outdated import Outdated


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
        assert outdated.turns(owner.tenant, [now_in_force]) == (frozenset(), ["old"])
        await outdated.learn(store, owner, ["old"])
        assert outdated.turns(owner.tenant, [now_in_force]) == (frozenset({"t1"}), [])
    known = [not outdated.turns(owner.tenant, [now_in_force])[1] for owner in owners]
    assert known == [False, True, True]


async def test_a_value_that_was_brought_back_does_not_outdate_the_turn_that_told_it() -> None:
    outdated, store = Outdated(), InMemoryStore(Bm25Lexicon())
    owner = new_owner(Person("default", "ann"))
    back = fact("first", supersedes="second", covers=("t1",))
    between = fact("second", status="superseded", supersedes="first", covers=("t2",))
    await store.put(owner, [Entry(back), Entry(between)])
    await outdated.learn(store, owner, ["second"])
    assert outdated.turns(owner.tenant, [back]) == (frozenset({"t2"}), [])
