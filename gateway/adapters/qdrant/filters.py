"""Conditions as a Qdrant server's REST API has them; the one place where any filter is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from gateway.core.lookup import Condition


def filter_of(conditions: Sequence[Condition]) -> dict[str, Any]:
    """The filter that all of these conditions make."""
    made: dict[str, Any] = {}
    for condition in conditions:
        made.setdefault("must_not" if condition.negated else "must", []).append(_one(condition))
    return made


def _one(condition: Condition) -> dict[str, Any]:
    field, op, value = condition.field, condition.op, condition.value
    if field == "point" and isinstance(value, tuple):
        return {"has_id": [str(UUID(point)) for point in value]}
    if op == "is":
        return {"key": field, "match": {"value": value}}
    if op == "any" and isinstance(value, tuple):
        return {"key": field, "match": {"any": list(value)}}
    return {"key": field, "range": {"gte": value, "lte": value} if op == "at" else {op: value}}
