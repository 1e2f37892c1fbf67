"""What is to be written for a batch of exchanges, decided once and applied any number of times.

A plan is kept beside the work before any of it is applied. Whoever is handed the work again
applies the same plan, whatever a model would say the second time; every write in it is
harmless when repeated (ids are fixed, revisions name the version that they start from).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.core.memory import Instant, Memory


@dataclass(frozen=True, slots=True)
class Put:
    """A new memory. `window` is the neighbourhood's text for a turn's window vectors."""

    memory: Memory
    window: str | None = None


@dataclass(frozen=True, slots=True)
class Revise:
    """A known memory's next state, valid only on top of the version updated at `seen`.

    Where a person has corrected it meanwhile, theirs stays and this is left out.
    """

    memory: Memory
    seen: Instant


@dataclass(frozen=True, slots=True)
class Forget:
    """A memory that is to be gone; a tombstone without content answers for it.

    `asked_at` is when the user asked for it (`at` in plans of before it was kept): what was said
    earlier and arrives later is not stored again.
    """

    id: str
    at: Instant
    asked_at: Instant | None = None


Write: TypeAlias = Put | Revise | Forget


@dataclass(frozen=True, slots=True)
class Plan:
    """The writes for exactly these exchanges, in order; `notes` count what was dropped and why."""

    exchange_ids: tuple[str, ...]
    writes: tuple[Write, ...]
    notes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a batch that failed: tried again at `retry_at`, whole or in two parts (the
    first of `keep` exchanges, both with `tries` behind them), or buried with a reason."""

    action: Literal["retry", "split", "bury"]
    reason: str
    retry_at: Instant = 0.0
    counts_as_try: bool = True
    keep: int = 0
    tries: int = 0
