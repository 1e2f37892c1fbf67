"""Records of exchanges and plans: everything comes back, and nothing is guessed."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core import wire
from gateway.core.delivery import Forget, Plan, Put, Revise
from gateway.core.errors import Unreadable
from gateway.core.exchange import Exchange, Outcome, Turn
from gateway.core.memory import Memory, Source, Status, Type, Version, Via

texts = st.text(max_size=30)
lone = st.sampled_from(["\ud800", "a\udfffb", " \x00", '"\\'])
maybe_text = st.none() | texts | lone
instants = st.floats(allow_nan=False, allow_infinity=False, width=64)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)

exchanges = st.builds(
    Exchange,
    id=texts,
    session=texts,
    at=instants,
    turns=st.lists(
        st.builds(
            Turn,
            n=st.integers(0, 99),
            role=texts,
            text=texts | lone,
            at=instants,
            speaker=maybe_text,
        ),
        max_size=3,
    ).map(tuple),
    outcome=st.sampled_from(get_args(Outcome)),
    via=st.sampled_from(get_args(Via)),
    timezone=maybe_text,
    model=maybe_text,
    finish_reason=maybe_text,
    receipt_id=maybe_text,
)
memories = st.builds(
    Memory,
    id=texts,
    kind=st.sampled_from(["fact", "turn"]),
    text=texts | lone,
    created_at=instants,
    updated_at=instants,
    valid_from=instants,
    type=st.none() | st.sampled_from(get_args(Type)),
    key=maybe_text,
    value=maybe_text,
    importance=st.floats(0, 1),
    pinned=st.booleans(),
    status=st.sampled_from(get_args(Status)),
    valid_to=st.none() | instants,
    expires_at=st.none() | instants,
    superseded_by=maybe_text,
    source=st.builds(Source, role=texts, quote=maybe_text, session=maybe_text),
    speaker=maybe_text,
    covers=st.lists(texts, max_size=3).map(tuple),
    metadata=st.dictionaries(texts, json_values, max_size=3),
    history=st.lists(
        st.builds(Version, at=instants, event=st.just("refined"), text=texts), max_size=2
    ).map(tuple),
)
plans = st.builds(
    Plan,
    exchange_ids=st.lists(texts, max_size=3).map(tuple),
    writes=st.lists(
        st.one_of(
            st.builds(Put, memory=memories, window=maybe_text),
            st.builds(Revise, memory=memories, seen=instants),
            st.builds(Forget, id=texts, at=instants),
        ),
        max_size=3,
    ).map(tuple),
    notes=st.lists(st.tuples(texts, st.integers()), max_size=2).map(tuple),
)

EXCHANGE = Exchange("x1", "s1", 1.5, (Turn(0, "user", "I moved to Porto", 1.5),))
PLAN = Plan(("x1",), (Forget("m1", 2.0),), (("duplicate", 1),))


@given(exchanges)
@settings(max_examples=100)
def test_an_exchange_comes_back_equal(exchange: Exchange) -> None:
    assert wire.exchange_from_bytes(wire.exchange_to_bytes(exchange)) == exchange


@given(plans)
@settings(max_examples=100)
def test_a_plan_comes_back_equal(plan: Plan) -> None:
    assert wire.plan_from_bytes(wire.plan_to_bytes(plan)) == plan


def test_a_record_carries_its_version_and_leaves_defaults_out() -> None:
    assert json.loads(wire.exchange_to_bytes(EXCHANGE)) == {
        "v": 1,
        "kind": "exchange",
        "id": "x1",
        "session": "s1",
        "at": 1.5,
        "turns": [{"n": 0, "role": "user", "text": "I moved to Porto", "at": 1.5}],
    }


def test_a_record_of_version_1_is_read() -> None:
    kept = b'{"v":1,"kind":"exchange","id":"x","session":"s","at":3,"turns":[]}'
    assert wire.exchange_from_bytes(kept) == Exchange("x", "s", 3.0, ())


def test_a_field_that_is_not_known_yet_is_passed_over() -> None:
    record = json.loads(wire.exchange_to_bytes(EXCHANGE)) | {"mood": "curious"}
    assert wire.exchange_from_bytes(json.dumps(record).encode()) == EXCHANGE


def test_a_newer_version_is_refused_with_the_way_out() -> None:
    record = json.loads(wire.plan_to_bytes(PLAN)) | {"v": 2}
    with pytest.raises(Unreadable, match=r"version 2 .* reads up to 1.*newer") as caught:
        wire.plan_from_bytes(json.dumps(record).encode())
    assert caught.value.code == wire.NEWER


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b"[" * 100_000,
        b'{"v":1,"kind":"plan","exchange_ids":[],"writes":[]}',
        b'{"kind":"exchange","id":"x","session":"s","at":3,"turns":[]}',
        b'{"v":"1","kind":"exchange","id":"x","session":"s","at":3,"turns":[]}',
        b'{"v":0,"kind":"exchange","id":"x","session":"s","at":3,"turns":[]}',
        b'{"v":1,"kind":"exchange","session":"s","at":3,"turns":[]}',
        b'{"v":1,"kind":"exchange","id":7,"session":"s","at":3,"turns":[]}',
        b'{"v":1,"kind":"exchange","id":"x","session":"s","at":true,"turns":[]}',
        b'{"v":1,"kind":"exchange","id":"x","session":"s","at":3,"turns":{}}',
        b'{"v":1,"kind":"exchange","id":"x","session":"s","at":3,"turns":[1]}',
        b'{"v":1,"kind":"exchange","id":"x","session":"s","at":3,"turns":[],"outcome":"odd"}',
    ],
)
def test_a_damaged_exchange_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        wire.exchange_from_bytes(data)


@pytest.mark.parametrize(
    "change",
    [
        {"writes": [{"do": "drop", "id": "m", "at": 1}]},
        {"writes": [{"id": "m", "at": 1}]},
        {"notes": [["duplicate"]]},
        {"exchange_ids": "x1"},
    ],
)
def test_a_damaged_plan_is_unreadable(change: dict[str, Any]) -> None:
    record = json.loads(wire.plan_to_bytes(PLAN)) | change
    with pytest.raises(Unreadable):
        wire.plan_from_bytes(json.dumps(record).encode())


def test_an_error_about_a_damaged_record_repeats_none_of_its_words() -> None:
    record = json.loads(wire.exchange_to_bytes(EXCHANGE)) | {"turns": "my secret"}
    with pytest.raises(Unreadable) as caught:
        wire.exchange_from_bytes(json.dumps(record).encode())
    assert "secret" not in str(caught.value)
