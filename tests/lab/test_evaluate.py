"""`eval`: the figures of docs/formats.md by the path that chat uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.embed_none import NoEmbedder
from gateway.cli import main
from gateway.config import AppSettings
from gateway.lab.evaluate import evaluate, off_topic
from tests.adapters.tiny_cross_encoder import write_tiny_cross_encoder

TIMES = {"p50_ms", "p95_ms"}
ANIMALS = ("otter", "heron", "badger", "lynx", "marten")
PLACES = ("harbour", "meadow", "quarry", "orchard", "chapel")


def row(user: str, animal: str, place: str) -> dict[str, Any]:
    texts = [
        f"I saw a {animal} yesterday",
        f"That was near the {place}",
        "The weather was grey",
        "We had soup for dinner",
    ]
    turns = [
        {
            "id": str(i),
            "text": text,
            "speaker": "user",
            "created_at": f"2026-03-0{1 + i // 2}T10:0{i}:00Z",
            "session": f"s{i // 2}",
        }
        for i, text in enumerate(texts)
    ]
    fact = {
        "id": "f",
        "kind": "fact",
        "text": f"Saw a {animal} near the {place}",
        "created_at": "2026-03-01T11:00:00Z",
        "session": "s0",
        "covers": ["0", "1"],
    }
    return {
        "user": user,
        "memories": [*turns, fact],
        "questions": [
            {"text": f"Where did I see the {animal}?", "evidence": ["1"], "category": "where"},
            {"text": "What was for dinner, soup?", "evidence": ["3"], "category": "what"},
        ],
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "small.jsonl"
    rows = [row(f"u{i}", *both) for i, both in enumerate(zip(ANIMALS, PLACES, strict=True))]
    path.write_text("\n".join(json.dumps(r) for r in rows), "utf-8")
    return path


async def figures(path: Path, **more: Any) -> dict[str, Any]:
    return await evaluate(
        path, "jsonl", embedder=NoEmbedder("none"), settings=AppSettings(), **more
    )


async def test_it_gives_the_figures_of_the_contract(data: Path) -> None:
    found = await figures(data)
    assert {
        "dataset",
        "questions",
        "embedding",
        "k",
        "evidence_recall",
        "hit",
        "session_recall",
        "mrr",
        "ndcg@10",
        "tokens_per_query",
        "p50_ms",
        "p95_ms",
        "by_category",
    } <= found.keys()
    assert (found["dataset"], found["questions"], found["embedding"]) == ("small.jsonl", 10, "none")
    assert found["k"] == [5, 10, 20]
    assert found["evidence_recall"]["5"] == 1.0
    assert found["by_category"]["where"]["questions"] == 5
    assert 0 < found["tokens_per_query"] <= 800


async def test_it_is_the_same_to_the_digit_each_time(data: Path) -> None:
    one, other = [await figures(data) for _ in range(2)]
    assert {k: v for k, v in one.items() if k not in TIMES} == {
        k: v for k, v in other.items() if k not in TIMES
    }


async def test_a_hit_tells_how_much_of_the_memory_is_shown(tmp_path: Path) -> None:
    long = row("u", "otter", "harbour")
    long["memories"][3]["text"] += ", and nothing else of note happened all day" * 20
    (tmp_path / "long.jsonl").write_text(json.dumps(long), "utf-8")
    (tmp_path / "short.jsonl").write_text(json.dumps(row("u", "otter", "harbour")), "utf-8")
    in_part, whole = [await figures(tmp_path / f"{name}.jsonl") for name in ("long", "short")]
    assert in_part["injected"]["hit"] == whole["injected"]["hit"] > 0.0
    assert 0.0 < in_part["injected"]["shown"] < 0.7
    assert whole["injected"]["shown"] == 1.0


async def test_kinds_choose_what_may_be_found(data: Path) -> None:
    assert (await figures(data, kinds=("fact",)))["by_category"]["what"]["hit"]["20"] == 0.0
    assert (await figures(data, kinds=("turn",)))["by_category"]["what"]["hit"]["20"] == 1.0


async def test_evidence_has_its_session_though_another_kind_is_looked_for(data: Path) -> None:
    by_category = (await figures(data, kinds=("fact",)))["by_category"]
    assert by_category["where"]["session_recall"]["5"] == 1.0
    assert by_category["what"]["session_recall"]["5"] == 0.0


async def test_questions_of_other_users_find_nothing_to_inject(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "others.jsonl"
    rows = [json.loads(line) for line in data.read_text("utf-8").splitlines()]
    for each in rows:
        each["questions"] = each["questions"][:1]
    path.write_text("\n".join(json.dumps(r) for r in rows), "utf-8")
    quiet = await off_topic(
        path, "jsonl", embedder=NoEmbedder("none"), settings=AppSettings(), per_user=4
    )
    assert quiet == 1.0


# --- the command -------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _without_embedder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_EMBEDDING__PROVIDER", "none")


def test_the_command_prints_one_json_object(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(data), "--kinds", "turn"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["questions"] == 10
    assert printed.err == ""


def test_a_cross_encoder_is_evaluated_where_the_settings_ask_for_it(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GATEWAY_MEMORY__RERANK", "on")
    monkeypatch.setenv("GATEWAY_MEMORY__RERANK_MODEL", str(write_tiny_cross_encoder(tmp_path)))
    assert main(["eval", str(data)]) == 0
    assert json.loads(capsys.readouterr().out)["questions"] == 10
    monkeypatch.setenv("GATEWAY_MEMORY__RERANK_MODEL", str(tmp_path / "onnx"))
    assert main(["eval", str(data)]) == 1
    assert "rerank_model" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_said_before_a_model_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_EMBEDDING__PROVIDER", "fastembed")
    monkeypatch.setenv("GATEWAY_EMBEDDING__MODEL_PATH", str(tmp_path / "no-model"))
    assert main(["eval", str(tmp_path / "no-file"), "--format", "jsonl"]) == 2
    printed = capsys.readouterr()
    assert "cannot be read" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--kinds", "thought"], "--kinds"), (["--format", "locomo"], "small.jsonl")],
)
def test_bad_usage_is_one_line_and_exit_2(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["eval", str(data), *arguments]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
