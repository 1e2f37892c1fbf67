"""Words to sparse vectors: what shares tokens with what."""

from __future__ import annotations

import time

import pytest

from gateway.adapters.bm25 import MAX_QUERY_WORDS, Bm25Lexicon, prepare

LEXICON = Bm25Lexicon()


def shared(document: str, query: str, *, known: str | None = None, asked: str | None = None) -> int:
    tokens = set(LEXICON.document(document, known)[0])
    return len(tokens & set(LEXICON.query(query, asked)[0]))


def test_stems_match_and_stop_words_are_nothing() -> None:
    assert shared("She was running up the mountains", "mountain runs") == 2
    assert LEXICON.query("the of and to") == ([], [])


def test_each_token_stands_once_and_a_query_weighs_them_alike() -> None:
    indices, values = LEXICON.query("dog dogs Dog cat")
    assert len(indices) == len(set(indices)) == 2
    assert values == [1.0, 1.0]
    indices, values = LEXICON.document("dog dogs Dog cat")
    assert len(indices) == len(set(indices)) == 2
    assert max(values) > min(values) > 0.0


def test_a_word_weighs_less_in_a_longer_text_and_windows_are_longer_by_nature() -> None:
    _, [short] = LEXICON.document("violin")
    long = dict(zip(*LEXICON.document("violin " + "other words here " * 30), strict=True))
    violin = LEXICON.query("violin")[0][0]
    assert long[violin] < short
    in_window = dict(
        zip(*LEXICON.document("violin " + "other words here " * 30, window=True), strict=True)
    )
    assert in_window[violin] > long[violin]


def test_accents_are_optional() -> None:
    assert shared("vive en Málaga", "malaga") == 1
    assert shared("naive cafe", "naïve café") == 2


@pytest.mark.parametrize("language", ["de", "german", "de-AT", "DE_ch"])
def test_a_known_language_adds_its_stems_and_the_english_ones_stay(language: str) -> None:
    assert shared("Meine Häuser", "Haus", known=language, asked=language) >= 1
    assert shared("Meine Hunde", "Hunde", known=language) >= 1
    assert shared("Meine Hunde", "Hunde", asked=language) >= 1


@pytest.mark.parametrize("language", ["xx", "", "klingon", "zh", "ja", "th"])
def test_a_language_without_a_stemmer_is_read_like_any_other(language: str) -> None:
    assert LEXICON.document("a dog", language) == LEXICON.document("a dog")


@pytest.mark.parametrize(
    ("document", "query"),
    [
        ("東京に住んでいます", "東京"),
        ("私は東京都に住んでいます", "東京都"),
        ("大学で経済学を勉強しています", "経済学"),
        ("犬を飼っています", "犬"),
        ("ﾋﾟｰﾅｯﾂアレルギー", "ピーナッツ"),
        ("我住在北京市朝阳区", "朝阳区"),
        ("我喜欢running shoes", "running 喜欢"),
        ("ฉันชอบกินข้าวผัด", "ข้าวผัด"),
        ("강아지는 땅콩에 알레르기가 있다", "땅콩"),
        ("ខ្ញុំចូលចិត្តកាហ្វេ", "កាហ្វេ"),
    ],
)
def test_words_of_joined_scripts_are_found_wherever_they_stand(document: str, query: str) -> None:
    tokens = LEXICON.query(query)[0]
    assert tokens
    assert shared(document, query) == len(tokens)


def test_two_neighbours_count_for_more_than_the_same_characters_apart() -> None:
    assert shared("北京", "北京") == 3
    assert shared("京北", "北京") == 2


def test_a_question_of_54_000_words_is_cut_to_its_ends_quickly() -> None:
    words = [f"word{i}" for i in range(54_000)]
    began = time.perf_counter()
    tokens, _ = LEXICON.query(" ".join(words))
    assert time.perf_counter() - began < 1.0
    assert len(tokens) <= MAX_QUERY_WORDS
    assert set(LEXICON.query("word0 word53999")[0]) <= set(tokens)
    joined, _ = LEXICON.query("漢字" * 30_000 + "東京")
    assert len(joined) <= MAX_QUERY_WORDS


@pytest.mark.parametrize("text", ["", " ", "\x00", "🦄", "\ud800", "﷽", "\u202e", "…"])
def test_odd_texts_are_no_error(text: str) -> None:
    LEXICON.document(text)
    LEXICON.query(text)


def test_plain_text_is_given_to_the_tokenizer_as_it_is() -> None:
    assert prepare("a dog, 2 cats") == "a dog, 2 cats"
