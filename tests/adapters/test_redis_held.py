"""Pending exchanges that were opened are held up to a number of bytes, and in their order."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from gateway.adapters.redis_queue import held as module
from gateway.adapters.redis_queue.held import Held, Line, Placed
from gateway.core.exchange import Exchange, Turn
from gateway.core.waiting import just_said
from gateway.core.wire import exchange_from_bytes, exchange_to_bytes

SIZE = 500


def placed(number: int, at: float | None = None) -> Placed:
    at = float(number) if at is None else at
    exchange = Exchange(id=f"x{number}", at=at, session="s", turns=(Turn(0, "user", "w", at),))
    return Placed.of(at, number, f"hidden{number}", SIZE, exchange)


def line(*numbers: int, stamp: bytes = b"1", whole: bool = True) -> Line:
    return Line(stamp, [placed(number) for number in numbers], whole=whole)


def ids(found: list[Exchange] | None) -> str | None:
    return None if found is None else " ".join(each.id for each in found)


def test_whoever_was_in_conversation_longest_ago_gives_way() -> None:
    held = Held(2 * line(1).room)
    held.keep("ann", line(1))
    held.keep("bob", line(1))
    assert held.of("ann")
    held.keep("cid", line(1))
    assert [bool(held.of(tenant)) for tenant in ("ann", "bob", "cid")] == [True, False, True]
    held.add("cid", placed(2), b"2")
    assert not held.of("ann"), "what is added takes room too"
    held.add("cid", placed(3), b"3")
    assert not held.of("cid"), "what alone is too much is not held"
    held.keep("ann", line(1))
    held.drop("ann")
    held.keep("bob", line(1, 2))
    assert held.of("bob"), "what was dropped takes no room"


@pytest.mark.parametrize("turns", [1, 2, 8])
@pytest.mark.parametrize("word", ["dog ", "día ", "dog’s ", "собака ", "dog 🐶 ", "🐶🐶 "])
def test_what_is_counted_is_what_it_takes(word: str, turns: int) -> None:
    """One emoji makes Python keep the whole text with four bytes a character."""
    said = tuple(Turn(n, "user", word * 200, 1.0) for n in range(turns))
    record = exchange_to_bytes(Exchange("x", "session", 1.0, said))
    gc.collect()
    tracemalloc.start()
    try:
        one = Line(b"1", [], whole=True)
        for n in range(40):
            opened = exchange_from_bytes(record)
            one.add(Placed.of(n, n, f"hidden{n}", len(record), opened), b"2")
            just_said([opened], text=word, session=None, known=())
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.75 * one.room < taken < 1.15 * one.room


def test_what_was_said_last_goes_to_the_end_and_what_was_said_earlier_is_not_guessed_at() -> None:
    one = line(1, 2)
    assert one.add(placed(3), b"2")
    assert (one.stamp, ids(one.newest(50))) == (b"2", "x1 x2 x3")
    assert not one.add(placed(4, at=2.5), b"3")
    assert (one.stamp, ids(one.newest(50))) == (b"2", "x1 x2 x3")


def test_the_newest_are_told_from_what_is_held_only_where_nothing_can_be_missing() -> None:
    assert ids(line(1, 2, 3).newest(2)) == "x2 x3"
    assert ids(line(1, 2, 3, whole=False).newest(3)) == "x1 x2 x3"
    assert line(1, 2, 3, whole=False).newest(4) is None


def test_what_redis_walks_last_comes_in_the_order_of_its_time() -> None:
    """In a batch, one whose retry took its place stands where it stood, whenever that was said."""
    one = Line(b"1", [placed(2, at=5.0), placed(1, at=1.0), placed(3, at=3.0)], whole=True)
    assert ids(one.newest(50)) == "x1 x3 x2"
    assert ids(one.newest(2)) == "x1 x3"


@pytest.mark.parametrize(("bound", "value"), [("MOST", 2), ("PENDING_BYTES", 2 * SIZE)])
def test_of_what_is_added_one_by_one_the_newest_stay(
    monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(module, bound, value)
    one = line(1, 2)
    assert one.add(placed(3), b"2")
    assert ids(one.newest(2)) == "x2 x3"
    assert one.newest(3) is None


def test_a_list_that_was_given_out_is_the_callers_own() -> None:
    one = line(1, 2)
    found = one.newest(50)
    assert found is not None
    found.clear()
    assert ids(one.newest(50)) == "x1 x2"
