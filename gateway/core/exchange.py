"""An exchange: what was newly said in one request and its answer, on its way to be distilled.

It is made from the client's own request, before anything is injected, and from the
transcript of the answer. Its id is derived from what was said and where, so that a client's
retry of the same request is the same exchange.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from gateway.core.memory import Instant, Via

Outcome = Literal["complete", "error", "cut_off"]
"""How the answer ended: in full, with an error, or before its end."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing said. `n` numbers turns within their exchange from 0; `speaker` is a name
    where the client gave one."""

    n: int
    role: str
    text: str
    at: Instant
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """New turns of one request and its answer. `at` is when the user said it."""

    id: str
    session: str
    at: Instant
    turns: tuple[Turn, ...]
    outcome: Outcome = "complete"
    via: Via = "chat"
    timezone: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    receipt_id: str | None = None

    @property
    def size(self) -> int:
        """Characters of all turns: what batching by size counts."""
        return sum(len(turn.text) for turn in self.turns)


def turn_memory_id(exchange_id: str, n: int) -> str:
    """The id of the memory that keeps turn `n` of an exchange; the same at each redelivery."""
    digest = hashlib.blake2b(f"{exchange_id}\0{n}".encode(), digest_size=12).hexdigest()
    return f"turn_{digest}"
