"""What a person or an operator does to memories by hand: write, correct, forget, bring back.

What is written here was meant by a person, so it outranks what an extractor drew from
conversation (`Source.via`). Nothing is changed in place without leaving the old version in
the memory's history; what is forgotten leaves a tombstone without content.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

from gateway.config import AppSettings, seconds_of
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
    Where,
)
from gateway.core.redaction import redact
from gateway.core.slots import slot_of
from gateway.core.tombstone import tombstone, version_of
from gateway.flows import receipts
from gateway.flows.browse import pages, read
from gateway.flows.handover import OFF_THE_LOOP_CHARS
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

T = TypeVar("T")


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
        if not _is_kept(draft.type, settings):
            raise _not_kept(draft.type, f"[{n}].type" if len(drafts) > 1 else "type")

    def written_down() -> list[Memory]:
        return [
            _from_draft(_id_of(owner, draft, n, once), draft, settings, via=via, at=_moment(now, n))
            for n, draft in enumerate(drafts)
        ]

    memories = await _read(written_down, sum(len(draft.text) for draft in drafts))
    async with alone(services, owner.tenant):
        there = {}
        if once is not None:
            there = {m.id: m for m in await services.store.get(owner, [m.id for m in memories])}
        fresh = [memory for memory in memories if memory.id not in there]
        changed = await _replacing(services, owner, fresh, now=now)
        if fresh:
            await store(services, owner, list(changed.values()))
        return [there.get(m.id) or changed[m.id] for m in memories]


async def _read(step: Callable[[], T], chars: int) -> T:
    """What reads so many characters closely, in a thread where that takes long."""
    return await asyncio.to_thread(step) if chars > OFF_THE_LOOP_CHARS else step()


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
        value=None if draft.value is None else redact(draft.value, hidden),
        importance=draft.importance,
        pinned=draft.pinned,
        created_at=created_at,
        updated_at=at,
        valid_from=created_at if draft.valid_from is None else draft.valid_from,
        expires_at=_end_of(draft.type, draft.pinned, settings, at)
        if draft.expires_at is None
        else draft.expires_at,
        speaker=draft.speaker,
        metadata=_clean(draft.metadata, hidden),
        source=Source(role=_role_of(draft), via=via, session=draft.session),
    )


def _end_of(
    type_: Type | None, pinned: bool, settings: AppSettings, now: Instant
) -> Instant | None:
    """Retention runs from when it is taken in: a log of last year is kept as long as one of
    today. What is pinned stays."""
    keep = seconds_of(getattr(settings.retention, type_ or "turn"))
    return None if keep is None or pinned else now + keep


def _role_of(draft: Draft) -> str:
    return draft.speaker if draft.speaker in {"assistant", "tool", "system"} else "user"


def _clean(value: Any, hidden: Collection[str]) -> Any:
    """Metadata without what must never be stored."""
    if isinstance(value, str):
        return redact(value, hidden)
    if isinstance(value, Mapping):
        return {name: _clean(part, hidden) for name, part in value.items()}
    if isinstance(value, list):
        return [_clean(part, hidden) for part in value]
    return value


def _is_kept(type_: Type | None, settings: AppSettings) -> bool:
    privacy = settings.privacy
    return type_ is None or (
        type_ not in privacy.deny_types
        and (not privacy.allow_types or type_ in privacy.allow_types)
    )


def _not_kept(type_: Type | None, param: str) -> Unprocessable:
    return Unprocessable(
        f"{param}: memories of type {type_} are not kept for this app (privacy.allow_types and"
        " privacy.deny_types)",
        param=param,
        code="type_not_kept",
    )


async def _replacing(
    services: Services, owner: Owner, fresh: Sequence[Memory], *, now: Instant
) -> dict[str, Memory]:
    """The fresh memories, and the known ones whose slot they take, by id, as they are from now
    on. Within one call, too, the last value of a slot is the one that holds."""
    changed = {memory.id: memory for memory in fresh}
    holders: dict[tuple[str, str], Memory] = {}
    if any(_slot(memory) for memory in fresh):
        holders = {
            slot: held for held in await keyed(services, owner) if (slot := _slot(held)) is not None
        }
    for memory in fresh:
        slot = _slot(memory)
        if slot is None:
            continue
        held = holders.get(slot)
        if held is not None and held.id != memory.id:
            changed[held.id] = ended(changed.get(held.id, held), by=memory, now=now)
            memory = replace(memory, supersedes=held.id)  # noqa: PLW2901 (from here on this one)
            changed[memory.id] = memory
        holders[slot] = memory
    return changed


def ended(memory: Memory, *, by: Memory, now: Instant) -> Memory:
    """A memory whose place another has taken."""
    return replace(
        memory,
        status="superseded",
        superseded_by=by.id,
        superseded_at=now,
        updated_at=max(now, memory.updated_at),
        valid_to=max(memory.valid_from, by.valid_from),
    )


def _slot(memory: Memory) -> tuple[str, str] | None:
    if memory.kind != "fact" or memory.status != "active":
        return None
    return slot_of(memory.type, memory.key)


async def keyed(services: Services, owner: Owner) -> list[Memory]:
    """The owner's active facts that have a key, oldest first."""
    where = Where(kinds=("fact",), types=("profile", "preference", "task_state"))
    found: list[Memory] = []
    async for page in pages(services, owner, where):
        found += [memory for memory in page if memory.key is not None]
    return found[::-1]


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
        corrected = await _read(
            partial(_corrected, memory, changes, settings, via=via, now=now),
            len(changes.get("text", "")),
        )
        changed = {corrected.id: corrected}
        if _slot(corrected) is not None:
            changed |= await _replacing(services, owner, [corrected], now=now)
        await store(services, owner, list(changed.values()))
        return changed[id]


