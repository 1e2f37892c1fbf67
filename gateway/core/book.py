"""What is known of a user while new facts are taken in: a working copy that becomes a plan.

Strategy: memories are changed here freely and in order, as if they were written at once; the
difference between the copy and the original is what is to be written. Where a fact stands among
the values that replaced one another is `core/chains`'s to say.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.delivery import Forget, Plan, Put, Revise, Write
from gateway.core.exchange import Exchange, turn_memory_id
from gateway.core.guards import Fact
from gateway.core.memory import Instant, Memory, Source, Vector
from gateway.core.repeating import repeats
from gateway.core.slots import slot_of
from gateway.core.timeline import DAY_S
from gateway.core.tombstone import Forgotten
from gateway.core.wording import cosine, folded, says_the_same

MAX_COVERS = 50
"""Turns that a fact names as its evidence; the newest stay."""
NOTHING: Mapping[str, Instant] = {}


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say about remembering.

    `rank` lists origins, strongest first: what a stronger one set is not replaced by a weaker
    one. `retention` has seconds by type and for `turn`; None is for ever.
    """

    rank: tuple[str, ...] = ("user", "api", "import", "chat")
    retention: Mapping[str, float | None] = field(default_factory=dict)
    turns: bool = True
    tool_output: bool = False


@dataclass(frozen=True, slots=True)
class Distilled:
    """An exchange that was distilled before, and is read again (`flows/hindsight`): without its
    turns, and the ids of those that are stored."""

    exchange: Exchange
    turns: tuple[str, ...] = ()


def fact_id(exchange_id: str, n: int) -> str:
    """The id of the n-th fact drawn from an exchange; the same at each redelivery."""
    digest = hashlib.blake2b(f"{exchange_id}\0fact\0{n}".encode(), digest_size=12).hexdigest()
    return f"mem_{digest}"


@dataclass(frozen=True, slots=True)
class Likeness:
    """How near one fact lies to memories."""

    known: Mapping[str, float]
    vector: Vector | None

    def to(self, memory_id: str, own: Mapping[str, Vector]) -> float | None:
        if self.vector is not None and memory_id in own:
            return cosine(self.vector, own[memory_id])
        if memory_id in self.known:
            return self.known[memory_id]
        # It was looked for and did not come up: far away. Without a vector nothing was looked for.
        return None if self.vector is None else 0.0


