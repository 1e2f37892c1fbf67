"""Answers that repeat a fact which is to be forgotten.

"Porto, how lovely!" is a turn of its own, and so is "You live in Porto.", said in another
conversation because the fact was in its prompt: kept, they would tell in the next chat what the
fact and the user's own words tell no more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from gateway.core.errors import Unavailable
from gateway.core.exchange import Exchange, turn_memory_id
from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Probe, Where
from gateway.core.repeating import repeats, says_whole
from gateway.core.tombstone import asked_at
from gateway.core.waiting import as_memory
from gateway.core.wording import stands_in
from gateway.flows import receipts
from gateway.ports import Services

BESIDE: Final = 16
"""Of an exchange that told a forgotten fact, so many turns before and after it are looked at."""
MAX_TURNS: Final = 1000
"""Of one exchange of a log (`web/schemas`)."""
ELSEWHERE: Final = 100
"""Turns found by the words of a forgotten fact that are looked at."""


async def answers_repeating(
    services: Services, owner: Owner, fact: Memory, told: Sequence[Memory]
) -> list[Memory]:
    """The answers that say this fact again: in the exchanges of the turns that `told` it, and in
    others where it was in the prompt or is said whole. Raises StoreUnavailable."""
    beside = {id for turn in told for id in turns_beside(turn)}
    answers = {m.id: m for m in await services.store.get(owner, list(beside))} if beside else {}
    words = fact.source.quote or fact.text
    asked = " ".join(part for part in (fact.value, words, fact.text) if part)
    probe = Probe(asked, Where(kinds=("turn",)), ELSEWHERE)
    found = (await services.store.search(owner, probe)).memories.values()
    if any(_repeats(fact, turn) for turn in found):
        given = await receipts.given_with(services, owner, {fact.id, *(t.id for t in told)})
        answers |= {
            turn.id: turn
            for turn in found
            if turn.source.exchange_id in given or _says_whole(fact, turn)
        }
    return [turn for turn in answers.values() if _repeats(fact, turn)]


async def waiting_that_say(
    services: Services,
    owner: Owner,
    fact: Memory,
    *,
    before: Instant,
    but: Collection[str] = (),
) -> list[Memory]:
    """Turns said `before` it was to be forgotten and not distilled yet that say this fact too, in
    exchanges other than `but`. Their tombstones are there first, whatever a worker is about to
    write: its plan may have been made while the fact was still known."""
    try:
        exchanges = await services.queue.pending(owner)
    except Unavailable:
        return []  # what waits on disk or cannot be asked is known by its prints alone
    said: list[Memory] = []
    for exchange in exchanges:
        if exchange.origin in but:
            continue
        turns = [as_memory(exchange, turn) for turn in exchange.turns if turn.at < before]
        told = [turn for turn in turns if _tells(fact, turn)]
        answers = [turn for turn in turns if _repeats(fact, turn)]
        if answers and not told and exchange.receipt_id is not None:
            receipt = await receipts.of(services, owner, exchange.receipt_id)
            if fact.id not in receipt.get("injected", ()):
                answers = [turn for turn in answers if _says_whole(fact, turn)]
        said += [*told, *answers]
    return said


def _tells(fact: Memory, turn: Memory) -> bool:
    quote = fact.source.quote or ""
    return turn.source.role == "user" and bool(quote) and stands_in(quote, turn.text)


def _says_whole(fact: Memory, turn: Memory) -> bool:
    return any(says_whole(turn.text, text) for text in (fact.source.quote, fact.text) if text)


def turns_beside(told: Memory) -> list[str]:
    """Ids of the turns around one, as far as it is a turn of an exchange."""
    exchange_id = told.source.exchange_id
    if exchange_id is None:
        return []
    ids = [turn_memory_id(exchange_id, n) for n in range(BESIDE)]
    if told.id not in ids:
        ids = [turn_memory_id(exchange_id, n) for n in range(MAX_TURNS)]
    at = ids.index(told.id) if told.id in ids else 0
    ids += [turn_memory_id(exchange_id, n) for n in range(len(ids), at + BESIDE)]
    return ids[max(0, at - BESIDE) : at + BESIDE]


def is_turn(memory: Memory) -> bool:
    """Whether it is a turn that still says something."""
    return memory.kind == "turn" and memory.status != "forgotten"


def _repeats(fact: Memory, turn: Memory) -> bool:
    if turn.source.role != "assistant" or not is_turn(turn):
        return False
    return repeats(turn.text, value=fact.value, words=fact.source.quote or fact.text)


async def given_before_forgetting(
    services: Services, owner: Owner, exchanges: Sequence[Exchange], stones: Collection[Memory]
) -> set[str]:
    """The answers that were given with a memory which has been forgotten since: what they repeat
    of it cannot be told any more, so they are not kept."""
    late: set[str] = set()
    for exchange in exchanges:
        gone = {s.id for s in stones if (at := asked_at(s)) is not None and at > exchange.at}
        if not gone or exchange.receipt_id is None:
            continue
        receipt = await receipts.of(services, owner, exchange.receipt_id)
        if gone.intersection(receipt.get("injected", ())):
            late |= {
                turn_memory_id(exchange.origin, turn.n)
                for turn in exchange.turns
                if turn.role == "assistant"
            }
    return late
