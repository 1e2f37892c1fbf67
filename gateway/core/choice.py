"""Which of the ranked memories are injected, under a budget and without breaking a prompt cache.

Order of claims on the budget: what the conversation's block holds already (in its order, byte
for byte: the upstream has it in its prompt cache); what counts whatever the question (pinned,
profile, preferences); what was just said elsewhere; then the ranked ones, if the question is
about memories at all. New memories go after the old ones. Where a new one that matters does not
fit any more, the block is made anew with room to grow, so that this happens seldom. Everything
that is left out says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from gateway.core.batch import says_nothing
from gateway.core.excerpt import Ref, as_injected, passage
from gateway.core.injection import is_dayless, line
from gateway.core.memory import Memory
from gateway.core.noted import note_on
from gateway.core.question import asks_for_all
from gateway.core.ranking import are_long
from gateway.core.scored import DATE, DENSE, FOCUS, LEXICAL, LINKS, OUTDATED, REPEATED, Scored
from gateway.core.stored import STANDING_TYPES
from gateway.core.tokens import line_tokens
from gateway.core.told import Said, Told, said_in
from gateway.core.words import terms

KEEP_SHARE = 0.55
"""A memory whose score is below this share of the best one's is not injected: 610 tokens
instead of 780, for half a point of hits."""
KEEP_SHARE_OF_ALL = 0.4
"""The same where the question counts or lists, which needs all that there is: of 24 such of LoCoMo
the whole evidence is injected for 67% instead of 54, for 311 tokens more. Of long messages nothing
is gained by it."""
KEEP_MATCH = 0.2
"""The same for what of the score speaks of the question itself: who said it and in which
session do not make a memory an answer."""
IN_FULL = 4
"""So many new memories get a longer passage than those after them; at the tail the best alone."""
STANDING_SHARE = 0.5
"""The share of the token budget that standing memories may take."""
JUST_SAID_SHARE = 0.25
PRESSING = 3
"""So many of the best new memories may have the block made anew for them."""
ROOM_SHARE = 0.3
"""How much of the budget is free again after that."""
TAIL_SHARE = 0.28
"""The share of the budget for what stands at the end of the prompt (`Budget.tail_frame`): at most
3 points of prefix reuse over 30 turns (docs/performance.md)."""
MISSES = 4
"""After so many that did not fit, the rest is not tried: the budget is spent."""


LeftOut: TypeAlias = Literal[
    "budget", "off_topic", "weak", "repeated", "outdated", "present", "duplicate", "chosen"
]
"""Why a memory was offered and is not injected; docs/observe.md and the console explain each."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`tokens` and `memories` bound the whole block; `overhead` are the tokens of its frame.

    `tail_frame`: what is not standing is put at the end of the prompt, in a frame of so many
    tokens, after all that the upstream's cache holds. Each request pays for it anew, so it has a
    share of the tokens alone; and as no cache is broken there, what suits the question better
    takes the place of what was shown before.
    """

    tokens: int
    memories: int
    standing: int
    overhead: int = 0
    tail_frame: int | None = None

    @property
    def at_tail(self) -> bool:
        return self.tail_frame is not None


@dataclass(frozen=True, slots=True)
class Offer:
    """What may be injected.

    `sticky` stands in the conversation's block; `standing`, `just_said` and `ranked` are new,
    best first. `relevant`: whether the ranked ones are about the question at all. `present`
    are the texts that the request still contains, `session` the conversation that it is of,
    `exchange` the one that it may have been before. Days are shown in `timezone`.
    """

    question: str
    sticky: Sequence[tuple[Ref, Memory]] = ()
    standing: Sequence[Memory] = ()
    just_said: Sequence[Memory] = ()
    ranked: Sequence[Scored] = ()
    relevant: bool = True
    present: Sequence[str] = ()
    session: str | None = None
    exchange: str = ""
    timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The block's memories as they are to be shown, their lines, what names them, and what they
    cost.

    `left_out`: why a memory that was offered is not there, by its id. `cut`: the budget is less
    than what the conversation's block already had.
    """

    memories: tuple[Memory, ...] = ()
    lines: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    tokens: int = 0
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    cut: bool = False


class _Item(NamedTuple):
    """A memory as the block would show it, and what its line costs."""

    ref: Ref
    memory: Memory
    line: str
    cost: int
    group: int


