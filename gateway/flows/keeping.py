"""What of a memory that is written by hand an app keeps: of which types, for how long, without
what must never be stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from gateway.config import AppSettings, seconds_of
from gateway.core.errors import Unprocessable
from gateway.core.memory import Instant, Memory, Type
from gateway.core.redaction import redact, redact_named
from gateway.flows.handover import OFF_THE_LOOP_CHARS

T = TypeVar("T")


def is_kept(type_: Type | None, settings: AppSettings) -> bool:
    """Whether this app keeps memories of a type; turns have none."""
    privacy = settings.privacy
    return type_ is None or (
        type_ not in privacy.deny_types
        and (not privacy.allow_types or type_ in privacy.allow_types)
    )


def not_kept(type_: Type | None, param: str) -> Unprocessable:
    """What to raise of a memory that is not kept."""
    return Unprocessable(
        f"{param}: memories of type {type_} are not kept for this app (privacy.allow_types and"
        " privacy.deny_types)",
        param=param,
        code="type_not_kept",
    )


def end_of(type_: Type | None, pinned: bool, settings: AppSettings, now: Instant) -> Instant | None:
    """Retention runs from when it is taken in: a log of last year is kept as long as one of
    today. What is pinned stays."""
    keep = seconds_of(getattr(settings.retention, type_ or "turn"))
    return None if keep is None or pinned else now + keep


def end_as(
    memory: Memory, type_: Type | None, settings: AppSettings, now: Instant
) -> Instant | None:
    """When a memory ends that is of another type from now on: the end that retention had set
    follows the type; one that somebody chose stays."""
    keep = seconds_of(getattr(settings.retention, memory.type or "turn"))
    end = memory.expires_at
    if keep is None or memory.pinned:
        usual = end is None
    else:
        taken_in = (memory.created_at, memory.updated_at, *(past.at for past in memory.history))
        usual = end is not None and any(abs(end - at - keep) < 1.0 for at in taken_in)
    return end_of(type_, memory.pinned, settings, now) if usual else end


def cleaned(value: Any, hidden: Collection[str], name: str | None = None) -> Any:
    """Metadata without what must never be stored; `name` is that of the field it stands in."""
    if isinstance(value, str):
        return redact_named(name, value, hidden)
    if isinstance(value, Mapping):
        return {redact(n, hidden): cleaned(part, hidden, n) for n, part in value.items()}
    if isinstance(value, list):
        return [cleaned(part, hidden, name) for part in value]
    if isinstance(value, int) and not isinstance(value, bool):
        shown = str(value)  # a card's number is one without quotation marks, too
        return value if (clean := redact(shown, hidden)) == shown else clean
    return value


def without(memory: Memory, hidden: Collection[str]) -> Memory:
    """A memory, its history too, without what must never be stored."""
    quote = memory.source.quote
    return replace(
        memory,
        text=redact(memory.text, hidden),
        value=None if memory.value is None else redact_named(memory.key, memory.value, hidden),
        metadata=cleaned(memory.metadata, hidden),
        source=replace(memory.source, quote=None if quote is None else redact(quote, hidden)),
        history=tuple(
            replace(
                v,
                text=redact(v.text, hidden),
                value=None if v.value is None else redact_named(v.key, v.value, hidden),
            )
            for v in memory.history
        ),
    )


def length(value: Any) -> int:
    """The characters that `cleaned` reads of a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(length(part) for part in value.values())
    return sum(length(part) for part in value) if isinstance(value, list) else 0


def length_of(memory: Memory) -> int:
    """The characters that `without` reads of a memory."""
    past = sum(len(v.text) + len(v.value or "") for v in memory.history)
    told = len(memory.text) + len(memory.value or "") + len(memory.source.quote or "")
    return told + past + length(memory.metadata)


async def closely(step: Callable[[], T], chars: int) -> T:
    """What reads so many characters closely, in a thread where that takes long."""
    return await asyncio.to_thread(step) if chars > OFF_THE_LOOP_CHARS else step()
