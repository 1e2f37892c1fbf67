"""Recorded exchanges distilled again, under another prompt, model or settings of extraction.

The exchanges are put together from the turns that a recording holds, and taken in batches as a
worker would have taken them, through the same journey (`flows/distil`), into a scratch store.
What a person, the API or an import said stays as it is, and so does a fact whose turns are not
kept any more: nothing could be drawn from them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Final

from gateway.config import AppSettings, ExtractionSettings
from gateway.core.delivery import Plan
from gateway.core.errors import ExtractorUnavailable
from gateway.core.exchange import Exchange, turn_memory_id
from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Where
from gateway.flows.applying import apply
from gateway.flows.browse import pages
from gateway.flows.distil import CHARS_A_TOKEN, plan_for
from gateway.flows.vectors import Vectors
from gateway.lab.recordings import Known, UserRecordings, exchanges_of, in_force
from gateway.lab.scratch import load, scratch_owner
from gateway.ports import Extractor, Services

TRIES: Final = 3
"""An extractor that is busy is asked so often, at the pauses that it names."""
PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Exchanges that were distilled at once, and the facts that rest on them: those of the
    recording, and those of now. `failed` says why there are none."""

    exchanges: tuple[Exchange, ...]
    then: tuple[Memory, ...]
    now: tuple[Memory, ...]
    seconds: float
    failed: str | None = None


@dataclass(frozen=True, slots=True)
class Redistilled:
    """One user's memories as they would be; `kept` facts could not be drawn again, for the turns
    that they rest on are gone. `dropped` counts what guards refused, by reason."""

    user: str
    memories: tuple[Memory, ...]
    batches: tuple[Batch, ...]
    kept: int
    dropped: Counter[str]


async def redistil(
    recordings: UserRecordings,
    services: Services,
    extractor: Extractor,
    settings: AppSettings,
    *,
    done: Callable[[int], object] = lambda _: None,
) -> Redistilled:
    """Distil one user's recorded exchanges again; `done` is told of each one.

    Raises ExtractorUnavailable where the extractor cannot be had at all.
    """
    timezone = next((r.question.timezone for r in recordings.recalls if r.question.timezone), None)
    exchanges = exchanges_of(recordings.memories, timezone)
    drawn, kept = _drawn(recordings.memories, exchanges)
    before = Known(_as_if_never(drawn, recordings.memories))
    owner = scratch_owner(recordings.user)
    alone: Any = _Alone(owner)
    services = replace(services, directory=alone, state=alone, receipts=alone)
    # Turns are there already; facts are told on which of them they rest.
    turns_kept = settings.memory.model_copy(update={"turns": "on"})
    planning = settings.model_copy(update={"memory": turns_kept})
    vectors, dropped = Vectors(), Counter[str]()
    told: list[tuple[tuple[Exchange, ...], float, str | None]] = []
    for batch in batches(exchanges, settings.extraction):
        now = max(turn.at for turn in batch[-1].turns) + settings.extraction.idle_s
        if fresh := before.until(now):
            await load(services, owner, fresh)
        began, failed = perf_counter(), None
        try:
            plan = await _asked(services, planning, extractor, owner, batch, vectors, now)
            await apply(services, owner, plan, vectors)
            for note, count in plan.notes:
                if note.startswith("dropped."):
                    dropped[note.removeprefix("dropped.")] += count
        except ExtractorUnavailable as exc:
            if not exc.counts_as_try:
                raise
            failed = exc.message
        told.append((batch, perf_counter() - began, failed))
        done(len(batch))
    if rest := before.until(float("inf")):
        await load(services, owner, rest)
    memories = await _all(services, owner)
    return Redistilled(
        user=recordings.user,
        memories=tuple(memories),
        batches=tuple(
            Batch(batch, _resting_on(batch, drawn), _resting_on(batch, memories), seconds, failed)
            for batch, seconds, failed in told
        ),
        kept=kept,
        dropped=dropped,
    )


# --- as a worker would take them ----------------------------------------------------------------


def batches(
    exchanges: Sequence[Exchange], asked: ExtractionSettings
) -> Iterator[tuple[Exchange, ...]]:
    """As a worker would take them: until nothing more was said for a while, or enough was."""
    batch: list[Exchange] = []
    for exchange in exchanges:
        if batch and (
            exchange.at - batch[-1].at > asked.idle_s
            or exchange.at - batch[0].at > asked.max_wait_s
            or len(batch) >= asked.max_batch_exchanges
            or sum(e.size for e in [*batch, exchange]) > asked.max_batch_tokens * CHARS_A_TOKEN
        ):
            yield tuple(batch)
            batch = []
        batch.append(exchange)
    if batch:
        yield tuple(batch)


# --- what was drawn ----------------------------------------------------------------------------


def _drawn(
    memories: Sequence[Memory], exchanges: Sequence[Exchange]
) -> tuple[tuple[Memory, ...], int]:
    """The recorded facts that stand to be drawn again, and how many do not for want of turns."""
    from_chats = [m for m in memories if m.kind == "fact" and m.source.via == "chat"]
    again = _resting_on(exchanges, from_chats)
    return again, len(from_chats) - len(again)


def _resting_on(exchanges: Sequence[Exchange], memories: Iterable[Memory]) -> tuple[Memory, ...]:
    ids = {exchange.id for exchange in exchanges}
    turns = {turn_memory_id(e.id, turn.n) for e in exchanges for turn in e.turns}
    return tuple(
        m
        for m in memories
        if m.kind == "fact"
        and m.source.via == "chat"
        and (m.source.exchange_id in ids or not turns.isdisjoint(m.covers))
    )


def _as_if_never(drawn: Sequence[Memory], memories: Sequence[Memory]) -> list[Memory]:
    """The memories without those; what one of them superseded is in force again."""
    ids = {m.id for m in drawn}
    return [in_force(m) if m.superseded_by in ids else m for m in memories if m.id not in ids]


async def _asked(
    services: Services,
    settings: AppSettings,
    extractor: Extractor,
    owner: Owner,
    batch: Sequence[Exchange],
    vectors: Vectors,
    now: Instant,
) -> Plan:
    """The plan; asked again after a pause where the extractor is busy."""
    for tries_left in reversed(range(TRIES)):
        try:
            return await plan_for(services, settings, extractor, owner, batch, vectors, now=now)
        except ExtractorUnavailable as exc:
            busy = exc.retry_after_s is not None or exc.code in ("429", "503")
            if not busy or not tries_left:
                raise
            await asyncio.sleep(min(exc.retry_after_s or PAUSE_S, LONGEST_PAUSE_S))
    raise AssertionError("the last try returns or raises")


class _Alone:
    """What applying a plan speaks to beside the store, where nobody else is: the owner stays, and
    there are no caches and no receipts."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    async def by_tenant(self, _tenant: str) -> Owner:
        return self._owner

    async def touch_standing(self, _tenant: str) -> bool:
        """Nobody keeps a copy."""
        return True

    async def recent(self, _owner: Owner, **_: object) -> list[dict[str, object]]:
        return []


async def _all(services: Services, owner: Owner) -> list[Memory]:
    where = Where(statuses=("active", "superseded", "quarantined"))
    return [m async for page in pages(services, owner, where) for m in page]
