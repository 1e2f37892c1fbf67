"""A memory's JSON: the contract's shape, and rows that lose nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.core.identity import Person, new_owner
from gateway.core.memory import Memory, Source, Version
from gateway.core.records import from_export, to_export, to_public

ANNA = new_owner(Person("shop", "anna"))

WHOLE = Memory(
    id="mem 1",
    kind="fact",
    type="preference",
    text="Answers in Spanish",
    key="language",
    value="es",
    importance=0.83,
    pinned=True,
    status="superseded",
    created_at=1_700_000_000.123456,
    updated_at=1_700_000_001.5,
    valid_from=-86_400.0,
    valid_to=1_700_000_002.0,
    expires_at=253_370_764_800.0,
    superseded_at=1_700_000_002.25,
    superseded_by="mem 2",
    supersedes="mem 0",
    source=Source("user", "api", "ex-1", "s-1", "in Spanish"),
    speaker="Anna",
    covers=("turn_1", "turn_2"),
    metadata={"a": [1, None, {"b": 1.5}]},
    history=(
        Version(1_650_000_000.000001, "corrected", "In French", "language", "fr", "chat"),
        Version(1_660_000_000.0, "restored"),
    ),
)
SMALL = Memory(id="t1", kind="turn", text="hi", created_at=5.0, updated_at=5.0, valid_from=5.0)


def test_the_public_shape_is_the_contracts() -> None:
    assert to_public(WHOLE, ANNA) == {
        "id": "mem 1",
        "user": "anna",
        "app": "shop",
        "kind": "fact",
        "type": "preference",
        "key": "language",
        "value": "es",
        "text": "Answers in Spanish",
        "importance": 0.83,
        "pinned": True,
        "status": "superseded",
        "created_at": "2023-11-14T22:13:20.123456Z",
        "updated_at": "2023-11-14T22:13:21.500000Z",
        "valid_from": "1969-12-31T00:00:00Z",
        "valid_to": "2023-11-14T22:13:22Z",
        "expires_at": "9999-01-01T00:00:00Z",
        "superseded_by": "mem 2",
        "supersedes": "mem 0",
        "source": {
            "exchange_id": "ex-1",
            "session": "s-1",
            "role": "user",
            "quote": "in Spanish",
            "via": "api",
        },
        "metadata": {"a": [1, None, {"b": 1.5}]},
    }


def test_what_is_absent_is_left_out_and_a_turn_has_no_type() -> None:
    assert to_public(SMALL, ANNA) == {
        "id": "t1",
        "user": "anna",
        "app": "shop",
        "kind": "turn",
        "text": "hi",
        "importance": 0.5,
        "pinned": False,
        "status": "active",
        "created_at": "1970-01-01T00:00:05Z",
        "updated_at": "1970-01-01T00:00:05Z",
        "valid_from": "1970-01-01T00:00:05Z",
        "source": {"role": "user", "via": "chat"},
        "metadata": {},
    }


@pytest.mark.parametrize(
    "memory", [replace(WHOLE, expires_at=1.8e9), SMALL], ids=["whole", "small"]
)
def test_what_is_exported_is_read_back_whole(memory: Memory) -> None:
    row = orjson.loads(orjson.dumps(to_export(memory, ANNA)))
    assert from_export(row) == memory


def test_a_row_needs_little_and_takes_the_rest_from_it() -> None:
    memory = from_export(
        {"id": "1", "kind": "turn", "text": "hi", "created_at": "2026-01-01T00:00:00+02:00"}
    )
    assert memory.updated_at == memory.valid_from == memory.created_at == 1767218400.0
    assert memory.source.via == "import"


def test_a_turn_takes_nothing_that_only_facts_have() -> None:
    row = {"type": "preference", "key": "language", "value": "es"}
    assert from_export(to_export(SMALL, ANNA) | row) == SMALL


def test_an_absent_field_may_be_null() -> None:
    row = to_export(SMALL, ANNA) | dict.fromkeys(("key", "valid_to", "covers", "metadata"))
    assert from_export(row) == SMALL


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("id", "", "id"),
        ("id", None, "id"),
        ("id", 7, "id"),
        ("id", "@" + "a" * 32, "id"),
        ("id", " a", "id"),
        ("id", "a\n", "id"),
        ("id", "x" * 201, "id"),
        ("kind", "thought", "kind"),
        ("kind", None, "kind"),
        ("type", "mood", "type"),
        ("type", None, "type"),
        ("text", None, "text"),
        ("text", ["a"], "text"),
        ("key", 1, "key"),
        ("importance", 1.01, "importance"),
        ("importance", True, "importance"),
        ("importance", float("nan"), "importance"),
        ("pinned", "yes", "pinned"),
        ("status", "lost", "status"),
        ("created_at", "yesterday", "created_at"),
        ("created_at", 12, "created_at"),
        ("created_at", None, "created_at"),
        ("valid_to", "9999-99-99T00:00:00Z", "valid_to"),
        ("valid_to", "0000-01-01T00:00:00Z", "valid_to"),
        ("superseded_by", "@x", "superseded_by"),
        ("source", [], "source"),
        ("source", {"role": "king"}, "source.role"),
        ("source", {"via": "rumour"}, "source.via"),
        ("source", {"session": 5}, "source.session"),
        ("covers", "turn_1", "covers"),
        ("covers", ["ok", 3], "covers"),
        ("metadata", [], "metadata"),
        ("history", {}, "history"),
        ("history", ["x"], "history[0]"),
        ("history", [{"at": "2020-01-01T00:00:00Z", "event": "eaten"}], "history[0].event"),
        ("history", [{"event": "created"}], "history[0].at"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(field: str, value: Any, param: str) -> None:
    row = to_export(replace(WHOLE, expires_at=None), ANNA) | {field: value}
    with pytest.raises(BadRequest) as refusal:
        from_export(row)
    assert refusal.value.param == param
    assert param in refusal.value.message


@pytest.mark.parametrize("row", [None, [], "x", 3])
def test_a_row_that_is_no_object_is_refused(row: Any) -> None:
    with pytest.raises(BadRequest, match="object"):
        from_export(row)
