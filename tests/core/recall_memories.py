"""Memories and findings for the tests of ranking, relevance, choice and excerpts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.core.memory import Found, ListName, Memory, Source, parse_rfc3339
from gateway.core.scored import PARTS, Scored

NOW = parse_rfc3339("2026-06-01T12:00:00Z")
DAY_S = 86_400.0


def turn(id: str, text: str, *, days_ago: float = 10.0, **more: Any) -> Memory:
    at = NOW - days_ago * DAY_S
    source = Source(role=more.pop("role", "user"), session=more.pop("session", None))
    return Memory(id, "turn", text, at, at, at, source=source, **more)


def fact(id: str, text: str, *, days_ago: float = 10.0, **more: Any) -> Memory:
    at = NOW - days_ago * DAY_S
    source = Source(session=more.pop("session", None), quote=more.pop("quote", None))
    values = {"type": "interaction", "valid_from": at, **more}
    return Memory(id, "fact", text, at, at, source=source, **values)


def found(
    memories: Sequence[Memory], lists: Mapping[ListName, Mapping[str, float]] | None = None
) -> Found:
    """What a store would say; by default everything is equally good by words."""
    if lists is None:
        lists = {"lexical": {m.id: 1.0 for m in memories}}
    return Found(
        lists={
            name: sorted(scores.items(), key=lambda hit: -hit[1]) for name, scores in lists.items()
        },
        memories={m.id: m for m in memories},
    )


def candidate(
    memory: Memory, score: float, why: Mapping[str, float], left_out: str | None = None
) -> Scored:
    """A candidate whose score is made of these parts alone."""
    return Scored(memory, score, [why.get(name, 0.0) for name in PARTS], left_out)
