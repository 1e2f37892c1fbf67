"""Writing memories: whole, with the texts and vectors they are found by, and never for someone
who was erased meanwhile.

Whoever reads a memory, decides and writes it back does so within `alone`, so that of two writers
of one person, in whichever processes, none undoes the other's. A writer that stands still for
longer than its turn lasts (15 s: a process that was stopped, not one that is slow) is the
exception: Qdrant knows no fencing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final
from weakref import WeakValueDictionary

from gateway.core.errors import EmbedderUnavailable, OwnerGone, StateUnavailable, Unavailable
from gateway.core.identity import Owner
from gateway.core.memory import Entry, Instant, Memory, Vector, Where
from gateway.core.windows import AFTER, BEFORE, dense_text, dense_window_text, windows_of
from gateway.flows.between import forget, superseded_written
from gateway.flows.tasks import beside, ended
from gateway.ports import Services, Writers

CHUNK: Final = 256
"""Memories written, and texts embedded, in one call."""
NEIGHBOURS: Final = BEFORE + AFTER + 1
"""Older turns of a session that decide what is written anew beside a new one."""
SESSION_PAGES: Final = (16, 500, 1000)
"""How far back the neighbours of a turn that arrives late are looked for; further, and it does
without."""

KEEP_S: Final = 4.0
"""How often a writer says that it is still at it: embedding can take seconds."""

_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


@asynccontextmanager
async def alone(services: Services, tenant: str) -> AsyncIterator[None]:
    """While inside, no other writer of this tenant is. Raises StateUnavailable where processes
    share the stores and cannot agree on whose turn it is."""
    lock = _locks.get(tenant)
    if lock is None:
        lock = _locks[tenant] = asyncio.Lock()
    async with lock:
        if services.writers is None:
            yield
            return
        async with _in_turn(services.writers, tenant):
            yield


@asynccontextmanager
async def _in_turn(writers: Writers, tenant: str) -> AsyncIterator[None]:
    token = await writers.take(tenant)
    keeping = beside(_keep(writers, tenant, token), "keep one's turn to write")
    try:
        yield
    finally:
        await ended(keeping)
        with suppress(StateUnavailable):
            await writers.leave(tenant, token)  # else it ends by itself


async def _keep(writers: Writers, tenant: str, token: str) -> None:
    while True:
        await asyncio.sleep(KEEP_S)
        with suppress(StateUnavailable):
            await writers.keep(tenant, token)


async def store(
    services: Services, owner: Owner, memories: Sequence[Memory], *, gone: Sequence[Memory] = ()
) -> None:
    """Write memories, and the windows of the turns beside them. Raises StoreUnavailable, and
    OwnerGone where the owner was erased before all was written: nothing of it stays.

    `gone` are memories as they were before the tombstones among `memories`: the windows beside
    them hold their words. Where the embedder is away memories are stored without vectors, to
    be given them later.
    """
    touched = [*memories, *gone]
    stored = await _neighbours(services, owner, touched)
    windows = windows_of([*stored, *(m for m in memories if m.status == "active")])
    anew = _beside({m.id for m in touched}, [*stored, *touched])
    whole = [*memories, *(m for m in stored if m.id in anew)]
    for start in range(0, len(whole), CHUNK):
        part = whole[start : start + CHUNK]
        await services.store.put(owner, await _entries(services, part, windows))
    if gone:
        forget(owner.tenant)  # what is gone is held here in plain words no longer
    if any(memory.status == "superseded" for memory in memories):
        superseded_written(owner.tenant)
    await written(services, owner)


async def written(services: Services, owner: Owner) -> None:
    """After every write: away with it where the owner was erased meanwhile, and caches of what
    stands are stale. Raises OwnerGone.

    An erasure drops the owner before it removes the records, so that one of the two sees what
    the other did. Of one that went through another process the directory here may not know for a
    second; shared state does.
    """
    try:
        if await services.directory.by_tenant(owner.tenant) is None:
            raise OwnerGone("this user was erased a moment ago", code="owner_gone")
        await stale(services, owner.tenant)
    except OwnerGone:
        services.directory.let_go(owner.tenant)
        await services.store.erase(owner.tenant)
        raise


async def stale(services: Services, tenant: str) -> None:
    """Caches of what stands hold no more. Where shared state cannot be told so, those of other
    processes end by their own age. Raises OwnerGone where shared state knows of an erasure."""
    try:
        there = await services.state.touch_standing(tenant)
    except Unavailable:
        forget(tenant)
    else:
        if not there:
            raise OwnerGone("this user was erased a moment ago", code="owner_gone")


async def _neighbours(services: Services, owner: Owner, memories: Sequence[Memory]) -> list[Memory]:
    """Stored turns of the same sessions that lend their words to new ones, or take theirs; also of
    one that counts no longer, whose words leave theirs."""
    oldest: dict[str, Instant] = {}
    for memory in memories:
        if memory.kind == "turn" and memory.session is not None:
            at = oldest.get(memory.session, memory.created_at)
            oldest[memory.session] = min(at, memory.created_at)
    fresh = {memory.id for memory in memories}
    found: list[Memory] = []
    for session, since in oldest.items():
        turns: list[Memory] = []
        after: tuple[Instant, str] | None = None
        for size in SESSION_PAGES:
            where = Where(kinds=("turn",), session=session)
            page = await services.store.page(owner, where, limit=size, after=after)
            turns += page
            before = sum(m.created_at < since and m.id not in fresh for m in turns)
            if len(page) < size or before >= NEIGHBOURS:
                break
            after = (page[-1].created_at, page[-1].id)
        found += [m for m in reversed(turns) if m.id not in fresh]
    return found


def _beside(fresh: set[str], turns: Sequence[Memory]) -> set[str]:
    """Ids of the turns whose windows hold a fresh one."""
    sessions: dict[str, list[Memory]] = {}
    for turn in turns:
        if turn.kind == "turn" and turn.session is not None:
            sessions.setdefault(turn.session, []).append(turn)
    found: set[str] = set()
    for line in sessions.values():
        line.sort(key=lambda turn: turn.created_at)
        for i, turn in enumerate(line):
            around = line[max(0, i - BEFORE) : i + AFTER + 1]
            if any(other.id in fresh for other in around):
                found.add(turn.id)
    return found


async def _entries(
    services: Services, memories: Sequence[Memory], windows: Mapping[str, str]
) -> list[Entry]:
    """Memories as a store takes them; vectors for all that can be found."""
    found_by = {m.id: m for m in memories if m.status != "forgotten" and m.text}
    held = {id: windows[id] for id in found_by if id in windows}
    texts = [dense_text(m) for m in found_by.values()]
    texts += [dense_window_text(window) for window in held.values()]
    vectors: list[Vector] = []
    if texts:
        # Found by `MemoryStore.unembedded` and mended by the sweep when the embedder is back.
        with suppress(EmbedderUnavailable):
            vectors = await services.embedder.embed(texts)
    dense = dict(zip(found_by, vectors, strict=False))
    dense_windows = dict(zip(held, vectors[len(found_by) :], strict=False))
    return [Entry(m, dense.get(m.id), held.get(m.id), dense_windows.get(m.id)) for m in memories]
