"""Where a telling stands among the values that replaced one another.

Strategy: a value that replaced another points back at it, and that one forward, so that values of
a key are a chain. What is said again lends the value that it repeats one more turn; what was said
earlier than its turn comes in is set between the values of its time, or parts one that was told
before it and again after it. The chains are whole after each change.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.core.book import Book, Likeness
from gateway.core.guards import Fact
from gateway.core.memory import Instant, Memory
from gateway.core.slots import slot_of
from gateway.core.timeline import DAY_S
from gateway.core.tombstone import history_with
from gateway.core.wording import same_text, says_more

CHAIN = 50
"""How far a chain of superseded values is followed."""


class Chains(Book):
    """A working copy that knows its values' order."""

    # --- said again --------------------------------------------------------------------------

    def seen_again(self, held: Memory, fact: Fact, likeness: Likeness | None = None) -> None:
        """Said once more: one memory, with one more turn as its evidence. Where this time more
        was said, the fuller wording stays."""
        self.note("duplicate")
        if self.outranked(fact, held):
            return
        told = self.worded_as(held, fact)
        alone = held.supersedes not in self.now_known and self._parted(held, told) is held
        if fact.turn.at < held.created_at and not alone:
            # Told before the value that it followed was, or between: its place tells when it began.
            self.into_the_past(told, before=held)
        else:
            self._once_more(held, fact, likeness)

    def worded_as(self, held: Memory, fact: Fact) -> Fact:
        """The fact as what is known says it: a "duplicate" may come without words or key."""
        return replace(
            fact,
            type=held.type or fact.type,
            text=held.text,
            key=held.key,
            value=held.value,
            importance=held.importance,
        )

    def _once_more(self, held: Memory, fact: Fact, likeness: Likeness | None = None) -> None:
        if (
            likeness is not None
            and says_more(fact.text, held.text)
            and not self.same_value(held, fact)
        ):
            self.reword(held, fact, likeness)
            return
        said = min(held.created_at, fact.turn.at)
        again = replace(
            held,
            covers=self.covers(held, fact),
            created_at=said,
            # Where the fact began when it was said, an earlier telling moves its beginning.
            valid_from=said if held.valid_from == held.created_at else held.valid_from,
            key=held.key or fact.key,
            value=held.value if held.key else fact.value,
        )
        if again != held:
            self.change(self._with_its_key(again, held, fact))

    def reword(self, held: Memory, fact: Fact, likeness: Likeness) -> None:
        """What is known in the fact's words."""
        if likeness.vector is not None:
            self.vectors[held.id] = likeness.vector
        reworded = replace(
            held,
            text=fact.text,
            key=fact.key or held.key,
            value=fact.value if fact.key else held.value,
            importance=max(held.importance, fact.importance),
            covers=self.covers(held, fact),
            source=self.source(fact),
            history=history_with(held, "refined"),
        )
        self.change(self._with_its_key(reworded, held, fact))

    def redated(self, held: Memory, fact: Fact) -> Memory:
        """What is known with the dates of a fact that says it more exactly ("on Thursday at 3");
        what it gives none of stays."""
        expires = held.expires_at if fact.ttl_days is None else self.expiry(fact)
        if fact.span is None:
            return replace(held, expires_at=expires)
        only_its_end = fact.ended and fact.span.start == fact.turn.at
        coming = self.is_to_come(fact) and not self.is_planned(held, fact)
        holds_now = coming and slot_of(held.type, held.key) is not None
        start = held.valid_from if only_its_end or holds_now else fact.span.start
        end = fact.span.end if fact.ended else held.valid_to
        return replace(
            held,
            valid_from=start,
            valid_to=end if end is not None and end > start else None,
            expires_at=expires,
        )

    def _with_its_key(self, changed: Memory, held: Memory, fact: Fact) -> Memory:
        """A key that a memory is given when it is told again ("I have moved to Porto", once
        announced without one) puts an end to the value that holds it; a value that is newer, a
        stronger hand's or the same keeps it."""
        slot = slot_of(changed.type, changed.key)
        if slot == slot_of(held.type, held.key):
            return changed
        other = self.holder(slot, fact, beside=held.id)
        if other is None:
            return changed
        if (
            not self.is_newer(fact, other)
            or self.outranked(fact, other)
            or self.same_value(other, fact)
        ):
            return replace(changed, key=held.key, value=held.value)
        self.end(other, fact, until=self.start(fact), by=held.id)
        return replace(changed, supersedes=changed.supersedes or other.id)

    # --- said late ---------------------------------------------------------------------------

    def into_the_past(self, fact: Fact, *, before: Memory) -> None:
        """An older fact that arrives late takes its place in the chain behind a newer one."""
        self.note("late")
        after: Memory | None = None
        older: Memory | None = self._parted(before, fact)
        for _ in range(CHAIN):
            if older is None or self._began_before(older, fact):
                break
            after, older = older, self.now_known.get(older.supersedes or "")
        if older is not None and self.says_the_same(older, fact):
            self._once_more(older, fact)
        elif older is not None and not self.is_newer(fact, older):
            self._split(older, fact)
        elif after is not None and self.says_the_same(after, fact):
            self._once_more(after, fact)
            if older is not None:
                self.end_in_the_past(older, fact, by=after.id)
        elif after is not None:
            self._insert(older, fact, after)
        elif older is not None:
            self._follow(older, fact)

    def _parted(self, held: Memory, fact: Fact) -> Memory:
        """What an older telling has its place before: the value of its key that was given up
        between it and what holds it now, where there is one."""
        end = self.ended_since(fact)
        return end if end is not None and self._over_at(end) <= held.created_at else held

    def _insert(self, older: Memory | None, fact: Fact, after: Memory) -> None:
        """A value between two others, or before the first."""
        made = self.make(fact, supersedes=after.supersedes)
        self._end_by(made, after)
        self.change(replace(after, supersedes=made.id))
        if older is not None:
            self.end_in_the_past(older, fact, by=made.id)

    def _follow(self, older: Memory, fact: Fact) -> None:
        """What was said before a value was given up: it had followed that value by then, until the
        next was told."""
        slot = slot_of(fact.type, fact.key)
        later = [
            m
            for m in self.now_known.values()
            if slot_of(m.type, m.key) == slot
            and m.status in ("active", "superseded")
            and m.created_at > fact.turn.at
        ]
        after = min(later, key=lambda m: m.created_at, default=None)
        if after is not None and self.says_the_same(after, fact):
            self._once_more(after, fact)
            self.end_in_the_past(older, fact, by=after.id)
            return
        made = self.make(fact, supersedes=older.id)
        self.end_in_the_past(older, fact, by=made.id)
        if after is not None:
            self._end_by(made, after)
            self.change(replace(after, supersedes=made.id))

    def _split(self, held: Memory, fact: Fact) -> None:
        """A value that was another one for a while: told before, and told again after."""
        since = self.told_since(held, fact)
        again = self.again(held, fact, since)
        made = self.make(fact, status="superseded", supersedes=held.id, superseded_by=again.id)
        self.change(
            replace(
                made,
                valid_to=max(made.valid_from, again.created_at),
                superseded_at=again.created_at,
            )
        )
        self.now_known[again.id] = replace(again, supersedes=made.id)
        follower = self.now_known.get(held.superseded_by or "")
        if follower is not None and follower.supersedes == held.id:
            self.change(replace(follower, supersedes=again.id))
        before = tuple(turn for turn in held.covers if turn not in since)
        self.end_in_the_past(replace(held, covers=before), fact, by=made.id)

    def _end_by(self, made: Memory, after: Memory) -> None:
        """A value over as soon as the one `after` it began."""
        self.change(
            replace(
                made,
                status="superseded",
                valid_to=max(made.valid_from, after.valid_from),
                superseded_by=after.id,
                superseded_at=after.created_at,
            )
        )

    def end_in_the_past(self, older: Memory, fact: Fact, *, by: str) -> None:
        self.change(
            replace(
                older,
                status="superseded",
                valid_to=max(older.valid_from, self.start(fact)),
                superseded_by=by,
                superseded_at=fact.turn.at,
            )
        )

    def give_up(self, held: Memory, fact: Fact) -> None:
        """What held a value until then holds none: no other follows from it. Told again since, it
        is a memory of its own from then on."""
        since = self.told_since(held, fact)
        again = self.again(held, fact, since) if since else None
        if again is not None:
            self.now_known[again.id] = replace(again, supersedes=None)
        follower = self.now_known.get(held.superseded_by or "")
        if follower is not None and follower.supersedes == held.id:
            self.change(replace(follower, supersedes=None if again is None else again.id))
        before = tuple(turn for turn in held.covers if turn not in since)
        self.end(replace(held, covers=before), fact, until=self.start(fact), by=None)

    def told_since(self, held: Memory, fact: Fact) -> tuple[str, ...]:
        """The turns in which this was told again after the fact was said."""
        return tuple(turn for turn in held.covers if self.told.get(turn, 0.0) > fact.turn.at)

    def again(self, held: Memory, fact: Fact, since: tuple[str, ...]) -> Memory:
        """The same as a memory of its own, from when it was told again."""
        again_at = min(self.told[turn] for turn in since)
        over = held.valid_to is not None and held.valid_to <= again_at
        return replace(
            held,
            id=self.next_id(fact),
            created_at=again_at,
            updated_at=self.now,
            # What was over when it was told again held when it did, not from then on.
            valid_from=held.valid_from if over else again_at,
            covers=since,
            history=(),
        )

    # --- the order ---------------------------------------------------------------------------

    def held_then(self, named: Memory, fact: Fact) -> Memory | None:
        """The memory that said this when the fact was said; the one that is named before others."""
        held = [
            m
            for m in self.now_known.values()
            if m.created_at <= fact.turn.at
            and (m.status == "active" or fact.turn.at < self._over_at(m))
            and (m.id == named.id or self._same_but_for_time(m, named))
        ]
        return max(held, key=lambda m: (m.id == named.id, m.created_at), default=None)

    def _over_at(self, memory: Memory) -> Instant:
        return (memory.superseded_at or 0.0) if memory.status == "superseded" else 0.0

    def _same_but_for_time(self, one: Memory, other: Memory) -> bool:
        slot = slot_of(one.type, one.key)
        return slot == slot_of(other.type, other.key) and same_text(one.text, other.text)

    def present(self, target: Memory | None) -> Memory | None:
        """A target as it stands by now: another fact of this batch may have replaced it."""
        held = self.now_known.get(target.id) if target is not None else None
        for _ in range(CHAIN):
            if held is None or held.status == "active" or held.superseded_by is None:
                break
            held = self.now_known.get(held.superseded_by)
        return held if held is not None and held.status == "active" else None

    def is_newer(self, fact: Fact, held: Memory) -> bool:
        """By the time of what happened where both have one, else by when it was last told."""
        if self._dated(fact, held):
            return self.start(fact) > held.valid_from
        return fact.turn.at >= max(
            (self.told[turn] for turn in held.covers if turn in self.told),
            default=held.created_at,
        )

    def _began_before(self, held: Memory, fact: Fact) -> bool:
        if self._dated(fact, held):
            return self.start(fact) > held.valid_from
        return fact.turn.at >= held.created_at

    def _dated(self, fact: Fact, held: Memory) -> bool:
        explicit = fact.span is not None and held.valid_from != held.created_at
        return explicit and self.start(fact) != held.valid_from and not self.is_planned(held, fact)

    def is_planned(self, held: Memory, fact: Fact) -> bool:
        """An event, a task's next step, or what is still to come, is no value that held until the
        next one: of an appointment that is moved the later telling counts, sooner or later."""
        return held.type in ("interaction", "task_state") or held.valid_from > fact.turn.at

    def is_to_come(self, fact: Fact) -> bool:
        return self.start(fact) > fact.turn.at + DAY_S

    def over(self, held: Memory, fact: Fact) -> Instant:
        """When the one that the fact replaces was over: a plan with its being changed."""
        start = self.start(fact)
        return min(start, fact.turn.at) if self.is_planned(held, fact) else start
