"""Former states of a memory: as many are kept as go out and in again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core import tombstone
from gateway.core.memory import Memory
from gateway.core.tombstone import history_with


def test_of_more_states_than_are_kept_the_first_and_the_latest_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tombstone, "MAX_HISTORY", 3)
    memory = Memory("m", "fact", "0", 1.0, 1.0, 1.0, type="profile")
    for number in range(1, 6):
        memory = replace(memory, text=str(number), history=history_with(memory, "corrected"))
    assert [past.text for past in memory.history] == ["0", "3", "4"]
