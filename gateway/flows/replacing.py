"""A keyed fact that is written by hand takes the place of the one that held its slot.

The code sets both intervals: the older ends where the newer begins, and stays as superseded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Where
from gateway.core.slots import slot_of
from gateway.flows.browse import pages
from gateway.ports import Services


async def replacing(
    services: Services, owner: Owner, fresh: Sequence[Memory], *, now: Instant
) -> dict[str, Memory]:
    """The fresh memories, and the known ones whose slot they take, by id, as they are from now
    on. Within one call, too, the last value of a slot is the one that holds."""
    changed = {memory.id: memory for memory in fresh}
    holders: dict[tuple[str, str], Memory] = {}
    if any(held_slot(memory, now) for memory in fresh):
        holders = {
            slot: held
            for held in await keyed(services, owner)
            if (slot := held_slot(held, now)) is not None
        }
    for memory in fresh:
        slot = held_slot(memory, now)
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


def held_slot(memory: Memory, now: Instant) -> tuple[str, str] | None:
    """The slot that an active fact holds; None where it holds none, as what is over by now ("lived
    in Rome until 2012"): that stands beside the present value, and ends with no other."""
    if memory.kind != "fact" or memory.status != "active":
        return None
    if memory.valid_to is not None and memory.valid_to <= now:
        return None
    return slot_of(memory.type, memory.key)


async def keyed(services: Services, owner: Owner) -> list[Memory]:
    """The owner's active facts that have a key, oldest first."""
    where = Where(kinds=("fact",), types=("profile", "preference", "task_state"))
    found: list[Memory] = []
    async for page in pages(services, owner, where):
        found += [memory for memory in page if memory.key is not None]
    return found[::-1]
