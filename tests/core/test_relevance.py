"""The floor: is what was found about the question at all?"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gateway.core.memory import Memory
from gateway.core.ranking import Asked, rank
from gateway.core.relevance import (
    MINILM,
    PROBES,
    Scale,
    known_scale,
    relevance,
    scale_of,
    signs,
)
from tests.core.recall_memories import NOW, fact, found, turn

FLOOR = 0.35
"""The default of `memory.floor`."""


def chance(
    question: str,
    memories: Sequence[Memory],
    *,
    nearest: float | None = None,
    scale: Scale = MINILM,
) -> float:
    lists = {"lexical": {m.id: 1.0 for m in memories}}
    if nearest is not None:
        lists["dense"] = {m.id: nearest for m in memories}
    findings = found(memories, lists)  # type: ignore[arg-type]
    ranked = rank(Asked(question), findings, now=NOW)
    return relevance(question, findings, ranked, scale=scale)


def test_nothing_found_is_not_relevant() -> None:
    assert chance("What is my dog called?", []) == 0.0


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is my dog called?", "My dog Rex loves the beach"),
        ("Do you remember where I parked the car?", "I parked the car on level 3"),
        ("Wie heißt mein Hund?", "Mein Hund heißt Rex"),
        ("¿Cómo se llama mi perro?", "Mi perro se llama Toby"),
        ("Comment s'appelle mon chien ?", "Mon chien s'appelle Rex"),
        ("Как зовут мою собаку?", "Мою собаку зовут Рекс"),
        ("我的狗叫什么名字", "我的狗叫豆豆"),
        ("犬の名前は何ですか", "犬の名前はポチです"),
        ("강아지 이름이 뭐야", "우리 강아지 이름은 초코"),
    ],
)
def test_a_memory_that_holds_the_questions_words_is_relevant(question: str, text: str) -> None:
    assert chance(question, [turn("a", text)]) >= FLOOR


@pytest.mark.parametrize(
    "question",
    ["What is the capital of Mongolia?", "Write a haiku about autumn leaves", "hi", "🙂", ""],
)
def test_what_shares_no_word_with_the_question_is_not(question: str) -> None:
    memories = [turn("a", "My dog Rex loves the beach"), fact("b", "Plays the cello on Tuesdays")]
    assert chance(question, memories) < FLOOR
    assert chance(question, memories, nearest=0.15) < FLOOR


def test_a_near_vector_is_enough_without_a_shared_word() -> None:
    memories = [turn("a", "We named our puppy Bruno")]
    assert chance("How is the young hound called?", memories, nearest=0.65) >= FLOOR
    assert chance("How is the young hound called?", memories, nearest=0.2) < FLOOR


def test_a_name_that_nobody_knows_speaks_against() -> None:
    memories = [turn("a", "My sister plays the cello")]
    known = chance("Does my sister play the cello?", memories, nearest=0.4)
    assert chance("Does Veronica play the cello?", memories, nearest=0.4) < known


def test_a_small_letter_of_another_alphabet_begins_no_name() -> None:
    memories = [turn("a", "Моя жена Ольга беременна, срок в марте.")]
    assert chance("Когда рожает моя жена?", memories) >= FLOOR
    assert chance("Когда приедет моя Светлана к жене?", memories) < FLOOR


def test_a_question_that_names_a_speaker_is_about_their_turns() -> None:
    memories = [turn("a", "off to the pottery class", speaker="Melanie")]
    assert chance("What does Melanie do?", memories, nearest=0.3) >= FLOOR
    assert chance("What does Gina do?", memories, nearest=0.3) < FLOOR


def test_what_a_memory_calls_its_value_is_among_its_words() -> None:
    keyed = fact("a", "Works at Bosch", key="employer", value="Bosch")
    assert chance("Who was my previous employer?", [keyed], nearest=0.15) >= FLOOR
    assert chance("Who was my employer?", [fact("a", "Works at Bosch")], nearest=0.15) < FLOOR
    assert chance("Who was the previous king of Spain?", [keyed], nearest=0.15) < FLOOR
    pet = fact("b", "Has Rex", key="dog_name", value="Rex")
    assert chance("Is my dog there?", [pet], nearest=0.15) >= FLOOR


def test_the_time_that_is_asked_about_is_no_word_that_a_memory_lacks() -> None:
    memories = [turn("a", "I had lunch with Omar at the Lebanese place")]
    for question in ("What did I have for lunch on November 10?", "What was lunch last Tuesday?"):
        assert chance(question, memories, nearest=0.25) >= FLOOR
    assert chance("What happened on 11 September 2001?", [turn("b", "Coffee at 11")]) < FLOOR
    assert chance("Any plans on Friday?", [turn("c", "The dentist has time on Friday")]) >= FLOOR


def test_a_short_memory_that_has_every_word_is_heard_however_far_its_vector() -> None:
    told = "We are off to Japan in April with my husband Tom."
    question = "What's my husband's name?"
    others = [turn(f"o{i}", f"The weather on day {i}") for i in range(30)]
    assert chance(question, [turn("a", told), *others], nearest=0.2) >= FLOOR
    assert chance(question, [turn("b", told * 10), *others], nearest=0.2) < FLOOR


def test_what_stands_deep_in_a_long_memory_is_read_and_words_far_apart_are_not_together() -> None:
    page = "We noted the delays of each train on the way. " * 100
    question = "What was my locker code?"
    assert chance(question, [turn("a", f"{page}My locker code was 4711. {page}")]) >= FLOOR
    assert chance(question, [turn("b", f"A code of conduct. {page}A loose locker.")]) < chance(
        question, [turn("c", "My locker code was 4711.")]
    )


def test_signs_are_shares() -> None:
    memories = [turn("a", "the red car"), turn("b", "a blue boat")]
    findings = found(memories)
    seen = signs("red boat elephant", findings, rank(Asked("?"), findings, now=NOW))
    assert seen.coverage == pytest.approx(1 / 3)
    assert seen.unknown == pytest.approx(1 / 3)


def test_the_nearest_of_few_need_not_be_as_near_as_the_nearest_of_many() -> None:
    few = [turn(str(i), f"We named puppy {i} Bruno") for i in range(3)]
    many = [turn(str(i), f"We named puppy {i} Bruno") for i in range(80)]
    question = "How is the young hound called?"
    assert chance(question, few, nearest=0.45) >= FLOOR
    assert chance(question, many, nearest=0.45) < FLOOR
    assert chance(question, many, nearest=0.45) == chance(question, many[:60], nearest=0.45)


# --- scales ----------------------------------------------------------------------------------


def test_a_model_that_calls_strangers_near_is_read_on_its_own_scale() -> None:
    memories = [turn("a", "We named our puppy Bruno")]
    generous = Scale(signal=0.85, noise=0.7)
    question = "How is the young hound called?"
    assert chance(question, memories, nearest=0.72, scale=generous) < FLOOR
    assert chance(question, memories, nearest=0.95, scale=generous) >= FLOOR


def test_a_model_that_tells_nothing_apart_leaves_it_to_words() -> None:
    blind = Scale(signal=0.5, noise=0.5)
    memories = [turn("a", "My dog Rex loves the beach")]
    assert not blind.tells
    assert chance("What is my dog called?", memories, nearest=0.5, scale=blind) >= FLOOR
    assert chance("What about taxes?", memories, nearest=0.9, scale=blind) < FLOOR


@pytest.mark.parametrize(
    "question",
    [
        "Привет",
        "今天天气怎么样？",
        "नमस्ते",
        "مرحبا",
        "Kannst du mir helfen?",
        "¿Cómo estás, qué tal?",
    ],
)
def test_a_scale_of_english_says_nothing_of_another_language(question: str) -> None:
    memories = [turn("a", "Я играю в шахматы"), turn("b", "我喜欢喝茶"), turn("c", "Ich lese gern")]
    assert chance(question, memories, nearest=0.7) < FLOOR
    read_there_too = Scale(signal=MINILM.signal, noise=MINILM.noise)
    assert chance(question, memories, nearest=0.7, scale=read_there_too) >= FLOOR


def test_a_scale_is_measured_from_questions_and_their_answers() -> None:
    n = len(PROBES)
    axes = [[float(i == j) for j in range(n)] for i in range(n)]
    assert scale_of(axes, axes) == Scale(signal=1.0, noise=0.0)


def test_the_model_that_weights_were_fitted_on_is_known() -> None:
    assert known_scale("sentence-transformers/all-MiniLM-L6-v2") == MINILM
    assert known_scale("text-embedding-3-small") is None
