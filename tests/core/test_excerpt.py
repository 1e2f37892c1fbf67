"""Passages of long memories."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.excerpt import (
    BRIEF_TURN,
    PINNED,
    TURN,
    Ref,
    as_injected,
    passage,
    read_ref,
)
from gateway.core.words import terms
from tests.core.recall_memories import fact, turn

FILLER = "Nothing of note happened on that day at all. "
LONG = FILLER * 20 + "The dentist moved my appointment to Thursday at nine. " + FILLER * 20


def shown(text: str, question: str, *, brief: bool = False) -> str:
    memory = turn("m", text)
    return as_injected(memory, passage(memory, terms(question), brief=brief)).text


def test_a_short_memory_is_shown_whole() -> None:
    assert shown("I like tea.", "tea?") == "I like tea."
    assert passage(turn("m", "I like tea."), ("tea",)) == Ref("m")


def test_of_a_long_one_the_matching_passage_is_shown_with_its_surroundings() -> None:
    text = shown(LONG, "When is my dentist appointment?")
    assert "The dentist moved my appointment to Thursday at nine." in text
    assert text.startswith("… Nothing")
    assert text.endswith(" …")
    assert len(text) <= TURN.passage + 4


def test_a_brief_passage_still_holds_the_match() -> None:
    text = shown(LONG, "When is my dentist appointment?", brief=True)
    assert "dentist" in text
    assert len(text) <= BRIEF_TURN.passage + 4


def test_words_that_stand_together_beat_the_same_words_apart() -> None:
    text = "A dentist called. " + FILLER * 10 + "An appointment was made. " + FILLER * 10
    text += "The dentist gave me an appointment. " + FILLER * 10
    assert "The dentist gave me an appointment." in shown(text, "dentist appointment")


def test_a_word_longer_than_a_passage_is_shown_by_its_beginning() -> None:
    key = "z" * 2000
    text = shown(FILLER * 20 + f"Now {key} is the key. " + FILLER * 20, f"{key}?")
    assert key[:100] in text
    assert len(text) <= TURN.passage + 4


def test_without_a_match_the_beginning_is_shown() -> None:
    assert shown("First words. " + FILLER * 30, "zebra?").startswith("First words.")


def test_facts_and_pinned_memories_are_given_more_room() -> None:
    text = "x" * (TURN.whole + 1)
    assert passage(fact("f", text), ()) == Ref("f")
    pinned = turn("p", "x" * PINNED.whole, pinned=True)
    assert passage(pinned, ()) == Ref("p")


def test_a_text_without_spaces_or_sentences_is_cut_anyway() -> None:
    assert len(shown("x" * 5000, "y")) <= TURN.passage + 4
    assert "犬" in shown("猫" * 3000 + "犬" + "猫" * 3000, "犬")


def test_a_megabyte_costs_milliseconds() -> None:
    memory = turn("m", (FILLER + "dentist ") * 20_000)
    began = time.thread_time()  # its own time: others may be busy on the machine
    passage(memory, terms("When is my dentist appointment?"))
    assert time.thread_time() - began < 0.1


@given(st.text(max_size=3000), st.text(max_size=50))
def test_a_passage_is_a_piece_of_the_text(text: str, question: str) -> None:
    memory = turn("m", text)
    ref = passage(memory, terms(question))
    if ref.start is not None and ref.end is not None:
        assert 0 <= ref.start <= ref.end <= len(text)
        assert ref.end - ref.start <= TURN.passage


# --- refs ------------------------------------------------------------------------------------


def test_the_same_ref_gives_the_same_words_whatever_is_asked() -> None:
    memory = turn("m", LONG)
    ref = passage(memory, terms("dentist appointment"))
    assert as_injected(memory, read_ref(str(ref))) == as_injected(memory, ref)


@given(st.text(min_size=1, max_size=20))
def test_a_ref_survives_being_written_down(id: str) -> None:
    assert read_ref(str(Ref(id))).id == id
    assert read_ref(str(Ref(id, 3, 7))) == Ref(id, 3, 7)
    assert read_ref(str(Ref(id, 3, 7, 100))) == Ref(id, 3, 7, 100)


@pytest.mark.parametrize("id", ["a@1-2", "@", "a@b", "1-2", "a@1-2@3-4", "a@1-2/3"])
def test_an_id_that_looks_like_a_place_stays_an_id(id: str) -> None:
    assert read_ref(str(Ref(id))) == Ref(id)


def test_a_place_beyond_a_text_that_was_corrected_meanwhile_is_no_trouble() -> None:
    memory = replace(turn("m", LONG), text="short now")
    assert as_injected(memory, Ref("m", 900, 1100)).text in ("", "… ")
