"""A keyed fact that is written by hand takes the place of the one that held its slot.

The code sets both intervals: the older ends where the newer begins, and stays as superseded. What
is to come (by a day: clocks differ) does not end what is, as where it is said in chat
(`core/reconcile`): both stand until then. Of two that are dated by who wrote them the later holds,
and the other is put behind it: a history may be written in any order. One that reaches back ends
what was over already where it begins, so that at no time two values of a slot hold.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Status, Type, Where
from gateway.core.slots import slot_of
from gateway.core.timeline import DAY_S
from gateway.flows.browse import pages
from gateway.ports import Services


async def replacing(
    services: Services,
    owner: Owner,
    fresh: Sequence[Memory],
    *,
    now: Instant,
    corrects: Memory | None = None,
) -> dict[str, Memory]:
    """The fresh memories, and the known ones whose slot they take, by id, as they are from now
    on. Within one call, too, the last value of a slot is the one that holds.

    `corrects` is what the fresh one was until now: it is written on purpose, and takes its place
    whatever its dates; what was over is looked at only where they have changed.
    """
    changed = {memory.id: memory for memory in fresh}
    holders: defaultdict[tuple[str, str], list[Memory]] = defaultdict(list)
    past: defaultdict[tuple[str, str], list[Memory]] = defaultdict(list)
    taking = [(slot, m) for m in fresh if (slot := held_slot(m, now)) is not None]
    if taking:
        for held in await keyed(services, owner):
            if (slot := held_slot(held, now)) is not None:
                holders[slot].append(held)
    back = any(_looks_back(memory, corrects) for _, memory in taking)
    if back:
        for over in await keyed(services, owner, "superseded"):
            if (slot := slot_of(over.type, over.key)) is not None:
                past[slot].append(over)
    for slot, memory in taking:
        others = giving_way(holders[slot], memory)
        newer = [m for m in others if corrects is None and _goes_behind(memory, m, now)]
        if newer:
            changed |= _behind(memory, newer, past[slot], now=now)
        else:
            for held in others:
                changed[held.id] = ended(held, by=memory, now=now)
                if changed[held.id].status == "superseded":
                    changed[memory.id] = replace(changed[memory.id], supersedes=held.id)
            changed |= {over.id: _cut(over, memory) for over in _overlapped(past[slot], memory)}
            if corrects is not None:
                changed |= {m.id: m for m in _until(past[slot], memory, corrects.valid_from)}
        of_slot = [*(m for m in holders[slot] if m.id != memory.id), memory]
        holders[slot] = [m for m in (changed.get(m.id, m) for m in of_slot) if m.status == "active"]
        if back:
            as_now = [changed.get(m.id, m) for m in [*past[slot], *of_slot]]
            past[slot] = [m for m in as_now if m.status == "superseded"]
            await asyncio.sleep(0)  # a thousand values of one key take a quarter of a second
    return changed


def _looks_back(memory: Memory, before: Memory | None) -> bool:
    """Whether what is over by now may reach into its time: it is dated, or holds anew."""
    if before is None:
        return _is_dated(memory)
    same_time = memory.valid_from == before.valid_from and memory.status == before.status
    return not same_time or slot_of(memory.type, memory.key) != slot_of(before.type, before.key)


def _is_dated(memory: Memory) -> bool:
    """Whether who wrote it said when; else all its times are those of the writing."""
    return not memory.valid_from == memory.created_at == memory.updated_at


def _goes_behind(memory: Memory, held: Memory, now: Instant) -> bool:
    """Whether a value that is written now began before the one that holds; of tasks, was said
    before. What is to come, and what was drawn from a chat, never stand in a person's way."""
    if held.valid_from > now or held.source.via == "chat":
        return False
    if not (_is_dated(memory) and _is_dated(held)):
        return False
    if memory.type == "task_state":
        return memory.created_at < held.created_at
    return memory.valid_from < held.valid_from


def _behind(
    memory: Memory, newer: Sequence[Memory], past: Sequence[Memory], *, now: Instant
) -> dict[str, Memory]:
    """A value among those of its slot, by its beginning: what it follows, and what follows it."""
    later = [m for m in [*newer, *past] if memory.valid_from < m.valid_from and not _never_held(m)]
    after = min(later or newer, key=lambda m: m.valid_from)
    made = ended(memory, by=after, now=now)
    before = [] if _never_held(made) else _overlapped(past, made)
    follows = after.supersedes or next((over.id for over in before), None)
    return {
        memory.id: replace(made, supersedes=follows),
        after.id: replace(after, supersedes=memory.id),
        **{over.id: replace(_cut(over, made), superseded_by=memory.id) for over in before},
    }


def _overlapped(past: Sequence[Memory], memory: Memory) -> list[Memory]:
    """Those that were over before, and held at a time at which this does."""
    return [
        over
        for over in past
        if over.id != memory.id
        and over.valid_to is not None
        and memory.valid_from < over.valid_to
        and not _over_before(memory, over)
        and not _never_held(over)
    ]


def _cut(over: Memory, memory: Memory) -> Memory:
    return replace(over, valid_to=max(over.valid_from, memory.valid_from))


def _until(past: Sequence[Memory], memory: Memory, began: Instant) -> Iterator[Memory]:
    """What had ended where this one `began`, now that it begins later."""
    for over in past:
        if over.superseded_by == memory.id and over.valid_to == began < memory.valid_from:
            yield replace(over, valid_to=memory.valid_from)


def _never_held(memory: Memory) -> bool:
    return memory.valid_to is not None and memory.valid_to <= memory.valid_from


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


async def keyed(services: Services, owner: Owner, status: Status = "active") -> list[Memory]:
    """The owner's facts of this status that have a key, oldest first."""
    types: tuple[Type, ...] = ("profile", "preference", "task_state")
    where = Where(kinds=("fact",), types=types, statuses=(status,))
    found: list[Memory] = []
    async for page in pages(services, owner, where):
        found += [memory for memory in page if memory.key is not None]
    return found[::-1]
