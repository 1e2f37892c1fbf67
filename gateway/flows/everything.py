"""Forget everything: what no fact names goes too.

An extractor names facts that are in force. Beside them there are those that they replaced, and what
was said and became no fact: "Forget everything about me" left them for the next question to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.core.delivery import Forget, Plan, Put, Revise
from gateway.core.everything import forgets_everything
from gateway.core.exchange import Exchange
from gateway.core.guards import Fact
from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Where
from gateway.flows.browse import pages
from gateway.ports import Services

AT_ONCE: Final = 5_000
"""Memories that one plan forgets: the newest. Who has more erases (`DELETE /v1/memories`)."""


async def all_forgotten(
    services: Services,
    owner: Owner,
    plan: Plan,
    facts: Sequence[Fact],
    exchanges: Sequence[Exchange],
    known: Sequence[Memory],
    *,
    now: Instant,
) -> Plan:
    """The plan with all forgotten that was said before a user asked for just that. Words alone do
    not do it: the extractor, which reads all that was said, takes something back by them, or
    there is nothing known that it could."""
    believed = {fact.turn.at for fact in facts if fact.action == "retract"}
    active = any(memory.status == "active" for memory in known)
    asked = [
        turn.at
        for exchange in exchanges
        for turn in exchange.turns
        if turn.role == "user"
        and (not active or round(turn.at, 6) in believed)
        and forgets_everything(turn.text)
    ]
    if not asked:
        return plan
    at = round(max(asked), 6)
    everything = Where(statuses=("active", "superseded", "quarantined"), expired_before=now)
    gone: dict[str, Forget] = {}
    async for page in pages(services, owner, everything):
        gone.update((m.id, Forget(m.id, now, at)) for m in page if m.created_at < at)
        if len(gone) >= AT_ONCE:
            break
    kept = [
        write
        for write in plan.writes
        if (isinstance(write, Put) and write.memory.created_at >= at)
        or (isinstance(write, Revise) and write.memory.id not in gone)
        or (isinstance(write, Forget) and write.id not in gone)
    ]
    return replace(plan, writes=(*kept, *gone.values()))
