"""Answers that repeat a fact which is to be forgotten.

"Porto, how lovely!" is a turn of its own, and so is "You live in Porto.", said in another
conversation because the fact was in its prompt: kept, they would tell in the next chat what the
fact and the user's own words tell no more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from gateway.core.exchange import Exchange, turn_memory_id
from gateway.core.identity import Owner
from gateway.core.memory import Memory, Probe, Where
from gateway.core.repeating import repeats, says_whole
from gateway.core.tombstone import asked_at
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
    beside = {id for turn in told for id in _beside(turn)}
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
            if turn.source.exchange_id in given
            or any(says_whole(turn.text, text) for text in (words, fact.text))
        }
    return [turn for turn in answers.values() if _repeats(fact, turn)]


def _beside(told: Memory) -> list[str]:
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
