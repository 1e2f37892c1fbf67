"""Two texts that say the same, two that only look alike, and quotes that were said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.wording import folded, gist, overlap, same_text, says_the_same, stands_in


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("I live in Berlin", "Well, I live in Berlin."),
        ("i LIVE   in berlin.", "Well, I live in Berlin"),
        ("“I’m Ana”", "I'm Ana"),
        ("2020–2024", "from 2020-2024"),
        ("yes", "Yes!"),
        ("我住在柏林", "我住在柏林,很好"),
        ("nut", "no nut please"),
    ],
)
def test_a_quote_stands_in_its_text_however_it_is_set(quote: str, text: str) -> None:
    assert stands_in(quote, text)


@pytest.mark.parametrize(
    ("quote", "text"),
    [
        ("I live in Rome", "I live in Berlin"),
        ("i", "Berlin"),
        ("nut", "minutes"),
        ("...", "Well..."),
        ("", "anything"),
    ],
)
def test_what_was_not_said_is_no_quote(quote: str, text: str) -> None:
    assert not stands_in(quote, text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("User is 25", "User is 26"),
        ("User has two cats", "User has three cats"),
        ("User likes tea", "User does not like tea"),
        ("User likes tea", "User doesn't like tea"),
        ("User likes tea", "User dislikes tea"),
        ("User likes tea", "User likes coffee"),
        ("User lives in Berlin", "User lived in Berlin"),
        ("User is a nurse", "User's sister is a nurse"),
        ("User has a dog named Rex", "User has a dog named Max"),
        ("User wants to learn Spanish", "User learned Spanish"),
        ("User meets Anna on 2026-05-22", "User meets Anna on 2026-05-29"),
        ("User meets Anna on Monday", "User meets Anna on Tuesday"),
        ("User is vegan", "User is no longer vegan"),
        ("User might move to Rome", "User will move to Rome"),
        ("用户住在柏林", "用户住在巴黎"),
        ("User works at IBM", "User works at SAP"),
    ],
)
def test_facts_that_differ_in_something_telling_never_merge(one: str, other: str) -> None:
    for cosine in (None, 0.97, 1.0):
        assert not says_the_same(one, other, cosine)
        assert not says_the_same(other, one, cosine)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("User lives in Berlin", "The user lives in Berlin."),
        ("User lives in Berlin", "User resides in Berlin"),
        ("User likes hiking", "User loves hiking"),
        ("User has a dog", "The user has the dog"),
    ],
)
def test_the_same_words_are_the_same_fact_without_vectors(one: str, other: str) -> None:
    assert says_the_same(one, other, None)


def test_vectors_allow_another_order_and_a_little_more_said() -> None:
    one, other = "User likes hiking in the mountains", "User enjoys mountain hiking"
    assert says_the_same(one, other, 0.95)
    assert not says_the_same(one, other, 0.7)
    assert not says_the_same(one, other, None)
    fuller = "User works as a night nurse at the Charité hospital in Mitte"
    assert says_the_same(fuller, "User works as a nurse at the Charité hospital in Mitte", 0.96)
    assert not says_the_same("User likes green tea", "User likes tea", 0.96)


def test_the_share_of_common_words_is_counted_without_filler() -> None:
    assert overlap("User likes tea", "The user likes tea") == 1.0
    assert overlap("User likes tea", "User owns cars") == 0.0
    assert overlap("", "User") == 0.0


@given(st.text(max_size=80))
def test_every_text_says_the_same_as_itself(text: str) -> None:
    assert same_text(text, text)
    assert says_the_same(text, text, None)
    assert folded(folded(text)) == folded(text)
    gist(text)


@given(st.text(min_size=1, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_saying_the_same_is_mutual(a: str, b: str, c: str) -> None:
    for cosine in (None, 0.95):
        assert says_the_same(a + b, a + c, cosine) == says_the_same(a + c, a + b, cosine)
