"""A keyed fact that is written by hand takes the place of the one that held its slot.

The code sets both intervals: the older ends where the newer begins, and stays as superseded. What
is to come (by a day: clocks differ) does not end what is, as where it is said in chat
(`core/reconcile`): both stand until then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Where
from gateway.core.slots import slot_of
from gateway.core.timeline import DAY_S
from gateway.flows.browse import pages
from gateway.ports import Services


async def replacing(
    services: Services, owner: Owner, fresh: Sequence[Memory], *, now: Instant
) -> dict[str, Memory]:
    """The fresh memories, and the known ones whose slot they take, by id, as they are from now
    on. Within one call, too, the last value of a slot is the one that holds."""
    changed = {memory.id: memory for memory in fresh}
    holders: defaultdict[tuple[str, str], list[Memory]] = defaultdict(list)
    if any(held_slot(memory, now) for memory in fresh):
        for held in await keyed(services, owner):
            if (slot := held_slot(held, now)) is not None:
                holders[slot].append(held)
    for memory in fresh:
        slot = held_slot(memory, now)
        if slot is None:
            continue
        for held in giving_way(holders[slot], memory):
            changed[held.id] = ended(held, by=memory, now=now)
            if changed[held.id].status == "superseded":
                changed[memory.id] = replace(changed[memory.id], supersedes=held.id)
        of_slot = [changed.get(held.id, held) for held in holders[slot] if held.id != memory.id]
        holders[slot] = [m for m in of_slot if m.status == "active"] + [changed[memory.id]]
    return changed


def giving_way(holders: Sequence[Memory], memory: Memory) -> list[Memory]:
    """Of those that hold a memory's slot, the others that would hold at the same time as it."""
    return [
        held
        for held in holders
        if held.id != memory.id
        and not _over_before(held, memory)
        and not _over_before(memory, held)
    ]


def _over_before(one: Memory, other: Memory) -> bool:
    return one.valid_to is not None and one.valid_to <= other.valid_from


def ended(memory: Memory, *, by: Memory, now: Instant) -> Memory:
    """A memory whose place another has taken, or is to take when that begins."""
    over = replace(
        memory,
        updated_at=max(now, memory.updated_at),
        valid_to=max(memory.valid_from, by.valid_from),
    )
    if memory.valid_from < by.valid_from and now + DAY_S < by.valid_from:
        return over
    return replace(over, status="superseded", superseded_by=by.id, superseded_at=now)


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
