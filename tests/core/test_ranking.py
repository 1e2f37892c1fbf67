"""Scoring: what moves a memory up or down, one signal at a time."""

from __future__ import annotations

import time
import timeit
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.memory import ListName, parse_rfc3339
from gateway.core.ranking import (
    DEFAULT_WEIGHTS,
    LONG_CHARS,
    Asked,
    rank,
    reranked,
)
from gateway.core.scored import Scored
from tests.core.recall_memories import DAY_S, NOW, fact, found, turn


def order(scored: list[Scored]) -> list[str]:
    return [s.memory.id for s in scored]


def test_nothing_found_is_nothing_ranked() -> None:
    assert rank(Asked("anything?"), found([]), now=NOW) == []


def test_lists_are_scaled_over_the_candidates_so_that_their_units_do_not_matter() -> None:
    memories = [turn("a", "one"), turn("b", "two"), turn("c", "three")]
    small = found(memories, {"lexical": {"a": 0.3, "b": 0.2, "c": 0.1}})
    large = found(memories, {"lexical": {"a": 30.0, "b": 20.0, "c": 10.0}})
    one, other = (rank(Asked("one?"), f, now=NOW) for f in (small, large))
    assert order(one) == order(other) == ["a", "b", "c"]
    assert [s.score for s in one] == pytest.approx([s.score for s in other])


def test_the_last_of_two_counts_and_the_last_of_many_does_not() -> None:
    for count, last in ((2, 0.6), (30, 0.0)):
        memories = [turn(f"{i:02}", f"word {i}") for i in range(count)]
        scores = {m.id: 3.0 - i / (count - 1) for i, m in enumerate(memories)}
        scored = rank(Asked("?"), found(memories, {"lexical": scores}), now=NOW)
        assert scored[-1].why["lexical"] >= last
        assert (scored[-1].why["lexical"] > 0.0) == (last > 0.0)


def test_a_memory_that_several_lists_name_beats_the_best_of_one() -> None:
    memories = [turn("words", "x"), turn("both", "y"), turn("vector", "z"), turn("last", "w")]
    lists: dict[ListName, dict[str, float]] = {
        "lexical": {"words": 9.0, "both": 8.0, "last": 1.0},
        "dense": {"vector": 0.8, "both": 0.75, "last": 0.1},
    }
    assert order(rank(Asked("?"), found(memories, lists), now=NOW))[0] == "both"


def test_windows_of_long_messages_count_nothing() -> None:
    long = "word " * LONG_CHARS
    memories = [turn("own", long), turn("window", long), turn("last", long)]
    lists: dict[ListName, dict[str, float]] = {
        "lexical": {"own": 5.0, "window": 4.5, "last": 1.0},
        "lexical_window": {"window": 50.0, "own": 1.0},
    }
    assert order(rank(Asked("?"), found(memories, lists), now=NOW))[0] == "own"
    chat = [replace(m, text="short") for m in memories]
    assert order(rank(Asked("?"), found(chat, lists), now=NOW))[0] == "window"


def test_the_words_of_a_short_message_count_more_than_those_of_the_turn_before_it() -> None:
    memories = [turn("before", "the cello lesson on Tuesday"), turn("own", "my dog is fine")]
    lists: dict[ListName, dict[str, float]] = {"lexical": {"before": 4.0, "own": 2.0}}
    asked = Asked("And my dog?\nYour cello lesson is on Tuesday.", focus="And my dog?")
    assert order(rank(asked, found(memories, lists), now=NOW)) == ["own", "before"]


def test_the_turns_of_whom_the_question_names_come_first() -> None:
    memories = [turn("a", "a cat", speaker="Maria"), turn("b", "a cat", speaker="Tim Cole")]
    assert order(rank(Asked("What pet does Tim have?"), found(memories), now=NOW)) == ["b", "a"]
    assert order(rank(Asked("What pet does Maria's son have?"), found(memories), now=NOW)) == [
        "a",
        "b",
    ]


def test_where_turns_have_roles_alone_the_users_own_words_come_first() -> None:
    memories = [turn("a", "a cat", role="assistant"), turn("b", "a cat", role="user")]
    assert order(rank(Asked("What pet do I have?"), found(memories), now=NOW)) == ["b", "a"]


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("Which route did you recommend?", "assistant"),
        ("What was your advice about the route?", "assistant"),
        ("Which route would you recommend?", "user"),
        ("Which route do I take?", "user"),
    ],
)
def test_the_assistants_words_come_first_where_they_are_asked_for(
    question: str, first: str
) -> None:
    memories = [turn(role, "the coast route", role=role) for role in ("assistant", "user")]
    assert order(rank(Asked(question), found(memories), now=NOW))[0] == first


