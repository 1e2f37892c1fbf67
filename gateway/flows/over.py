"""Turns that told what is over, with nothing in its place: "I live in Porto", once it was said that
this is no longer so.

Where another fact has taken the place, it names the one before (`flows/outdated`); here no fact in
force does, so the turns say so themselves, by a mark in their metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.core.identity import Owner
from gateway.core.memory import Memory
from gateway.core.wording import stands_in
from gateway.flows.outdated import MAX_BACK, OVER
from gateway.flows.repeating import is_turn
from gateway.flows.writing import store
from gateway.ports import Services


def has_ended(fact: Memory) -> bool:
    """Whether a fact was given up, and nothing took its place."""
    return fact.kind == "fact" and fact.status == "superseded" and fact.superseded_by is None


async def mark_replaced(services: Services, owner: Owner, gone: Sequence[Memory]) -> None:
    """Mark the user's turns that told what these facts, now forgotten, had replaced: with Milan
    forgotten, "I live in Rome" of the year before does not hold again. Raises StoreUnavailable."""
    before: dict[str, Memory] = {}
    ids = [fact.supersedes for fact in gone if fact.supersedes is not None]
    for _ in range(MAX_BACK):
        if not ids:
            break
        found = [m for m in await services.store.get(owner, ids) if m.status == "superseded"]
        ids = [m.supersedes for m in found if m.supersedes is not None and m.id not in before]
        before.update((m.id, m) for m in found)
    await mark(services, owner, list(before.values()), over=True)


async def mark(
    services: Services, owner: Owner, facts: Sequence[Memory], *, over: bool = False
) -> None:
    """Mark the user's turns that told these facts, or take the mark off where a fact holds again;
    `over` where all of them are. Raises StoreUnavailable. The caller is alone with the owner's
    memories."""
    told = {id: fact for fact in facts for id in fact.covers}
    turns = await services.store.get(owner, list(told)) if told else []
    changed = []
    for turn in turns:
        fact = told[turn.id]
        if not is_turn(turn) or turn.source.role != "user" or not _tells(turn, fact):
            continue
        metadata = {name: value for name, value in turn.metadata.items() if name != OVER}
        if over or has_ended(fact):
            metadata[OVER] = True
        if metadata != turn.metadata:
            changed.append(replace(turn, metadata=metadata))
    if changed:
        await store(services, owner, changed)


def _tells(turn: Memory, fact: Memory) -> bool:
    return not fact.source.quote or stands_in(fact.source.quote, turn.text)
