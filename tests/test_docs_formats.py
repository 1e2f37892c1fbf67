"""docs/formats.md shows what is really asked, read and printed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gateway.adapters.embed_none import NoEmbedder
from gateway.config import AppSettings
from gateway.core.extraction import (
    ACTIONS,
    ExtractionBatch,
    ExtractionTurn,
    KnownMemory,
    faults_of,
    read_answer,
    request_json,
    response_schema,
)
from gateway.core.memory import Memory, Source, parse_rfc3339
from gateway.lab.evaluate import evaluate

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "formats.md").read_text()
ASKED, ANSWERED, ROW = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)


def table(number: int) -> list[list[str]]:
    """The names in the first column of a table, row by row."""
    tables = re.findall(r"(?m)^\| field \| meaning \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE)
    return [re.findall(r"`(.*?)`", row.split("|")[1]) for row in tables[number].splitlines()]


def test_an_extractor_is_asked_as_the_page_shows() -> None:
    asked = json.loads(ASKED)
    known = [
        KnownMemory(
            one["n"],
            Memory(
                id="m",
                kind="fact",
                type=one["type"],
                key=one["key"],
                text=one["text"],
                created_at=0,
                updated_at=0,
                valid_from=0,
                source=Source(via="chat"),
            ),
        )
        for one in asked["known"]
    ]
    turns = [
        ExtractionTurn(
            one["n"], one["role"], parse_rfc3339(one["at"]), one["text"], "exc_1", f"t{one['n']}"
        )
        for one in asked["turns"]
    ]
    batch = ExtractionBatch(
        parse_rfc3339(asked["now"]), asked["timezone"], tuple(known), tuple(turns)
    )
    assert json.loads(request_json(batch)) == asked


def test_the_answer_on_the_page_is_whole_and_in_order() -> None:
    (fact,) = facts = read_answer(ANSWERED)
    assert faults_of(facts) == []
    (schema,) = find(response_schema(), "required", "action")
    assert list(fact) == schema
    named = [name for row in table(0) for name in row]
    assert sorted([*named, "text"]) == sorted(schema)
    assert all(f"`{action}`" in PAGE for action in ACTIONS)


def find(part: Any, name: str, item: str) -> list[list[str]]:
    """Every list called `name` that holds `item`, however deep."""
    if isinstance(part, list):
        return [hit for one in part for hit in find(one, name, item)]
    if not isinstance(part, dict):
        return []
    here = [part[name]] if item in part.get(name, ()) else []
    return here + [hit for one in part.values() for hit in find(one, name, item)]


async def test_the_row_on_the_page_is_read_and_every_figure_is_explained(tmp_path: Path) -> None:
    (tmp_path / "mara.jsonl").write_text(ROW)
    figures = await evaluate(
        tmp_path / "mara.jsonl", "jsonl", embedder=NoEmbedder("none"), settings=AppSettings()
    )
    assert figures["questions"] == 1
    assert figures["evidence_recall"]["5"] == 1.0
    assert [name for row in table(1) for name in row] == list(figures)
