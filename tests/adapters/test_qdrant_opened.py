"""Opened memories are kept by user, as long as their points stay as they were."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from uuid import uuid4

from gateway.adapters.qdrant.opened import Opened
from gateway.core.memory import Memory, Version
from gateway.core.stored import body_of, memory_of

ONE = 800
"""Bytes that one of these memories is counted with, at most, its user's shelf included."""


def memory(id: str) -> Memory:
    return Memory(id, "turn", f"text of {id}", 1.0, 1.0, 1.0)


def keep(opened: Opened, tenant: str, *ids: str) -> None:
    opened.keep(tenant, opened.shelf(tenant), {id: memory(id) for id in ids})


def test_what_was_kept_is_found_by_its_key_and_by_no_other() -> None:
    opened = Opened(10**6)
    keep(opened, "t", "p1")
    assert opened.shelf("t").memories == {"p1": memory("p1")}
    assert opened.shelf("other").memories == {}


def test_whole_users_go_when_it_is_full_the_longest_unused_first() -> None:
    opened = Opened(6 * ONE)
    for tenant in ("a", "b"):
        keep(opened, tenant, "1", "2")
    opened.shelf("a")
    keep(opened, "c", "1", "2")
    assert list(opened.shelf("a").memories) == ["1", "2"]
    assert list(opened.shelf("b").memories) == []
    assert len(opened) == 4


def test_a_shelf_that_was_emptied_has_another_number() -> None:
    opened = Opened(10**6)
    first = opened.shelf("a").number
    assert opened.shelf("a").number == first
    opened.drop("a")
    assert opened.shelf("a").number != first
    assert opened.shelf("b").number not in (first, opened.shelf("a").number)


def test_one_user_with_more_than_fits_is_not_kept() -> None:
    opened = Opened(2 * ONE)
    keep(opened, "a", "1", "2", "3")
    assert len(opened) == 0


def test_one_with_nothing_but_what_cannot_be_read_is_bounded_too() -> None:
    opened = Opened(3 * ONE)
    for n in range(100):
        opened.keep("a", opened.shelf("a"), {str(n): None})
    assert len(opened) <= 3 * ONE // 100


def test_of_what_is_written_again_and_again_few_former_states_stay() -> None:
    opened = Opened(10**9)
    points = [uuid4().hex for _ in range(200)]
    keep(opened, "a", *(point + "0" for point in points))
    for version in range(1, 2000):
        keep(opened, "a", f"{points[version % 3]}{version:x}")
    assert len(opened) <= 2 * len(points)
    found = opened.shelf("a").memories
    assert {f"{points[n % 3]}{n:x}" for n in (1997, 1998, 1999)} <= found.keys()
    assert {point + "0" for point in points[3:]} <= found.keys()


def test_what_is_let_go_of_former_states_makes_room_for_other_users() -> None:
    opened = Opened(400 * ONE)
    keep(opened, "b", "1", "2")
    for version in range(2000):
        keep(opened, "a", f"{'0' * 32}{version:x}")
    assert list(opened.shelf("b").memories) == ["1", "2"]


def test_users_of_whom_nothing_is_kept_are_bounded_too() -> None:
    opened = Opened(3 * ONE)
    numbers = [opened.shelf(str(n)).number for n in range(100)]
    assert opened.shelf("99").number == numbers[99]
    assert opened.shelf("0").number not in numbers


def test_long_memories_count_with_their_text_and_their_history() -> None:
    long = replace(memory("1"), text="x" * 3 * ONE)
    changed = replace(memory("2"), history=(Version(1.0, "corrected", "x" * 3 * ONE),))
    told = replace(memory("3"), metadata={"note": "x" * ONE})
    for one in (long, changed, told):
        opened = Opened(3 * ONE)
        opened.keep("a", opened.shelf("a"), {one.id: one})
        assert len(opened) == 0


def test_what_several_searches_bring_at_once_counts_once() -> None:
    opened = Opened(2 * ONE)
    shelf = opened.shelf("a")
    for _ in range(10):
        opened.keep("a", shelf, {"1": memory("1")})
    assert opened.shelf("a") is shelf
    assert list(shelf.memories) == ["1"]


def test_what_is_counted_is_what_it_takes() -> None:
    limit = 2_000_000
    opened = Opened(limit)
    gc.collect()
    tracemalloc.start()
    try:
        for user in range(40):
            made = [memory_of(body_of(memory(f"mem_{user}_{n}"))) for n in range(100)]
            points = {uuid4().hex + f"{user:x}": one for one in made}
            opened.keep(f"user-{user}", opened.shelf(f"user-{user}"), points)
        del made, points
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(opened) < 4000  # it is full
    assert 0.6 * limit < taken < 1.2 * limit


def test_an_erased_user_is_dropped_and_what_was_under_way_is_not_kept() -> None:
    opened = Opened(10**6)
    shelf = opened.shelf("a")
    opened.keep("a", shelf, {"1": memory("1")})
    opened.drop("a")
    opened.drop("a")
    opened.keep("a", shelf, {"2": memory("2")})
    assert opened.shelf("a").memories == {}
    assert len(opened) == 0
