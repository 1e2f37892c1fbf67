"""What is injected: claims on the budget, order, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.choice import TAIL_SHARE, Budget, Choice, Offer, choose
from gateway.core.excerpt import Ref, read_ref
from gateway.core.injection import line, render
from gateway.core.memory import Memory
from gateway.core.scored import Scored
from gateway.core.tokens import estimate_tokens, line_tokens
from tests.core.recall_memories import candidate, fact, turn

AMPLE = Budget(tokens=5000, memories=100, standing=20)
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty")


def ranked(*memories: Memory, scores: Sequence[float] = ()) -> list[Scored]:
    values = scores or [1.0 - 0.01 * i for i in range(len(memories))]
    return [candidate(m, s, {"lexical": s}) for m, s in zip(memories, values, strict=True)]


def ids(choice: Choice) -> list[str]:
    return [m.id for m in choice.memories]


def said(n: int, **more: object) -> list[Memory]:
    """Turns that have nothing in common."""
    return [
        turn(f"t{i}", f"{WORDS[i % 10]} {i} {'x' * (i % 7)}", days_ago=50 - i) for i in range(n)
    ]


def test_nothing_offered_is_nothing_chosen() -> None:
    assert choose(Offer("?"), AMPLE) == Choice()


def test_standing_memories_come_before_facts_and_facts_before_turns() -> None:
    offer = Offer(
        "?",
        standing=[
            fact("p", "likes tea", type="preference"),
            fact("q", "is a nurse", type="profile"),
        ],
        ranked=ranked(turn("t", "we went sailing"), fact("f", "sailed to Malta")),
    )
    assert ids(choose(offer, AMPLE)) == ["p", "q", "f", "t"]


def test_a_turn_that_says_nothing_takes_no_place_but_code_alone_may_be_what_is_asked_for() -> None:
    okay, code = turn("ok", "Okay, thanks."), turn("code", "```py\nprint(1)\n```")
    choice = choose(Offer("?", ranked=ranked(okay, code)), AMPLE)
    assert ids(choice) == ["code"]
    assert choice.left_out == {"ok": "weak"}


def test_a_question_that_counts_or_lists_is_given_weaker_ones_too() -> None:
    scarf, drill = turn("scarf", "I bought a scarf"), turn("drill", "Dad got his drill")
    best_first = ranked(scarf, drill, scores=(1.0, 0.45))
    for question, many in (("What did I buy?", 1), ("How many gifts did I buy?", 2)):
        assert len(choose(Offer(question, ranked=best_first), AMPLE).memories) == many


def test_within_a_group_memories_stand_in_the_order_of_their_times() -> None:
    late, early = turn("late", "we sold it", days_ago=1), turn("early", "we bought it", days_ago=9)
    assert ids(choose(Offer("?", ranked=ranked(late, early)), AMPLE)) == ["early", "late"]


def test_the_same_memories_give_the_same_bytes_whatever_their_scores() -> None:
    memories = said(5)
    one = choose(Offer("?", ranked=ranked(*memories)), AMPLE)
    other = choose(Offer("?", ranked=ranked(*reversed(memories))), AMPLE)
    assert render(one.memories) == render(other.memories)


def test_what_is_off_topic_leaves_only_what_always_counts() -> None:
    offer = Offer(
        "?",
        standing=[fact("p", "likes tea", type="preference")],
        ranked=ranked(turn("t", "we went sailing")),
        relevant=False,
    )
    choice = choose(offer, AMPLE)
    assert ids(choice) == ["p"]
    assert choice.left_out == {"t": "off_topic"}


def test_standing_memories_are_capped_in_number_and_share() -> None:
    standing = [fact(f"p{i}", f"likes {w} tea", type="preference") for i, w in enumerate(WORDS)]
    assert len(choose(Offer("?", standing=standing), replace(AMPLE, standing=5)).memories) == 5
    small = choose(Offer("?", standing=standing), replace(AMPLE, tokens=100))
    assert 0 < small.tokens <= 50


def test_the_budget_holds_for_the_block_as_it_is_rendered() -> None:
    frame = estimate_tokens(render(said(1))) - estimate_tokens(render(said(1)).split("\n")[2]) + 1
    budget = Budget(tokens=300, memories=100, standing=20, overhead=frame)
    choice = choose(Offer("?", ranked=ranked(*said(40))), budget)
    assert estimate_tokens(render(choice.memories)) <= choice.tokens <= 300
    assert "budget" in choice.left_out.values()


def test_each_memory_comes_with_the_line_that_its_tokens_were_counted_of() -> None:
    long = turn("long", "Monday was wet. " * 40)
    standing = [fact("p", "likes tea", type="preference")]
    choice = choose(Offer("monday?", standing=standing, ranked=ranked(*said(5), long)), AMPLE)
    assert list(choice.lines) == [line(memory) for memory in choice.memories]
    assert choice.tokens == sum(line_tokens(shown) for shown in choice.lines)


def test_the_line_of_what_is_offered_often_is_noted_on_it() -> None:
    waiting, found = said(2)
    first = choose(Offer("?", just_said=[waiting], ranked=ranked(found)), AMPLE)
    assert waiting.note == (line(waiting), line_tokens(line(waiting)))
    assert not hasattr(found, "note")  # each search may bring another object
    assert choose(Offer("?", just_said=[waiting], ranked=ranked(found)), AMPLE) == first


def test_no_more_memories_than_allowed() -> None:
    assert (
        len(choose(Offer("?", ranked=ranked(*said(9))), replace(AMPLE, memories=4)).memories) == 4
    )


def test_a_memory_that_is_far_weaker_than_the_best_is_left_out() -> None:
    a, b = said(2)
    choice = choose(Offer("?", ranked=ranked(a, b, scores=[2.0, 0.3])), AMPLE)
    assert ids(choice) == ["t0"]
    assert choice.left_out == {"t1": "weak"}


def test_near_duplicates_are_injected_once() -> None:
    texts = ["I have moved to Lisbon with my two cats", "I have moved to Lisbon with my two cats!"]
    offer = Offer("?", ranked=ranked(*[turn(str(i), text) for i, text in enumerate(texts)]))
    choice = choose(offer, AMPLE)
    assert ids(choice) == ["0"]
    assert choice.left_out == {"1": "duplicate"}


def test_what_is_repeated_by_a_better_one_is_left_out() -> None:
    a, b = said(2)
    offer = Offer("?", ranked=[candidate(a, 2.0, {}), candidate(b, 1.9, {"repeated": -2.0})])
    assert choose(offer, AMPLE).left_out == {"t1": "repeated"}


# --- what the request still contains -----------------------------------------------------------


def test_a_turn_that_the_request_contains_is_not_injected_again() -> None:
    memory = turn("t", "My dog  Rex loves the beach.")
    offer = Offer("?", ranked=ranked(memory), present=["hello", "my dog Rex loves the beach."])
    assert choose(offer, AMPLE).left_out == {"t": "present"}


def test_a_fact_whose_words_the_request_contains_is_not_injected_again() -> None:
    memory = fact("f", "The dog is called Rex", quote="my dog Rex loves it")
    there = Offer("?", ranked=ranked(memory), present=["You know, my dog Rex loves it there"])
    elsewhere = Offer("?", ranked=ranked(memory), present=["What is my dog called?"])
    assert ids(choose(there, AMPLE)) == []
    assert ids(choose(elsewhere, AMPLE)) == ["f"]


def test_a_written_fact_that_the_request_contains_in_whole_words_is_not_injected_again() -> None:
    memory = fact("f", "Has a cat called Tom.", type="profile")
    for said, left in (
        ("I know: has a cat called  tom, sleeps", []),
        ("has a cat called Tommy", ["f"]),
    ):
        assert ids(choose(Offer("?", standing=[memory], present=[said]), AMPLE)) == left


def test_a_few_letters_are_present_only_as_a_whole_message() -> None:
    memory = turn("t", "yes")
    assert ids(choose(Offer("?", ranked=ranked(memory), present=["yes"]), AMPLE)) == []
    assert ids(choose(Offer("?", ranked=ranked(memory), present=["yesterday"]), AMPLE)) == ["t"]


def test_the_answer_that_the_same_words_had_before_is_not_injected() -> None:
    answer, other = turn("t", "Rex loves the beach."), turn("o", "Rex was ill in May.")
    learnt = fact("f", "The dog is called Rex", quote="my dog Rex")
    of_it = [replace(m, source=replace(m.source, exchange_id="exc_1")) for m in (answer, learnt)]
    offer = Offer("?", ranked=ranked(*of_it, other), exchange="exc_1")
    assert choose(offer, AMPLE).left_out == {"t": "present"}
    assert ids(choose(replace(offer, exchange=""), AMPLE)) == ["f", "o", "t"]


# --- a conversation's block ----------------------------------------------------------------------


def held(choice: Choice, memories: Sequence[Memory]) -> list[tuple[Ref, Memory]]:
    by_id = {m.id: m for m in memories}
    return [(ref := read_ref(text), by_id[ref.id]) for text in choice.refs]


def test_new_memories_go_after_the_old_ones() -> None:
    memories = said(6)
    first = choose(Offer("?", ranked=ranked(*memories[3:])), AMPLE)
    second = choose(Offer("?", sticky=held(first, memories), ranked=ranked(*memories[:3])), AMPLE)
    assert ids(second) == ["t3", "t4", "t5", "t0", "t1", "t2"]
    old, new = (render(c.memories).rsplit("\n", 1)[0] for c in (first, second))
    assert new.startswith(old)


def test_a_passage_stays_the_same_when_another_question_is_asked() -> None:
    text = "Monday was wet. " * 20 + "The dentist called. " + "Friday was dry. " * 20
    memory = turn("long", text)
    first = choose(Offer("dentist?", ranked=ranked(memory)), AMPLE)
    second = choose(Offer("friday?", sticky=held(first, [memory]), ranked=ranked(memory)), AMPLE)
    assert "dentist" in first.memories[0].text
    assert second.memories == first.memories


@pytest.mark.parametrize(
    "now", ["The dentist moved.", "Sunday was warm. " * 60 + "The dentist moved."]
)
def test_a_passage_of_what_was_corrected_since_is_taken_from_what_it_says_now(now: str) -> None:
    text = "Monday was wet. " * 20 + "The dentist called. " + "Friday was dry. " * 20
    memory = turn("long", text)
    first = choose(Offer("dentist?", ranked=ranked(memory)), AMPLE)
    corrected = replace(memory, text=now)
    second = choose(Offer("dentist?", sticky=held(first, [corrected])), AMPLE)
    assert "The dentist moved." in second.memories[0].text


def test_a_block_that_is_full_is_made_anew_with_room_to_grow() -> None:
    memories = said(60)
    budget = Budget(tokens=400, memories=100, standing=20)
    first = choose(Offer("?", ranked=ranked(*memories[:30])), budget)
    assert first.tokens > 350
    second = choose(
        Offer("?", sticky=held(first, memories), ranked=ranked(*memories[30:31])), budget
    )
    assert ids(second)[-1] == "t30"
    assert second.tokens < 0.8 * budget.tokens
    kept = [id for id in ids(first) if id in ids(second)]
    assert ids(second) == [*kept, "t30"]
    third = choose(
        Offer("?", sticky=held(second, memories), ranked=ranked(*memories[31:32])), budget
    )
    assert ids(third) == [*ids(second), "t31"]


def test_what_suits_the_question_least_goes_first_from_a_full_block() -> None:
    memories = said(40)
    budget = Budget(tokens=300, memories=100, standing=20)
    first = choose(Offer("?", ranked=ranked(*memories[:20])), budget)
    wanted = first.memories[0]
    again = ranked(memories[30], wanted)
    second = choose(Offer("?", sticky=held(first, memories), ranked=again), budget)
    assert wanted.id in ids(second)


def test_a_smaller_budget_for_one_request_keeps_what_fits() -> None:
    memories = said(20)
    first = choose(Offer("?", ranked=ranked(*memories)), Budget(400, 100, 20))
    less = choose(Offer("?", sticky=held(first, memories)), Budget(100, 100, 20))
    assert 0 < less.tokens <= 100
    assert set(ids(less)) < set(ids(first))


def test_an_off_topic_question_leaves_the_block_as_it_is() -> None:
    memories = said(8)
    first = choose(Offer("?", ranked=ranked(*memories[:4])), AMPLE)
    second = choose(
        Offer("?", sticky=held(first, memories), ranked=ranked(*memories[4:]), relevant=False),
        AMPLE,
    )
    assert second.refs == first.refs


# --- at the end of the prompt ---------------------------------------------------------------------


AT_TAIL = Budget(tokens=1000, memories=100, standing=20, overhead=40, tail_frame=40)


def test_what_each_request_pays_for_anew_has_a_share_of_the_budget() -> None:
    standing = [fact(f"p{i}", f"likes {w} tea", type="profile") for i, w in enumerate(WORDS)]
    choice = choose(Offer("?", standing=standing, ranked=ranked(*said(60))), AT_TAIL)
    always = [m for m in choice.memories if m.type == "profile"]
    rest = [m for m in choice.memories if m.type != "profile"]
    assert len(always) == len(standing)
    assert len(rest) > 5
    assert estimate_tokens(render(rest, header="")) <= TAIL_SHARE * 1000


def test_at_the_tail_what_was_shown_stays_while_there_is_room() -> None:
    memories = said(6)
    first = choose(Offer("?", ranked=ranked(*memories[3:])), AT_TAIL)
    second = choose(Offer("?", sticky=held(first, memories), ranked=ranked(*memories[:3])), AT_TAIL)
    assert ids(second) == ["t3", "t4", "t5", "t0", "t1", "t2"]


def test_at_the_tail_what_suits_the_question_better_takes_the_place_of_what_suits_it_less() -> None:
    memories = said(60)
    first = choose(Offer("?", ranked=ranked(*memories[:30])), AT_TAIL)
    asked_again, *less = first.memories
    again = ranked(asked_again, *memories[30:40], scores=[1.2, *[1.0] * 10])
    second = choose(Offer("?", sticky=held(first, memories), ranked=again), AT_TAIL)
    new = [id for id in ids(second) if id not in ids(first)]
    assert asked_again.id in ids(second)
    assert len(new) > 3
    assert ids(second) == [*[id for id in ids(first) if id in ids(second)], *new]
    assert second.left_out[less[0].id] == "budget"


def test_at_the_tail_nothing_goes_for_what_suits_the_question_no_better() -> None:
    memories = said(60)
    first = choose(Offer("?", ranked=ranked(*memories[:30])), AT_TAIL)
    again = ranked(*first.memories, memories[40], scores=[*[1.0] * len(first.memories), 0.9])
    second = choose(Offer("?", sticky=held(first, memories), ranked=again), AT_TAIL)
    assert second.refs == first.refs


@given(
    sticky=st.integers(0, 20),
    new=st.integers(0, 20),
    tail_frame=st.none() | st.integers(0, 50),
    tokens=st.integers(0, 500),
    count=st.integers(0, 30),
)
def test_no_bound_is_ever_passed(
    sticky: int, new: int, tail_frame: int | None, tokens: int, count: int
) -> None:
    memories = said(40)
    offer = Offer(
        "?",
        sticky=[(Ref(m.id), m) for m in memories[:sticky]],
        standing=[replace(m, pinned=True) for m in memories[35:]],
        just_said=memories[30:35],
        ranked=ranked(*memories[sticky : sticky + new]),
    )
    choice = choose(offer, Budget(tokens, count, 3, overhead=20, tail_frame=tail_frame))
    assert choice.tokens <= tokens
    assert len(choice.memories) <= count
    assert len(set(choice.refs)) == len(choice.refs) == len(choice.memories)
    assert not {m.id for m in choice.memories} & set(choice.left_out)


@pytest.mark.parametrize("size", [1_000_000])
def test_memories_of_a_megabyte_are_bounded(size: int) -> None:
    memory = turn("big", "word " * (size // 5))
    choice = choose(Offer("word?", ranked=ranked(memory), present=["x" * size]), AMPLE)
    assert len(choice.memories[0].text) < 1000
