"""What a person or an operator does to memories by hand: write, correct, forget, bring back.

What is written here was meant by a person, so it outranks what an extractor drew from
conversation (`Source.via`). Nothing is changed in place without leaving the old version in
the memory's history; what is forgotten leaves a tombstone without content.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from gateway.config import AppSettings
from gateway.core.errors import Unprocessable
from gateway.core.identity import Owner
from gateway.core.lookup import is_expired
from gateway.core.memory import (
    Instant,
    Kind,
    Memory,
    Source,
    Type,
    Via,
)
from gateway.core.redaction import redact, redact_named
from gateway.core.repeating import repeats
from gateway.core.tombstone import history_with, tombstone
from gateway.core.wording import stands_in
from gateway.flows import receipts
from gateway.flows.browse import read
from gateway.flows.keeping import (
    cleaned,
    closely,
    end_as,
    end_of,
    is_kept,
    length,
    length_of,
    not_kept,
    without,
)
from gateway.flows.over import mark, mark_replaced
from gateway.flows.repeating import answers_repeating, is_turn, waiting_that_say
from gateway.flows.replacing import ended, giving_way, held_slot, keyed, replacing
from gateway.flows.writing import alone, store
from gateway.ports import Services

CORRECTABLE: Final = frozenset(
    {
        "text",
        "type",
        "key",
        "value",
        "importance",
        "pinned",
        "status",
        "valid_from",
        "valid_to",
        "expires_at",
        "metadata",
    }
)
"""The fields of a memory that a correction may name."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A memory as a caller writes it; what is absent gets its default."""

    text: str
    type: Type | None
    kind: Kind = "fact"
    key: str | None = None
    value: str | None = None
    importance: float = 0.5
    pinned: bool = False
    speaker: str | None = None
    session: str | None = None
    created_at: Instant | None = None
    valid_from: Instant | None = None
    expires_at: Instant | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


# --- write ---------------------------------------------------------------------------------


async def create(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    drafts: Sequence[Draft],
    *,
    via: Via,
    now: Instant,
    once: str | None = None,
) -> list[Memory]:
    """Store drafts as memories, in order, and return them.

    A keyed fact replaces the active one of its slot, which stays as superseded. Ids are derived
    from `once` where it is given, so that a repeated call makes nothing twice and undoes no
    correction. Raises Unprocessable for a type that this app does not keep.
    """
    for n, draft in enumerate(drafts):
        if not is_kept(draft.type, settings):
            raise not_kept(draft.type, f"[{n}].type" if len(drafts) > 1 else "type")

    # Drawn here: in the thread each would let go of Python's lock for a moment that is too short
    # for others to take it, and long enough for them to wait anew, so that they wait for all.
    ids = [_id_of(owner, draft, n, once) for n, draft in enumerate(drafts)]

    def written_down() -> list[Memory]:
        return [
            _from_draft(ids[n], draft, settings, via=via, at=_moment(now, n))
            for n, draft in enumerate(drafts)
        ]

    memories = await closely(written_down, length([[d.text, d.value, d.metadata] for d in drafts]))
    async with alone(services, owner.tenant):
        there = {}
        if once is not None:
            there = {m.id: m for m in await services.store.get(owner, [m.id for m in memories])}
        fresh = [memory for memory in memories if memory.id not in there]
        changed = await replacing(services, owner, fresh, now=now)
        if fresh:
            await store(services, owner, list(changed.values()))
        return [there.get(m.id) or changed[m.id] for m in memories]


def _id_of(owner: Owner, draft: Draft, n: int, once: str | None) -> str:
    prefix = "turn_" if draft.kind == "turn" else "mem_"
    if once is None:
        return prefix + secrets.token_hex(12)
    digest = hashlib.blake2b(f"{owner.tenant}\0{once}\0{n}".encode(), digest_size=12)
    return prefix + digest.hexdigest()


def _moment(now: Instant, n: int) -> Instant:
    """What comes in one call was written down in its order: lists show the last one first."""
    return round(now + n * 1e-6, 6)


def _from_draft(id: str, draft: Draft, settings: AppSettings, *, via: Via, at: Instant) -> Memory:
    created_at = at if draft.created_at is None else draft.created_at
    hidden = settings.privacy.redact
    return Memory(
        id=id,
        kind=draft.kind,
        type=draft.type,
        text=redact(draft.text, hidden),
        key=draft.key,
        value=None if draft.value is None else redact_named(draft.key, draft.value, hidden),
        importance=draft.importance,
        pinned=draft.pinned,
        created_at=created_at,
        updated_at=at,
        valid_from=created_at if draft.valid_from is None else draft.valid_from,
        expires_at=end_of(draft.type, draft.pinned, settings, at)
        if draft.expires_at is None
        else draft.expires_at,
        speaker=draft.speaker,
        metadata=cleaned(draft.metadata, hidden),
        source=Source(role=_role_of(draft), via=via, session=draft.session),
    )


def _role_of(draft: Draft) -> str:
    return draft.speaker if draft.speaker in {"assistant", "tool", "system"} else "user"


# --- correct and forget ----------------------------------------------------------------------


