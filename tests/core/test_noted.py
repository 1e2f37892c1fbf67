"""What is noted beside frozen data is no part of it."""

from __future__ import annotations

import pickle
from copy import copy
from dataclasses import asdict, dataclass, fields, replace

from gateway.core.noted import Noted, note_on


@dataclass(frozen=True, slots=True)
class Data(Noted):
    value: int


def test_a_note_is_neither_compared_nor_copied_nor_written() -> None:
    bare, noted = Data(1), Data(1)
    note_on(noted, "worked out")
    assert noted.note == "worked out"
    assert getattr(bare, "note", None) is None
    assert (noted, hash(noted), repr(noted)) == (bare, hash(bare), repr(bare))
    assert asdict(noted) == {"value": 1}
    assert [field.name for field in fields(noted)] == ["value"]
    for other in (replace(noted), copy(noted), pickle.loads(pickle.dumps(noted))):
        assert getattr(other, "note", None) is None