def choose(offer: Offer, budget: Budget) -> Choice:
    """Fill the budget in the order of claims."""
    chosen = _Chosen(offer, budget)
    for ref, memory in offer.sticky:
        chosen.keep(ref, memory)
    for memory in offer.standing[: budget.standing]:
        chosen.add(memory, group=0, share=STANDING_SHARE)
    for memory in offer.just_said:
        chosen.add(memory, group=3, share=JUST_SAID_SHARE)
    chosen.add_ranked()
    return chosen.result()


class _Chosen:
    def __init__(self, offer: Offer, budget: Budget) -> None:
        self._offer = offer
        self._budget = budget
        self._stems = terms(offer.question)
        self._sticky: list[_Item] = []
        self._new: list[_Item] = []
        self._told = Told(offer.present, offer.session, offer.exchange)
        self._ids: set[str] = set()
        self._tokens = 0
        self._spent: dict[int, int] = {}
        self.left_out: dict[str, LeftOut] = {}
        self._cut = False

    # --- what the block holds ------------------------------------------------------------

    def keep(self, ref: Ref, memory: Memory) -> None:
        if not ref.fits(memory):  # corrected since: what it says now is looked at anew
            ref = passage(memory, self._stems)
        item = self._rendered(ref, as_injected(memory, ref), _group(memory))
        if not self._fits(item.cost, item.group):
            self.left_out[memory.id] = "budget"
            self._cut = True
            return
        self._sticky.append(item)
        self._take(item, said_in(memory))

    # --- what is new -----------------------------------------------------------------------

    def add(self, memory: Memory, *, group: int, share: float) -> None:
        """Something that needs no score, within its share of the budget."""
        said = said_in(memory)
        if (reason := self._unwanted(memory, said)) is not None:
            self.left_out.setdefault(memory.id, reason)
            return
        item = self._item(memory, group, often=True)
        limit = share * self._allowed(group)
        if self._spent.get(group, 0) + item.cost > limit or not self._fits(item.cost, group):
            self.left_out[memory.id] = "budget"
            return
        self._new.append(item)
        self._take(item, said)

    def add_ranked(self) -> None:
        """The ranked ones, best first, while the budget lasts."""
        ranked = self._offer.ranked
        if not ranked:
            return
        if not self._offer.relevant:
            self._leave_out(ranked, "off_topic")
            return
        wants_all = asks_for_all(self._offer.question) and not are_long(s.memory for s in ranked)
        floor = (KEEP_SHARE_OF_ALL if wants_all else KEEP_SHARE) * ranked[0].score
        least_match = KEEP_MATCH * _match(ranked[0])
        pressing = misses = 0
        for place, scored in enumerate(ranked):
            if scored.score < floor:
                self._leave_out(ranked[place:], "weak")
                return
            if misses >= MISSES:
                self._leave_out(ranked[place:], "budget")
                return
            memory = scored.memory
            if memory.id in self._ids:
                pressing += place < PRESSING
                continue
            reason: LeftOut | None
            if scored.parts[REPEATED]:
                reason = "repeated"
            elif scored.parts[OUTDATED]:
                reason = "outdated"
            elif _match(scored) < least_match:
                reason = "weak"
            elif (reason := self._unwanted(memory, said := said_in(memory))) is None:
                item = self._item(memory, _group(memory))
                presses = pressing < PRESSING or self._budget.at_tail
                if _says_nothing(memory):
                    reason = "weak"
                elif self._fits(item.cost, item.group) or (
                    presses and self._make_room(item, scored.score)
                ):
                    self._new.append(item)
                    self._take(item, said)
                    pressing += 1
                else:
                    reason = "budget"
                    misses += 1
            if reason is not None:
                self.left_out.setdefault(memory.id, reason)

    def _leave_out(self, ranked: Sequence[Scored], reason: LeftOut) -> None:
        chosen, left_out = self._ids, self.left_out
        for scored in ranked:
            id = scored.memory.id
            if id not in chosen:
                left_out.setdefault(id, "outdated" if scored.parts[OUTDATED] else reason)

    def _make_room(self, new: _Item, score: float) -> bool:
        """Take old memories out of the block, those that suit this question least first, until
        there is room for this and for some more to come.

        At the tail only those that suit it less, and no more than need be: what stays may be
        spoken of again.
        """
        budget = self._budget
        scores = {s.memory.id: s.score for s in self._offer.ranked} if self._offer.relevant else {}
        removable = [
            (suits, place, item)
            for place, item in enumerate(self._sticky)
            if item.group != 0
            and ((suits := scores.get(item.memory.id, -1.0)) < score or not budget.at_tail)
        ]
        free = self._free(new.group)
        if free + sum(item.cost for _, _, item in removable) < new.cost:
            return False
        wanted = new.cost + (0.0 if budget.at_tail else ROOM_SHARE * budget.tokens)
        crowded = len(self._ids) >= budget.memories
        for _, _, item in sorted(removable, key=lambda entry: entry[:2]):
            if free >= wanted and not crowded:
                break
            self._sticky.remove(item)
            self._ids.discard(item.memory.id)
            self._tokens -= item.cost
            self.left_out[item.memory.id] = "budget"
            free += item.cost
            crowded = False
        return self._fits(new.cost, new.group)

    # --- bookkeeping -------------------------------------------------------------------------

    def _unwanted(self, memory: Memory, said: Said) -> LeftOut | None:
        return "chosen" if memory.id in self._ids else self._told.where(memory, said)

    def _item(self, memory: Memory, group: int, *, often: bool = False) -> _Item:
        """`often`: it is offered to each request of its user's, and held that long."""
        brief = len(self._new) >= (1 if self._budget.at_tail else IN_FULL)
        ref = passage(memory, self._stems, brief=brief)
        if ref.start is not None:
            return self._rendered(ref, as_injected(memory, ref), group)
        if not often or not (is_dayless(memory) or self._offer.timezone is None):
            return self._rendered(ref, memory, group)
        noted: tuple[str, int] | None = getattr(memory, "note", None)
        if noted is None:
            text = line(memory)
            noted = text, line_tokens(text)
            note_on(memory, noted)
        return _Item(ref, memory, *noted, group)

    def _rendered(self, ref: Ref, shown: Memory, group: int) -> _Item:
        text = line(shown, self._offer.timezone)
        return _Item(ref, shown, text, line_tokens(text), group)

    def _allowed(self, group: int) -> float:
        """The tokens that the memories of a group may take together with all others."""
        at_tail = self._budget.at_tail and group != 0
        return (TAIL_SHARE if at_tail else 1.0) * self._budget.tokens

    def _free(self, group: int) -> float:
        """The tokens that are left for one more of a group."""
        left = self._budget.tokens - self._budget.overhead - self._tokens
        frame = self._budget.tail_frame
        if frame is None or group == 0:
            return left
        return min(left, self._allowed(group) - frame - self._tokens + self._spent.get(0, 0))

    def _fits(self, cost: int, group: int) -> bool:
        return len(self._ids) < self._budget.memories and cost <= self._free(group)

    def _take(self, item: _Item, said: Said) -> None:
        self._told.add(said)
        self._ids.add(item.memory.id)
        self._tokens += item.cost
        self._spent[item.group] = self._spent.get(item.group, 0) + item.cost
        self.left_out.pop(item.memory.id, None)

    def result(self) -> Choice:
        """Old ones in their order, then the new ones: what always counts, facts, what was said;
        within these by time, so that the same memories give the same bytes."""
        new = sorted(self._new, key=_block_order)
        items = [*self._sticky, *new]
        for item in items:
            self.left_out.pop(item.memory.id, None)
        return Choice(
            memories=tuple([item.memory for item in items]),
            lines=tuple([item.line for item in items]),
            refs=tuple([str(item.ref) for item in items]),
            tokens=self._tokens + self._budget.overhead if items else 0,
            left_out=self.left_out,
            cut=self._cut,
        )


def _says_nothing(memory: Memory) -> bool:
    """ "Okay." is lifted by the turns around it, and tells nothing."""
    return memory.kind == "turn" and not memory.pinned and says_nothing(memory.text)


def _match(scored: Scored) -> float:
    parts = scored.parts
    return parts[DENSE] + parts[LEXICAL] + parts[FOCUS] + parts[LINKS] + parts[DATE]


def is_standing(memory: Memory) -> bool:
    """Whether it counts whatever the question."""
    return memory.pinned or (memory.kind == "fact" and memory.type in STANDING_TYPES)


def _group(memory: Memory) -> int:
    if is_standing(memory):
        return 0
    return 1 if memory.kind == "fact" else 2


def _block_order(item: _Item) -> tuple[int, str, float, str]:
    memory = item.memory
    return (item.group, memory.type or "" if item.group == 0 else "", memory.valid_from, memory.id)
