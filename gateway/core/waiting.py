"""What was just said, before it is distilled: recall looks at the turns that wait.

A busy user has fifty exchanges waiting, and each recall asks the same of them: their words, and
whether they may tell something. So that is worked out once and kept on the exchange itself (its
`note`), which the queue holds opened: with it, it goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from gateway.core.batch import is_small_talk
from gateway.core.exchange import Exchange, Turn, turn_memory_id
from gateway.core.memory import Instant, Memory, Source
from gateway.core.noted import note_on
from gateway.core.words import QUESTION_MARKS, fold, held, terms

MAX_JUST_SAID = 6
MAX_READ = 60
"""Turns not yet distilled that are looked at, the last ones."""
READ_CHARS = 4000
"""How much of each."""


@dataclass(slots=True)
class Waiting:
    """A turn that waits: its words, folded; whether it may say something of its user, even where
    nobody asks for it; and, once it was chosen, the memory that it will be kept as."""

    turn: Turn
    folded: str
    tells: bool
    memory: Memory | None = None


def just_said(
    exchanges: Sequence[Exchange],
    *,
    text: str,
    session: str | None,
    known: Collection[str],
    as_of: Instant | None = None,
) -> list[Memory]:
    """Turns that are not distilled yet, as memories, best first.

    What the user said a moment ago in another conversation is likely meant even where it shares
    no word with the question, and there is no vector of it yet: the user's turns that share most
    words come first, the last ones of equals. Questions, small talk, the assistant's
    turns, and those of this conversation (`session`), must share half of them. `known` are the
    ids that the store has found already; what was said after `as_of` is left out.
    """
    stems = terms(text)
    judged: list[tuple[float, int, Exchange, Waiting]] = []
    for age, (exchange, waiting) in enumerate(islice(_newest_first(exchanges, as_of), MAX_READ)):
        shared = 0.0
        for stem in stems:
            if stem in waiting.folded:  # most turns have none; `held` looks at whole words
                shared = len(held(stems, waiting.folded)) / len(stems)
                break
        elsewhere = session is None or exchange.session != session
        if shared >= 0.5 or (waiting.tells and elsewhere):
            judged.append((-shared, age, exchange, waiting))
    judged.sort()
    found: list[Memory] = []
    for _, _, exchange, waiting in judged:
        memory = waiting.memory
        if memory is None:
            memory = waiting.memory = as_memory(exchange, waiting.turn)
        if memory.id not in known:
            found.append(memory)
            if len(found) == MAX_JUST_SAID:
                break
    return found


def among(exchanges: Sequence[Exchange], ids: Collection[str]) -> dict[str, Memory]:
    """The turns that wait under these ids, as memories."""
    found: dict[str, Memory] = {}
    for exchange in exchanges:
        for waiting in _noted(exchange):
            id = turn_memory_id(exchange.origin, waiting.turn.n)
            if id in ids:
                waiting.memory = found[id] = waiting.memory or as_memory(exchange, waiting.turn)
    return found


def _newest_first(
    exchanges: Sequence[Exchange], as_of: Instant | None
) -> Iterator[tuple[Exchange, Waiting]]:
    for exchange in reversed(exchanges):
        for waiting in reversed(_noted(exchange)):
            if as_of is None or waiting.turn.at <= as_of:
                yield exchange, waiting


def _noted(exchange: Exchange) -> tuple[Waiting, ...]:
    """The turns of an exchange that say anything; worked out once."""
    noted: tuple[Waiting, ...] | None = getattr(exchange, "note", None)
    if noted is None:
        noted = tuple(
            Waiting(
                turn,
                folded=fold(turn.text[:READ_CHARS]),
                tells=turn.role == "user" and _may_tell(turn.text),
            )
            for turn in exchange.turns
            if turn.role in ("user", "assistant") and turn.text.strip()
        )
        note_on(exchange, noted)
    return noted


def _may_tell(text: str) -> bool:
    """Whether a turn may say something of its speaker: a question or a greeting does not."""
    return not text.rstrip().endswith(QUESTION_MARKS) and not is_small_talk(text)


def as_memory(exchange: Exchange, turn: Turn) -> Memory:
    """The turn as the worker will keep it, under the same id."""
    return Memory(
        id=turn_memory_id(exchange.origin, turn.n),
        kind="turn",
        text=turn.text,
        created_at=turn.at,
        updated_at=turn.at,
        valid_from=turn.at,
        source=Source(
            role=turn.role,
            via=exchange.via,
            exchange_id=exchange.origin,
            session=exchange.session,
        ),
        speaker=turn.speaker,
    )
