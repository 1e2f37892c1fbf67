"""Answers that repeat a fact which is to be forgotten.

"Porto, how lovely!" is a turn of its own: kept, it would tell in the next chat what the fact and
the user's own words tell no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.core.exchange import turn_memory_id
from gateway.core.identity import Owner
from gateway.core.memory import Memory
from gateway.core.wording import content_words, stands_in
from gateway.ports import Services

TURNS_BESIDE: Final = 16
"""Of an exchange that told a forgotten fact, so many turns are looked at for its answer."""
EVERYDAY: Final = content_words(
    "like love have got get go come live know think want need use work make take say tell feel look"
    " good nice great new time day thing way lot ok okay yes no true false on off"
)
"""Words that stand in any answer: "Would you like …" does not repeat that somebody likes tea."""


async def answers_repeating(
    services: Services, owner: Owner, fact: Memory, told: Sequence[Memory]
) -> list[Memory]:
    """The answers that say this fact again, in the exchanges of the turns that `told` it. Raises
    StoreUnavailable."""
    exchanges = dict.fromkeys(t.source.exchange_id for t in told if t.source.exchange_id)
    beside = [turn_memory_id(id, n) for id in exchanges for n in range(TURNS_BESIDE)]
    turns = await services.store.get(owner, beside) if beside else []
    return [t for t in turns if t.source.role == "assistant" and is_turn(t) and _repeats(fact, t)]


def is_turn(memory: Memory) -> bool:
    """Whether it is a turn that still says something."""
    return memory.kind == "turn" and memory.status != "forgotten"


def _repeats(fact: Memory, answer: Memory) -> bool:
    """Whether it says half of the words that count in what the fact rests on, or its value."""
    said = content_words(answer.text)
    if fact.value and content_words(fact.value) - EVERYDAY and stands_in(fact.value, answer.text):
        return True
    words = content_words(fact.source.quote or fact.text) - EVERYDAY
    return bool(words) and 2 * len(words & said) >= len(words)
