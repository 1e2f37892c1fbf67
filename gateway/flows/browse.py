"""Looking at memories by hand: one, all, and what became of one over time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from itertools import accumulate
from typing import Any, Final

from gateway.core.errors import NotFound
from gateway.core.identity import Owner
from gateway.core.lookup import is_expired
from gateway.core.memory import Instant, Memory, Version, Where, parse_rfc3339, rfc3339
from gateway.ports import Services

PAGE: Final = 500
CHAIN: Final = 100
"""How many superseded memories a history goes back."""


async def read(services: Services, owner: Owner, id: str, *, now: Instant) -> Memory:
    """One memory. Raises NotFound: unknown, forgotten, expired, or another's."""
    memory = await _any(services, owner, id)
    if memory is None or memory.status == "forgotten" or is_expired(memory, now):
        raise not_found(id)
    return memory


async def pages(services: Services, owner: Owner, where: Where) -> AsyncIterator[list[Memory]]:
    """All memories that are meant, newest first, a page at a time."""
    after: tuple[Instant, str] | None = None
    while page := await services.store.page(owner, where, limit=PAGE, after=after):
        yield page
        if len(page) < PAGE:
            return
        after = (page[-1].created_at, page[-1].id)


async def history(
    services: Services, owner: Owner, id: str, *, now: Instant
) -> list[dict[str, Any]]:
    """A memory's versions and those of what it superseded, oldest first, the present one last.

    Each says what began it (`event`), when, by whom (`via`), and what it said. A forgotten
    memory answers too: when, and nothing of what it said. Raises NotFound.
    """
    memory = await _any(services, owner, id)
    if memory is None or is_expired(memory, now):
        raise not_found(id)
    chain = [memory]
    while (before := chain[0].supersedes) is not None and len(chain) < CHAIN:
        older = await _any(services, owner, before)
        if older is None or any(older.id == m.id for m in chain):
            break
        chain.insert(0, older)
    ordered = _in_order([_versions(link) for link in chain])
    return [version for _, version in ordered]


def _in_order(links: Sequence[list[dict[str, Any]]]) -> list[tuple[Instant, dict[str, Any]]]:
    """The versions of a chain, oldest first and the present one last, each with its place in time.

    That is the chain's order; what was corrected after it was replaced, or was brought back, is
    older and newer than what replaced it at once, and goes by its own time. The times of others
    would not do: they are those of the distilling, which is later than what was said.
    """
    placed: list[tuple[Instant, dict[str, Any]]] = []
    replaced = math.inf
    for n, versions in reversed([*enumerate(links)]):
        following = links[n + 1 : n + 2]
        # One that was brought back (which is a correction) began before what it stands behind.
        if following and not any(v["event"] == "corrected" for v in following[0]):
            replaced = min(replaced, parse_rfc3339(following[0][0]["at"]))
        # None is later than its next: a memory may have been written with a time to come.
        times = [*accumulate((parse_rfc3339(v["at"]) for v in reversed(versions)), min)]
        placed[:0] = [
            (at if version["event"] == "corrected" else min(at, replaced), version)
            for at, version in zip(reversed(times), versions, strict=True)
        ]
    return [*sorted(placed[:-1], key=lambda one: one[0]), placed[-1]]


def _versions(memory: Memory) -> list[dict[str, Any]]:
    """A kept `Version` says what ended it: that is what began the next."""
    shown: list[dict[str, Any]] = []
    event = "created"
    for past in memory.history:
        shown.append(_shown(memory.id, past, event=event, current=False))
        event = past.event
    if memory.status == "forgotten":
        gone = Version(at=memory.updated_at, event="forgotten", via=memory.source.via)
        return [*shown, _shown(memory.id, gone, event="forgotten", current=False)]
    present = Version(
        at=memory.updated_at if shown else memory.created_at,
        event="created",
        text=memory.text,
        key=memory.key,
        value=memory.value,
        via=memory.source.via,
    )
    last = _shown(memory.id, present, event=event, current=memory.status == "active")
    last["status"] = memory.status
    if memory.superseded_by is not None:
        last["superseded_by"] = memory.superseded_by
    if memory.superseded_at is not None:
        last["superseded_at"] = rfc3339(memory.superseded_at)
    return [*shown, last]


def _shown(id: str, version: Version, *, event: str, current: bool) -> dict[str, Any]:
    return {
        "id": id,
        "at": rfc3339(version.at),
        "event": event,
        "text": version.text or None,
        "key": version.key,
        "value": version.value,
        "via": version.via,
        "current": current,
    }


async def _any(services: Services, owner: Owner, id: str) -> Memory | None:
    return next(iter(await services.store.get(owner, [id])), None)


def not_found(id: str) -> NotFound:
    """Unknown, forgotten or another's: one answer for all."""
    return NotFound(
        f"no memory {id[:80]!r} of this user; GET /v1/memories lists them",
        param="id",
        code="memory_not_found",
    )
