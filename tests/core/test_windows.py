"""Which text is searched for a memory."""

from __future__ import annotations

from gateway.core.windows import DENSE_CHARS, dense_text, window_texts, windows_of
from tests.core.recall_memories import fact, turn


def test_a_window_holds_the_two_turns_before_and_the_one_after() -> None:
    turns = [turn(str(i), f"t{i}", session="s") for i in range(5)]
    assert window_texts(turns) == [
        "t0\nt1",
        "t0\nt1\nt2",
        "t0\nt1\nt2\nt3",
        "t1\nt2\nt3\nt4",
        "t2\nt3\nt4",
    ]


def test_a_long_neighbour_is_there_with_its_beginning() -> None:
    first, second = turn("a", "x" * 10_000, session="s"), turn("b", "yes", session="s")
    assert len(window_texts([first, second])[1]) < 1000
    assert len(window_texts([first, second])[0]) > 10_000


def test_windows_stay_within_a_session_and_go_by_time() -> None:
    memories = [
        turn("b", "second", session="s", days_ago=1),
        turn("x", "elsewhere", session="other", days_ago=1.5),
        turn("a", "first", session="s", days_ago=2),
        turn("lone", "no session"),
        fact("f", "a fact", session="s"),
    ]
    assert windows_of(memories) == {
        "a": "first\nsecond",
        "b": "first\nsecond",
        "x": "elsewhere",
    }


def test_long_messages_have_no_window() -> None:
    memories = [turn(str(i), "word " * 200, session="s", days_ago=9 - i) for i in range(4)]
    assert windows_of(memories) == {}


def test_what_is_embedded_is_bounded() -> None:
    assert len(dense_text(turn("a", "x" * 1_000_000))) == DENSE_CHARS
