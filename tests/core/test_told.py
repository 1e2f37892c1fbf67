"""What the prompt says already: found where it is, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.memory import Memory
from gateway.core.told import ALIKE, Told, said_in
from tests.core.recall_memories import fact, turn


def where(
    memory: Memory, *told: Memory, present: Sequence[str] = (), session: str | None = None
) -> str | None:
    so_far = Told(present, session)
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


@pytest.mark.parametrize("made", [turn, fact])
def test_a_long_text_is_found_whole_and_by_no_part_of_it(made: Callable[..., Memory]) -> None:
    text = "Im Café, we had tea. " * 40 + "And cake."
    assert where(made("a", text), present=[f"As I said: {text.upper()} Remember?"]) == "present"
    assert where(made("a", text), present=[text[:-20]]) is None


def test_a_text_of_letters_beyond_ascii_is_compared_by_its_words_too() -> None:
    text = "今日は東京で寿司を食べました。とても美味しかったです。"
    assert where(turn("a", text), turn("b", text + "!")) == "duplicate"
    assert (
        where(turn("a", text), turn("b", "明日は京都へ行く予定です。楽しみにしています。")) is None
    )


@pytest.mark.parametrize(
    ("told", "other"),
    [
        (
            "The user takes 20 mg of atorvastatin every morning with breakfast",
            "The user takes 20 mg of metformin every morning with breakfast",
        ),
        (
            "The train to Vienna leaves on Monday at nine from platform four",
            "The train to Vienna leaves on Tuesday at nine from platform four",
        ),
        (
            "The user pays 950 euros of rent for the flat in Porto each month",
            "The user pays 980 euros of rent for the flat in Porto each month",
        ),
        (
            "The user eats fish on Fridays at home with the whole family",
            "The user never eats fish on Fridays at home with the whole family",
        ),
        (
            "The user never eats fish on Fridays at home with the whole family",
            "The user eats fish on Fridays at home with the whole family",
        ),
        (
            "The user goes to choir in the old church on Thursday evening",
            "The user goes to choir in the old church on Thursday evening with Tom",
        ),
    ],
)
def test_texts_of_nearly_the_same_words_may_tell_different_things(told: str, other: str) -> None:
    assert where(fact("a", other), fact("b", told)) is None


def test_what_adds_only_words_without_substance_is_told_already() -> None:
    told = "The user goes to choir in the old church on Thursday evening with Tom"
    for again in (
        "So the user goes to choir in the old church on Thursday evening with Tom!",
        "The user goes to choir in the old church on Thursday evening",
        "the user goes to choirs in the old church on Thursday evening with Tom",
    ):
        assert where(fact("a", again), fact("b", told)) == "duplicate"


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


@pytest.mark.parametrize("quote", ["我住在上海", "나는 채식", "I like tea"])
def test_a_short_quote_is_present_in_the_conversation_that_it_was_said_in(quote: str) -> None:
    memory = fact("f", "…", quote=quote, session="today")
    assert where(memory, present=[f"{quote}!"], session="today") == "present"
    assert where(memory, present=[f"{quote}!"], session="tomorrow") is None
    assert where(memory, present=["?"], session="today") is None


def test_a_quote_of_a_few_letters_is_present_nowhere() -> None:
    memory = fact("f", "Has a dog", quote="yes", session="today")
    assert where(memory, present=["That was yesterday"], session="today") is None
