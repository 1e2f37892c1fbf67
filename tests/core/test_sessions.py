"""The ids of conversations that no client has named."""

from __future__ import annotations

from gateway.core.identity import Person, new_owner
from gateway.core.sessions import session_id

NOON = 1_790_000_000.0
GAP = 3600.0
ANN = new_owner(Person("default", "ann"))


def test_the_same_opening_within_a_step_is_the_same_conversation() -> None:
    first = session_id(ANN, ["m1"], now=NOON, idle_gap_s=GAP)
    assert first == session_id(ANN, ["m1", "m2"], now=NOON + 1, idle_gap_s=GAP)
    assert first.startswith("ses_")


def test_other_words_another_owner_or_a_gap_make_another_conversation() -> None:
    bob = new_owner(Person("default", "bob"))
    ids = {
        session_id(ANN, ["m1"], now=NOON, idle_gap_s=GAP),
        session_id(ANN, ["m2"], now=NOON, idle_gap_s=GAP),
        session_id(bob, ["m1"], now=NOON, idle_gap_s=GAP),
        session_id(ANN, ["m1"], now=NOON + GAP, idle_gap_s=GAP),
        session_id(ANN, [], now=NOON, idle_gap_s=GAP),
    }
    assert len(ids) == 5
