"""Opened memories are kept by user, as long as their points stay as they were."""

from __future__ import annotations

from gateway.adapters.qdrant.opened import Opened
from gateway.core.memory import Memory


def memory(id: str) -> Memory:
    return Memory(id, "turn", f"text of {id}", 1.0, 1.0, 1.0)


def test_what_was_kept_is_found_while_its_stamp_is_the_same() -> None:
    opened = Opened()
    opened.keep("t", {"p": memory("p")}, {"p": 1})
    assert opened.look("t", {"p": 1, "q": 5}) == ({"p": memory("p")}, ["q"])
    assert opened.look("t", {"p": 2}) == ({}, ["p"])
    assert opened.look("other", {"p": 1}) == ({}, ["p"])


def test_a_newer_state_takes_the_place_of_the_older() -> None:
    opened = Opened()
    opened.keep("t", {"p": memory("old")}, {"p": 1})
    opened.keep("t", {"p": memory("new")}, {"p": 2})
    assert opened.look("t", {"p": 2}) == ({"p": memory("new")}, [])
    assert len(opened) == 1


def test_whole_users_go_when_it_is_full_the_longest_unused_first() -> None:
    opened = Opened(limit=4)
    for tenant in ("a", "b"):
        opened.keep(tenant, {"1": memory("1"), "2": memory("2")}, {"1": 1, "2": 1})
    opened.look("a", {"1": 1})
    opened.keep("c", {"1": memory("1")}, {"1": 1})
    assert [opened.holds(tenant) for tenant in ("a", "b", "c")] == [True, False, True]
    assert len(opened) == 3


def test_one_user_with_more_than_fits_is_not_kept() -> None:
    opened = Opened(limit=2)
    stamps = dict.fromkeys("123", 1)
    opened.keep("a", {id: memory(id) for id in stamps}, stamps)
    assert len(opened) == 0


def test_an_erased_user_is_dropped() -> None:
    opened = Opened()
    opened.keep("a", {"1": memory("1")}, {"1": 1})
    opened.drop("a")
    opened.drop("a")
    assert not opened.holds("a")
    assert len(opened) == 0
