"""What the prompt says already: found where it is, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.memory import Memory
from gateway.core.told import ALIKE, Told, said_in
from tests.core.recall_memories import fact, turn


def where(memory: Memory, *told: Memory, present: Sequence[str] = ()) -> str | None:
    so_far = Told(present)
    for one in told:
        so_far.add(said_in(one))
    return so_far.where(memory, said_in(memory))


def test_what_nobody_said_is_told_nowhere() -> None:
    assert where(turn("a", "We went sailing.")) is None
    assert where(turn("a", ""), turn("b", ""), present=["hello"]) is None


def test_words_are_found_across_no_border_of_two_texts() -> None:
    memory = turn("a", "the boat is called Swan")
    assert where(memory, present=["I say the boat is called Swan!"]) == "present"
    assert where(memory, present=["the boat is", "called Swan"]) is None
    assert where(memory, present=["called Swan", "the boat is"]) is None


def test_a_text_of_letters_beyond_ascii_is_compared_by_its_words_too() -> None:
    text = "今日は東京で寿司を食べました。とても美味しかったです。"
    assert where(turn("a", text), turn("b", text + "!")) == "duplicate"
    assert (
        where(turn("a", text), turn("b", "明日は京都へ行く予定です。楽しみにしています。")) is None
    )


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=1, max_size=6))
def test_two_texts_are_alike_by_the_share_of_their_words(texts: list[set[str]]) -> None:
    memories = [turn(str(n), " ".join(sorted(words))) for n, words in enumerate(texts)]
    *others, last = texts
    alike = any(last and len(last & other) >= ALIKE * len(last | other) for other in others)
    assert (where(memories[-1], *memories[:-1]) == "duplicate") == alike


def test_a_fact_is_present_by_its_quote_alone() -> None:
    memory = fact("f", "The dog is called Rex", quote="my dog Rex loves it")
    assert where(memory, present=["so, My  dog Rex loves it there"]) == "present"
    assert where(memory, present=["The dog is called Rex"]) is None
    assert where(fact("f", "The dog is called Rex"), present=["anything"]) is None
