"""Which of the found memories answer a question, and how well: pure scoring.

Each list that a store found (the memory's own vector and words, those of its window) is scaled
to 0..1 over this question's candidates, and the lists are summed with weights; on every set
tried that beat fusing ranks. Signals that need no search come on top: who said it, when, in a
session where other things match too, whether a fact and the turn that it was drawn from both
match. What each is worth stands in docs/recall.md. The weights are data (`Weights`), `now` is
passed in, and nothing here waits. Whether the best is good enough to be shown at all is
another question: `core/relevance`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import exp2
from statistics import median

from gateway.core.memory import Found, Instant, ListName, Memory
from gateway.core.scored import LINKS, OUTDATED, PARTS, REPEATED, RERANK, SESSION, Scored
from gateway.core.speakers import by_speaker
from gateway.core.when import AskedSpan, asked_spans, names_a_time
from gateway.core.when import match as date_match
from gateway.core.words import QUESTION_MARKS, fold, held, terms

DAY_S = 86_400.0
LONG_CHARS = 360
"""Median length of turns (60 words) above which their windows count nothing: the words of long
messages match anything in the neighbourhood. Windows gain 8 points on chats and lose 5 on
messages of 300 words."""
RERANK_LIFT = 3.0
"""What a cross-encoder may add: about half of what all other signals come to."""
MANY = 20
"""Results from which the last one of a list counts nothing. Where a user has three memories, 97%
of the evidence among them is injected instead of 94 (92 instead of 84 without vectors)."""
READ_CHARS = 2000
"""How much of a memory is searched for the words of a short message."""
SESSION_TOP = 3
"""How many of a session's best memories speak for the session."""

NOTHING: Mapping[str, str] = {}

