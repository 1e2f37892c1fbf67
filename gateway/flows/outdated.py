"""Turns that told what is no longer so: those that a superseded or corrected fact was drawn from.

"I live in Porto", said in January, goes on answering "Where do I live?" well by every measure of
search, beside the fact of May that took its fact's place. The fact that is in force names the one
it superseded (`supersedes`), and that one the turns it was drawn from (`covers`). What is learnt
of superseded facts is kept here, for they do not change: ids alone, no words.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from gateway.core.identity import Owner
from gateway.core.memory import Memory
from gateway.core.wording import stands_in
from gateway.ports import MemoryStore

MAX_TENANTS: Final = 2000
MAX_FACTS: Final = 1000
"""Superseded facts of one user that are remembered; more, and they are looked up anew."""
MAX_BACK: Final = 5
"""So many times in a row may a fact have been superseded and its first turn still be known."""


def corrected(facts: Iterable[Memory], found: Mapping[str, Memory]) -> Iterator[str]:
    """The turns whose words a fact was drawn from that a person has since put in other words.

    What was said again later, as the correction has it, stands beside it.
    """
    for fact in facts:
        now = (fact.text, fact.value)
        quote = fact.source.quote or ""
        if any(v.event == "corrected" and (v.text, v.value) != now for v in fact.history):
            for id in fact.covers:
                if id not in found or stands_in(quote, found[id].text):
                    yield id


class Outdated:
    """What superseded facts rested on, by tenant; bounded, the least used tenant goes first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, dict[str, tuple[str | None, tuple[str, ...]]]] = OrderedDict()

    def turns(self, tenant: str, facts: Iterable[Memory]) -> tuple[frozenset[str], list[str]]:
        """The ids of the turns that these facts in force have outdated, and those of superseded
        facts that would have to be looked up first."""
        known = self._known.get(tenant, {})
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

    async def learn(self, store: MemoryStore, owner: Owner, ids: Sequence[str]) -> None:
        """Look up superseded facts, and those that they superseded. Raises StoreUnavailable."""
        asked: list[str | None] = list(ids)
        for _ in range(MAX_BACK):
            wanted = list(dict.fromkeys(id for id in asked if id is not None))[:MAX_FACTS]
            if not wanted:
                break
            found = {fact.id: fact for fact in await store.get(owner, wanted)}
            kept = self._known.setdefault(owner.tenant, {})
            if len(kept) + len(wanted) > MAX_FACTS:
                kept.clear()
            # One that is gone (its time was up, or it was forgotten) rests on nothing.
            kept.update(
                (id, (old.supersedes, old.covers) if (old := found.get(id)) else (None, ()))
                for id in wanted
            )
            asked = [kept[id][0] for id in wanted if kept[id][0] not in kept]
            self._known.move_to_end(owner.tenant)
        while len(self._known) > MAX_TENANTS:
            self._known.popitem(last=False)

    def forget(self, tenant: str) -> None:
        self._known.pop(tenant, None)
