"""A place beside frozen data for what is worked out from it once.

It is no field: nothing compares, copies or writes it, and it goes with what it belongs to. Each
class that has one says who notes what there.
"""

from __future__ import annotations

from typing import Any


class Noted:
    """Mixed into a frozen dataclass with slots."""

    __slots__ = ("note",)

    note: Any


def note_on(data: Noted, note: Any) -> None:
    """Note it, beside the frozen fields; `getattr(data, "note", None)` finds it again."""
    object.__setattr__(data, "note", note)
