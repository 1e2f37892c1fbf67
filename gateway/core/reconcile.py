"""New facts against what is known: what to write, decided without writing.

Strategy: facts are taken one by one, in the order in which they were said, and applied to a
working copy of what is known; the difference between the copy and the original is the plan.
A model only labels (this supersedes that); which of two is newer, what outranks what and
when each was true is settled here, so that the outcome is the same as if exchanges had been
applied in the order of their times, whenever they arrive. Nothing is overwritten without a
trace: a superseded memory keeps its text, its interval and its successor.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.delivery import Forget, Plan, Put, Revise, Write
from gateway.core.exchange import Exchange
from gateway.core.guards import Fact
from gateway.core.memory import Instant, Memory, Source, Vector, Version
from gateway.core.slots import asks_to_forget, slot_of
from gateway.core.timeline import DAY_S
from gateway.core.wording import cosine, folded, same_text, says_more, says_the_same

MAX_COVERS = 50
"""Turns that a fact names as its evidence; the newest stay."""
CHAIN = 50
"""How far a chain of superseded values is followed."""


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


def fact_id(exchange_id: str, n: int) -> str:
    """The id of the n-th fact drawn from an exchange; the same at each redelivery."""
    digest = hashlib.blake2b(f"{exchange_id}\0fact\0{n}".encode(), digest_size=12).hexdigest()
    return f"mem_{digest}"


def reconcile(
    facts: Sequence[Fact],
    known: Sequence[Memory],
    exchanges: Sequence[Exchange],
    *,
    rules: Rules,
    now: Instant,
    near: Sequence[Mapping[str, float]] = (),
    vectors: Sequence[Vector | None] = (),
    turns: Sequence[Put] = (),
) -> Plan:
    """What to write for these facts, and the `turns` to keep beside them.

    `known` are the owner's memories that the facts may touch: all active ones with a key, what
    is like a fact, and the chain behind a value that an older exchange may belong in. `near`
    gives, for each fact, the cosine to known memories by id; `vectors` are the facts' own, so
    that they are compared with one another. Both may be absent: then words alone decide.
    """
    book = _Book(known, exchanges, rules, now)
    numbered = sorted(range(len(facts)), key=lambda i: facts[i].turn.n)
    for i in numbered:
        likeness = _Likeness(
            near[i] if i < len(near) else {}, vectors[i] if i < len(vectors) else None
        )
        book.take(facts[i], likeness)
    return book.plan(turns)


# --- the working copy --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Likeness:
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


class _Book:
    """What is known while facts are taken in, and what has changed."""

    def __init__(
        self, known: Sequence[Memory], exchanges: Sequence[Exchange], rules: Rules, now: Instant
    ) -> None:
        self._before = {m.id: m for m in known if m.kind == "fact"}
        self._now_known = dict(self._before)
        self._exchanges = {e.id: e for e in exchanges}
        self._rules = rules
        self._now = now
        self._vectors: dict[str, Vector] = {}
        self._made: Counter[str] = Counter()
        self._forgotten: list[str] = []
        self._unkept: set[str] = set()
        self._notes: Counter[str] = Counter()

    # --- one fact ----------------------------------------------------------------------------

    def take(self, fact: Fact, likeness: _Likeness) -> None:
        """Apply one fact."""
        if fact.quarantine is not None:
            self._set_aside(fact)
            return
        target = self._present(fact.target)
        if fact.action in ("retract", "duplicate"):
            if target is None:
                self._note("target_gone")
            elif fact.action == "duplicate":
                self._seen_again(target, fact)
            else:
                self._retract(target, fact)
            return
        if (expires_at := self._expiry(fact)) is not None and expires_at <= self._now:
            self._note("expired")
        elif fact.action == "refine" and target is not None:
            self._refine(target, fact, likeness)
        elif fact.action == "supersede" and target is not None:
            self._supersede(target, fact, likeness)
        else:
            self._add(fact, likeness)

    def _set_aside(self, fact: Fact) -> None:
        if any(
            m.status == "quarantined" and same_text(m.text, fact.text)
            for m in self._now_known.values()
        ):
            self._note("duplicate")
            return
        self._make(fact, status="quarantined", metadata={"quarantine": fact.quarantine})
        self._notes[f"quarantined.{fact.quarantine}"] += 1

    def _retract(self, target: Memory, fact: Fact) -> None:
        if fact.turn.at < target.created_at:
            self._note("late")
        elif asks_to_forget(fact.turn.text):
            self._forget(target, fact)
        elif self._outranked(fact, target):
            self._note("outranked")
        else:
            self._end(target, fact, until=self._start(fact), by=None)
            self._notes["fact.retract"] += 1

    def _forget(self, target: Memory, fact: Fact) -> None:
        """Content goes: the memory's, and that of the turns it could be read off again,
        the one that asked for it included."""
        named = fact.target or target
        for memory in (named, target):
            self._now_known.pop(memory.id, None)
            if memory.id in self._before:
                self._forgotten.append(memory.id)
            self._forgotten += memory.covers
        self._unkept.add(fact.turn.exchange_id)
        self._notes["fact.forget"] += 1

    def _refine(self, target: Memory, fact: Fact, likeness: _Likeness) -> None:
        if self._outranked(fact, target):
            self._note("outranked")
        elif fact.turn.at < target.created_at and not same_text(target.text, fact.text):
            self._into_the_past(fact, before=target)
        else:
            self._reword(target, fact, likeness)
            self._notes["fact.refine"] += 1

    def _supersede(self, target: Memory, fact: Fact, likeness: _Likeness) -> None:
        same = self._same(fact, likeness)
        if same is not None and same.id == target.id:
            self._seen_again(target, fact)
        elif self._outranked(fact, target):
            self._aside(fact, target)
        elif not self._is_newer(fact, target):
            self._into_the_past(fact, before=target)
        elif self._start(fact) > fact.turn.at + DAY_S:
            self._announce(fact)
        elif same is not None:
            self._seen_again(same, fact)
            self._end(target, fact, until=self._start(fact), by=same.id)
        else:
            held = self._occupant(fact)
            made = self._make(fact, supersedes=target.id, vector=likeness.vector)
            self._end(target, fact, until=made.valid_from, by=made.id)
            if held is not None and held.id != target.id and self._rank(held) >= self._rank(made):
                self._end(held, fact, until=made.valid_from, by=made.id)
            self._notes["fact.supersede"] += 1

    def _add(self, fact: Fact, likeness: _Likeness) -> None:
        past = fact.ended and fact.span is not None and fact.span.end <= fact.turn.at
        held = None if past else self._occupant(fact)
        if held is not None:
            self._into_slot(held, fact, likeness)
        elif (same := self._same(fact, likeness)) is not None:
            self._seen_again(same, fact, likeness)
        elif (end := self._ended_since(fact)) is not None and not past:
            self._into_the_past(fact, before=end)
        else:
            self._make(fact, vector=likeness.vector)
            self._notes["fact.add"] += 1

    def _into_slot(self, held: Memory, fact: Fact, likeness: _Likeness) -> None:
        """A key has one value: the newer one, unless a stronger hand set the older."""
        if not self._is_newer(fact, held):
            self._into_the_past(fact, before=held)
        elif self._same_value(held, fact) or says_the_same(
            held.text, fact.text, likeness.to(held.id, self._vectors)
        ):
            self._seen_again(held, fact, likeness)
        elif self._outranked(fact, held):
            self._aside(fact, held)
        elif self._start(fact) > fact.turn.at + DAY_S:
            self._announce(fact)
        else:
            made = self._make(fact, supersedes=held.id, vector=likeness.vector)
            self._end(held, fact, until=made.valid_from, by=made.id)
            self._notes["fact.supersede"] += 1

    # --- changes -----------------------------------------------------------------------------

    def _seen_again(self, held: Memory, fact: Fact, likeness: _Likeness | None = None) -> None:
        """Said once more: one memory, with one more turn as its evidence. Where this time more
        was said, the fuller wording stays."""
        self._note("duplicate")
        if self._outranked(fact, held):
            return
        if (
            likeness is not None
            and says_more(fact.text, held.text)
            and not self._same_value(held, fact)
        ):
            self._reword(held, fact, likeness)
            return
        said = min(held.created_at, fact.turn.at)
        again = replace(
            held,
            covers=self._covers(held, fact),
            created_at=said,
            # Where the fact began when it was said, an earlier telling moves its beginning.
            valid_from=said if held.valid_from == held.created_at else held.valid_from,
            key=held.key or fact.key,
            value=held.value if held.key else fact.value,
        )
        if again != held:
            self._change(again)

    def _reword(self, held: Memory, fact: Fact, likeness: _Likeness) -> None:
        if likeness.vector is not None:
            self._vectors[held.id] = likeness.vector
        self._change(
            replace(
                held,
                text=fact.text,
                key=fact.key or held.key,
                value=fact.value if fact.key else held.value,
                importance=max(held.importance, fact.importance),
                covers=self._covers(held, fact),
                source=self._source(fact),
                history=(*held.history, version_of(held, "refined")),
            )
        )

    def _end(self, held: Memory, fact: Fact, *, until: Instant, by: str | None) -> None:
        if fact.turn.at - held.created_at < DAY_S:
            self._notes["superseded_soon"] += 1
        self._change(
            replace(
                held,
                status="superseded",
                valid_to=max(held.valid_from, until),
                superseded_at=fact.turn.at,
                superseded_by=by,
            )
        )

    def _aside(self, fact: Fact, stronger: Memory) -> None:
        """Kept, so that it can be looked at and restored; what a person set stays in force."""
        made = self._make(fact, status="superseded", superseded_by=stronger.id)
        self._change(replace(made, valid_to=made.valid_from, superseded_at=fact.turn.at))
        self._note("outranked")

    def _announce(self, fact: Fact) -> None:
        """What is to come does not end what is: both stand, and the coming one holds no key."""
        self._make(replace(fact, key=None, value=None))
        self._notes["fact.add"] += 1

    def _into_the_past(self, fact: Fact, *, before: Memory) -> None:
        """An older fact that arrives late takes its place in the chain behind a newer one."""
        self._note("late")
        after = before
        for _ in range(CHAIN):
            older = self._now_known.get(after.supersedes or "")
            if older is None or self._is_newer(fact, older):
                break
            after = older
        older = self._now_known.get(after.supersedes or "")
        if older is not None and self._says_the_same(older, fact):
            self._seen_again(older, fact)
            return
        start = self._start(fact)
        if self._says_the_same(after, fact):
            self._seen_again(after, fact)
        else:
            made = self._make(
                fact,
                status="superseded",
                supersedes=after.supersedes,
                superseded_by=after.id,
            )
            self._change(
                replace(
                    made,
                    valid_to=max(made.valid_from, after.valid_from),
                    superseded_at=after.created_at,
                )
            )
            self._change(replace(after, supersedes=made.id))
            after = made
        if older is not None:
            self._change(
                replace(
                    older,
                    valid_to=max(older.valid_from, start),
                    superseded_by=after.id,
                    superseded_at=fact.turn.at,
                )
            )

    def _make(self, fact: Fact, *, vector: Vector | None = None, **state: Any) -> Memory:
        exchange_id = fact.turn.exchange_id
        memory_id = fact_id(exchange_id, self._made[exchange_id])
        self._made[exchange_id] += 1
        if vector is not None:
            self._vectors[memory_id] = vector
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
            updated_at=self._now,
            valid_from=self._start(fact),
            valid_to=fact.span.end if fact.span is not None and fact.ended else None,
            expires_at=self._expiry(fact),
            source=self._source(fact),
            speaker=fact.turn.speaker,
            covers=self._covers(None, fact),
            metadata=metadata,
            **state,
        )
        self._now_known[made.id] = made
        return made

    def _change(self, memory: Memory) -> None:
        seen = self._before.get(memory.id)
        later = self._now if seen is None else max(self._now, seen.updated_at + 1e-6)
        self._now_known[memory.id] = replace(memory, updated_at=round(later, 6))

    # --- questions ---------------------------------------------------------------------------

    def _present(self, target: Memory | None) -> Memory | None:
        """A target as it stands by now: another fact of this batch may have replaced it."""
        held = self._now_known.get(target.id) if target is not None else None
        for _ in range(CHAIN):
            if held is None or held.status == "active" or held.superseded_by is None:
                break
            held = self._now_known.get(held.superseded_by)
        return held if held is not None and held.status == "active" else None

    def _occupant(self, fact: Fact) -> Memory | None:
        """The memory that holds the value of this fact's key now."""
        slot = slot_of(fact.type, fact.key)
        if slot is None:
            return None
        holding = [
            m
            for m in self._now_known.values()
            if m.status == "active"
            and slot_of(m.type, m.key) == slot
            and (m.valid_to is None or m.valid_to > fact.turn.at)
        ]
        # More than one stands there only if they were written around us; the strongest counts.
        return min(holding, key=lambda m: (self._rank(m), -m.created_at, m.id), default=None)

    def _ended_since(self, fact: Fact) -> Memory | None:
        """A value of this fact's key that was given up after the fact was said."""
        slot = slot_of(fact.type, fact.key)
        ended = [
            m
            for m in self._now_known.values()
            if slot is not None
            and m.status == "superseded"
            and m.superseded_by is None
            and slot_of(m.type, m.key) == slot
            and (m.superseded_at or 0.0) > fact.turn.at
        ]
        return max(ended, key=lambda m: m.superseded_at or 0.0, default=None)

    def _same(self, fact: Fact, likeness: _Likeness) -> Memory | None:
        """A memory that already says this."""
        for m in self._now_known.values():
            if (
                m.status == "active"
                and self._same_occasion(m, fact)
                and says_the_same(m.text, fact.text, likeness.to(m.id, self._vectors))
            ):
                return m
        return None

    def _same_occasion(self, held: Memory, fact: Fact) -> bool:
        """Two visits to the dentist are two: events are one only if they are of one day."""
        if "interaction" not in (held.type, fact.type):
            return True
        return abs(held.valid_from - self._start(fact)) < DAY_S

    def _same_value(self, held: Memory, fact: Fact) -> bool:
        if held.value is None or fact.value is None:
            return False
        return folded(held.value) == folded(fact.value)

    def _says_the_same(self, held: Memory, fact: Fact) -> bool:
        return self._same_value(held, fact) or says_the_same(held.text, fact.text, None)

    def _is_newer(self, fact: Fact, held: Memory) -> bool:
        """By the time of what happened where both have one, else by when it was said."""
        dated = fact.span is not None and held.valid_from != held.created_at
        if dated and self._start(fact) != held.valid_from:
            return self._start(fact) > held.valid_from
        return fact.turn.at >= held.created_at

    def _outranked(self, fact: Fact, held: Memory) -> bool:
        return self._rank(held) < self._rank_of(self._exchanges[fact.turn.exchange_id].via)

    def _rank(self, memory: Memory) -> int:
        return self._rank_of(memory.source.via)

    def _rank_of(self, via: str) -> int:
        rank = self._rules.rank
        return rank.index(via) if via in rank else len(rank)

    def _start(self, fact: Fact) -> Instant:
        return fact.turn.at if fact.span is None else fact.span.start

    def _expiry(self, fact: Fact) -> Instant | None:
        """Retention runs from when it is taken in: a log of last year is kept as long as a
        chat of today. A time to live runs from when it was said."""
        keep = self._rules.retention.get(fact.type)
        ends = [] if keep is None else [self._now + keep]
        if fact.ttl_days is not None:
            ends.append(fact.turn.at + fact.ttl_days * DAY_S)
        return min(ends, default=None)

    def _source(self, fact: Fact) -> Source:
        return Source(
            role=fact.turn.role,
            via=self._exchanges[fact.turn.exchange_id].via,
            exchange_id=fact.turn.exchange_id,
            session=fact.turn.session,
            quote=fact.quote,
        )

    def _covers(self, held: Memory | None, fact: Fact) -> tuple[str, ...]:
        covers = held.covers if held is not None else ()
        if not self._rules.turns or fact.turn.turn_id in covers:
            return covers
        return (*covers, fact.turn.turn_id)[-MAX_COVERS:]

    def _note(self, reason: str) -> None:
        self._notes[f"skipped.{reason}"] += 1

    # --- the outcome -------------------------------------------------------------------------

    def plan(self, turns: Sequence[Put]) -> Plan:
        """The difference between what was known and what is: new ones first, then changes,
        then what is to be gone."""
        gone = dict.fromkeys(self._forgotten)
        kept = [
            put
            for put in turns
            if put.memory.id not in gone and put.memory.source.exchange_id not in self._unkept
        ]
        fresh: list[Write] = []
        changed: list[Write] = []
        for memory in self._now_known.values():
            seen = self._before.get(memory.id)
            if seen is None:
                fresh.append(Put(memory))
            elif memory is not seen:
                changed.append(Revise(memory, seen=seen.updated_at))
        if kept:
            self._notes["turns"] = len(kept)
        return Plan(
            exchange_ids=tuple(self._exchanges),
            writes=(*kept, *fresh, *changed, *(Forget(id, at=self._now) for id in gone)),
            notes=tuple(sorted(self._notes.items())),
        )


def version_of(memory: Memory, event: str) -> Version:
    """The present state of a memory as an entry of its history; `event` says what ended it."""
    return Version(
        at=memory.updated_at,
        event=event,  # type: ignore[arg-type]
        text=memory.text,
        key=memory.key,
        value=memory.value,
        via=memory.source.via,
    )
