"""Whether an answer says again what is to be forgotten."""

from __future__ import annotations

import pytest

from gateway.core.repeating import repeats, says_whole


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        ("Porto, how lovely!", True),
        ("You live in Porto.", True),
        ("Would you like to live by the sea?", False),
        ("", False),
    ],
)
def test_an_answer_repeats_a_fact_whose_value_it_says(answer: str, again: bool) -> None:
    assert repeats(answer, value="Porto", words="I live in Porto") is again
    assert repeats(answer, value=None, words="I live in Porto") is again


def test_an_everyday_value_is_repeated_by_no_answer() -> None:
    assert not repeats("Yes, of course.", value="yes", words="yes")


def test_what_is_said_whole_has_every_word_and_more_than_one() -> None:
    assert says_whole("Since you live in Porto, try the Ribeira.", "I live in Porto")
    assert not says_whole("In Porto there is the Ribeira.", "I live in Porto")
    assert not says_whole("Vegan recipes are easy.", "I'm vegan")
