"""Turns that told what is no longer so: those that a superseded or corrected fact was drawn from.

"I live in Porto", said in January, goes on answering "Where do I live?" well by every measure of
search, beside the fact of May that took its fact's place. The fact that is in force names the one
it superseded (`supersedes`), and that one the turns it was drawn from (`covers`). What is learnt
of superseded facts is kept here: ids alone, no words. They change where something arrives late
and takes its place among them: whoever writes one says so (`forget`), and what another process
wrote is known within `KEPT_S`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Version
from gateway.core.repeating import EVERYDAY, says_whole
from gateway.core.wording import content_words, stands_in
from gateway.ports import MemoryStore

OVER: Final = "no_longer_so"
"""In a turn's metadata: what it told has ended, and nothing took its place (`flows/over`)."""
MAX_TENANTS: Final = 2000
MAX_FACTS: Final = 1000
"""Superseded facts of one user that are remembered; more, and they are looked up anew."""
KEPT_S: Final = 300.0
"""How long a user's are kept, as what always counts is (`flows/standing`)."""
MAX_BACK: Final = 5
"""So many times in a row may a fact have been superseded and its first turn still be known."""


def corrected(facts: Iterable[Memory], found: Mapping[str, Memory]) -> Iterator[str]:
    """The turns whose words a fact was drawn from that a person has since put in other words, and
    the answers that say it whole as it was ("You live in Porto.").

    What was said again later, as the correction has it, stands beside it.
    """
    for fact in facts:
        now = (fact.text, fact.value)
        quote = fact.source.quote or ""
        wrong = [v for v in fact.history if v.event == "corrected" and (v.text, v.value) != now]
        if not wrong:
            continue
        for id in fact.covers:
            if id not in found or stands_in(quote, found[id].text):
                yield id
        for turn in found.values():
            if _is_answer(turn, before=fact.updated_at) and any(_told_as(v, turn) for v in wrong):
                yield turn.id


def _is_answer(memory: Memory, *, before: Instant) -> bool:
    said_before = memory.created_at < before
    return said_before and memory.kind == "turn" and memory.source.role == "assistant"


def _told_as(former: Version, turn: Memory) -> bool:
    """Whether an answer says a former state. What tells it is looked for first: the words of a
    long answer take some 50 µs to find."""
    low = turn.text.casefold()
    telling = content_words(former.text) - EVERYDAY
    return any(word[:4] in low for word in telling) and says_whole(turn.text, former.text)


class _Known(NamedTuple):
    """By the id of a superseded fact: what it superseded, and the turns that it was drawn from."""

    since: Instant
    facts: dict[str, tuple[str | None, tuple[str, ...]]]


class Outdated:
    """What superseded facts rested on, by tenant; bounded, the least used tenant goes first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def turns(
        self, tenant: str, facts: Iterable[Memory], *, now: Instant
    ) -> tuple[frozenset[str], list[str]]:
        """The ids of the turns that these facts in force have outdated, and those of superseded
        facts that would have to be looked up first."""
        kept = self._known.get(tenant)
        known = kept.facts if kept is not None and 0.0 <= now - kept.since <= KEPT_S else {}
        if known:
            self._known.move_to_end(tenant)
        turns: set[str] = set()
        unknown: list[str] = []
        for fact in facts:
            id = fact.supersedes
            for _ in range(MAX_BACK):
                if id is None or id == fact.id:  # a value that was brought back replaced itself
                    break
                if id not in known:
                    unknown.append(id)
                    break
                id, covers = known[id]
                turns.update(covers)
        return frozenset(turns), unknown

    async def learn(
        self, store: MemoryStore, owner: Owner, ids: Sequence[str], *, now: Instant
    ) -> None:
        """Look up superseded facts, and those that they superseded. Raises StoreUnavailable.

        What was asked for before somebody wrote one, and comes after that, is not kept: the
        store may have answered as it was before.
        """
        asked: list[str | None] = list(ids)
        known = self._known.get(owner.tenant)
        if known is None or not 0.0 <= now - known.since <= KEPT_S:
            known = self._known[owner.tenant] = _Known(now, {})
        self._known.move_to_end(owner.tenant)
        while len(self._known) > MAX_TENANTS:
            self._known.popitem(last=False)
        kept = known.facts
        for _ in range(MAX_BACK):
            wanted = list(dict.fromkeys(id for id in asked if id is not None))[:MAX_FACTS]
            if not wanted:
                break
            found = {fact.id: fact for fact in await store.get(owner, wanted)}
            if self._known.get(owner.tenant) is not known:
                return
            if len(kept) + len(wanted) > MAX_FACTS:
                kept.clear()
            # One that is gone (its time was up, or it was forgotten) rests on nothing.
            kept.update(
                (id, (old.supersedes, old.covers) if (old := found.get(id)) else (None, ()))
                for id in wanted
            )
            asked = [kept[id][0] for id in wanted if kept[id][0] not in kept]

    def forget(self, tenant: str) -> None:
        self._known.pop(tenant, None)
