"""Reading evaluation data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.core.memory import parse_rfc3339
from gateway.lab.datasets import UserData, read

ROW: dict[str, Any] = {
    "user": "u",
    "memories": [
        {
            "id": "1",
            "text": "I like tea",
            "created_at": "2026-01-02T03:04:05Z",
            "speaker": "user",
            "session": "s1",
        },
        {
            "id": "f",
            "text": "Likes tea",
            "kind": "fact",
            "speaker": "Ana",
            "created_at": "2026-01-02T03:05:00+00:00",
            "covers": ["1"],
        },
    ],
    "questions": [
        {"text": "What do I like?", "evidence": ["1"], "category": 4},
        {"text": "Unanswerable?", "evidence": []},
    ],
}

LOCOMO: list[dict[str, Any]] = [
    {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ana",
            "speaker_b": "Ben",
            "session_2_date_time": "10:15 am on 9 May, 2023",
            "session_2": [{"speaker": "Ben", "dia_id": "D2:1", "text": "Back again"}],
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": [
                {"speaker": "Ana", "dia_id": "D1:1", "text": "Hi!"},
                {"speaker": "Ben", "dia_id": "D1:2", "text": "Look", "blip_caption": "a dog"},
            ],
        },
        "observation": {
            "session_1_observation": {
                "Ben": [["Ben has a dog.", "D1:2"], ["Both met.", ["D1:1", "D1:2"]]]
            }
        },
        "qa": [
            {"question": "What has Ben?", "evidence": ["D1:2"], "category": 4},
            {"question": "When?", "evidence": ["D:1:1; D2:01"], "category": 2},
            {"question": "Trick?", "evidence": ["D1:1"], "category": 5},
            {"question": "Nowhere?", "evidence": ["D9:9"], "category": 1},
        ],
    }
]


def jsonl(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), "utf-8")
    return path


def locomo(tmp_path: Path) -> UserData:
    path = tmp_path / "locomo.json"
    path.write_text(json.dumps(LOCOMO), "utf-8")
    return read(path, "locomo").users[0]


def test_rows_become_memories_and_questions(tmp_path: Path) -> None:
    data = read(jsonl(tmp_path, ROW, ""), "jsonl")
    assert data.name == "data.jsonl"
    (user,) = data.users
    turn, fact = user.memories
    assert (turn.kind, turn.speaker, turn.source.role, turn.session) == ("turn", None, "user", "s1")
    assert turn.created_at == parse_rfc3339("2026-01-02T03:04:05Z")
    assert (fact.kind, fact.type, fact.speaker) == ("fact", "interaction", "Ana")
    assert fact.covers == ("1",)
    (question,) = user.questions
    assert (question.text, question.evidence, question.category) == ("What do I like?", ("1",), "4")


def test_what_is_null_is_absent_and_a_mark_at_the_files_begin_is_no_data(tmp_path: Path) -> None:
    told = ("kind", "speaker", "session", "covers")
    memory = {"id": "1", "text": "tea", "created_at": "2026-01-02T03:04:05Z"}
    path = tmp_path / "rows.jsonl"
    memories = [memory, {**memory, **dict.fromkeys(told), "id": "2"}]
    row = json.dumps({**ROW, "memories": memories})
    path.write_text(row + "\r\n", "utf-8-sig", newline="")
    (user,) = read(path, "jsonl").users
    assert [(m.kind, m.session, m.covers) for m in user.memories] == [("turn", None, ())] * 2


def test_kinds_choose_what_may_be_found(tmp_path: Path) -> None:
    user = read(jsonl(tmp_path, ROW), "jsonl", kinds=("fact",)).users[0]
    assert [m.id for m in user.memories] == ["f"]
    assert len(user.questions) == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2: not JSON"),
        ([1], "line 2: a JSON object is needed, one user's"),
        ({"user": "u", "memories": []}, "'questions' is missing"),
        ({**ROW, "memories": [{"id": "1", "text": "x"}]}, "'created_at' is missing"),
        (
            {**ROW, "memories": [{"id": "1", "text": "x", "created_at": "tomorrow"}]},
            "created_at 'tom",
        ),
        (
            {**ROW, "memories": [{**ROW["memories"][0], "kind": "thought"}]},
            "allowed are fact, turn",
        ),
        ({**ROW, "memories": [{**ROW["memories"][0], "text": 7}]}, "is no string"),
        ({**ROW, "memories": [{**ROW["memories"][0], "speaker": 7}]}, "speaker of memory '1'"),
        ({**ROW, "memories": [{**ROW["memories"][1], "covers": "1"}]}, "covers of memory 'f' is"),
        ({**ROW, "memories": [ROW["memories"][0]] * 2}, "two memories have the id '1'"),
        ({**ROW, "questions": [{"text": "Tea?", "evidence": "1"}]}, "'Tea\\?' is no list"),
        ({**ROW, "questions": [{"text": None, "evidence": ["1"]}]}, "question None is no string"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, row: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read(jsonl(tmp_path, ROW, row), "jsonl")


@pytest.mark.parametrize(("format", "text"), [("jsonl", " \n"), ("locomo", "[]")])
def test_a_file_without_data_is_no_data_set(tmp_path: Path, format: Any, text: str) -> None:
    (tmp_path / "empty").write_text(text)
    with pytest.raises(BadRequest, match="holds nobody's memories"):
        read(tmp_path / "empty", format)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot be read"):
        read(tmp_path / "none", "jsonl")


# --- LoCoMo ----------------------------------------------------------------------------------


def test_sessions_come_in_order_with_their_times(tmp_path: Path) -> None:
    turns = [m for m in locomo(tmp_path).memories if m.kind == "turn"]
    assert [m.id for m in turns] == ["D1:1", "D1:2", "D2:1"]
    assert turns[0].created_at == parse_rfc3339("2023-05-08T13:56:00Z")
    assert turns[1].created_at == turns[0].created_at + 30
    assert [m.session for m in turns] == ["s1", "s1", "s2"]
    assert turns[1].text == "Look [shares a photo: a dog]"


def test_observations_become_facts_that_cover_turns(tmp_path: Path) -> None:
    facts = [m for m in locomo(tmp_path).memories if m.kind == "fact"]
    assert [m.covers for m in facts] == [("D1:2",), ("D1:1", "D1:2")]
    assert facts[0].speaker == "Ben"


def test_adversarial_questions_and_those_without_evidence_are_left_out(tmp_path: Path) -> None:
    questions = locomo(tmp_path).questions
    assert [q.text for q in questions] == ["What has Ben?", "When?"]
    assert questions[1].evidence == ("D1:1", "D2:1")


@pytest.mark.parametrize("text", ["{", "{}", "[{}]", "[1]", '[{"conversation": {}}]'])
def test_what_is_not_locomos_file_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, "utf-8")
    with pytest.raises(BadRequest, match=r"x\.json"):
        read(path, "locomo")
