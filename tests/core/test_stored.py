"""A memory at rest: nothing that reveals words stands open, and it comes back whole."""

from __future__ import annotations

from dataclasses import fields, replace
from hashlib import blake2b
from sys import intern
from typing import Any
from uuid import uuid4

import orjson
import pytest

from gateway.core.errors import Unreadable
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Entry, Memory, Source, Version
from gateway.core.stored import (
    _MADE,
    _PLAIN,
    _SOURCE,
    RECORD_VERSION,
    KeyedTokens,
    body_of,
    from_payload,
    is_reference,
    memory_of,
    point_id,
    reference,
    standing_order,
    tag,
    to_payload,
)

ANNA = new_owner(Person("default", "anna"))
BOB = new_owner(Person("default", "bob"))

WHOLE = Memory(
    id="outside-id",
    kind="fact",
    type="preference",
    text="likes pistachio",
    key="flavour",
    value="pistachio",
    importance=0.83,
    pinned=True,
    status="superseded",
    created_at=1_700_000_000.123456,
    updated_at=1_700_000_001.5,
    valid_from=1_600_000_000.0,
    valid_to=1_700_000_002.0,
    expires_at=1_800_000_000.0,
    superseded_at=1_700_000_002.25,
    superseded_by="next-id",
    supersedes="former-id",
    source=Source("user", "api", "exchange-id", "session-id", "pistachio, please"),
    speaker="Annabelle",
    covers=("covered-id",),
    metadata={"secret": ["pistachio"]},
    history=(Version(1_650_000_000.0, "corrected", "likes vanilla", "flavour", "vanilla", "chat"),),
)
SMALL = Memory(id="a", kind="turn", text="hi", created_at=1.0, updated_at=1.0, valid_from=1.0)


def seal(owner: Owner, plain: bytes, context: str) -> bytes:
    return f"{owner.tenant}|{context}|".encode() + plain[::-1]


def unseal(owner: Owner, sealed: bytes, context: str) -> bytes:
    prefix = f"{owner.tenant}|{context}|".encode()
    if not sealed.startswith(prefix):
        raise Unreadable("not here")
    return sealed[len(prefix) :][::-1]


def stored(memory: Memory, owner: Owner = ANNA, *, embedded: bool = True) -> dict[str, Any]:
    return to_payload(owner, Entry(memory), seal, embedded=embedded)


def test_a_memory_comes_back_whole() -> None:
    for memory in (WHOLE, SMALL):
        point = point_id(ANNA.tenant, memory.id)
        back = from_payload(ANNA, point, stored(memory), unseal)
        assert back == memory
        assert type(back) is Memory
        assert type(back.source) is Source
        assert hash(back.source) == hash(memory.source)
        with pytest.raises(AttributeError):
            back.text = "other"  # type: ignore[misc]


def test_every_field_of_a_memory_is_stored() -> None:
    """The order of a body is fixed for good: a new field is to be appended, not forgotten."""
    assert {*_PLAIN, *_MADE} == {field.name for field in fields(Memory)}
    assert set(_SOURCE) == {field.name for field in fields(Source)}


def test_what_is_opened_shares_its_common_words_and_times() -> None:
    names: dict[str, str] = {}
    one, other = (memory_of(body_of(replace(WHOLE, id=id)), names) for id in ("a", "b"))
    assert one.source.session is other.source.session
    assert one.source.exchange_id is other.source.exchange_id
    assert one.status is other.status
    small = memory_of(body_of(SMALL))
    assert small.created_at is small.updated_at
    assert small.importance is memory_of(body_of(SMALL)).importance


def test_names_from_outside_are_not_interned() -> None:
    """CPython 3.12.0 to 3.12.6 would never free them."""
    name = uuid4().hex
    source = replace(WHOLE.source, session=f"ses_{name}", exchange_id=f"exc_{name}")
    opened = memory_of(body_of(replace(WHOLE, source=source)), {})
    assert opened.source == source
    for prefix in ("ses", "exc"):
        fresh = f"{prefix}_{name}"
        assert intern(fresh) is fresh


def test_metadata_that_is_empty_is_one_object_which_nobody_can_fill() -> None:
    one, other = memory_of(body_of(SMALL)), memory_of(body_of(replace(SMALL, id="b")))
    assert one.metadata is other.metadata
    assert one.metadata == {}
    with pytest.raises(TypeError):
        one.metadata["x"] = 1  # type: ignore[index]
    assert one.metadata == {}


def test_no_word_and_no_outside_id_stands_open() -> None:
    payload = stored(WHOLE)
    del payload["body"]
    shown = orjson.dumps(payload).decode()
    for word in ("pistachio", "vanilla", "flavour", "-id", "Annabelle", "secret", "please"):
        assert word not in shown


def test_what_stands_open_is_for_filters_alone() -> None:
    assert set(stored(WHOLE)) == {
        "v", "tenant", "kind", "type", "status", "created_at", "updated_at", "valid_from",
        "valid_to", "expires_at", "standing", "tags", "body",
    }  # fmt: skip
    assert stored(SMALL)["live"] == ANNA.tenant


