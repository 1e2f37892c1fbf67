"""What is asked of memory, what it may cost, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from gateway.config.settings import MemorySettings
from gateway.core.choice import Budget
from gateway.core.injection import ALSO, BLOCK_CLOSE, BLOCK_OPEN, HEADER, Placement
from gateway.core.memory import Instant, Kind, Memory, Type
from gateway.core.scored import Scored
from gateway.core.tokens import estimate_tokens
from gateway.flows.candidates import Stage
from gateway.ports import Conversation

Status = Literal["ok", "partial", "degraded"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and in which surroundings.

    `before` is the turn before it; `present` are the texts that the request itself still
    contains; `exchange` is the one that it was, if its words came before. `again`: this user turn
    was recalled for already (a tool loop), so the block stays as it is. `placement`: where the
    block will stand, if not where it is set to. The last three lower the settings.
    """

    text: str
    before: str = ""
    conversation: Conversation | None = None
    as_of: Instant | None = None
    timezone: str | None = None
    present: tuple[str, ...] = ()
    exchange: str = ""
    again: bool = False
    kinds: tuple[Kind, ...] = ()
    types: tuple[Type, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    placement: Placement | None = None
    max_tokens: int | None = None
    max_memories: int | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is to be injected, in the order of the block, and how it came about.

    `lines` and `refs` run parallel to `memories`: how the block shows them, and what a
    conversation keeps of them (ids, with the place where only a passage was taken).
    `considered` is every candidate, best first. `timezone`: whose days the lines have. `cut`: not
    all that stood in the conversation's block fits what this request may have.
    """

    memories: tuple[Memory, ...] = ()
    lines: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    status: Status = "degraded"
    stage: Stage = "none"
    tokens: int = 0
    considered: tuple[Scored, ...] = ()
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    timezone: str | None = None
    cut: bool = False


def budget_of(question: Question, memory: MemorySettings) -> Budget:
    """What may be injected for a question, by the settings and by itself."""
    tokens, memories = memory.max_tokens, memory.max_memories
    if question.max_tokens is not None:
        tokens = min(tokens, question.max_tokens)
    if question.max_memories is not None:
        memories = min(memories, question.max_memories)
    frame = _frame_tokens(memory.template or HEADER)
    placement = question.placement or memory.placement
    if placement == "system":
        return Budget(tokens, memories, memory.standing_max, frame)
    # `split` puts one block into the system prompt and one at the end.
    split = placement == "split"
    last = _frame_tokens(memory.template or ALSO) if split else frame
    both = frame + last if split else frame
    return Budget(tokens, memories, memory.standing_max, both, tail_frame=last)


@lru_cache(maxsize=64)
def _frame_tokens(header: str) -> int:
    """What a block costs before its first memory."""
    return estimate_tokens("\n".join([BLOCK_OPEN, header, BLOCK_CLOSE]))