def _corrected(
    memory: Memory, changes: Mapping[str, Any], settings: AppSettings, *, via: Via, now: Instant
) -> Memory:
    hidden = settings.privacy.redact
    clean = {
        name: _clean(value, hidden) if name in ("text", "value", "metadata") else value
        for name, value in changes.items()
    }
    if memory.kind == "turn" and (fact_only := {"type", "key", "value"} & clean.keys()):
        name = min(fact_only)
        raise Unprocessable(f"{name}: a turn has none; correct its text", param=name)
    if "type" in clean and not _is_kept(clean["type"], settings):
        raise _not_kept(clean["type"], "type")
    if "pinned" in clean and "expires_at" not in clean and clean["pinned"] != memory.pinned:
        clean["expires_at"] = _end_of(memory.type, clean["pinned"], settings, now)
    corrected = replace(
        memory,
        **clean,
        updated_at=max(now, round(memory.updated_at + 1e-6, 6)),
        source=replace(memory.source, via=via),
        history=(*memory.history, version_of(memory, "corrected")),
    )
    if corrected.status == "active" and memory.superseded_at is not None:
        valid_to = corrected.valid_to if "valid_to" in clean else None
        corrected = replace(corrected, superseded_by=None, superseded_at=None, valid_to=valid_to)
    if corrected.status == "superseded" and memory.status != "superseded":
        corrected = replace(corrected, superseded_at=now, valid_to=corrected.valid_to or now)
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
        gone = [memory, *await _turns_that_say_it(services, owner, memory)]
        await store(services, owner, [tombstone(owner, m, now=now) for m in gone], gone=gone)
    await receipts.without(services, owner, gone)


async def _turns_that_say_it(services: Services, owner: Owner, fact: Memory) -> list[Memory]:
    """A forgotten fact that could be read off its turn again would not be forgotten."""
    if not fact.covers:
        return []
    turns = await services.store.get(owner, fact.covers)
    quote = fact.source.quote or ""
    return [t for t in turns if t.kind == "turn" and t.status != "forgotten" and quote in t.text]


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

    A fact whose slot is held by a memory that is not among them gives way to the newer one.
    """
    hidden = settings.privacy.redact

    def still_kept() -> dict[str, Memory]:
        return {
            memory.id: _without(memory, hidden)
            for memory in memories
            if _is_kept(memory.type, settings) and not is_expired(memory, now)
        }

    kept = await _read(still_kept, sum(len(memory.text) for memory in memories))
    async with alone(services, owner.tenant):
        changed = dict(kept)
        if any(_slot(memory) for memory in kept.values()):
            for held in await keyed(services, owner):
                if held.id in kept or (slot := _slot(held)) is None:
                    continue
                for memory in kept.values():
                    if _slot(memory) == slot:
                        older, newer = sorted((held, memory), key=lambda m: m.created_at)
                        changed[older.id] = ended(older, by=newer, now=now)
        if changed:
            await store(services, owner, list(changed.values()))
    return len(kept)


def _without(memory: Memory, hidden: Collection[str]) -> Memory:
    quote = memory.source.quote
    return replace(
        memory,
        text=redact(memory.text, hidden),
        value=None if memory.value is None else redact(memory.value, hidden),
        metadata=_clean(memory.metadata, hidden),
        source=replace(memory.source, quote=None if quote is None else redact(quote, hidden)),
        history=tuple(
            replace(
                v,
                text=redact(v.text, hidden),
                value=None if v.value is None else redact(v.value, hidden),
            )
            for v in memory.history
        ),
    )