def test_a_memory_without_a_vector_is_marked_unless_there_is_nothing_to_embed() -> None:
    assert "owed" in stored(SMALL, embedded=False)
    assert "owed" not in stored(SMALL)
    assert "owed" not in stored(replace(SMALL, status="forgotten"), embedded=False)
    assert "owed" not in stored(replace(SMALL, text=""), embedded=False)


def test_a_record_of_a_newer_version_is_refused_plainly() -> None:
    payload = stored(SMALL) | {"v": RECORD_VERSION + 1}
    with pytest.raises(Unreadable, match="newer program") as refusal:
        from_payload(ANNA, point_id(ANNA.tenant, "a"), payload, unseal)
    assert refusal.value.code == "record_version"


@pytest.mark.parametrize(
    "damage",
    [
        {"body": "no base64!"},
        {"body": None},
        {"body": ""},
        {"v": None},
        {"v": "1"},
        {"body": "AAAA"},
    ],
)
def test_a_damaged_record_is_unreadable(damage: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        from_payload(ANNA, point_id(ANNA.tenant, "a"), stored(SMALL) | damage, unseal)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"[1,2]", b"null", b'"x"', b"[[],[],{},[],1]"])
def test_a_body_that_is_not_as_it_was_written_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        memory_of(body)


def test_what_utf8_cannot_carry_is_replaced() -> None:
    odd = replace(SMALL, text="\ud800!", metadata={"\udfff": ["\ud800", 2**70]})
    back = memory_of(body_of(odd))
    assert back.text.endswith("!")
    back.text.encode()
    orjson.dumps(back.metadata)


def test_points_of_different_owners_differ_and_are_the_same_each_time() -> None:
    assert point_id(ANNA.tenant, "a") == point_id(ANNA.tenant, "a")
    assert point_id(ANNA.tenant, "a") != point_id(BOB.tenant, "a")
    assert len(point_id(ANNA.tenant, "a")) == 32


def test_a_reference_names_its_point_and_nothing_else_is_taken_for_one() -> None:
    point = point_id(ANNA.tenant, "a")
    assert point_id(BOB.tenant, reference(point)) == point
    for other in ("@", "@short", "@" + "g" * 32, "@" + "a" * 33, point, "@../" + "a" * 29):
        assert not is_reference(other)
        assert point_id(ANNA.tenant, other) != other[1:]


def test_tags_are_keyed_and_equal_only_for_equal_json() -> None:
    assert tag(ANNA, "m.a", 1) == tag(ANNA, "m.a", 1.0)
    assert tag(ANNA, "m.a", {"x": 1, "y": 2}) == tag(ANNA, "m.a", {"y": 2, "x": 1})
    different = [tag(ANNA, "m.a", value) for value in (1, True, "1", None, [1], 1.5)]
    different += [tag(ANNA, "m.b", 1), tag(BOB, "m.a", 1), tag(ANNA, "session", 1)]
    different.append(tag(replace(ANNA, key=b""), "m.a", 1))
    assert len(set(different)) == len(different)


def test_tokens_are_keyed_by_owner_and_stay_apart() -> None:
    tokens = list(range(1000))
    anna = KeyedTokens(ANNA)(tokens)
    assert len(set(anna)) == 1000
    assert all(0 <= token < 2**32 for token in anna)
    assert KeyedTokens(ANNA)(tokens[500:]) == anna[500:]
    assert not set(anna) & set(KeyedTokens(BOB)(tokens)) > set()
    assert KeyedTokens(replace(ANNA, key=b""))(tokens) != anna


def test_texts_that_are_hashed_together_are_hashed_as_each_alone() -> None:
    """And as what older programs stored: BLAKE2b of four bytes, by a key of the owner's own."""
    key = blake2b(ANNA.tenant.encode(), key=ANNA.key, person=b"tokens").digest()
    keyed = KeyedTokens(ANNA)
    for text in ([3, 1, 2**32 - 1], [1, 7], [], [7, 3]):
        plain = [blake2b(t.to_bytes(4, "big"), digest_size=4, key=key).digest() for t in text]
        assert keyed(text) == [int.from_bytes(one, "big") for one in plain]


def test_standing_ones_are_pinned_or_active_profile_and_preferences() -> None:
    fact = replace(SMALL, kind="fact", type="profile")
    assert standing_order(fact) is not None
    assert standing_order(replace(fact, type="interaction")) is None
    assert standing_order(SMALL) is None
    assert standing_order(replace(SMALL, pinned=True)) is not None
    assert standing_order(replace(fact, status="forgotten")) is None


def test_standing_order_holds_for_any_time_and_importance() -> None:
    fact = replace(SMALL, kind="fact", type="profile")

    def order(**fields: Any) -> float:
        found = standing_order(replace(fact, **fields))
        assert found is not None
        return found

    assert order(pinned=True, importance=0.0) > order(importance=1.0, created_at=2e11)
    assert order(importance=0.51, created_at=0.0) > order(importance=0.5, created_at=2e11)
    assert order(created_at=1.7e9 + 1) > order(created_at=1.7e9)
    assert order(created_at=-1e9) >= 0.0
