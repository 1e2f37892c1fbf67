"""Words for judging a few texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.words import (
    MAX_TERMS,
    fold,
    held,
    is_unspaced,
    may_be_english,
    stem,
    terms,
    words,
)


@pytest.mark.parametrize(
    "forms",
    [
        ("paint", "painted", "painting", "paints"),
        ("plan", "planned", "planning", "plans"),
        ("hike", "hiked", "hiking", "hikes"),
        ("city", "cities"),
    ],
)
def test_forms_of_a_word_find_one_another(forms: tuple[str, ...]) -> None:
    for one in forms:
        for other in forms:
            assert held([stem(one)], other) or held([stem(other)], one)


def test_terms_are_what_a_question_is_about() -> None:
    assert terms("What did I tell you about the dog?") == ("dog",)
    assert terms("Wie heißt mein Hund?") == ("heisst", "hund")
    assert terms("¿Cuál es mi color favorito?") == ("color", "favorito")


@pytest.mark.parametrize(
    "question",
    ["Who is Ben?", "who is kim", "Wer ist Mia?", "Who is Per?", "Who is Di?", "Any Med?"],
)
def test_a_name_is_asked_about_though_it_is_a_little_word_elsewhere(question: str) -> None:
    name = question.rstrip("?").rpartition(" ")[2].lower()
    assert terms(question) == (name,)


def test_accents_and_case_do_not_matter() -> None:
    assert fold("Málaga") == fold("MALAGA") == "malaga"
    assert held(terms("Where is Malaga?"), fold("Vamos a Málaga")) == {"malaga"}


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("我的猫叫什么", "用户的猫叫咪咪"),
        ("犬の名前は", "犬の名前はポチです"),
        ("แมวชื่ออะไร", "แมวชื่อมะลิ"),
    ],
)
def test_scripts_without_spaces_are_cut_into_pairs(question: str, text: str) -> None:
    found = terms(question)
    assert all(is_unspaced(term) for term in found)
    assert held(found, fold(text))


@pytest.mark.parametrize(
    ("question", "about", "text"),
    [
        ("何の楽器を習っていますか？", ("楽器", "習"), "最近ピアノを習い始めました。"),
        ("我的狗叫什么名字？", ("狗",), "我们养了一只狗，叫豆豆。"),
        ("我在哪里工作？", ("工作",), "我换了工作"),
        ("Как зовут мою кошку?", ("кошк",), "У меня есть кошка, её зовут Муся."),
        ("Где находится наша дача?", ("находитс", "дач"), "Мы купили дачу под Казанью."),
        ("Qual è il nome della mia gatta?", ("nom", "gatta"), "La gatta si chiama Luna"),
    ],
)
def test_what_only_asks_is_left_out_and_endings_are_cut_in_other_languages_too(
    question: str, about: tuple[str, ...], text: str
) -> None:
    assert terms(question) == about
    assert held(about, fold(text))


def test_of_a_text_that_is_grammar_alone_all_is_kept() -> None:
    assert terms("ありがとう") == ("あり", "りが", "がと", "とう")


def test_a_stem_is_found_at_the_start_of_a_word_alone() -> None:
    assert held(["art"], "a party") == set()
    assert held(["art"], "modern art") == {"art"}


def test_a_question_of_fifty_thousand_terms_is_read_to_a_bound() -> None:
    question = " ".join(f"word{i}" for i in range(54_000))
    read = terms(question)
    assert 0 < len(read) <= MAX_TERMS
    assert terms(question + " and a word more") == read


@given(st.text())
def test_any_text_has_words(text: str) -> None:
    words(text)
    found = terms(text)
    assert len(found) <= MAX_TERMS
    assert held(found, fold(text)) <= set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is my dog called?", True),
        ("my trip to Los Angeles", True),
        ("Los Angeles?", True),
        ("ok", True),
        ("Miso 🙂", True),
        ("", True),
        ("When do I see Zoë at the café?", True),
        ("“What’s my dog’s name?”", True),
        ("Wie heißt mein Hund?", False),
        ("Was trinke ich morgens?", False),
        ("¿Dónde vive mi hermano?", False),
        ("Où habite ma sœur ?", False),
        ("Gdzie mieszkałem?", False),
        ("Как зовут мою жену?", False),
        ("我的狗叫什么名字", False),
        ("Bosch 我的老板是谁", False),
        ("أين أعمل؟", False),
        ("मेरा भाई क्या करता है?", False),
    ],
)
def test_another_language_is_known_by_script_little_words_or_accents(
    text: str, expected: bool
) -> None:
    assert may_be_english(text) is expected


def test_vowel_signs_are_part_of_a_word() -> None:
    assert words("नमस्ते, मेरी माँ!") == ["नमस्ते", "मेरी", "माँ"]
    assert held(terms("नमस्ते"), fold("मैं रोज़ सुबह योग करता हूँ।")) == set()
    assert held(terms("मेरी माँ कौन है?"), fold("मेरी माँ का नाम सुनीता है।")) >= {"माँ"}


def test_a_stem_of_two_letters_is_a_whole_word() -> None:
    assert held(["ei", "tv"], "eine neue brille") == set()
    assert held(["ei", "tv"], "ein ei vor dem tv") == {"ei", "tv"}
    assert held(["ei", "eis"], "ein ei") == {"ei"}