def test_a_client_that_names_its_one_user_changes_nothing() -> None:
    memories = [turn("a", "a cat", role="assistant"), turn("b", "a cat", speaker="ana_7")]
    assert order(rank(Asked("What pet do I have?"), found(memories), now=NOW)) == ["b", "a"]


def test_a_date_in_the_question_lifts_what_was_said_then() -> None:
    may = parse_rfc3339("2025-05-07T18:00:00Z")
    memories = [turn("a", "we ate out"), replace(turn("b", "we ate out"), created_at=may)]
    ranked = rank(Asked("Where did we eat on 7 May 2025?"), found(memories), now=NOW)
    assert order(ranked) == ["b", "a"]
    assert ranked[0].why["date"] > 0
    assert "date" not in ranked[1].why


def test_a_facts_own_date_counts_as_well_as_when_it_was_told() -> None:
    trip = parse_rfc3339("2025-08-10T00:00:00Z")
    memories = [fact("a", "went to Rome"), fact("b", "went to Rome", valid_from=trip)]
    ranked = rank(Asked("Where did I go in August 2025?"), found(memories), now=NOW)
    assert order(ranked) == ["b", "a"]


def test_a_turn_that_only_asks_counts_less() -> None:
    memories = [turn("a", "Did you like the film?"), turn("b", "I liked the film")]
    assert order(rank(Asked("What film?"), found(memories), now=NOW)) == ["b", "a"]


def test_the_one_session_of_all_that_is_found_tells_none_from_another() -> None:
    of_one = [turn("x", "tea", session="s"), turn("y", "coffee", session="s")]
    elsewhere = turn("z", "tea too", session="other")
    assert not any(s.why.get("session") for s in rank(Asked("tea"), found(of_one), now=NOW))
    both = rank(Asked("tea"), found([*of_one, elsewhere]), now=NOW)
    assert all(s.why["session"] for s in both)


def test_a_session_where_more_matches_lifts_its_turns() -> None:
    memories = [
        turn("alone", "tea", session="s1"),
        turn("x", "tea", session="s2"),
        turn("y", "tea", session="s2"),
    ]
    ranked = rank(Asked("tea?"), found(memories), now=NOW)
    assert order(ranked) == ["x", "y", "alone"]
    assert ranked[0].why["session"] > ranked[2].why["session"]


def test_a_fact_and_the_turn_it_was_drawn_from_lift_each_other() -> None:
    memories = [
        turn("t", "it is called Rex"),
        turn("u", "it is called Max"),
        fact("f", "The dog is called Rex", covers=("t",)),
    ]
    lists: dict[ListName, dict[str, float]] = {"lexical": {"f": 9.0, "t": 3.0, "u": 3.0, "z": 1.0}}
    ranked = {s.memory.id: s for s in rank(Asked("dog?"), found(memories, lists), now=NOW)}
    assert ranked["t"].why["links"] > 0
    assert ranked["f"].why["links"] > 0
    assert "links" not in ranked["u"].why


def test_what_others_before_it_have_told_makes_room() -> None:
    memories = [
        turn("t", "it is called Rex"),
        turn("other", "the dog eats fish"),
        fact("f", "The dog is called Rex", covers=("t",)),
    ]
    lists: dict[ListName, dict[str, float]] = {"lexical": {"f": 9.0, "t": 8.0, "other": 1.0}}
    ranked = rank(Asked("dog?"), found(memories, lists), now=NOW)
    assert order(ranked) == ["f", "other", "t"]
    assert ranked[2].why["repeated"] < 0


def test_of_equal_memories_the_newer_and_the_more_important_come_first() -> None:
    memories = [turn("old", "tea", days_ago=300), turn("new", "tea", days_ago=1)]
    assert order(rank(Asked("tea?"), found(memories), now=NOW)) == ["new", "old"]
    facts = [fact("minor", "tea", importance=0.2), fact("major", "tea", importance=0.9)]
    assert order(rank(Asked("tea?"), found(facts), now=NOW)) == ["major", "minor"]


def test_recency_fades_by_type() -> None:
    task = rank(Asked("?"), found([fact("a", "x", type="task_state", days_ago=60)]), now=NOW)
    profile = rank(Asked("?"), found([fact("a", "x", type="profile", days_ago=60)]), now=NOW)
    assert task[0].why["recency"] < 0.1 * profile[0].why["recency"]


def test_a_task_that_is_over_counts_less_and_an_event_that_is_over_does_not() -> None:
    ended = NOW - DAY_S
    task = fact("a", "x", type="task_state", valid_to=ended)
    event = fact("b", "x", type="interaction", valid_to=ended)
    ranked = {s.memory.id: s for s in rank(Asked("?"), found([task, event]), now=NOW)}
    assert ranked["a"].why["past"] < 0
    assert "past" not in ranked["b"].why


