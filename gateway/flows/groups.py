"""With memory, in its shadow, or without: which group a person is in, and what is counted of it.

What is compared is what can be seen from outside: how long conversations are, how often the
same is asked again, and thumbs. Only counts are kept (`ports.Tally`), in the background, and a
count that is missed is missed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from gateway.config import AppSettings
from gateway.core.chat import ChatRequest
from gateway.core.errors import StateUnavailable
from gateway.core.identity import Owner, Person
from gateway.core.memory import Instant
from gateway.core.words import terms, words
from gateway.flows.visit import Visit
from gateway.ports import Group, Services
from gateway.telemetry.logs import log

ALIKE: Final = 0.7
"""Shared words of substance over all of them, from which a question is the same again."""
ALIKE_WORDS: Final = 0.5
"""And of all its words: "what is my name" is not "spell my name"."""
FEW_WORDS: Final = 3
LOOKED_AT: Final = 30
READ_CHARS: Final = 600


def held_out(person: Person, share: float) -> bool:
    """Whether a person is of the share left without memory: the same in every process."""
    digest = hashlib.blake2b(f"{person.app}\0{person.user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64 < share


def group_of(settings: AppSettings, person: Person) -> Group:
    """The group that this person's requests count to."""
    memory = settings.memory
    if memory.mode == "shadow":
        return "shadow"
    if memory.mode == "holdout" and held_out(person, memory.holdout_share):
        return "holdout"
    return "memory"


def is_repeated(request: ChatRequest) -> bool:
    """Whether the last message asks again what the user asked before in this conversation."""
    asked = [m.text[:READ_CHARS] for m in request.messages if m.role == "user"]
    return len(asked) > 1 and _same_again(asked[-1], asked[-LOOKED_AT - 1 : -1])


def _same_again(text: str, before: Sequence[str]) -> bool:
    said, meant = set(words(text)), set(terms(text))
    if len(said) < FEW_WORDS:
        return False  # "ok" twice is no question asked again
    return any(
        _shared(meant, set(terms(one))) >= ALIKE and _shared(said, set(words(one))) >= ALIKE_WORDS
        for one in before
    )


def _shared(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


async def count(visit: Visit, owner: Owner, session: str) -> None:
    """Count one answered request: for the comparison where there is one, and what was injected."""
    tally = visit.services.tally
    if tally is None or visit.request is None:
        return
    try:
        if visit.settings.memory.mode in ("shadow", "holdout"):
            await tally.exchange(
                owner.app,
                group_of(visit.settings, visit.person),
                conversation=session,
                tenant=owner.tenant,
                repeated=is_repeated(visit.request),
                now=visit.now,
            )
        if visit.recalled is not None and visit.report.injected:
            facts = [m.id for m in visit.recalled.memories if m.kind == "fact"]
            await tally.injected(owner.app, facts, now=visit.now)
    except StateUnavailable as exc:
        log("groups").info("count_missed", reason=exc.message)


async def thumb(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    receipt_id: str | None,
    *,
    up: bool,
    now: Instant,
) -> Group:
    """What a person thought of an answer. A second thumb for the same receipt takes the place
    of the first. Raises StateUnavailable."""
    group = group_of(settings, owner.person)
    before = None
    if receipt_id is not None:
        receipt = await services.receipts.get(owner, receipt_id)
        if receipt is not None:
            before = receipt.get("feedback")
            await services.receipts.replace(owner, {**receipt, "feedback": "up" if up else "down"})
    if services.tally is not None and before != ("up" if up else "down"):
        await services.tally.thumb(owner.app, group, up=up, by=1, now=now)
        if before is not None:
            await services.tally.thumb(owner.app, group, up=not up, by=-1, now=now)
    return group
