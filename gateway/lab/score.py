"""How well a ranking answers questions whose evidence is known: pure arithmetic.

A piece of evidence is covered by a memory that is it or that `covers` it. All figures are
means over questions, between 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.core.memory import Memory

KS = (5, 10, 20)


@dataclass(frozen=True, slots=True)
class Answered:
    """One question's ranking, best first, beside its evidence and the evidence's sessions."""

    ranking: tuple[Memory, ...]
    evidence: frozenset[str]
    sessions: frozenset[str]
    category: str | None = None


def evidence_recall(answered: Answered, k: int) -> float:
    """The share of the evidence covered in k results."""
    found: set[str] = set()
    for memory in answered.ranking[:k]:
        found |= covered(memory, answered.evidence)
    return len(found) / len(answered.evidence)


def hit(answered: Answered, k: int) -> float:
    """1 where any of the evidence is covered in k results."""
    return float(any(covered(memory, answered.evidence) for memory in answered.ranking[:k]))


def session_recall(answered: Answered, k: int) -> float:
    """The share of the evidence's sessions among the first k different sessions."""
    if not answered.sessions:
        return 0.0
    found = dict.fromkeys(m.session for m in answered.ranking if m.session is not None)
    return len(answered.sessions.intersection(list(found)[:k])) / len(answered.sessions)


def reciprocal_rank(answered: Answered) -> float:
    """1 over the place of the first memory that covers any evidence; 0 where none does."""
    for place, memory in enumerate(answered.ranking, 1):
        if covered(memory, answered.evidence):
            return 1.0 / place
    return 0.0


def ndcg(answered: Answered, k: int) -> float:
    """Discounted gain of evidence not covered before, against the best order there could be."""
    told: set[str] = set()
    gain = 0.0
    for place, memory in enumerate(answered.ranking[:k], 1):
        new = covered(memory, answered.evidence) - told
        if new:
            told |= new
            gain += 1.0 / math.log2(place + 1)
    best = sum(1.0 / math.log2(p + 1) for p in range(1, min(k, len(answered.evidence)) + 1))
    return gain / best


def summary(all_answered: Sequence[Answered]) -> dict[str, float | Mapping[str, float]]:
    """The figures of docs/formats.md that are about rankings."""
    return {
        "evidence_recall": {
            str(k): _mean([evidence_recall(a, k) for a in all_answered]) for k in KS
        },
        "hit": {str(k): _mean([hit(a, k) for a in all_answered]) for k in KS},
        "session_recall": {str(k): _mean([session_recall(a, k) for a in all_answered]) for k in KS},
        "mrr": _mean([reciprocal_rank(a) for a in all_answered]),
        "ndcg@10": _mean([ndcg(a, 10) for a in all_answered]),
    }


def by_category(all_answered: Sequence[Answered]) -> dict[str, dict[str, object]]:
    """The same figures for each category of questions, in the order of their names."""
    groups: dict[str, list[Answered]] = {}
    for answered in all_answered:
        if answered.category is not None:
            groups.setdefault(answered.category, []).append(answered)
    return {
        name: {"questions": len(group), **summary(group)} for name, group in sorted(groups.items())
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies; 0 of nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def covered(memory: Memory, evidence: frozenset[str]) -> set[str]:
    """Which pieces of evidence this memory is or covers."""
    through = evidence.intersection(memory.covers)
    return {*through, memory.id} if memory.id in evidence else set(through)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