def test_a_superseded_memory_is_ranked_only_where_the_past_is_asked_for() -> None:
    memories = [fact("now", "lives in Rome"), fact("then", "lives in Oslo", status="superseded")]
    assert order(rank(Asked("where?"), found(memories), now=NOW)) == ["now"]
    past = Asked("where?", as_of=NOW - 30 * DAY_S)
    assert set(order(rank(past, found(memories), now=NOW))) == {"now", "then"}


def test_what_merely_always_counts_is_not_ranked() -> None:
    memories = [fact("standing", "likes tea", type="preference"), fact("hit", "drank tea")]
    lists: dict[ListName, dict[str, float]] = {"lexical": {"hit": 1.0}, "standing": {"standing": 1}}
    assert order(rank(Asked("tea?"), found(memories, lists), now=NOW)) == ["hit"]


def test_the_reasons_add_up_to_the_score() -> None:
    memories = [
        turn("t", "Tea?", session="s", speaker="Tim"),
        fact("f", "Tim drinks tea", covers=("t",), session="s"),
        turn("u", "no coffee", session="s", speaker="Ann"),
    ]
    lists: dict[ListName, dict[str, float]] = {
        "lexical": {"t": 3.0, "f": 2.0},
        "dense": {"u": 0.4, "f": 0.2},
        "lexical_window": {"u": 2.0, "t": 1.0},
    }
    for scored in rank(Asked("What does Tim drink in May?"), found(memories, lists), now=NOW):
        assert scored.score == pytest.approx(sum(scored.why.values()))


@given(st.randoms(use_true_random=False))
def test_the_same_findings_rank_the_same_in_whatever_order_they_come(random: Random) -> None:
    memories = [
        turn(str(i), random.choice(["tea", "tea?"]), session=random.choice("ab")) for i in range(12)
    ]
    lists: dict[ListName, dict[str, float]] = {
        "lexical": {m.id: random.choice([1.0, 2.0, 3.0]) for m in memories}
    }
    one = rank(Asked("tea"), found(memories, lists), now=NOW)
    other = rank(Asked("tea"), found(random.sample(memories, 12), lists), now=NOW)
    assert order(one) == order(other)


def test_times_in_the_far_past_and_future_are_no_trouble() -> None:
    memories = [
        replace(turn("a", "tea"), created_at=-6.2e10),
        replace(turn("b", "tea"), created_at=2.5e11),
    ]
    assert len(rank(Asked("tea in May?", as_of=2.5e11), found(memories), now=NOW)) == 2


def test_a_hundred_and_fifty_candidates_are_scored_in_well_under_a_millisecond() -> None:
    random = Random(5)
    memories = [
        turn(f"m{i}", "some words that were said", session=f"s{i % 20}", days_ago=i)
        for i in range(150)
    ]
    names: tuple[ListName, ...] = ("dense", "dense_window", "lexical", "lexical_window")
    findings = found(memories, {n: {m.id: random.random() for m in memories[:100]} for n in names})
    asked = Asked("What was said about the words?")
    # The thread's own time: others may be busy on the machine. 0.35 ms on an idle core.
    timer = timeit.Timer(lambda: rank(asked, findings, now=NOW), timer=time.thread_time)
    took = min(timer.repeat(number=10, repeat=10)) / 10
    assert took < 0.002, f"{took * 1000:.2f} ms"


def test_weights_are_data() -> None:
    memories = [turn("old", "tea", days_ago=400), turn("new", "tea", days_ago=1)]
    lists: dict[ListName, dict[str, float]] = {"lexical": {"old": 2.0, "new": 1.0}}
    assert order(rank(Asked("tea"), found(memories, lists), now=NOW))[0] == "old"
    fresh = replace(DEFAULT_WEIGHTS, recency=10.0)
    assert order(rank(Asked("tea"), found(memories, lists), now=NOW, weights=fresh))[0] == "new"


def test_a_cross_encoder_moves_what_it_read_and_nothing_else() -> None:
    memories = [turn("a", "x"), turn("b", "y"), turn("c", "z")]
    lists: dict[ListName, dict[str, float]] = {"lexical": {"a": 3.0, "b": 2.0, "c": 1.0}}
    ranked = rank(Asked("?"), found(memories, lists), now=NOW)
    again = reranked(ranked, [-4.0, 9.0])
    assert order(again) == ["b", "a", "c"]
    assert again[0].why["rerank"] > 0
    assert again[2] == ranked[2]
    assert reranked(ranked, []) == ranked
    assert order(reranked(ranked, [1.0, 1.0, 1.0])) == order(ranked)
