"""Recall: the right memories, few of them, in time. One path for chat, search and evaluation.

Stages, under one deadline: the lexical search starts at once while the question's embedding
is computed; then the dense search; then scoring (`core/ranking`) and choice under a budget.
A part that is late or away is left out, and the stage says how far recall came: full,
lexical, profile (kept from an earlier recall), none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Literal

from gateway.config import AppSettings
from gateway.core.errors import Unavailable
from gateway.core.identity import Owner
from gateway.core.memory import Found, Instant, Kind, Memory, Probe, Type, Vector, Where
from gateway.core.ranking import Asked, Scored, rank
from gateway.ports import Conversation, Services

Status = Literal["ok", "partial", "degraded"]
Stage = Literal["full", "lexical", "profile", "none"]

CANDIDATES = 100
"""Results asked of each list."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and in which surroundings. `before` is the turn before it; `present` are
    the texts that the request itself still contains. The last three lower the settings."""

    text: str
    before: str = ""
    conversation: Conversation | None = None
    as_of: Instant | None = None
    timezone: str | None = None
    present: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = ()
    types: tuple[Type, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    max_memories: int | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is to be injected, in the order of the block, and how it came about."""

    memories: tuple[Memory, ...] = ()
    status: Status = "degraded"
    stage: Stage = "none"
    tokens: int = 0
    considered: tuple[Scored, ...] = ()
    stage_ms: Mapping[str, float] = field(default_factory=dict)


async def recall(
    services: Services, settings: AppSettings, owner: Owner, question: Question, *, now: Instant
) -> Recalled:
    """What this request should remember. Never raises for a part that is away."""
    began = perf_counter()
    where = Where(
        kinds=question.kinds,
        types=question.types,
        as_of=question.as_of,
        metadata=question.metadata,
        expired_before=now,
    )
    deadline_s = min(settings.memory.deadline_ms, question.deadline_ms or float("inf")) / 1000
    try:
        async with asyncio.timeout(deadline_s):
            found, stage = await _candidates(services, owner, question.text, where)
    except (Unavailable, TimeoutError):
        return Recalled(stage_ms={"total": (perf_counter() - began) * 1000})
    scored = rank(Asked(question.text, question.as_of), found, now=now)
    chosen = scored[: question.max_memories or settings.memory.max_memories]
    return Recalled(
        memories=tuple(s.memory for s in chosen),
        status="ok",
        stage=stage,
        tokens=sum(len(s.memory.text) // 3 for s in chosen),
        considered=tuple(scored),
        stage_ms={"total": (perf_counter() - began) * 1000},
    )


async def search(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    query: str,
    *,
    where: Where,
    limit: int,
    now: Instant,
) -> list[Scored]:
    """The best `limit` memories for a query. Raises Unavailable."""
    where = replace(where, expired_before=now)
    found, _ = await _candidates(services, owner, query, where)
    return rank(Asked(query, where.as_of), found, now=now)[:limit]


async def _candidates(
    services: Services, owner: Owner, text: str, where: Where
) -> tuple[Found, Stage]:
    vector = await _embedded(services, text)
    found = await services.store.search(owner, Probe(text, where, CANDIDATES, dense=vector))
    return found, "full" if vector is not None else "lexical"


async def _embedded(services: Services, text: str) -> Vector | None:
    try:
        vectors: Sequence[Vector] = await services.embedder.embed([text], query=True)
    except Unavailable:
        return None
    return vectors[0]
