"""What answers for a forgotten memory, and by which what it said is known again without a word.

Strategy: a tombstone keeps prints, hashes keyed with the owner's key: of the words, of the value
of the key, and of the user's words that it rested on. An exchange that was said before the
forgetting and arrives after it makes the same prints, and is not stored again; what the user
says anew, later, is. The prints rest sealed like any memory, say nothing to who has not the
owner's key, and end with it: in another owner's hands, or after an erasure, they match nothing.

What is told again in quite other words is not recognised: prints that could tell likeness (of
each word, of a vector) would also tell what was forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from gateway.core.guards import Fact
from gateway.core.identity import Owner
from gateway.core.memory import Event, Instant, Memory, Source, Version
from gateway.core.slots import plain_key, slot_of
from gateway.core.stored import tag
from gateway.core.wording import content_words, folded, gist

MAX_PRINTS = 40
"""Of one tombstone: a memory that was reworded often keeps those of its last wordings."""
MAX_HISTORY = 1000
"""Former states of one memory that are kept."""
QUOTE_WORDS = range(2, 13)
"""A quote of so many words that count tells what it was about: "yes" does not, nor a letter."""

ASKED_AT, PRINTS = "asked_at", "prints"


def tombstone(
    owner: Owner, memory: Memory, *, now: Instant, asked_at: Instant | None = None
) -> Memory:
    """What is left of a forgotten memory: its id, its times and its prints; no content.

    `asked_at` is when the user asked for it, `now` unless it is given.
    """
    past = (*memory.history, version_of(memory, "forgotten"))
    known_by: dict[str, object] = {}
    if memory.kind == "fact":
        known_by = {
            ASKED_AT: now if asked_at is None else asked_at,
            PRINTS: list(dict.fromkeys(_prints_of(owner, memory)))[:MAX_PRINTS],
        }
    return Memory(
        id=memory.id,
        kind=memory.kind,
        type=memory.type,
        text="",
        created_at=memory.created_at,
        updated_at=now,
        valid_from=memory.created_at,
        status="forgotten",
        source=Source(role=memory.source.role, via=memory.source.via),
        metadata=known_by,
        history=tuple(replace(v, text="", key=None, value=None) for v in past),
    )


def asked_at(stone: Memory) -> Instant | None:
    """When a forgotten fact was to be forgotten; None for a turn."""
    at = stone.metadata.get(ASKED_AT)
    return at if isinstance(at, int | float) else None


class Forgotten:
    """What an owner has had forgotten, as far as tombstones tell."""

    def __init__(self, owner: Owner, stones: Iterable[Memory]) -> None:
        self._owner = owner
        self._stones = sorted(stones, key=lambda stone: stone.created_at)
        self._asked_at: dict[str, Instant] = {}
        for stone in self._stones:
            at, prints = asked_at(stone), stone.metadata.get(PRINTS)
            if at is not None and isinstance(prints, list):
                for each in prints:
                    self._asked_at[each] = max(at, self._asked_at.get(each, at))

    def since(self, fact: Fact) -> bool:
        """Whether what this fact says was forgotten after it was said."""
        if not self._asked_at:
            return False
        said_at = fact.turn.at
        said = (
            *_of_words(self._owner, fact.text),
            *_of_value(self._owner, fact.key, fact.value),
            *_of_quote(self._owner, fact.type, fact.key, fact.quote),
        )
        return any(self._asked_at.get(each, said_at) > said_at for each in said)

    def stone(self, memory: Memory, *, now: Instant, asked_at: Instant) -> Memory:
        """The tombstone of one that was to be forgotten before it was heard of."""
        return tombstone(self._owner, memory, now=now, asked_at=asked_at)

    def took_its_place(self, fact: Fact) -> Memory | None:
        """The tombstone of the value that this fact's key got next after it was said."""
        if not self._asked_at:
            return None
        slot = set(_of_slot(self._owner, fact.type, fact.key))
        later = (s for s in self._stones if s.created_at > fact.turn.at)
        return next((s for s in later if slot.intersection(s.metadata.get(PRINTS, ()))), None)


def history_with(memory: Memory, event: Event) -> tuple[Version, ...]:
    """A memory's history once `event` ends its present state. It is written anew with each
    change: of more than it may hold the first state and the latest stay."""
    past = (*memory.history, version_of(memory, event))
    return past if len(past) <= MAX_HISTORY else (past[0], *past[-MAX_HISTORY + 1 :])


def version_of(memory: Memory, event: Event) -> Version:
    """The present state of a memory as an entry of its history; `event` says what ends it."""
    return Version(
        at=memory.updated_at if memory.history else memory.created_at,
        event=event,
        text=memory.text,
        key=memory.key,
        value=memory.value,
        via=memory.source.via,
    )


# --- prints ------------------------------------------------------------------------------------


def _prints_of(owner: Owner, memory: Memory) -> Iterator[str]:
    if memory.status == "active" or (memory.valid_to or memory.valid_from) > memory.valid_from:
        yield from _of_slot(owner, memory.type, memory.key)
    states: list[Memory | Version] = [memory, *reversed(memory.history)]
    for state in states:
        yield from _of_words(owner, state.text)
        yield from _of_value(owner, state.key, state.value)
    yield from _of_quote(owner, memory.type, memory.key, memory.source.quote)


def _of_slot(owner: Owner, type_: str | None, key: str | None) -> Iterator[str]:
    """Of the key alone: what it held before was over then."""
    if (slot := slot_of(type_, key)) is not None:
        yield tag(owner, "forgotten.slot", list(slot))


def _of_words(owner: Owner, text: str) -> Iterator[str]:
    """Of the sentence, and of its words in any order where nothing telling differs."""
    said = gist(text)
    if said.canonical:
        yield tag(owner, "forgotten.text", said.canonical)
    if said.words:
        yield tag(owner, "forgotten.words", [sorted(said.words), sorted(said.telling)])


def _of_value(owner: Owner, key: str | None, value: str | None) -> Iterator[str]:
    if key is not None and value:
        yield tag(owner, "forgotten.value", [plain_key(key), folded(value)])


def _of_quote(owner: Owner, type_: str | None, key: str | None, quote: str | None) -> Iterator[str]:
    """Of the user's own words, with what was drawn from them: one sentence may hold two facts."""
    if quote and len(content_words(quote)) in QUOTE_WORDS:
        about = "person" if type_ in ("profile", "preference") else type_
        named = None if key is None else plain_key(key)
        yield tag(owner, "forgotten.quote", [about, named, folded(quote)])
