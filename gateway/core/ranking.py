"""Which of the found memories answer a question, and how well: pure scoring.

Each list that a store found (the memory's own vector and words, those of its window) is scaled
to 0..1 over the question's own candidates and the lists are summed with weights: on every set
tried that beat fusing ranks. Signals that need no search are added to it. The weights are data
(`Weights`); `now` is passed in; nothing here waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.core.memory import Found, Instant, Memory

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts; half-lives are days, by type (`turn` for turns)."""

    dense: float = 1.0
    dense_window: float = 0.6
    lexical: float = 1.0
    lexical_window: float = 0.8
    recency: float = 0.05
    importance: float = 0.1
    half_life_days: Mapping[str, float] = field(
        default_factory=lambda: {
            "profile": 3650.0,
            "preference": 3650.0,
            "interaction": 180.0,
            "task_state": 14.0,
            "turn": 30.0,
        }
    )


DEFAULT_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Asked:
    """The question as scoring needs it. `floor` is the least score worth injecting."""

    text: str
    as_of: Instant | None = None
    floor: float = 0.0


@dataclass(frozen=True, slots=True)
class Scored:
    """A memory with its score and what it came from. `left_out` says why it was not chosen;
    None: it was."""

    memory: Memory
    score: float
    why: Mapping[str, float]
    left_out: str | None = None


def rank(
    asked: Asked, found: Found, *, now: Instant, weights: Weights = DEFAULT_WEIGHTS
) -> list[Scored]:
    """Every candidate with its score, best first; equal scores in the order of their ids."""
    scaled = {name: _scaled(hits) for name, hits in found.lists.items() if name != "standing"}
    at = asked.as_of if asked.as_of is not None else now
    scored = [_score(memory, scaled, at, weights) for memory in found.memories.values()]
    scored.sort(key=lambda s: (-s.score, s.memory.id))
    return scored


def _score(
    memory: Memory, scaled: Mapping[str, Mapping[str, float]], at: Instant, weights: Weights
) -> Scored:
    dense = weights.dense * scaled.get("dense", {}).get(memory.id, 0.0)
    dense += weights.dense_window * scaled.get("dense_window", {}).get(memory.id, 0.0)
    lexical = weights.lexical * scaled.get("lexical", {}).get(memory.id, 0.0)
    lexical += weights.lexical_window * scaled.get("lexical_window", {}).get(memory.id, 0.0)
    recency = weights.recency * _recency(memory, at, weights)
    importance = weights.importance * memory.importance
    why = {
        "dense": dense,
        "lexical": lexical,
        "recency": recency,
        "importance": importance,
    }
    return Scored(memory, dense + lexical + recency + importance, why)


def _scaled(hits: Sequence[tuple[str, float]]) -> dict[str, float]:
    """Scores of one list brought to 0..1 over the candidates of this question."""
    if not hits:
        return {}
    low = min(score for _, score in hits)
    high = max(score for _, score in hits)
    spread = high - low
    if spread <= 0.0:
        return {id: 1.0 for id, _ in hits}
    return {id: (score - low) / spread for id, score in hits}


def _recency(memory: Memory, at: Instant, weights: Weights) -> float:
    days = max(0.0, at - memory.created_at) / DAY_S
    half_life = weights.half_life_days.get(memory.type or memory.kind, 180.0)
    return math.exp2(-min(days / half_life, 1000.0))
