"""What is asked of a time and of nothing else: "What did I tell you last Tuesday?"

No memory has the words of such a question, nor is any near to it: nothing was found, and the floor
was silent, whatever had been said that day. So the memories of that time are looked up by their
days, and are about the question by that alone. A time that stands beside other words only lifts
what those have found (`core/ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gateway.core.identity import Owner
from gateway.core.memory import Found, Instant, Memory, Type, Where
from gateway.core.when import AskedSpan, asked_spans, asks_of_a_time_alone
from gateway.ports import MemoryStore

OF_A_SPAN: Final = 40
"""What was said within one span, the last of it."""
LOOKED_THROUGH: Final = 60
"""So many of the newest facts, and of the newest turns, are asked whether they tell of that time:
"I'm meeting Priya tomorrow" does, of the day after."""
MOST_SPANS: Final = 3
_HAPPEN: Final[tuple[Type, ...]] = ("interaction", "task_state")


def times_alone(text: str, *, now: Instant, timezone: str | None) -> list[AskedSpan]:
    """The times that a question is about, the nearest first; none where it is about more."""
    if not asks_of_a_time_alone(text):
        return []
    return sorted(_named(text, now, timezone), key=lambda s: abs(s.start - now))[:MOST_SPANS]


def _named(text: str, said_at: Instant, timezone: str | None) -> list[AskedSpan]:
    """The times that a text names, without those near them."""
    year = datetime.fromtimestamp(min(max(said_at, 0.0), 7e9), UTC).year
    spans = asked_spans(text, years=(year - 1, year + 1), now=said_at, timezone=timezone)
    best = max((span.weight for span in spans), default=0.0)
    return [span for span in spans if span.weight == best]


async def memories_of(
    store: MemoryStore,
    owner: Owner,
    where: Where,
    spans: Sequence[AskedSpan],
    *,
    now: Instant,
    timezone: str | None,
) -> list[Memory]:
    """What was said in these spans, and what tells of them. Raises StoreUnavailable."""
    found: list[Memory] = []
    for span in spans:
        if span.start <= now:
            page = await store.page(owner, where, limit=OF_A_SPAN, after=(span.end, ""))
            found += [memory for memory in page if span.start <= memory.created_at < span.end]
    types = tuple(t for t in _HAPPEN if not where.types or t in where.types)
    if types and (not where.kinds or "fact" in where.kinds):
        facts = replace(where, kinds=("fact",), types=types)
        page = await store.page(owner, facts, limit=LOOKED_THROUGH)
        found += [m for m in page if any(s.start <= m.valid_from < s.end for s in spans)]
    if not where.types and (not where.kinds or "turn" in where.kinds):
        turns = replace(where, kinds=("turn",))
        page = await store.page(owner, turns, limit=LOOKED_THROUGH)
        found += [m for m in page if m.source.role == "user" and _tells_of(m, spans, timezone)]
    return found


def _tells_of(turn: Memory, spans: Sequence[AskedSpan], timezone: str | None) -> bool:
    told = _named(turn.text, turn.created_at, timezone)
    return any(t.start < s.end and s.start < t.end for t in told for s in spans)


def those_alone(found: Found, dated: Sequence[Memory]) -> Found:
    """These instead of what the question's own words have found ("tomorrow" stands in what was said
    of any other day), where there are any."""
    if not dated:
        return found
    by_id = {memory.id: memory for memory in dated}
    standing = found.lists.get("standing", ())
    return Found(
        lists={"standing": standing, "dated": [(id, 1.0) for id in by_id]},
        memories={**found.memories, **by_id},
    )
