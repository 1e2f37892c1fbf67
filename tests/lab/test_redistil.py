"""Recorded exchanges distilled again: which facts another prompt draws, and what they change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway import cli
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.extract_openai import OpenAIExtractor
from gateway.config import Settings
from gateway.core.errors import ExtractorUnavailable
from gateway.core.exchange import turn_memory_id
from gateway.lab import replay
from gateway.lab.recordings import UserRecordings, exchanges_of, read
from gateway.lab.redistil import Redistilled, batches, redistil
from gateway.lab.scratch import Once, scratch_services
from gateway.lab.script import Raw
from tests.flows.workshop import ScriptedModel, fact
from tests.lab.test_replay import file_of, memory, recalled

NONE = NoEmbedder("none in this test")
NUTS = "User is allergic to nuts"
SHORT = "User likes short answers"


def turn(exchange: str, n: int, text: str, at: str, **more: Any) -> dict[str, Any]:
    role = more.pop("role", "user")
    return {
        **memory(turn_memory_id(exchange, n), text, at),
        "kind": "turn",
        "type": None,
        "source": {"role": role, "via": "chat", "exchange_id": exchange, "session": "s"},
        **more,
    }


def drawn(id: str, text: str, at: str, exchange: str, n: int = 0, **more: Any) -> dict[str, Any]:
    source = {"role": "user", "via": "chat", "exchange_id": exchange, "session": "s"}
    return memory(id, text, at, source=source, covers=[turn_memory_id(exchange, n)], **more)


def ana(tmp_path: Path, *more: dict[str, Any]) -> Path:
    """Ana said two things in May and was asked for a snack in June; once a fact was drawn."""
    return file_of(
        tmp_path,
        {
            "user": "ana",
            "memories": [
                turn("e1", 0, "I'm allergic to nuts, and keep it short", "2026-05-01T10:00:00Z"),
                turn("e1", 1, "Noted.", "2026-05-01T10:00:01Z", role="assistant"),
                turn("e2", 0, "My boat is called Una", "2026-05-02T10:00:00Z"),
                drawn("mem_1", SHORT, "2026-05-01T10:00:00Z", "e1", type="preference"),
                memory("own", "User sails", "2026-05-01T09:00:00Z"),
                *more,
            ],
            "recalls": [
                recalled(
                    "a snack without nuts for the user?",
                    "2026-06-01T10:00:00Z",
                    ["mem_1", "own"],
                    evidence=[turn_memory_id("e1", 0)],
                    timezone="Europe/Berlin",
                )
            ],
        },
    )


@pytest.fixture
def model() -> Any:
    with ScriptedModel() as running:
        yield running


def allergies(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    said = [t for t in batch["turns"] if "nuts" in t["text"]]
    return [fact(NUTS, turn=t["n"], quote="allergic to nuts") for t in said]


async def again(
    model: ScriptedModel, users: list[UserRecordings], settings: Settings, prompt: str | None = None
) -> list[Redistilled]:
    extractor = OpenAIExtractor(model.base_url, api_key="sk-own", model="small", prompt=prompt)
    try:
        return [
            await redistil(user, scratch_services(Once(NONE)), extractor, settings)
            for user in users
        ]
    finally:
        await extractor.close()


FACTS_ALONE = Settings.model_validate({"memory": {"turns": "off"}})


async def test_another_prompt_draws_other_facts_and_they_are_what_is_recalled(
    model: ScriptedModel, tmp_path: Path
) -> None:
    model.answers = [allergies, allergies]
    users = read(ana(tmp_path))
    redistilled = await again(model, users, FACTS_ALONE, prompt="Draw only allergies.")
    assert {body["messages"][0]["content"] for body in model.bodies} == {"Draw only allergies."}
    told = replay.drawn(redistilled)
    assert told["facts"] == {"then": 1, "now": 1, "same": 0, "kept": 1}
    first, second = told["results"]
    assert [f["text"] for f in first["added"]] == [NUTS]
    assert [f["text"] for f in first["gone"]] == [SHORT]
    assert (second["added"], second["gone"]) == ([], [])
    compared = await replay.replay(
        users, embedder=NONE, settings_for=FACTS_ALONE.app, redistilled=redistilled
    )
    shown = replay.figures(compared, NONE, FACTS_ALONE)
    assert [one["text"] for one in shown["results"][0]["added"]] == [NUTS]
    assert [one["text"] for one in shown["results"][0]["gone"]] == [SHORT]
    assert shown["evidence_recall"] == {"labelled": 1, "then": 1.0, "now": 1.0}


async def test_facts_that_are_drawn_again_as_they_were_change_nothing(
    model: ScriptedModel, tmp_path: Path
) -> None:
    keep = fact(SHORT + ".", type="preference", turn=1, quote="keep it short", key=None)
    model.answers = [[keep], []]
    users = read(ana(tmp_path))
    redistilled = await again(model, users, FACTS_ALONE)
    assert replay.drawn(redistilled)["facts"]["same"] == 1
    compared = await replay.replay(
        users, embedder=NONE, settings_for=FACTS_ALONE.app, redistilled=redistilled
    )
    assert set(compared[0].now) == set(compared[0].then)


async def test_exchanges_are_batched_as_a_worker_would_and_shown_with_what_was_known(
    model: ScriptedModel, tmp_path: Path
) -> None:
    users = read(ana(tmp_path))
    exchanges = exchanges_of(users[0].memories)
    assert [len(e.turns) for e in exchanges] == [2, 1]
    assert len(list(batches(exchanges, Settings().extraction))) == 2
    patient = Settings.model_validate({"extraction": {"idle_s": 86_400.0, "max_wait_s": 86_400.0}})
    assert len(list(batches(exchanges, patient.extraction))) == 1
    await again(model, users, patient)
    (batch,) = model.asked
    assert [t["text"] for t in batch["turns"]][1:] == ["Noted.", "My boat is called Una"]
    assert batch["turns"][0]["at"] == "2026-05-01T12:00:00+02:00"
    assert [known["text"] for known in batch["known"]] == ["User sails"]


async def test_what_a_drawn_fact_had_superseded_is_in_force_again(
    model: ScriptedModel, tmp_path: Path
) -> None:
    told = memory(
        "told",
        "User likes long answers",
        "2026-04-01T10:00:00Z",
        status="superseded",
        superseded_at="2026-05-01T10:00:00Z",
        superseded_by="mem_1",
        source={"role": "user", "via": "api"},
    )
    (redistilled,) = await again(model, read(ana(tmp_path, told)), FACTS_ALONE)
    assert {m.id: m.status for m in redistilled.memories if m.kind == "fact"} == {
        "own": "active",
        "told": "active",
    }


async def test_a_batch_that_cannot_be_read_is_told_and_the_others_go_on(
    model: ScriptedModel, tmp_path: Path
) -> None:
    model.answers = ["no JSON", "nor this", [fact("User has a boat", quote="My boat")]]
    told = replay.drawn(await again(model, read(ana(tmp_path)), FACTS_ALONE))
    assert (told["failed"], told["facts"]["now"]) == (1, 1)
    assert "no usable answer" in told["results"][0]["failed"]


async def test_an_extractor_that_refuses_the_key_ends_it(
    model: ScriptedModel, tmp_path: Path
) -> None:
    model.answers = [Raw(status=401, body=b'{"error": {"message": "no such key"}}')]
    with pytest.raises(ExtractorUnavailable, match=r"check extraction\.api_key"):
        await again(model, read(ana(tmp_path)), FACTS_ALONE)


def test_the_command_replays_under_another_prompt(
    model: ScriptedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GATEWAY_EMBEDDING__PROVIDER", "none")
    words = tmp_path / "words.md"
    words.write_text("Draw only allergies.")
    command = ["replay", str(ana(tmp_path)), "--prompt", str(words), "--json"]
    assert cli.main(command) == 2
    assert "--prompt: nobody reads it" in capsys.readouterr().err
    monkeypatch.setenv("GATEWAY_EXTRACTION__BASE_URL", model.base_url)
    monkeypatch.setenv("GATEWAY_EXTRACTION__API_KEY", "sk-own")
    monkeypatch.setenv("GATEWAY_EXTRACTION__MODEL", "small")
    model.answers = [allergies]
    assert cli.main(command) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["extraction"]["extractor"].endswith(f"told as in {words}")
    assert told["versions"]["extraction_prompt"].startswith("words.md ")
    assert [f["text"] for f in told["extraction"]["results"][0]["added"]] == [NUTS]
    assert model.bodies[0]["messages"][0]["content"] == "Draw only allergies."
