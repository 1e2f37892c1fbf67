"""What a person or an operator does to memories by hand: write, look, correct, forget.

What is written here was meant by a person, so it outranks what an extractor drew from
conversation (`Source.via`). Nothing is changed in place without leaving the old version in
the memory's history; what is forgotten leaves a tombstone without content.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.config import AppSettings, seconds_of
from gateway.core.errors import EmbedderUnavailable, NotFound, StateUnavailable, Unprocessable
from gateway.core.identity import Owner
from gateway.core.memory import (
    Entry,
    Instant,
    Kind,
    Memory,
    Source,
    Type,
    Version,
    Via,
    Where,
    rfc3339,
)
from gateway.core.redaction import redact
from gateway.core.windows import dense_text, dense_window_text, window_texts
from gateway.ports import Services

CORRECTABLE = frozenset(
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

HISTORY_MAX = 100
"""How many superseded memories a history goes back."""


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

    A keyed fact replaces the active one of the same type and key, which stays as
    superseded. Where the embedder is away the memories wait for their vectors. Ids are
    derived from `once` where it is given, so that a repeated call makes nothing twice.
    """
    names = [_id_of(owner, draft, n, once) for n, draft in enumerate(drafts)]
    memories = [
        _from_draft(name, draft, settings, via=via, now=now)
        for name, draft in zip(names, drafts, strict=True)
    ]
    memories = _one_value_a_key(memories)
    ended = await _superseded_by(services, owner, memories, now=now)
    await store(services, owner, [*memories, *ended])
    return memories


def _id_of(owner: Owner, draft: Draft, n: int, once: str | None) -> str:
    prefix = "turn_" if draft.kind == "turn" else "mem_"
    if once is None:
        return prefix + secrets.token_hex(12)
    digest = hashlib.blake2b(f"{owner.tenant}\0{once}\0{n}".encode(), digest_size=12)
    return prefix + digest.hexdigest()


def _from_draft(id: str, draft: Draft, settings: AppSettings, *, via: Via, now: Instant) -> Memory:
    created_at = now if draft.created_at is None else draft.created_at
    expires_at = draft.expires_at
    if expires_at is None:
        keep = seconds_of(getattr(settings.retention, draft.type or "turn"))
        expires_at = None if keep is None or draft.pinned else created_at + keep
    return Memory(
        id=id,
        kind=draft.kind,
        type=draft.type,
        text=redact(draft.text, settings.privacy.redact),
        key=draft.key,
        value=draft.value,
        importance=draft.importance,
        pinned=draft.pinned,
        created_at=created_at,
        updated_at=now,
        valid_from=created_at if draft.valid_from is None else draft.valid_from,
        expires_at=expires_at,
        speaker=draft.speaker,
        metadata=draft.metadata,
        source=Source(role=_role_of(draft), via=via, session=draft.session),
    )


def _role_of(draft: Draft) -> str:
    return draft.speaker if draft.speaker in {"assistant", "tool", "system"} else "user"


def _one_value_a_key(memories: list[Memory]) -> list[Memory]:
    """Within one call too, the last value of a key is the one that holds."""
    last = {(m.type, m.key): m.id for m in memories if m.key is not None}
    return [
        m
        if m.key is None or last[m.type, m.key] == m.id
        else replace(
            m,
            status="superseded",
            superseded_by=last[m.type, m.key],
            superseded_at=m.updated_at,
        )
        for m in memories
    ]


async def _superseded_by(
    services: Services, owner: Owner, memories: Sequence[Memory], *, now: Instant
) -> list[Memory]:
    """The known memories whose key is given a new value, as they are from now on."""
    fresh = {(m.type, m.key): m for m in memories if m.key is not None and m.status == "active"}
    if not fresh:
        return []
    ended = []
    for old in await keyed(services, owner, tuple({t for t, _ in fresh if t is not None})):
        new = fresh.get((old.type, old.key or ""))
        if new is not None and new.id != old.id:
            ended.append(
                replace(
                    old,
                    status="superseded",
                    superseded_by=new.id,
                    superseded_at=now,
                    updated_at=now,
                    valid_to=max(old.valid_from, new.valid_from),
                )
            )
    return ended


async def keyed(services: Services, owner: Owner, types: tuple[Type, ...]) -> list[Memory]:
    """The owner's active facts of these types that have a key."""
    where = Where(kinds=("fact",), types=types)
    found: list[Memory] = []
    async for page in pages(services, owner, where):
        found += [memory for memory in page if memory.key is not None]
    return found


async def store(services: Services, owner: Owner, memories: Sequence[Memory]) -> None:
    """Write memories with their vectors and let caches of this owner know."""
    entries = await entries_of(services, memories)
    await services.store.put(owner, entries)
    try:
        await services.state.touch_standing(owner.tenant)
    except StateUnavailable:
        # The memories are stored; caches of them end by their own age.
        return


async def entries_of(services: Services, memories: Sequence[Memory]) -> list[Entry]:
    """Memories as a store takes them: windows for turns, vectors for those that can be found."""
    windows = _windows(memories)
    wanted = [m for m in memories if m.status != "forgotten"]
    dense: dict[str, Any] = {}
    dense_windows: dict[str, Any] = {}
    try:
        vectors = await services.embedder.embed([dense_text(m) for m in wanted]) if wanted else []
        dense = {m.id: vector for m, vector in zip(wanted, vectors, strict=True)}
        if windows:
            vectors = await services.embedder.embed(
                [dense_window_text(window) for window in windows.values()]
            )
            dense_windows = dict(zip(windows, vectors, strict=True))
    except EmbedderUnavailable:
        # Found by `MemoryStore.unembedded` and mended by the sweep when it is back.
        dense, dense_windows = {}, {}
    return [Entry(m, dense.get(m.id), windows.get(m.id), dense_windows.get(m.id)) for m in memories]


