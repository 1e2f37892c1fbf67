"""Names: who speaks, and whom a question means."""

from __future__ import annotations

import pytest

from gateway.core.memory import Memory
from gateway.core.speakers import by_speaker, mentioned, named_speakers, without_names
from tests.core.recall_memories import fact, turn


def speakers(*names: str | None) -> list[Memory]:
    return [turn(str(i), "x", speaker=name) for i, name in enumerate(names)]


def test_the_users_own_words_count_where_the_assistants_stand_beside_them() -> None:
    own, answer = turn("a", "x"), turn("b", "x", role="assistant")
    assert by_speaker("Who is my boss?", [own, answer]) == [1.0, 0.0]
    assert by_speaker("What did you recommend?", [own, answer]) == [0.0, 1.0]


def test_who_said_it_tells_nothing_where_all_is_the_users_own() -> None:
    assert by_speaker("Who is my boss?", [turn("a", "x"), fact("b", "x")]) == [0.0, 0.0]


def test_roles_are_no_names() -> None:
    assert named_speakers(speakers("user", "assistant", None, "Ana")) == {"Ana"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What did Zoe say?", {"Zoë"}),
        ("what did ana maria say?", {"Ana Maria"}),
        ("Ana's house", {"Ana Maria"}),
        ("a banana", set()),
    ],
)
def test_a_name_is_mentioned_whole_or_by_its_first_word(text: str, expected: set[str]) -> None:
    assert mentioned(text, ["Ana Maria", "Zoë"]) == expected


def test_names_are_cut_with_their_possessive_endings() -> None:
    assert without_names("What is Ana's dog called, Tim?", ["Ana", "Tim"]) == (
        "What is dog called, ?"
    )
    assert without_names("What is it?", []) == "What is it?"
