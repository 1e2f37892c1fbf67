"""Opened memories are kept by user, as long as their points stay as they were."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from uuid import uuid4

from gateway.adapters.qdrant.opened import Opened
from gateway.core.memory import Memory, Version
from gateway.core.stored import body_of, memory_of

ONE = 900
"""Bytes that one of these memories is counted with, at most."""


def memory(id: str) -> Memory:
    return Memory(id, "turn", f"text of {id}", 1.0, 1.0, 1.0)


def test_what_was_kept_is_found_while_its_stamp_is_the_same() -> None:
    opened = Opened(10**6)
    opened.keep("t", {"p": memory("p")}, {"p": 1})
    assert opened.look("t", {"p": 1, "q": 5}) == ({"p": memory("p")}, ["q"])
    assert opened.look("t", {"p": 2}) == ({}, ["p"])
    assert opened.look("other", {"p": 1}) == ({}, ["p"])


def test_a_newer_state_takes_the_place_of_the_older() -> None:
    opened = Opened(10**6)
    opened.keep("t", {"p": memory("old")}, {"p": 1})
    opened.keep("t", {"p": memory("new")}, {"p": 2})
    assert opened.look("t", {"p": 2}) == ({"p": memory("new")}, [])
    assert len(opened) == 1


def test_whole_users_go_when_it_is_full_the_longest_unused_first() -> None:
    opened = Opened(4 * ONE)
    for tenant in ("a", "b"):
        opened.keep(tenant, {"1": memory("1"), "2": memory("2")}, {"1": 1, "2": 1})
    opened.look("a", {"1": 1})
    opened.keep("c", {"1": memory("1")}, {"1": 1})
    assert [opened.holds(tenant) for tenant in ("a", "b", "c")] == [True, False, True]
    assert len(opened) == 3


def test_one_user_with_more_than_fits_is_not_kept() -> None:
    opened = Opened(2 * ONE)
    stamps = dict.fromkeys("123", 1)
    opened.keep("a", {id: memory(id) for id in stamps}, stamps)
    assert len(opened) == 0


def test_long_memories_count_with_their_text_and_their_history() -> None:
    long = replace(memory("1"), text="x" * 2 * ONE)
    changed = replace(memory("2"), history=(Version(1.0, "made", "x" * 2 * ONE),))
    for one in (long, changed):
        opened = Opened(2 * ONE)
        opened.keep("a", {one.id: one}, {one.id: 1})
        assert not opened.holds("a")


def test_what_takes_the_place_of_another_is_not_counted_beside_it() -> None:
    opened = Opened(2 * ONE)
    for stamp in range(9):
        opened.keep("a", {"1": memory("1")}, {"1": stamp})
    assert len(opened) == 1


def test_what_is_counted_is_what_it_takes() -> None:
    limit = 2_000_000
    opened = Opened(limit)
    gc.collect()
    tracemalloc.start()
    try:
        for user in range(40):
            made = [memory_of(body_of(memory(f"mem_{user}_{n}"))) for n in range(100)]
            points = {str(uuid4()): one for one in made}
            opened.keep(f"user-{user}", points, dict.fromkeys(points, 2**40 + user))
        del made, points
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(opened) < 4000  # it is full
    assert 0.6 * limit < taken < 1.2 * limit


def test_an_erased_user_is_dropped() -> None:
    opened = Opened(10**6)
    opened.keep("a", {"1": memory("1")}, {"1": 1})
    opened.drop("a")
    opened.drop("a")
    assert not opened.holds("a")
    assert len(opened) == 0
