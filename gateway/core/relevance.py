"""Is what was found about the question at all? The floor under which nothing is injected.

Ranking says which candidate is best; every question has a best one. Irrelevant memory is worse
than none, so the best candidates are looked at in absolute terms: how near the nearest vector
is, what share of the question's words one memory holds, whether the question has words (above
all names) that no candidate knows, whether it names somebody whose turns are kept. A logistic
model of these five, fitted on questions of a data set's own users against questions of its other
users (docs/recall.md), gives the chance that the question is about this user's memories.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.memory import Found, Memory
from gateway.core.ranking import Scored, mentioned, named_speakers
from gateway.core.words import MAX_QUERY_CHARS, fold, held, is_unspaced, stem, terms

LOOKED_AT = 30
"""Candidates whose words are read, the best ones."""
READ_CHARS = 2000
"""How much of each: a long message holds any word somewhere."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Weights of the logistic model."""

    nearest: float
    coverage: float
    unknown: float
    unknown_name: float
    names_speaker: float
    bias: float


HYBRID = Judgement(
    nearest=10.3, coverage=3.1, unknown=-1.1, unknown_name=-1.5, names_speaker=3.7, bias=-6.7
)
LEXICAL = Judgement(
    nearest=0.0, coverage=5.8, unknown=-2.4, unknown_name=-1.4, names_speaker=4.3, bias=-3.3
)
"""Where there are no vectors."""

_INNER_NAME = re.compile(r"(?<=[\w,;’'\"] )[^\W\d_a-zà-ÿ][\w-]+")
"""A capitalised word that does not begin a sentence."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What the judgement rests on; each 0 to 1."""

    nearest: float
    coverage: float
    unknown: float
    unknown_name: bool
    names_speaker: bool


def relevance(
    text: str,
    found: Found,
    ranked: Sequence[Scored],
    *,
    hybrid: Judgement = HYBRID,
    lexical: Judgement = LEXICAL,
) -> float:
    """The chance, 0 to 1, that the candidates are about the question at all."""
    if not ranked:
        return 0.0
    seen = signs(text, found, ranked)
    weights = hybrid if found.lists.get("dense") else lexical
    z = (
        weights.bias
        + weights.nearest * seen.nearest
        + weights.coverage * seen.coverage
        + weights.unknown * seen.unknown
        + weights.unknown_name * seen.unknown_name
        + weights.names_speaker * seen.names_speaker
    )
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, z))))


def signs(text: str, found: Found, ranked: Sequence[Scored]) -> Signs:
    """Look at the best candidates."""
    text = text[:MAX_QUERY_CHARS]
    names = mentioned(text, named_speakers(found.memories.values()))
    of_names = {stem(part) for name in names for part in fold(name).split()}
    asked = [term for term in terms(text) if term not in of_names]
    known: set[str] = set()
    coverage = 0.0
    for memory in _best(found, ranked):
        matched = held(asked, fold(memory.text[:READ_CHARS]))
        known |= matched
        coverage = max(coverage, len(matched) / len(asked) if asked else 0.0)
    nearest = max((score for _, score in found.lists.get("dense", ())[:1]), default=0.0)
    unknown = 1.0 - len(known) / len(asked) if asked else 0.0
    if any(is_unspaced(term) for term in asked):
        # Pairs of characters: about half of them lie across two words and match by chance alone.
        coverage, unknown = min(1.0, 2.0 * coverage), max(0.0, 2.0 * unknown - 1.0)
    strange = set(asked) - known
    return Signs(
        nearest=max(0.0, nearest),
        coverage=coverage,
        unknown=unknown,
        unknown_name=any(stem(fold(n)) in strange for n in _INNER_NAME.findall(text)),
        names_speaker=bool(names),
    )


def _best(found: Found, ranked: Sequence[Scored]) -> list[Memory]:
    """The best candidates in all, and the best by words alone."""
    chosen = {s.memory.id: s.memory for s in ranked[:LOOKED_AT]}
    for id, _ in found.lists.get("lexical", ())[: LOOKED_AT // 3]:
        if id in found.memories:
            chosen.setdefault(id, found.memories[id])
    return list(chosen.values())