_HALF_LIVES = {
    "profile": 3650.0,
    "preference": 3650.0,
    "interaction": 365.0,
    "task_state": 14.0,
    "turn": 90.0,
}
_LATER = (0.0,) * (len(PARTS) - LINKS)
"""The parts that come after all candidates have a score: what they say for one another."""


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each signal counts; found by `gateway.lab.tune` (docs/recall.md).

    `half_life_days` go by type, `turn` for turns.
    """

    dense: float = 1.1
    dense_window: float = 0.7
    lexical: float = 1.0
    lexical_window: float = 0.8
    focus: float = 2.0
    speaker: float = 1.0
    date: float = 1.6
    session: float = 1.0
    question: float = 0.4
    fact: float = 0.05
    fact_to_turn: float = 0.15
    turn_to_fact: float = 0.3
    repeated: float = 2.0
    outdated: float = 10.0
    former: float = 0.5
    recency: float = 0.05
    importance: float = 0.1
    past: float = 0.3
    half_life_days: Mapping[str, float] = field(default_factory=lambda: dict(_HALF_LIVES))


DEFAULT_WEIGHTS = Weights()


@dataclass(frozen=True, slots=True)
class Asked:
    """The question as scoring needs it.

    `focus` is the message alone, where `text` has the turn before it too: its words count most.
    `as_of`: what was true then is asked for.
    """

    text: str
    focus: str = ""
    as_of: Instant | None = None
    timezone: str | None = None


def rank(
    asked: Asked,
    found: Found,
    *,
    now: Instant,
    weights: Weights = DEFAULT_WEIGHTS,
    outdated: Collection[str] = (),
    former: Mapping[str, str] = NOTHING,
) -> list[Scored]:
    """Every candidate with its score, best first; equal scores in the order of their ids.

    Memories that are superseded are left out, unless the past is asked for; `outdated` turns,
    which told what was superseded, come after all that is still so. `former` are such turns where
    the past is asked for, each with the fact that is so now.
    """
    memories = _candidates(asked, found)
    if not memories:
        return []
    ranked = _by_themselves(asked, found, memories, now, weights)
    _link(ranked, weights)
    _lift_former(ranked, former, weights)
    _support(ranked, weights)
    if outdated:
        for scored in ranked:
            if scored.memory.id in outdated:
                _add(scored, OUTDATED, -weights.outdated)
    ranked.sort(key=_best_first)
    if _demote_repeats(ranked, weights):
        ranked.sort(key=_best_first)
    return ranked


def _by_themselves(
    asked: Asked, found: Found, memories: Sequence[Memory], now: Instant, weights: Weights
) -> list[Scored]:
    """Each candidate as if there were no other. One loop with all in reach: a function for each
    signal would be called sixty times."""
    long = are_long(memories)
    of_windows = 0.0 if long else 1.0
    in_vectors = _fused(
        found, ("dense", weights.dense), ("dense_window", of_windows * weights.dense_window)
    )
    in_words = _fused(
        found, ("lexical", weights.lexical), ("lexical_window", of_windows * weights.lexical_window)
    )
    at = asked.as_of if asked.as_of is not None else now
    decay = {t: -1.0 / (days * DAY_S) for t, days in weights.half_life_days.items()}
    unknown_decay = -1.0 / (365.0 * DAY_S)
    of_recency, of_importance, of_speaker = weights.recency, weights.importance, weights.speaker
    own_words = terms(asked.focus) if asked.focus and asked.focus != asked.text else ()
    spans: Sequence[AskedSpan] = ()
    if names_a_time(asked.text):
        spans = asked_spans(asked.text, years=_years(memories), now=at, timezone=asked.timezone)

    dated = {id for id, _ in found.lists.get("dated", ())}

    scored: list[Scored] = []
    for memory, share in zip(memories, by_speaker(asked.text, memories), strict=True):
        focus = date = fact = past = asks = 0.0
        dense = in_vectors.get(memory.id, 0.0)
        lexical = in_words.get(memory.id, 0.0)
        age = at - memory.created_at
        recency = of_recency
        if age > 0.0:
            recency *= exp2(age * decay.get(memory.type or memory.kind, unknown_decay))
        importance = of_importance * (memory.importance - 0.5)
        if own_words and (shared := held(own_words, fold(memory.text[:READ_CHARS]))):
            focus = weights.focus * len(shared) / len(own_words)
        speaker = of_speaker * share
        if spans:
            date = weights.date * (1.0 if memory.id in dated else _dated(spans, memory))
        if memory.kind == "fact":
            fact = weights.fact
            if memory.valid_to is not None and memory.valid_to < at:
                past = -weights.past * _past(memory)
        elif not long and memory.text.endswith(QUESTION_MARKS):
            asks = -weights.question
        score = dense + lexical + recency + importance + focus + speaker + date + fact + past + asks
        # In the order of PARTS.
        parts = [dense, lexical, recency, importance, focus, speaker, date, fact, past, asks]
        parts += _LATER
        scored.append(Scored(memory, score, parts))
    return scored


def _best_first(scored: Scored) -> tuple[float, str]:
    return -scored.score, scored.memory.id


def _add(scored: Scored, part: int, value: float) -> None:
    scored.parts[part] = value
    scored.score += value


def _candidates(asked: Asked, found: Found) -> list[Memory]:
    """What some list found for this question; what merely always counts is not ranked."""
    named = {id for name, hits in found.lists.items() if name != "standing" for id, _ in hits}
    return [
        m
        for id, m in found.memories.items()
        if id in named and (m.status == "active" or asked.as_of is not None)
    ]


def reranked(scored: Sequence[Scored], fits: Sequence[float]) -> list[Scored]:
    """The ranking with what a cross-encoder makes of its first memories (`fits`, in their order)
    added, scaled to 0..`RERANK_LIFT`; those that it did not read follow."""
    read, rest = scored[: len(fits)], scored[len(fits) :]
    if not read:
        return list(scored)
    low, spread = min(fits), max(fits) - min(fits)
    lifted = []
    for one, fit in zip(read, fits, strict=True):
        lift = RERANK_LIFT * ((fit - low) / spread if spread > 0.0 else 1.0)
        again = Scored(one.memory, one.score, one.parts.copy())
        _add(again, RERANK, lift)
        lifted.append(again)
    lifted.sort(key=_best_first)
    return [*lifted, *rest]


# --- the lists -----------------------------------------------------------------------------


def _fused(
    found: Found, own: tuple[ListName, float], windows: tuple[ListName, float]
) -> dict[str, float]:
    """What a memory's own list and that of its window come to together, by id."""
    fused = _scaled(found, *own)
    for id, score in _scaled(found, *windows).items():
        fused[id] = fused.get(id, 0.0) + score
    return fused


def _scaled(found: Found, name: ListName, weight: float) -> dict[str, float]:
    """A list's scores brought to 0..`weight` over the candidates of this question.

    The last of many is as good as nothing; the last of two may be half of the answer.
    """
    hits = found.lists.get(name, ())
    if not hits or not weight:
        return {}
    high, low = hits[0][1], hits[-1][1]
    if low > 0.0 and name in ("dense", "lexical"):
        low *= min(1.0, len(hits) / MANY)
    spread = high - low
    if spread <= 0.0:
        return dict.fromkeys([id for id, _ in hits], weight)
    factor = weight / spread
    return {id: (score - low) * factor for id, score in hits}


