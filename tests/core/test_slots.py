"""Which memories hold one value at a time, and when a user asks for one to be forgotten."""

from __future__ import annotations

import pytest

from gateway.core.slots import asks_to_forget, may_take_back


@pytest.mark.parametrize(
    "said",
    [
        "Forget that I live in Porto",
        "Vergessen Sie, dass ich in Porto wohne",
        "Oubliez que j'habite à Porto",
        "Olvide que vivo en Oporto",
        "Esqueça que moro no Porto",
        "Scorda che vivo a Porto",
        "Kun je vergeten dat ik in Porto woon?",
        "Zapomnij, że mieszkam w Porto",
        "Glöm att jag bor i Porto",
        "Glem at jeg bor i Porto",
        "Porto'da yaşadığımı unut",
        "Забудьте, что я живу в Порту",
        "انس أنني أعيش في بورتو",
        "忘掉我住在波尔图",
        "私がポルトに住んでいることは忘れて",
        "제가 포르투에 산다는 걸 잊으세요",
        "भूल जाओ कि मैं पोर्टो में रहता हूँ",
    ],
)
def test_who_asks_to_forget_is_heard_in_many_languages_and_ends_a_batch(said: str) -> None:
    assert asks_to_forget(said)
    assert may_take_back(said)


@pytest.mark.parametrize(
    "said",
    [
        "I sold my car",
        "Ich wohne nicht mehr in Porto",
        "Ya no vivo en Oporto",
        "أنا إنسان",
        "Мы видали и не такое",
        "Artık Porto'da yaşamıyorum",
    ],
)
def test_who_says_that_it_has_changed_does_not_ask_to_forget(said: str) -> None:
    assert not asks_to_forget(said)
    assert not may_take_back(said)


def test_what_is_to_be_deleted_at_work_ends_no_batch() -> None:
    assert asks_to_forget("Remove the import")
    assert not may_take_back("Remove the import")
