"""Which stored records a call means, as data; and what a search found, put together.

A store turns conditions into its engine's filter, in one function of its own; that the tenant
stands first in every list of conditions is decided here, once for all stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.core.identity import Owner, Person
from gateway.core.memory import Found, Instant, ListName, Memory, Status, Where
from gateway.core.stored import tag

Hits: TypeAlias = tuple[Sequence[int], Sequence[float]]
"""One list of a search: the places of its hits among all that the search found, and scores."""

NO_HITS: Hits = ((), ())


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a plain field of a record; `negated`: it must not hold.

    `is` and `any` compare with one or several words, `lt`, `lte`, `gt` and `at` with a number.
    A field that is absent satisfies none of them.
    """

    field: str
    op: Literal["is", "any", "lt", "lte", "gt", "at"]
    value: str | bool | float | tuple[str, ...]
    negated: bool = False


def of_tenant(tenant: str, where: Where | None = None) -> tuple[Condition, ...]:
    """A tenant's records, all of them or those that `where` means; see `refuse_tags`."""
    if where is None:
        return (Condition("tenant", "is", tenant),)
    refuse_tags(where)
    return of_owner(Owner(Person("", ""), tenant), where)


def refuse_tags(where: Where) -> None:
    """Metadata and sessions are matched by hashes keyed per owner: a tenant alone is not enough.

    Raises ValueError, for it is the caller's mistake and an empty answer would be a lie.
    """
    if where.metadata or where.session is not None or where.sessions:
        raise ValueError("metadata and session cannot be matched without the owner")


def of_owner(owner: Owner, where: Where, *, expiry: bool = True) -> tuple[Condition, ...]:
    """The owner's records that `where` means. Without `expiry` the expired ones are in: they are
    few until the next sweep, and `assemble` drops them for less than a condition costs."""
    statuses = statuses_of(where)
    tenant = owner.tenant
    if statuses == ("active",):
        wanted = [Condition("live", "is", tenant)]
    else:
        wanted = [Condition("tenant", "is", tenant)]
        if statuses:
            wanted.append(Condition("status", "any", statuses))
    if where.kinds:
        wanted.append(Condition("kind", "any", where.kinds))
    if where.types:
        wanted.append(Condition("type", "any", where.types))
    wanted += [Condition("tags", "is", wanted_tag) for wanted_tag in tags_wanted(owner, where)]
    if where.sessions:
        wanted.append(Condition("tags", "any", sessions_wanted(owner, where)))
    if where.as_of is not None:
        wanted.append(Condition("valid_from", "lte", where.as_of))
        wanted.append(Condition("valid_to", "lte", where.as_of, negated=True))
    if where.said_after is not None:
        wanted.append(Condition("created_at", "gt", where.said_after))
    if expiry and where.expired_before is not None:
        wanted.append(Condition("expires_at", "lte", where.expired_before, negated=True))
    return tuple(wanted)


def statuses_of(where: Where) -> tuple[Status, ...]:
    """The statuses that `where` lets in: a look into the past sees superseded ones too."""
    if where.as_of is None or not where.statuses or "superseded" in where.statuses:
        return where.statuses
    return (*where.statuses, "superseded")


def tags_wanted(owner: Owner, where: Where) -> list[str]:
    """The tags that a memory must have, every one, to be meant by `where`."""
    wanted = [tag(owner, "session", where.session)] if where.session is not None else []
    return wanted + [tag(owner, f"m.{name}", value) for name, value in where.metadata.items()]


def sessions_wanted(owner: Owner, where: Where) -> tuple[str, ...]:
    """Tags of which a memory must have one, where there are any."""
    return tuple(tag(owner, "session", session) for session in where.sessions)


def is_expired(memory: Memory, before: Instant | None) -> bool:
    """Whether a memory's time was up at `before`."""
    return before is not None and memory.expires_at is not None and memory.expires_at <= before


def assemble(
    lists: Mapping[ListName, Hits],
    memories: Sequence[Memory | None],
    *,
    expired_before: Instant | None,
) -> Found:
    """What lists hit, as a `Found`; None stands where a memory could not be read.

    Those are left out: they went between two calls, or were not the owner's.
    """
    ids = [
        memory.id
        if memory is not None
        and (memory.expires_at is None or not is_expired(memory, expired_before))
        else None
        for memory in memories
    ]
    found: dict[ListName, Sequence[tuple[str, float]]] = {}
    for name, (places, scores) in lists.items():
        hits = zip([ids[place] for place in places], scores, strict=True)
        found[name] = [(id, score) for id, score in hits if id is not None]
    return Found(
        lists=found,
        memories={
            id: memory
            for id, memory in zip(ids, memories, strict=True)
            if id is not None and memory is not None
        },
    )


def in_page_order(
    rows: Iterable[tuple[Instant, str, Memory]],
) -> list[tuple[Instant, str, Memory]]:
    """(created_at, point, memory) newest first; those of one instant by their points, so that
    pages neither repeat nor skip where a thousand came in at once."""
    return sorted(rows, key=lambda row: (-row[0], row[1]))
