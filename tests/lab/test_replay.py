"""Replay: recorded recalls again, under the settings of today."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.embed_none import NoEmbedder
from gateway.cli import main
from gateway.config import Settings
from gateway.core.errors import BadRequest
from gateway.core.exchange import turn_memory_id
from gateway.lab import replay
from gateway.lab.recordings import read
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests import loopback
from tests.gateway_process import GatewayProcess, until

NONE = NoEmbedder("none in this test")


def memory(id: str, text: str, at: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "kind": "fact",
        "type": "profile",
        "text": text,
        "importance": 0.5,
        "pinned": False,
        "status": "active",
        "created_at": at,
        "updated_at": at,
        "valid_from": at,
        "source": {"role": "user", "via": "chat"},
        "metadata": {},
        **more,
    }


def recalled(query: str, at: str, brought: list[str], **more: Any) -> dict[str, Any]:
    return {
        "id": f"rcp_{at}",
        "at": at,
        "query": query,
        "before": "",
        "latency_ms": 3.0,
        "recorded": {"would_inject": brought, "tokens": 90, "present": [query], "held": []},
        **more,
    }


def file_of(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "recalls.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ana(tmp_path: Path, **more: Any) -> Path:
    """Ana moved in March; she was asked about in February, and in April."""
    rome = memory(
        "rome",
        "The user lives in Rome",
        "2026-01-01T00:00:00Z",
        status="superseded",
        superseded_at="2026-03-01T00:00:00Z",
        superseded_by="milan",
    )
    return file_of(
        tmp_path,
        {
            "user": "ana",
            "memories": [memory("milan", "The user lives in Milan", "2026-03-01T00:00:00Z"), rome],
            "recalls": [
                recalled("where do I live?", "2026-04-01T00:00:00Z", ["milan"], **more),
                recalled("where do I live?", "2026-02-01T00:00:00Z", ["rome"]),
            ],
        },
    )


async def run(path: Path, settings: Settings) -> dict[str, Any]:
    compared = await replay.replay(read(path), embedder=NONE, settings_for=settings.app)
    return replay.figures(compared, NONE, settings)


async def test_under_the_same_settings_each_recall_brings_what_it_brought_then(
    tmp_path: Path,
) -> None:
    told = await run(ana(tmp_path), Settings())
    assert [row["now"] for row in told["results"]] == [["rome"], ["milan"]]
    assert (told["recalls"], told["changed"]) == (2, 0)
    assert told["tokens"]["then"] == 90


async def test_what_other_settings_would_change_is_told(tmp_path: Path) -> None:
    settings = Settings.model_validate({"memory": {"types": ["preference"], "turns": "off"}})
    told = await run(ana(tmp_path), settings)
    assert told["changed"] == 2
    last = told["results"][1]
    assert last["gone"] == [{"id": "milan", "text": "The user lives in Milan"}]
    assert (last["added"], last["tokens"]["now"]) == ([], 0)


async def test_another_template_changes_the_tokens_and_not_the_memories(tmp_path: Path) -> None:
    longer = Settings.model_validate({"memory": {"template": "Known about the user. " * 20}})
    plain, other = await run(ana(tmp_path), Settings()), await run(ana(tmp_path), longer)
    assert other["changed"] == 0
    assert other["tokens"]["now"] > plain["tokens"]["now"]
    assert other["versions"]["template"] != plain["versions"]["template"]


async def test_labelled_questions_are_scored_then_and_now(tmp_path: Path) -> None:
    told = await run(ana(tmp_path, evidence=["milan", "elsewhere"]), Settings())
    assert told["evidence_recall"] == {"labelled": 1, "then": 0.5, "now": 0.5}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: no JSON object; `users recordings` writes such files"),
        ("[1]", "line 1: no JSON object"),
        ('{"user": "ana", "memories": []}', "'recalls' is missing"),
        ('{"user": "ana", "memories": [{}], "recalls": []}', "line 1"),
        ('{"user": "ana", "memories": [], "recalls": [{"id": "x"}]}', "is missing"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_its_line(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text(line)
    with pytest.raises(BadRequest, match=said):
        read(path)


def test_recalls_are_recorded_taken_out_and_run_again_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(*words: str) -> str:
        capsys.readouterr()
        code = main(words)
        told = capsys.readouterr()
        assert code == 0, told.err
        return told.out

    for name in [n for n in os.environ if n.startswith(("GATEWAY_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_EMBEDDING__PROVIDER", "none")
    with (
        ScriptedUpstream() as upstream,
        GatewayProcess(tmp_path / "data", upstream.base_url, receipts__record="true") as gateway,
        loopback.Client(base_url=gateway.url, headers={"X-Memory-User": "ana"}) as client,
    ):
        client.post("/v1/memories", json={"text": "Allergic to nuts", "type": "profile"})
        answer = client.post(
            "/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "a snack for me?"}]},
        )
        receipt = f"/v1/receipts/{answer.headers['x-memory-receipt-id']}"
        until(lambda: client.get(receipt).status_code == 200)
        command("users", "recordings", "ana", "-o", "ana.jsonl")
    assert (tmp_path / "ana.jsonl").stat().st_mode & 0o077 == 0
    assert json.loads(command("replay", "ana.jsonl"))["changed"] == 0
    monkeypatch.setenv("GATEWAY_MEMORY__TYPES", "preference")
    told = json.loads(command("replay", "ana.jsonl", "--json"))
    assert told["changed"] == 1
    assert told["results"][0]["gone"][0]["text"] == "Allergic to nuts"


async def test_what_was_not_distilled_yet_is_known_as_it_was_said(tmp_path: Path) -> None:
    """It waited then, and was recalled by its words; the fact drawn later was not there."""
    said = {"role": "user", "via": "chat", "exchange_id": "e1", "session": "s"}
    turn = turn_memory_id("e1", 0)
    at, distilled = "2026-04-01T10:00:00Z", "2026-04-01T10:00:10Z"
    mine = {"source": said, "updated_at": distilled}
    path = file_of(
        tmp_path,
        {
            "user": "ana",
            "memories": [
                {**memory(turn, "I live in Milan", at, **mine), "kind": "turn", "type": None},
                memory("home", "The user lives in Milan", at, covers=[turn], **mine),
            ],
            "recalls": [
                recalled("where do I live?", "2026-04-01T10:00:05Z", [turn]),
                recalled("where do I live?", "2026-04-01T10:00:15Z", ["home", turn]),
            ],
        },
    )
    told = await run(path, Settings())
    assert [row["now"] for row in told["results"]] == [[turn], ["home", turn]]
