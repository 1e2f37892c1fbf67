"""What is known to have been sent to the gateway's shelves is not sent there again."""

from __future__ import annotations

from gateway.adapters.qdrant.sent import SHELF_POINTS, Sent


def test_a_key_is_new_to_a_shelf_once() -> None:
    sent = Sent(100)
    assert sent.add("a", 1, ["x", "y"]) == [0, 1]
    assert sent.add("a", 1, ["y", "z", "x"]) == [1]
    assert sent.add("b", 2, ["x", "y"]) == [0, 1]


def test_all_is_new_to_a_shelf_that_was_emptied() -> None:
    sent = Sent(100)
    sent.add("a", 1, ["x", "y"])
    assert sent.add("a", 2, ["x"]) == [0]
    assert sent.add("a", 2, ["x", "y"]) == [1]


def test_the_longest_unasked_is_forgotten_where_it_is_too_much() -> None:
    sent = Sent(4 + 2 * SHELF_POINTS)
    sent.add("a", 1, ["1", "2"])
    sent.add("b", 2, ["1", "2"])
    sent.add("a", 1, [])
    sent.add("c", 3, ["1"])
    assert sent.add("a", 1, ["1", "2"]) == []
    assert sent.add("b", 2, ["1", "2"]) == [0, 1]


def test_what_was_forgotten_or_emptied_makes_room() -> None:
    sent = Sent(4 + 2 * SHELF_POINTS)
    for number in range(1, 10):
        sent.add("a", number, ["1", "2"])
    sent.add("b", 20, ["1", "2"])
    assert sent.add("a", 9, ["1", "2"]) == []


def test_users_of_whom_nothing_is_found_are_bounded_too() -> None:
    sent = Sent(100)
    for n in range(1000):
        sent.add(str(n), n + 1, [])
    assert len(sent) <= 100 // SHELF_POINTS
