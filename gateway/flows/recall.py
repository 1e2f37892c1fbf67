"""Recall: the right memories, few of them, in time. One path for chat, search and evaluation.

Stages, under one deadline: the search for words starts at once while the question's embedding
is computed; then the search by vector; then scoring (`core/ranking`), the floor
(`core/relevance`) and the choice under a budget (`core/choice`). A part that is late or away is
left out, and the stage says how far recall came: full, lexical, profile (kept from an earlier
recall), none. Nothing here raises for a part that is away, but `search`, whose caller asked for
nothing else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gateway.config import AppSettings
from gateway.core.identity import Owner
from gateway.core.memory import Found, Instant, Where
from gateway.core.scored import Scored
from gateway.flows.asking import Asking
from gateway.flows.between import forget
from gateway.flows.question import Question, Recalled
from gateway.ports import Services

__all__ = ["Question", "Recalled", "Scored", "asked", "candidates", "forget", "recall", "search"]

SCORING_SHARE: Final = 0.05
"""The share of the deadline that is kept for scoring, after the last answer has come."""


async def recall(
    services: Services, settings: AppSettings, owner: Owner, question: Question, *, now: Instant
) -> Recalled:
    """What this request should remember; within the deadline, whatever is away."""
    asking = asked(services, settings, owner, question, now=now)
    try:
        return await asking.recall()
    finally:
        asking.parts.end()


def asked(
    services: Services, settings: AppSettings, owner: Owner, question: Question, *, now: Instant
) -> Asking:
    """A recall, for who begins it before all of the question is known; its deadline runs from
    now on."""
    deadline_ms = settings.memory.deadline_ms
    if question.deadline_ms is not None:
        deadline_ms = min(deadline_ms, question.deadline_ms)
    seconds = deadline_ms * (1.0 - SCORING_SHARE) / 1000.0
    return Asking(services, settings, owner, question, now, seconds=seconds)


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
    """The best `limit` memories for a query, whatever the floor. Raises Unavailable."""
    asking = _patient(services, settings, owner, query, where, now)
    try:
        where = replace(where, expired_before=now)
        found = await asking.candidates.all_of(where, at_least=limit)
        found = await asking.of_its_time(found, where)
        outdated = await asking.outdated_turns(found)
        return (await asking.ranking(found, outdated))[:limit]
    finally:
        asking.parts.end()


async def candidates(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    query: str,
    *,
    where: Where,
    now: Instant,
) -> Found:
    """What the store finds for a query, before it is ranked. Raises Unavailable."""
    asking = _patient(services, settings, owner, query, where, now)
    try:
        return await asking.candidates.all_of(replace(where, expired_before=now))
    finally:
        asking.parts.end()


def _patient(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    query: str,
    where: Where,
    now: Instant,
) -> Asking:
    """Asking for its own sake: as long as the store's own timeout allows."""
    question = Question(query, as_of=where.as_of)
    return Asking(services, settings, owner, question, now, seconds=settings.qdrant.timeout_s)