def _windows(memories: Sequence[Memory]) -> dict[str, str]:
    """Each turn's text with its neighbours' in the same session, in the order of their times."""
    sessions: dict[str | None, list[Memory]] = {}
    for memory in memories:
        if memory.kind == "turn" and memory.status != "forgotten":
            sessions.setdefault(memory.session, []).append(memory)
    windows: dict[str, str] = {}
    for turns in sessions.values():
        turns.sort(key=lambda turn: turn.created_at)
        windows |= {turn.id: text for turn, text in zip(turns, window_texts(turns), strict=True)}
    return windows


# --- look ----------------------------------------------------------------------------------


async def read(services: Services, owner: Owner, id: str) -> Memory:
    """One memory. Raises NotFound: unknown, forgotten, or another's."""
    memory = await _any(services, owner, id)
    if memory is None or memory.status == "forgotten":
        raise not_found(id)
    return memory


async def history(services: Services, owner: Owner, id: str) -> list[dict[str, Any]]:
    """A memory's versions, oldest first, the present one last; what it superseded comes before.

    A forgotten memory answers too: when, and nothing of what it said. Raises NotFound.
    """
    memory = await _any(services, owner, id)
    if memory is None:
        raise not_found(id)
    chain = [memory]
    while (before := chain[0].supersedes) is not None and len(chain) < HISTORY_MAX:
        older = await _any(services, owner, before)
        if older is None or any(older.id == m.id for m in chain):
            break
        chain.insert(0, older)
    return [version for link in chain for version in _versions(link)]


def _versions(memory: Memory) -> list[dict[str, Any]]:
    present = Version(
        at=memory.updated_at,
        event="superseded" if memory.status == "superseded" else "created",
        text=memory.text,
        key=memory.key,
        value=memory.value,
        via=memory.source.via,
    )
    past = list(memory.history)
    if memory.status != "forgotten":
        past.append(present)
    return [
        {
            "id": memory.id,
            "at": rfc3339(v.at),
            "event": v.event,
            "text": v.text or None,
            "key": v.key,
            "value": v.value,
            "via": v.via,
            "current": v is present and memory.status == "active",
        }
        for v in past
    ]


async def _any(services: Services, owner: Owner, id: str) -> Memory | None:
    return next(iter(await services.store.get(owner, [id])), None)


def not_found(id: str) -> NotFound:
    """Unknown, forgotten or another's: one answer for all."""
    return NotFound(
        f"no memory {id[:80]!r} of this user; GET /v1/memories lists them",
        param="id",
        code="memory_not_found",
    )


async def pages(
    services: Services, owner: Owner, where: Where, size: int = 500
) -> AsyncIterator[list[Memory]]:
    """All memories that are meant, newest first, a page at a time."""
    after: tuple[Instant, str] | None = None
    while page := await services.store.page(owner, where, limit=size, after=after):
        yield page
        if len(page) < size:
            return
        after = (page[-1].created_at, page[-1].id)


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
    memory = await read(services, owner, id)
    if "text" in changes:
        changes = {**changes, "text": redact(changes["text"], settings.privacy.redact)}
    corrected = replace(
        memory,
        **changes,
        updated_at=now,
        source=replace(memory.source, via=via),
        history=(*memory.history, version_of(memory, "corrected")),
    )
    if corrected.valid_to is not None and corrected.valid_to < corrected.valid_from:
        raise Unprocessable("valid_to lies before valid_from", param="valid_to")
    if corrected.kind == "fact" and corrected.type is None:
        raise Unprocessable("a fact needs a type", param="type")
    if corrected.status == "active" and memory.status == "superseded":
        corrected = replace(corrected, superseded_by=None, superseded_at=None, valid_to=None)
    ended = []
    if corrected.status == "active" and corrected.key is not None:
        ended = await _superseded_by(services, owner, [corrected], now=now)
    await store(services, owner, [corrected, *ended])
    return corrected


def version_of(memory: Memory, event: str) -> Version:
    """The present state of a memory as an entry of its history; `event` says what ends it."""
    return Version(
        at=memory.updated_at,
        event=event,  # type: ignore[arg-type]
        text=memory.text,
        key=memory.key,
        value=memory.value,
        via=memory.source.via,
    )


async def forget(services: Services, owner: Owner, id: str, *, now: Instant) -> None:
    """Forget one memory, and the turns that it was drawn from where they say the same.

    Raises NotFound. What is left is a tombstone that says when, and nothing else.
    """
    memory = await read(services, owner, id)
    gone = [memory, *await _turns_that_say_it(services, owner, memory)]
    await services.store.put(owner, [Entry(tombstone(m, now)) for m in gone])
    try:
        await services.state.touch_standing(owner.tenant)
    except StateUnavailable:
        return


async def _turns_that_say_it(services: Services, owner: Owner, fact: Memory) -> list[Memory]:
    """A forgotten fact that could be read off its turn again would not be forgotten."""
    if not fact.covers:
        return []
    turns = await services.store.get(owner, fact.covers)
    quote = fact.source.quote or ""
    return [t for t in turns if t.kind == "turn" and t.status != "forgotten" and quote in t.text]


def tombstone(memory: Memory, now: Instant) -> Memory:
    """What answers for a forgotten memory: its id and times, no content."""
    return Memory(
        id=memory.id,
        kind=memory.kind,
        type=memory.type,
        text="",
        created_at=memory.created_at,
        updated_at=now,
        valid_from=memory.created_at,
        status="forgotten",
        source=Source(role=memory.source.role, via=memory.source.via),
        history=tuple(
            [replace(v, text="", key=None, value=None) for v in memory.history]
            + [Version(at=now, event="forgotten", via=memory.source.via)]
        ),
    )
