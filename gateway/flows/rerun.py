"""A question asked before, asked again now: what would be injected under these settings.

For a person who looks into a receipt. Nothing is written, and no deadline cuts it short. What the
request still contained is known only where recalls are recorded (`receipts.record`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.config import AppSettings
from gateway.core.identity import Owner
from gateway.core.injection import render
from gateway.core.memory import Instant, Memory, parse_rfc3339
from gateway.flows.recall import Question, Recalled, recall
from gateway.ports import Conversation, Services

PATIENCE_MS: Final = 10_000.0


@dataclass(frozen=True, slots=True)
class Rerun:
    """What is recalled now, the block that it would make, and what was injected then and would
    not be again (as far as it is still there, by id)."""

    recalled: Recalled
    block: str
    then: tuple[str, ...]
    gone: Mapping[str, Memory]


async def rerun(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    receipt: Mapping[str, Any],
    *,
    now: Instant,
) -> Rerun:
    """Ask a receipt's question again. Raises StoreUnavailable."""
    patient = settings.memory.model_copy(update={"deadline_ms": PATIENCE_MS})
    recalled = await recall(
        services,
        settings.model_copy(update={"memory": patient}),
        owner,
        _question(receipt),
        now=now,
    )
    then = tuple(str(id) for id in receipt.get("injected", ()))
    left = set(then) - {memory.id for memory in recalled.memories}
    found = await services.store.get(owner, sorted(left))
    return Rerun(
        recalled=recalled,
        block=render(recalled.memories, settings.memory.template, timezone=recalled.timezone),
        then=then,
        gone={memory.id: memory for memory in found if memory.text},
    )


def _question(receipt: Mapping[str, Any]) -> Question:
    recorded = receipt.get("recorded") or {}
    session, as_of = recorded.get("session"), receipt.get("as_of")
    held = tuple(str(ref) for ref in recorded.get("held", ()))
    return Question(
        str(receipt.get("query") or ""),
        str(receipt.get("before") or ""),
        conversation=Conversation(str(session), fresh=1, injected=held) if session else None,
        as_of=parse_rfc3339(as_of) if as_of else None,
        timezone=receipt.get("timezone"),
        present=tuple(str(text) for text in recorded.get("present", ())),
    )
