"""What is known of a user that new facts may touch, and how near they lie to it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gateway.core.exchange import Exchange
from gateway.core.guards import Fact
from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Probe, Where
from gateway.core.slots import slot_of
from gateway.core.windows import DENSE_CHARS
from gateway.flows.browse import pages
from gateway.flows.vectors import Vectors, dense_fact
from gateway.ports import Services

KNOWN_PAGE = 300
"""Facts that are read whole. Whoever has more is asked for by relevance beside the newest."""
STANDING_PAGE = 500
SHOWN = 100
"""Known facts that an extractor is shown: about 2,000 tokens."""
NEAR = 8
"""Known facts looked at for each new one."""
TOLD_TURNS = 500
"""Turns that are looked up to learn when values were told, for late exchanges alone."""


async def known_of(
    services: Services, owner: Owner, exchanges: Sequence[Exchange], *, now: Instant
) -> tuple[list[Memory], list[Memory]]:
    """The facts that this batch may touch: active and quarantined ones, and superseded ones, among
    which those of an exchange that arrives late belong. And the tombstones of what was
    forgotten."""
    where = Where(kinds=("fact",), statuses=("active", "quarantined"), expired_before=now)
    gone = replace(where, statuses=("forgotten",))
    past = replace(where, statuses=("superseded",))
    # One look for almost everybody; what is over never crowds out what is known.
    both = replace(where, statuses=(*where.statuses, *past.statuses, *gone.statuses))
    first = await services.store.page(owner, both, limit=KNOWN_PAGE)
    stones = [m for m in first if m.status == "forgotten"]
    known = {m.id: m for m in first if m.status != "forgotten"}
    if len(first) < KNOWN_PAGE:
        return list(known.values()), stones
    stones = [m async for page in pages(services, owner, gone) for m in page]
    known = {m.id: m for m in await services.store.page(owner, where, limit=KNOWN_PAGE)}
    if len(known) >= KNOWN_PAGE:
        standing = replace(where, types=("profile", "preference", "task_state"))
        for memory in await services.store.page(owner, standing, limit=STANDING_PAGE):
            known.setdefault(memory.id, memory)
        said = "\n".join(t.text for e in exchanges for t in e.turns if t.role == "user")
        found = await services.store.search(
            owner, Probe(said[-DENSE_CHARS:], replace(where, statuses=("active",)), limit=SHOWN)
        )
        known = {**found.memories, **known}
    for memory in await services.store.page(owner, past, limit=KNOWN_PAGE):
        known.setdefault(memory.id, memory)
    return list(known.values()), stones


def may_be_late(known: Iterable[Memory], exchanges: Sequence[Exchange]) -> bool:
    """Whether something was written since these exchanges were said, so that they may belong
    before it."""
    first = exchanges[0].at
    return any(memory.updated_at > first or memory.created_at > first for memory in known)


async def told_again(
    services: Services, owner: Owner, known: Sequence[Memory], exchanges: Sequence[Exchange]
) -> Mapping[str, Instant]:
    """For exchanges that may be late: when things were told, keyed values before all, as far as
    their turns are still there."""
    if not may_be_late(known, exchanges):
        return {}
    keyed_last = sorted(known, key=lambda m: slot_of(m.type, m.key) is not None)
    ids = [id for m in keyed_last for id in m.covers][-TOLD_TURNS:]
    turns = await services.store.get(owner, list(dict.fromkeys(ids)))
    return {turn.id: turn.created_at for turn in turns}


async def nearest(
    services: Services,
    owner: Owner,
    facts: Sequence[Fact],
    vectors: Vectors,
    known: Sequence[Memory],
) -> tuple[list[Mapping[str, float]], list[Memory]]:
    """For each fact the cosine to the known facts near it, and those facts."""
    if not known:
        return [{} for _ in facts], []
    where = Where(kinds=("fact",))

    async def near(fact: Fact) -> tuple[Mapping[str, float], list[Memory]]:
        vector = vectors.of.get(dense_fact(fact))
        if vector is None or fact.action in ("retract", "duplicate"):
            return {}, []
        probe = Probe(fact.text, where, limit=NEAR, dense=vector)
        found = await services.store.search(owner, probe)
        scores = dict(found.lists.get("dense", ()))
        return scores, [found.memories[id] for id in scores if id in found.memories]

    results = await asyncio.gather(*(near(fact) for fact in facts))
    return [scores for scores, _ in results], [m for _, some in results for m in some]