class Book:
    """What is known while facts are taken in, and what has changed (`now_known`)."""

    def __init__(
        self,
        known: Sequence[Memory],
        exchanges: Sequence[Exchange],
        rules: Rules,
        now: Instant,
        told: Mapping[str, Instant],
        forgotten: Forgotten | None = None,
        distilled: Sequence[Distilled] = (),
    ) -> None:
        self.before = {m.id: m for m in known if m.kind == "fact"}
        self.now_known = dict(self.before)
        self.here = tuple(dict.fromkeys(e.origin for e in exchanges))
        self.exchanges = {e.id: e for e in (*exchanges, *(d.exchange for d in distilled))}
        self.kept = {d.exchange.id: d.turns for d in distilled}
        self.rules = rules
        self.now = now
        self.told = dict(told)
        self.vectors: dict[str, Vector] = {}
        self.made: Counter[str] = Counter()
        self.long_gone = forgotten
        self.ended_in: dict[str, str] = {}  # memories, by the turns that ended them
        self.forgotten: dict[str, Instant] = {}
        self.unkept: set[str] = set()  # ids of exchanges and of turns
        self.notes: Counter[str] = Counter()

    # --- changes -----------------------------------------------------------------------------

    def end(self, held: Memory, fact: Fact, *, until: Instant, by: str | None) -> None:
        if fact.turn.at - held.created_at < DAY_S:
            self.notes["superseded_soon"] += 1
        self.ended_in[held.id] = fact.turn.turn_id
        self.change(
            replace(
                held,
                status="superseded",
                valid_to=max(held.valid_from, until),
                superseded_at=fact.turn.at,
                superseded_by=by,
            )
        )

    def aside(self, fact: Fact, stronger: Memory) -> None:
        """Kept, so that it can be looked at and restored; what a person set stays in force."""
        made = self.make(fact, status="superseded", superseded_by=stronger.id)
        self.change(replace(made, valid_to=made.valid_from, superseded_at=fact.turn.at))
        self.note("outranked")

    def announce(self, fact: Fact) -> None:
        """What is to come does not end what is: both stand, and the coming one holds no key."""
        self.make(replace(fact, key=None, value=None))
        self.notes["fact.add"] += 1

    def next_id(self, fact: Fact) -> str:
        exchange_id = fact.turn.exchange_id
        self.made[exchange_id] += 1
        return fact_id(exchange_id, self.made[exchange_id] - 1)

    def make(self, fact: Fact, *, vector: Vector | None = None, **state: Any) -> Memory:
        memory_id = self.next_id(fact)
        if vector is not None:
            self.vectors[memory_id] = vector
        metadata = state.pop("metadata", {})
        if fact.type == "task_state" and fact.key is not None:
            metadata = {**metadata, "project": fact.key}
        made = Memory(
            id=memory_id,
            kind="fact",
            type=fact.type,
            text=fact.text,
            key=fact.key,
            value=fact.value,
            importance=fact.importance,
            created_at=fact.turn.at,
            updated_at=self.now,
            valid_from=self.start(fact),
            valid_to=fact.span.end if fact.span is not None and fact.ended else None,
            expires_at=self.expiry(fact),
            source=self.source(fact),
            speaker=fact.turn.speaker,
            covers=self.covers(None, fact),
            metadata=metadata,
            **state,
        )
        self.now_known[made.id] = made
        return made

    def change(self, memory: Memory) -> None:
        seen = self.before.get(memory.id)
        later = self.now if seen is None else max(self.now, seen.updated_at + 1e-6)
        self.now_known[memory.id] = replace(memory, updated_at=round(later, 6))

    # --- questions ---------------------------------------------------------------------------

    def occupant(self, fact: Fact) -> Memory | None:
        """The memory that holds the value of this fact's key now."""
        return self.holder(slot_of(fact.type, fact.key), fact)

    def holder(
        self, slot: tuple[str, str] | None, fact: Fact, *, beside: str | None = None
    ) -> Memory | None:
        """The memory that holds this slot where the fact is said; not the one `beside` which it is
        asked."""
        holding = [
            m
            for m in self.now_known.values()
            if slot is not None
            and m.id != beside
            and m.status == "active"
            and slot_of(m.type, m.key) == slot
            and (m.valid_to is None or m.valid_to > fact.turn.at)
        ]
        # More than one stands there only if they were written around us; the strongest counts.
        return min(holding, key=lambda m: (self.rank(m), -m.created_at, m.id), default=None)

    def ended_since(self, fact: Fact) -> Memory | None:
        """The value of this fact's key that was given up next after the fact was said."""
        slot = slot_of(fact.type, fact.key)
        ended = [
            m
            for m in self.now_known.values()
            if slot is not None
            and m.status == "superseded"
            and m.superseded_by is None
            and slot_of(m.type, m.key) == slot
            and (m.superseded_at or 0.0) > fact.turn.at
        ]
        return min(ended, key=lambda m: m.superseded_at or 0.0, default=None)

    def same(self, fact: Fact, likeness: Likeness) -> Memory | None:
        """A memory that already says this."""
        for m in self.now_known.values():
            if (
                m.status == "active"
                and self.same_occasion(m, fact)
                and says_the_same(m.text, fact.text, likeness.to(m.id, self.vectors))
            ):
                return m
        return None

    def same_occasion(self, held: Memory, fact: Fact) -> bool:
        """Two visits to the dentist are two: events are one only if they are of one day."""
        if "interaction" not in (held.type, fact.type):
            return True
        return abs(held.valid_from - self.start(fact)) < DAY_S

    def same_value(self, held: Memory, fact: Fact) -> bool:
        if held.value is None or fact.value is None:
            return False
        return folded(held.value) == folded(fact.value)

    def says_the_same(self, held: Memory, fact: Fact) -> bool:
        return self.same_value(held, fact) or says_the_same(held.text, fact.text, None)

    def outranked(self, fact: Fact, held: Memory) -> bool:
        return self.rank(held) < self.rank_of(self.exchanges[fact.turn.exchange_id].via)

    def rank(self, memory: Memory) -> int:
        return self.rank_of(memory.source.via)

    def rank_of(self, via: str) -> int:
        rank = self.rules.rank
        return rank.index(via) if via in rank else len(rank)

    def start(self, fact: Fact) -> Instant:
        return fact.turn.at if fact.span is None else fact.span.start

    def expiry(self, fact: Fact) -> Instant | None:
        """Retention runs from when it is taken in: a log of last year is kept as long as a
        chat of today. A time to live runs from when it was said."""
        keep = self.rules.retention.get(fact.type)
        ends = [] if keep is None else [self.now + keep]
        if fact.ttl_days is not None:
            ends.append(fact.turn.at + fact.ttl_days * DAY_S)
        return min(ends, default=None)

    def source(self, fact: Fact) -> Source:
        return Source(
            role=fact.turn.role,
            via=self.exchanges[fact.turn.exchange_id].via,
            exchange_id=self.exchanges[fact.turn.exchange_id].origin,
            session=fact.turn.session,
            quote=fact.quote,
        )

    def covers(self, held: Memory | None, fact: Fact) -> tuple[str, ...]:
        covers = held.covers if held is not None else ()
        if not self.rules.turns or fact.turn.turn_id in covers:
            return covers
        return (*covers, fact.turn.turn_id)[-MAX_COVERS:]

    def answers_repeating(
        self, turns: Collection[str], *, value: str | None, words: str
    ) -> set[str]:
        """The answers of this batch that say again what these turns told: they are not kept."""
        return {
            turn_memory_id(exchange.origin, turn.n)
            for exchange in self.exchanges.values()
            if any(turn_memory_id(exchange.origin, turn.n) in turns for turn in exchange.turns)
            for turn in exchange.turns
            if turn.role == "assistant" and repeats(turn.text, value=value, words=words)
        }

    def note(self, reason: str) -> None:
        self.notes[f"skipped.{reason}"] += 1

    # --- the outcome -------------------------------------------------------------------------

    def plan(self, turns: Sequence[Put]) -> Plan:
        """The difference between what was known and what is: new ones first, then changes,
        then what is to be gone."""
        gone = self.forgotten
        left_out = {*gone, *self.unkept}
        kept = [
            put
            for put in turns
            if put.memory.id not in left_out and put.memory.source.exchange_id not in left_out
        ]
        fresh: list[Write] = []
        changed: list[Write] = []
        for memory in self.now_known.values():
            seen = self.before.get(memory.id)
            if seen is None:
                fresh.append(Put(memory))
            elif memory is not seen:
                changed.append(Revise(memory, seen=seen.updated_at))
        if kept:
            self.notes["turns"] = len(kept)
        return Plan(
            exchange_ids=self.here,
            writes=(
                *kept,
                *fresh,
                *changed,
                *(Forget(id, self.now, at) for id, at in gone.items()),
            ),
            notes=tuple(sorted(self.notes.items())),
        )