def are_long(memories: Iterable[Memory]) -> bool:
    """Whether the turns among these are long messages rather than chat."""
    lengths = [len(m.text) for m in memories if m.kind == "turn"]
    return bool(lengths) and max(lengths) > LONG_CHARS and median(lengths) > LONG_CHARS


# --- when, and whether it is over ----------------------------------------------------------


def _years(memories: Sequence[Memory]) -> tuple[int, int]:
    """The years of the oldest and the newest candidate, as far as a calendar has them."""
    bounds = (min(m.created_at for m in memories), max(m.created_at for m in memories))
    first, last = (datetime.fromtimestamp(min(max(b, 0.0), 7e9), UTC).year for b in bounds)
    return first, last


def _dated(spans: Sequence[AskedSpan], memory: Memory) -> float:
    said = date_match(spans, memory.created_at)
    if memory.kind == "fact" and memory.valid_from != memory.created_at:
        return max(said, date_match(spans, memory.valid_from))
    return said


def _past(memory: Memory) -> float:
    """What is over counts less, but for events: those are asked about because they are over."""
    return 0.0 if memory.type in (None, "interaction") else 1.0


# --- what memories say for one another -----------------------------------------------------


def _link(candidates: Sequence[Scored], weights: Weights) -> None:
    """A fact that matches lifts the turns it was drawn from, and they lift the fact."""
    facts = [scored for scored in candidates if scored.memory.covers]
    if not facts:
        return
    by_id = {scored.memory.id: scored for scored in candidates}
    lifts: dict[str, float] = {}
    for fact in facts:
        best = 0.0
        for turn in fact.memory.covers:
            if (covered := by_id.get(turn)) is not None:
                best = max(best, covered.score)
                lifts[turn] = max(lifts.get(turn, 0.0), weights.fact_to_turn * fact.score)
        if best > 0.0:
            lifts[fact.memory.id] = weights.turn_to_fact * best
    for id, lift in lifts.items():
        _add(by_id[id], LINKS, lift)


def _lift_former(candidates: Sequence[Scored], former: Mapping[str, str], weights: Weights) -> None:
    """Asked where one lived before, the home of today tells which of the former things is meant:
    as it suits the question, so does what was said of the one before it."""
    if not former:
        return
    by_id = {scored.memory.id: scored for scored in candidates}
    for turn, fact in former.items():
        told, now = by_id.get(turn), by_id.get(fact)
        if told is not None and now is not None:
            lift = weights.former * max(0.0, now.score)
            told.parts[LINKS] += lift
            told.score += lift


def _support(candidates: Sequence[Scored], weights: Weights) -> None:
    """A session in which several memories match is probably the one that is meant. Where all are of
    one, that tells none from another, and would only make the weak look nearly as good as the best.
    """
    if not weights.session:
        return
    by_session: defaultdict[str, list[Scored]] = defaultdict(list)
    for scored in candidates:
        session = scored.memory.source.session
        if session is not None:
            by_session[session].append(scored)
    support = [
        found[0].score if len(found) == 1 else _best_of(found) for found in by_session.values()
    ]
    most = max(support, default=0.0)
    if most <= 0.0 or len(next(iter(by_session.values()))) == len(candidates):
        return
    for found, total in zip(by_session.values(), support, strict=True):
        share = weights.session * max(0.0, total) / most
        for scored in found:
            scored.parts[SESSION] = share
            scored.score += share


def _best_of(session: Sequence[Scored]) -> float:
    """What the best of one session's candidates come to."""
    return sum(sorted([one.score for one in session], reverse=True)[:SESSION_TOP])


def _demote_repeats(ranked: Sequence[Scored], weights: Weights) -> bool:
    """A turn whose facts stand before it, or a fact whose turns do, says nothing new: its
    place goes to something that does."""
    if not any(scored.memory.covers for scored in ranked):
        return False
    told: set[str] = set()
    any_demoted = False
    for scored in ranked:
        memory = scored.memory
        tells = memory.covers if memory.kind == "fact" else (memory.id,)
        if tells and told.issuperset(tells):
            _add(scored, REPEATED, -weights.repeated)
            any_demoted = True
        else:
            told.update(tells)
    return any_demoted
