"""What was said later and takes back what is only heard of now.

"I am no longer vegetarian" finds nothing to end where "I am vegetarian", said before it, arrives
after it: on another road, from a log, or in the same batch, since an extractor can only name what
was known before. So the later words are read again, with what is new as what is known, and what
they take back of it is taken back at the time at which they were said.

Turns that are not kept (`memory.turns`, `retention.turn`) cannot be read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.core.batch import MAX_TURN_CHARS
from gateway.core.book import Distilled
from gateway.core.delivery import Plan, Put, Revise
from gateway.core.exchange import Exchange
from gateway.core.extraction import ExtractionBatch, ExtractionTurn
from gateway.core.guards import Fact
from gateway.core.identity import Owner
from gateway.core.memory import Found, Instant, Memory, Probe, Where
from gateway.core.slots import asks_to_forget, may_end, may_take_back, slot_of
from gateway.core.timeline import DAY_S
from gateway.core.windows import DENSE_CHARS
from gateway.core.wording import content_words, folded, gist, says_the_same
from gateway.flows.repeating import turns_beside
from gateway.flows.tasks import aside
from gateway.ports import Services

LATER: Final = 32
"""Turns that are read again, as many as a batch has exchanges: those first that say that something
is over. Of the newest alone, twelve that only name a thing hid the one that had ended it."""
LOOKED_AT: Final = 64
FORGETTING: Final = "forget vergiss oublie olvida dimentica esquece vergeet"
"""Asked for beside the words of what is new: "forget all about me" shares none of them."""
ENDING: Final = "longer anymore stopped quit gave left"
"""Asked for beside the words of each where many turns have some of them: what ended it is rarer
than what only names it."""


@dataclass(frozen=True, slots=True)
class Later:
    """A turn that is read again, and its exchange where that was distilled before."""

    turn: ExtractionTurn
    distilled: Distilled | None = None


def heard_of(plan: Plan, batch: ExtractionBatch) -> list[Memory]:
    """The facts that this plan makes, or learns that they were told earlier than was known."""
    told = {turn.at for turn in batch.turns}
    return [
        write.memory
        for write in plan.writes
        if isinstance(write, Put | Revise)
        and write.memory.kind == "fact"
        and write.memory.status in ("active", "superseded")
        and write.memory.created_at in told
    ]


def first_told(heard: Sequence[Memory]) -> list[Memory]:
    """The first telling of each value: of two that say the same, and are shown without their times,
    an extractor cannot tell which held when later words were said (`core/chains` can)."""
    of_each: dict[tuple[Hashable, ...], Memory] = {}
    for memory in sorted(heard, key=lambda m: m.created_at):
        slot = slot_of(memory.type, memory.key)
        value = (memory.id,) if slot is None else (*slot, folded(memory.text))
        of_each.setdefault(value, memory)
    return list(of_each.values())


async def said_later(
    services: Services,
    owner: Owner,
    heard: Sequence[Memory],
    batch: ExtractionBatch,
    *,
    now: Instant,
) -> list[Later]:
    """The user's turns that may take back some of what is `heard` of only now, in the order in
    which they were said. Raises StoreUnavailable."""
    if not heard:
        return []
    found = await _found(services, owner, heard, now=now)
    here = {turn.turn_id for turn in batch.turns}
    others = [m for id, m in found.items() if m.source.role == "user" and id not in here]
    chars = sum(len(turn.text) for turn in batch.turns) + sum(len(m.text) for m in others)
    later, stored = await aside(chars, partial(_about, heard, batch, others))
    n = max(turn.n for turn in batch.turns)
    for memory in stored:
        n += 1
        later.append(await _again(services, owner, memory, n, batch.turns[0].exchange_id))
    return later


async def _found(
    services: Services, owner: Owner, heard: Sequence[Memory], *, now: Instant
) -> Mapping[str, Memory]:
    """Stored turns, said later, that share words with some of it. One look serves as many as their
    words fit into; where one is full, each is looked for by itself."""
    first = min(memory.created_at for memory in heard)
    where = Where(kinds=("turn",), expired_before=now, said_after=first)

    async def look(words: str) -> Found:
        return await services.store.search(owner, Probe(words, where, LOOKED_AT))

    words = " ".join(_words(memory) for memory in heard)
    parts = [words[at : at + DENSE_CHARS] for at in range(0, len(words), DENSE_CHARS)]
    found = await asyncio.gather(*(look(f"{part} {FORGETTING}") for part in parts))
    if any(len(ids) >= LOOKED_AT for some in found for ids in some.lists.values()):
        found += await asyncio.gather(*(look(f"{_words(memory)} {ENDING}") for memory in heard))
    return {id: m for some in found for id, m in some.memories.items()}


def places_in(batch: ExtractionBatch) -> Mapping[str, int]:
    """Where in the batch its turns stand, by their ids."""
    return {turn.turn_id: turn.n for turn in batch.turns}


def told_before(memory: Memory, turn: ExtractionTurn, places: Mapping[str, int]) -> bool:
    """Whether something was told before a turn: by their times, and where these are the same, as
    those of one request's turns are, by the turn's place in the batch."""
    if memory.created_at != turn.at:
        return memory.created_at < turn.at
    told = [places[id] for id in memory.covers if id in places]
    return bool(told) and max(told) < places.get(turn.turn_id, 0)


def takes_back(fact: Fact, places: Mapping[str, int]) -> bool:
    """Whether a fact drawn from later words ends what it names: something that was told before
    them, that they do not say again ("User lives in Porto" superseded by itself) and that what
    is yet to come has not ended already."""
    target, at = fact.target, fact.turn.at
    if target is None or fact.quarantine is not None:
        return False
    if not told_before(target, fact.turn, places):
        return False
    if fact.action != "supersede":
        return fact.action == "retract"
    to_come = fact.span is not None and fact.span.start > at + DAY_S
    again = says_the_same(target.text, fact.text, None)
    return not (to_come or again or asks_to_forget(fact.turn.text))


def _about(
    heard: Sequence[Memory], batch: ExtractionBatch, others: Sequence[Memory]
) -> tuple[list[Later], list[Memory]]:
    """Which of this batch's turns, and of stored ones, may take back some of it; in the order of
    their times."""
    places = places_in(batch)
    stored = [
        other
        for other in others
        if _may_be(other.text, [m for m in heard if m.created_at < other.created_at])
    ]
    stored.sort(key=lambda m: (may_end(m.text), m.created_at, m.id))
    return (
        [
            Later(turn)
            for turn in batch.turns
            if turn.role == "user"
            and len(turn.text) <= MAX_TURN_CHARS  # longer ones were pasted
            and may_end(turn.text)
            and _may_be(turn.text, [m for m in heard if told_before(m, turn, places)])
        ],
        sorted(stored[-LATER:], key=lambda m: (m.created_at, m.id)),
    )


async def _again(services: Services, owner: Owner, memory: Memory, n: int, heard_in: str) -> Later:
    """A stored turn, to be read again. What comes of that goes by an exchange of its own, so that
    no id is made twice."""
    origin = memory.source.exchange_id or memory.id
    exchange = Exchange(
        id=f"{origin}.after.{heard_in}",
        completes=origin,
        session=memory.session or "",
        at=memory.created_at,
        turns=(),
        via=memory.source.via,
    )
    turn = ExtractionTurn(
        n=n,
        role="user",
        at=memory.created_at,
        text=memory.text,
        exchange_id=exchange.id,
        turn_id=memory.id,
        speaker=memory.speaker,
        session=memory.session,
    )
    kept: tuple[str, ...] = ()
    if asks_to_forget(memory.text):
        kept = tuple(m.id for m in await services.store.get(owner, turns_beside(memory)))
    return Later(turn, Distilled(exchange, kept))


def _may_be(text: str, earlier: Sequence[Memory]) -> bool:
    """Whether these words may be about something told before them. What took place has no end,
    it can only be forgotten."""
    if not earlier or may_take_back(text):
        return bool(earlier)
    said = content_words(text)
    return any(
        memory.type != "interaction" and not said.isdisjoint(gist(_words(memory)).words)
        for memory in earlier
    )


def _words(memory: Memory) -> str:
    """What it says, in the extractor's words and in the user's own."""
    return " ".join(part for part in (memory.text, memory.value, memory.source.quote) if part)