async def correct(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    id: str,
    changes: Mapping[str, Any],
    *,
    via: Via,
    now: Instant,
) -> Memory:
    """Change what is said to be wrong; the old version stays in the history.

    `changes` are fields of `CORRECTABLE` with checked values. Raises NotFound, and
    Unprocessable where the result would make no sense.
    """
    async with alone(services, owner.tenant):
        memory = await read(services, owner, id, now=now)
        corrected = await closely(
            partial(_corrected, memory, changes, settings, via=via, now=now),
            length(changes),
        )
        changed = {corrected.id: corrected}
        if held_slot(corrected, now) is not None:
            changed |= await replacing(services, owner, [corrected], now=now, corrects=memory)
        await store(services, owner, list(changed.values()))
        if changed[id].status != memory.status:
            await mark(services, owner, [changed[id]])
        return changed[id]


def _corrected(
    memory: Memory, changes: Mapping[str, Any], settings: AppSettings, *, via: Via, now: Instant
) -> Memory:
    hidden = settings.privacy.redact
    beside = {"value": changes.get("key", memory.key)}
    clean = {
        name: cleaned(value, hidden, beside.get(name))
        if name in ("text", "value", "metadata")
        else value
        for name, value in changes.items()
    }
    if memory.kind == "turn" and (fact_only := {"type", "key", "value"} & clean.keys()):
        name = min(fact_only)
        raise Unprocessable(f"{name}: a turn has none; correct its text", param=name)
    if "type" in clean and not is_kept(clean["type"], settings):
        raise not_kept(clean["type"], "type")
    if "pinned" in clean and "expires_at" not in clean and clean["pinned"] != memory.pinned:
        type_ = clean.get("type", memory.type)
        clean["expires_at"] = end_of(type_, clean["pinned"], settings, now)
    if clean.get("type", memory.type) != memory.type:
        clean.setdefault("expires_at", end_as(memory, clean["type"], settings, now))
    corrected = replace(
        memory,
        **clean,
        updated_at=max(now, round(memory.updated_at + 1e-6, 6)),
        source=replace(memory.source, via=via),
        history=history_with(memory, "corrected"),
    )
    if corrected.status == "active" and memory.superseded_at is not None:
        valid_to = corrected.valid_to if "valid_to" in clean else None
        corrected = replace(corrected, superseded_by=None, superseded_at=None, valid_to=valid_to)
    if corrected.status == "superseded" and memory.status != "superseded":
        ends = max(now, corrected.valid_from)  # what was to begin later never held
        corrected = replace(corrected, superseded_at=now, valid_to=corrected.valid_to or ends)
    if corrected.valid_to is not None and corrected.valid_to < corrected.valid_from:
        raise Unprocessable("valid_to: lies before valid_from", param="valid_to")
    return corrected


async def forget(services: Services, owner: Owner, id: str, *, now: Instant) -> None:
    """Forget one memory, and the turns that it was drawn from where they say the same.

    Raises NotFound. What is left is a tombstone without content, by which an older exchange
    that arrives later is kept from bringing it back.
    """
    async with alone(services, owner.tenant):
        memory = await read(services, owner, id, now=now)
        gone = [memory, *await _turns_that_say_it(services, owner, memory, now=now)]
        await store(services, owner, [tombstone(owner, m, now=now) for m in gone], gone=gone)
        await mark_replaced(services, owner, gone)
    await receipts.without(services, owner, gone)


async def _turns_that_say_it(
    services: Services, owner: Owner, fact: Memory, *, now: Instant
) -> list[Memory]:
    """A forgotten fact that could be read off its turn again, or off the answer to it ("Porto, how
    lovely!"), would not be forgotten. A quote is looked for as it was believed: folded; a turn that
    told it again has words of its own, and is known by what they share."""
    if fact.kind != "fact":
        return []
    quote = fact.source.quote or ""
    turns = await services.store.get(owner, fact.covers) if fact.covers else []
    told = [
        turn
        for turn in turns
        if is_turn(turn)
        and (
            not quote
            or stands_in(quote, turn.text)
            or repeats(turn.text, value=fact.value, words=quote)
        )
    ]
    answers = await answers_repeating(services, owner, fact, told)
    stored = {turn.id: turn for turn in [*told, *answers]}
    waiting = await waiting_that_say(services, owner, fact, before=now)
    return [*stored.values(), *(turn for turn in waiting if turn.id not in stored)]


# --- bring back --------------------------------------------------------------------------------


async def bring_back(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    memories: Sequence[Memory],
    *,
    now: Instant,
) -> int:
    """Store exported memories as they were; how many. Types that this app does not keep, and
    what has expired, are left out; what must never be stored is taken out.

    Of the facts of one slot, among them or known, the newest holds.
    """
    hidden = settings.privacy.redact

    def still_kept() -> dict[str, Memory]:
        return {
            memory.id: without(memory, hidden)
            for memory in memories
            if is_kept(memory.type, settings) and not is_expired(memory, now)
        }

    kept = await closely(still_kept, sum(length_of(memory) for memory in memories))
    async with alone(services, owner.tenant):
        changed = dict(kept)
        if any(held_slot(memory, now) for memory in kept.values()):
            known = [held for held in await keyed(services, owner) if held.id not in kept]
            holders: defaultdict[tuple[str, str], list[Memory]] = defaultdict(list)
            for memory in sorted([*known, *kept.values()], key=lambda m: m.created_at):
                if (slot := held_slot(memory, now)) is None:
                    continue
                for older in giving_way(holders[slot], memory):
                    changed[older.id] = ended(older, by=memory, now=now)
                of_slot = [changed.get(older.id, older) for older in holders[slot]]
                holders[slot] = [*(m for m in of_slot if m.status == "active"), memory]
        if changed:
            await store(services, owner, list(changed.values()))
    return len(kept)
