"""Tuning: it finds what gains, on the same path, and knows own questions from others'."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.adapters.embed_none import NoEmbedder
from gateway.config import AppSettings
from gateway.core.ranking import DEFAULT_WEIGHTS
from gateway.lab.tune import (
    CachedVectors,
    Setting,
    ablation,
    ascend,
    figures,
    fit_floor,
    main,
    objective,
    settings_of,
)
from tests.flows.test_recall import WordVectors
from tests.lab.test_evaluate import ANIMALS, PLACES, row


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "small.jsonl"
    rows = [row(f"u{i}", *both) for i, both in enumerate(zip(ANIMALS, PLACES, strict=True))]
    path.write_text("\n".join(json.dumps(r) for r in rows), "utf-8")
    return path


async def settings(data: Path) -> list[Setting]:
    return await settings_of(data, WordVectors(), AppSettings())


async def test_a_file_is_met_with_turns_with_facts_and_without_vectors(data: Path) -> None:
    found = await settings(data)
    assert [s.name for s in found] == ["small/turns", "small/facts", "small/lexical"]
    assert sum(c.own for c in found[0].cases) == 10
    assert "dense" not in {
        name for c in found[2].cases for name, hits in c.found.lists.items() if hits
    }


async def test_weights_that_spoil_everything_are_left_behind(data: Path) -> None:
    found = await settings(data)
    spoilt = replace(DEFAULT_WEIGHTS, question=40.0, recency=40.0)
    better = ascend(found[:1], spoilt, rounds=1)
    assert objective(found[:1], better) > objective(found[:1], spoilt)


async def test_what_a_signal_is_worth_is_what_is_lost_without_it(data: Path) -> None:
    found = await settings(data)
    table = ablation(found[:1], DEFAULT_WEIGHTS)
    assert table["all"] == {
        "small/turns": round(100 * figures(found[0], DEFAULT_WEIGHTS)["R@10"], 1)
    }
    assert {"dense", "lexical", "both windows"} <= table.keys()


async def test_the_floor_learns_that_shared_words_speak_for_a_question(data: Path) -> None:
    fitted = fit_floor((await settings(data))[:1])
    assert fitted["coverage"] > 0


async def test_vectors_are_kept_between_runs(tmp_path: Path) -> None:
    path = tmp_path / "vectors.npz"
    first = CachedVectors(WordVectors(), path)
    vectors = await first.embed(["a dog", "a cat"])
    await first.close()
    again = CachedVectors(NoEmbedder("gone"), path)
    assert np.allclose(await again.embed(["a cat", "a dog"]), vectors[::-1])


def test_the_command_prints_an_ablation(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_EMBEDDING__PROVIDER", "none")
    assert main([str(data), "--ablate"]) == 0
    assert "both windows" in json.loads(capsys.readouterr().out)
