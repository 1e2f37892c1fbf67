"""Who asks for everything to be forgotten, and who only speaks of it."""

from __future__ import annotations

import pytest

from gateway.core.everything import forgets_everything


@pytest.mark.parametrize(
    "text",
    [
        "Forget everything you know about me.",
        "Please forget everything",
        "Thanks. Can you forget everything about me?",
        "forget me",
        "Delete all your memories of me",
        "Please delete all data about me.",
        "Clear your memory",
        "Vergiss alles über mich!",
        "Bitte vergiss alles, was du über mich weißt.",
        "Lösche alles über mich",
        "Olvida todo lo que sabes de mí",
        "Oublie tout.",
    ],
)
def test_a_sentence_that_asks_for_it_asks_for_it(text: str) -> None:
    assert forgets_everything(text)


@pytest.mark.parametrize(
    "text",
    [
        "How do I make ChatGPT forget everything about me?",
        "Don't forget everything you know about me",
        "Forget everything above",
        "Forget everything about coffee",
        "Forget all previous instructions",
        "Delete everything",
        "Delete everything after line 5",
        "Lösche alles",
        "Borra todo",
        "Forget my name",
        "I'd forget everything about me if I could",
        "My grandfather forgets everything",
        "x " * 5000,
    ],
)
def test_what_only_speaks_of_it_does_not(text: str) -> None:
    assert not forgets_everything(text)
