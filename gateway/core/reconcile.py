"""New facts against what is known: what to write, decided without writing.

Strategy: facts are taken one by one, in the order in which they were said, and applied to a
working copy of what is known (`core/book`, with `core/chains` for the order of values); the
difference between the copy and the original is the plan. A model only labels (this supersedes
that); which of two is newer, what outranks what and when each was true is settled here, so that
the outcome is the same as if exchanges had been applied in the order of their times, whenever
they arrive. Nothing is overwritten without a trace: a superseded memory keeps its text, its
interval and its successor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.core.book import NOTHING, Distilled, Likeness, Rules
from gateway.core.chains import Chains
from gateway.core.delivery import Plan, Put
from gateway.core.exchange import Exchange
from gateway.core.guards import Fact
from gateway.core.memory import Instant, Memory, Vector
from gateway.core.slots import asks_to_forget, may_end, slot_of
from gateway.core.tombstone import Forgotten
from gateway.core.wording import content_words, gist, same_text, says_the_same


def reconcile(
    facts: Sequence[Fact],
    known: Sequence[Memory],
    exchanges: Sequence[Exchange],
    *,
    rules: Rules,
    now: Instant,
    near: Sequence[Mapping[str, float]] = (),
    vectors: Sequence[Vector | None] = (),
    told: Mapping[str, Instant] = NOTHING,
    turns: Sequence[Put] = (),
    forgotten: Forgotten | None = None,
    distilled: Sequence[Distilled] = (),
) -> Plan:
    """What to write for these facts, and the `turns` to keep beside them.

    `known` are the owner's memories that the facts may touch: all active ones with a key, what
    is like a fact, and the chain behind a value that an older exchange may belong in. `near`
    gives, for each fact, the cosine to known memories by id; `vectors` are the facts' own, so
    that they are compared with one another. Both may be absent: then words alone decide.
    `told` has the times of turns that known memories cover, by turn id: when a value was told
    again. It matters for exchanges that arrive late, and may be empty for others. `forgotten` knows
    what was to be forgotten: said before that and arriving after it, it is not stored again.
    `distilled` are exchanges other than these that facts may rest on too.
    """
    book = _Reconciler(known, exchanges, rules, now, told, forgotten, distilled)
    numbered = sorted(range(len(facts)), key=lambda i: facts[i].turn.n)
    for i in numbered:
        likeness = Likeness(
            near[i] if i < len(near) else {}, vectors[i] if i < len(vectors) else None
        )
        book.take(facts[i], likeness)
    return book.plan(turns)


class _Reconciler(Chains):
    """A working copy that takes facts in."""

    def take(self, fact: Fact, likeness: Likeness) -> None:
        """Apply one fact."""
        self.told[fact.turn.turn_id] = fact.turn.at
        if fact.quarantine is not None:
            self._set_aside(fact)
            return
        target = self._taken_back(fact) if fact.action == "retract" else self._meant(fact)
        if fact.action == "duplicate" and (over := self._over_by_then(target, fact)) is not None:
            # "I live in Berlin again": it holds once more, and is no second telling of then.
            if self._says_again(over, fact):
                fact = replace(self.worded_as(over, fact), action="add", target=None)
            target = None
        replaced = target is not None and self._was_replaced_beside(fact)
        if fact.action in ("retract", "duplicate"):
            if target is None or (replaced and fact.action == "duplicate"):
                self.note("target_gone")
            elif fact.action == "duplicate":
                self.seen_again(target, fact)
            elif fact.target is not None and (replaced or self._says_the_former(target, fact)):
                self._retract_replaced(fact.target, fact)
            else:
                self._retract(target, fact)
            return
        if self.long_gone is not None and self.long_gone.since(fact):
            self._not_again(fact, target)
        elif (expires_at := self.expiry(fact)) is not None and expires_at <= self.now:
            self.note("expired")
        elif fact.action == "refine" and replaced:
            self.note("target_gone")
        elif fact.action == "refine" and target is not None:
            self._refine(target, fact, likeness)
        elif fact.action == "supersede" and target is not None and not replaced:
            self._supersede(target, fact, likeness)
        else:
            self._add(fact, likeness)

    def _set_aside(self, fact: Fact) -> None:
        if any(
            m.status == "quarantined" and same_text(m.text, fact.text)
            for m in self.now_known.values()
        ):
            self.note("duplicate")
            return
        self.make(fact, status="quarantined", metadata={"quarantine": fact.quarantine})
        self.notes[f"quarantined.{fact.quarantine}"] += 1

    def _retract(self, target: Memory, fact: Fact) -> None:
        if fact.turn.at < target.created_at:
            self.note("late")
        elif asks_to_forget(fact.turn.text):
            self._forget(target, fact)
        elif self.outranked(fact, target):
            self.note("outranked")
        else:
            self.give_up(target, fact)
            self.notes["fact.retract"] += 1

    def _meant(self, fact: Fact) -> Memory | None:
        """What this is about: its target as it stands by now. Where that is over, an older telling,
        or the same told once more, says nothing of the one that followed; nor does a closer word,
        where it was over before this batch."""
        named = fact.target
        old = self.now_known.get(named.id) if named is not None else None
        if (
            named is None
            or old is None
            or old.status == "active"
            or self._was_replaced_beside(fact)
            or fact.action not in ("duplicate", "refine")
            or (fact.action == "refine" and named.status == "active")
        ):
            return self.present(named)
        return self.held_then(named, fact) or old

    def _over_by_then(self, target: Memory | None, fact: Fact) -> Memory | None:
        """What a fact is about, where that was over, or forgotten, when the fact was said."""
        if target is None and fact.target is not None:
            asked_at = self.forgotten.get(fact.target.id)
            return fact.target if asked_at is not None and asked_at < fact.turn.at else None
        if target is None or target.status != "superseded":
            return None
        return target if (target.superseded_at or 0.0) <= fact.turn.at else None

    def _says_again(self, over: Memory, fact: Fact) -> bool:
        """Whether a "duplicate", which may come without words of its own, says that it holds."""
        if not fact.text:
            return not may_end(fact.quote)
        return says_the_same(over.text, fact.text, None)

    def _taken_back(self, fact: Fact) -> Memory | None:
        """What this ends: its target, or the same told at another time, as it held when this was
        said; else what a fact of this batch put in its place. What is over by then ends no more,
        but is forgotten where that is asked for."""
        named = fact.target
        if named is None or (held := self.held_then(named, fact)) is not None:
            return held if named is not None else None
        now = self.present(named) if named.status == "active" else None
        if now is None and asks_to_forget(fact.turn.text):
            return self.now_known.get(named.id)
        return now

    def _says_the_former(self, target: Memory, fact: Fact) -> bool:
        """Whether the words are those of the value that the fact names, and not of the `target`
        that has taken its place: "I no longer live in Berlin", said after "I live in Porto"."""
        former = fact.target
        if former is None or target.id == former.id or same_text(target.text, former.text):
            return False
        its_own = gist(former.text).words - gist(target.text).words
        return not its_own.isdisjoint(content_words(fact.quote))

    def _was_replaced_beside(self, fact: Fact) -> bool:
        """Whether another fact of this turn has replaced what this one names already: of "I work at
        Bosch now and live in Bonn" each is told of its own, and neither replaces the other."""
        return fact.target is not None and self.ended_in.get(fact.target.id) == fact.turn.turn_id

    def _retract_replaced(self, named: Memory, fact: Fact) -> None:
        """ "I work at Bosch now, I left Siemens": Bosch has ended Siemens already, and stays."""
        old = self.now_known.get(named.id)
        if old is not None and asks_to_forget(fact.turn.text):
            self._forget(old, fact)
        else:
            self.note("target_gone")

    def _given_up(self, fact: Fact) -> Memory | None:
        """The value of this fact's key that was given up in the same turn: the fact follows it."""
        slot = slot_of(fact.type, fact.key)
        for m in self.now_known.values():
            if (
                slot is not None
                and m.status == "superseded"
                and m.superseded_by is None
                and m.superseded_at == fact.turn.at
                and slot_of(m.type, m.key) == slot
            ):
                return m
        return None

    def _forget(self, target: Memory, fact: Fact) -> None:
        """Content goes: the memory's, and that of the turns it could be read off again,
        the one that asked for it included. What was told again after that stays."""
        named = fact.target or target
        for memory in {named.id: named, target.id: target}.values():
            since = self.told_since(memory, fact)
            if since and memory.id in self.now_known:
                again = self.again(memory, fact, since)
                self.now_known[again.id] = again
            gone = self.now_known.pop(memory.id, None)
            if memory.id in self.before:
                self.forgotten[memory.id] = fact.turn.at
            elif gone is not None and self.long_gone is not None:
                stone = self.long_gone.stone(gone, now=self.now, asked_at=fact.turn.at)
                self.now_known[stone.id] = stone
            before = [turn for turn in memory.covers if turn not in since]
            self.forgotten.update(dict.fromkeys(before, fact.turn.at))
            words = memory.source.quote or memory.text
            self.unkept |= self.answers_repeating(before, value=memory.value, words=words)
        asked_in = fact.turn.exchange_id
        self.unkept.add(self.exchanges[asked_in].origin)
        self.forgotten.update(dict.fromkeys(self.kept.get(asked_in, ()), fact.turn.at))
        self.notes["fact.forget"] += 1

    def _not_again(self, fact: Fact, target: Memory | None) -> None:
        """Told before it was to be forgotten, and heard of after that: neither it nor its turn is
        kept, nor an answer that repeats it. What it put an end to then has ended all the same."""
        held = target if fact.action == "supersede" and target is not None else self.occupant(fact)
        if (
            held is not None
            and self.is_newer(fact, held)
            and not self.says_the_same(held, fact)
            and not self.outranked(fact, held)
        ):
            self.end(held, fact, until=self.start(fact), by=None)
        told = fact.turn.turn_id
        self.unkept.add(told)
        self.unkept |= self.answers_repeating({told}, value=fact.value, words=fact.quote)
        self.note("forgotten")

    def _refine(self, target: Memory, fact: Fact, likeness: Likeness) -> None:
        if self.outranked(fact, target):
            self.note("outranked")
        elif fact.turn.at < target.created_at:
            if same_text(target.text, fact.text):
                self.seen_again(target, fact)
            else:
                self.into_the_past(fact, before=target)
        else:
            self.reword(target, fact, likeness)
            self.change(self.redated(self.now_known[target.id], fact))
            self.notes["fact.refine"] += 1

    def _supersede(self, target: Memory, fact: Fact, likeness: Likeness) -> None:
        planned = self.is_planned(target, fact)
        if planned and self.is_to_come(fact) and fact.type in ("profile", "preference"):
            fact = replace(fact, key=None, value=None)  # as it was announced
        same = self.same(fact, likeness)
        if same is not None and same.id == target.id:
            self.seen_again(target, fact)
        elif self.outranked(fact, target):
            self.aside(fact, target)
        elif not self.is_newer(fact, target):
            self.into_the_past(fact, before=target)
        elif self.is_to_come(fact) and not planned:
            self.announce(fact)
        elif same is not None:
            self.seen_again(same, fact)
            self.end(target, fact, until=self.over(target, fact), by=same.id)
        elif (held := self.occupant(fact)) is not None and self.outranked(fact, held):
            self.aside(fact, held)
        else:
            made = self.make(fact, supersedes=target.id, vector=likeness.vector)
            self.end(target, fact, until=self.over(target, fact), by=made.id)
            if held is not None and held.id != target.id:
                self.end(held, fact, until=self.over(held, fact), by=made.id)
            self.notes["fact.supersede"] += 1

    def _add(self, fact: Fact, likeness: Likeness) -> None:
        past = fact.ended and fact.span is not None and fact.span.end <= fact.turn.at
        held = None if past else self.occupant(fact)
        if held is not None:
            self._into_slot(held, fact, likeness)
        elif (same := self.same(fact, likeness)) is not None:
            self.seen_again(same, fact, likeness)
        elif (end := self.ended_since(fact)) is not None and not past:
            self.into_the_past(fact, before=end)
        elif not past and self.long_gone and (stone := self.long_gone.took_its_place(fact)):
            self.note("late")
            made = self.make(fact, status="superseded", superseded_by=stone.id)
            until = max(made.valid_from, stone.created_at)
            self.change(replace(made, valid_to=until, superseded_at=stone.created_at))
        elif not past and (given_up := self._given_up(fact)) is not None:
            made = self.make(fact, supersedes=given_up.id, vector=likeness.vector)
            self.change(replace(given_up, superseded_by=made.id))
            self.notes["fact.supersede"] += 1
        else:
            self.make(fact, vector=likeness.vector)
            self.notes["fact.add"] += 1

    def _into_slot(self, held: Memory, fact: Fact, likeness: Likeness) -> None:
        """A key has one value: the newer one, unless a stronger hand set the older."""
        if not self.is_newer(fact, held):
            self.into_the_past(fact, before=held)
        elif self.same_value(held, fact) or says_the_same(
            held.text, fact.text, likeness.to(held.id, self.vectors)
        ):
            self.seen_again(held, fact, likeness)
        elif self.outranked(fact, held):
            self.aside(fact, held)
        elif self.is_to_come(fact) and not self.is_planned(held, fact):
            self.announce(fact)
        else:
            made = self.make(fact, supersedes=held.id, vector=likeness.vector)
            self.end(held, fact, until=self.over(held, fact), by=made.id)
            self.notes["fact.supersede"] += 1
