"""A plan, carried out: any number of times, by whoever is handed the work, with one outcome.

Each write looks at what is there now. A memory of a plan is made once, a revision counts only
on top of the version it was planned on, and what is gone stays gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from typing import Any, Final

from gateway.core.delivery import Forget, Plan, Put, Revise
from gateway.core.identity import Owner
from gateway.core.memory import Entry, Memory
from gateway.core.tombstone import tombstone
from gateway.core.windows import dense_text, dense_window_text
from gateway.flows import receipts
from gateway.flows.between import superseded_written
from gateway.flows.over import has_ended, mark, mark_replaced
from gateway.flows.repeating import answers_repeating, waiting_that_say
from gateway.flows.vectors import Vectors, texts_of
from gateway.flows.writing import alone, stale, store
from gateway.ports import Services

NOT_WAITED_FOR: Final = nullcontext()


async def apply(
    services: Services,
    owner: Owner,
    plan: Plan,
    vectors: Vectors,
    *,
    in_turn: AbstractAsyncContextManager[Any] = NOT_WAITED_FOR,
) -> None:
    """Bring the store to what the plan says. Raises StoreUnavailable.

    Where the embedder is away memories are stored without vectors, to be given them later. What is
    `in_turn` is held while the store is asked: not while texts are embedded, nor while somebody
    else writes this person's memories, who may be embedding theirs.
    """
    if not plan.writes:
        return
    # Embedded before the look that counts: it can take seconds, and a person may correct a
    # memory meanwhile. What turns out to be written already was then embedded in vain, which
    # only a redelivery meets.
    await vectors.have(
        services, texts_of([_as_put(w) for w in plan.writes if not isinstance(w, Forget)])
    )
    async with alone(services, owner.tenant):
        async with in_turn:
            ids = [w.id if isinstance(w, Forget) else w.memory.id for w in plan.writes]
            current = {m.id: m for m in await services.store.get(owner, ids)}
            answers = await _answers(services, owner, plan, current)
            puts = outcome(owner, replace(plan, writes=(*plan.writes, *answers)), current)
            kept = [put for put in puts if put.memory.status != "forgotten"]
            if kept:
                await services.store.put(owner, entries_of(kept, vectors))
        stones = [put.memory for put in puts if put.memory.status == "forgotten"]
        if stones:
            # The windows of the turns beside a forgotten one hold its words, and are embedded anew.
            gone = [current[m.id] for m in stones if m.id in current]
            await store(services, owner, stones, gone=gone)
            await mark_replaced(services, owner, gone)
        ended = [put.memory for put in puts if has_ended(put.memory)]
        if ended:
            await mark(services, owner, ended)
    if stones:
        await receipts.without(services, owner, gone)
    if not puts:
        return
    await stale(services, owner.tenant)
    if any(put.memory.status == "superseded" for put in puts):
        superseded_written(owner.tenant)


async def _answers(
    services: Services, owner: Owner, plan: Plan, current: dict[str, Memory]
) -> list[Forget]:
    """The answers that are to be gone with facts that the plan forgets, and what waits that says
    them; they join `current`."""
    gone = [w for w in plan.writes if isinstance(w, Forget) and w.id in current]
    answers: dict[str, Forget] = {}
    for write in gone:
        fact = current[write.id]
        if fact.kind != "fact" or fact.status == "forgotten":
            continue
        told = [current[w.id] for w in gone if w.id in fact.covers]
        said = await answers_repeating(services, owner, fact, told)
        asked_at = write.at if write.asked_at is None else write.asked_at
        said += await waiting_that_say(
            services, owner, fact, before=asked_at, but=plan.exchange_ids
        )
        for turn in said:
            current.setdefault(turn.id, turn)
            answers[turn.id] = replace(write, id=turn.id)
    return list(answers.values())


def _as_put(write: Put | Revise) -> Put:
    return write if isinstance(write, Put) else Put(write.memory)


def outcome(owner: Owner, plan: Plan, current: dict[str, Memory]) -> list[Put]:
    """What is to be written, given what is there now; in the plan's order."""
    corrected = _corrected_meanwhile(plan, current)
    puts: list[Put] = []
    for write in plan.writes:
        if isinstance(write, Put):
            held = current.get(write.memory.id)
            if held is None:
                if _is_of(plan, write.memory):
                    puts.append(_behind(write, corrected))
            elif held.kind == "turn" and held.status != "forgotten":
                # What was said does not change, but its neighbourhood has; and an answer that
                # broke off may have come in full since.
                puts.append(write if _completes(write.memory, held) else Put(held, write.window))
        elif isinstance(write, Revise):
            held = current.get(write.memory.id)
            if held is not None and held.updated_at == write.seen:
                puts.append(Put(write.memory))
        else:
            held = current.get(write.id)
            if held is not None and held.status != "forgotten":
                asked_at = write.at if write.asked_at is None else write.asked_at
                puts.append(Put(tombstone(owner, held, now=write.at, asked_at=asked_at)))
    return puts


def _completes(memory: Memory, held: Memory) -> bool:
    return (
        "outcome" in held.metadata
        and "outcome" not in memory.metadata
        and held.source.via == memory.source.via
    )


def _is_of(plan: Plan, memory: Memory) -> bool:
    """A turn that is only written again for its new neighbour is not made anew where it has
    expired meanwhile."""
    return memory.kind == "fact" or memory.source.exchange_id in plan.exchange_ids


def _corrected_meanwhile(plan: Plan, current: dict[str, Memory]) -> dict[str, Memory]:
    """By the id of the new memory: the one it was to supersede, which a person has changed
    since. Theirs stays in force."""
    return {
        write.memory.superseded_by: held
        for write in plan.writes
        if isinstance(write, Revise)
        and write.memory.superseded_by is not None
        and (held := current.get(write.memory.id)) is not None
        and held.status == "active"
        and held.updated_at not in (write.seen, write.memory.updated_at)
    }


def _behind(put: Put, corrected: dict[str, Memory]) -> Put:
    stronger = corrected.get(put.memory.id)
    if stronger is None or put.memory.status != "active":
        return put
    return replace(
        put,
        memory=replace(
            put.memory,
            status="superseded",
            supersedes=None,
            superseded_by=stronger.id,
            superseded_at=stronger.updated_at,
            valid_to=put.memory.valid_from,
        ),
    )


def entries_of(puts: Sequence[Put], vectors: Vectors) -> list[Entry]:
    """Memories as a store takes them, with the vectors that there are."""
    entries: list[Entry] = []
    for put in puts:
        memory, window = put.memory, put.window
        entries.append(
            Entry(
                memory,
                dense=vectors.of.get(dense_text(memory)),
                window=window,
                dense_window=None if window is None else vectors.of.get(dense_window_text(window)),
            )
        )
    return entries
