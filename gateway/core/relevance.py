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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import fmean

from gateway.core.excerpt import densest
from gateway.core.memory import Found, Memory, Vector
from gateway.core.scored import Scored
from gateway.core.speakers import mentioned, named_speakers
from gateway.core.when import NAMED_DAYS, without_times
from gateway.core.words import (
    MAX_QUERY_CHARS,
    fold,
    held,
    is_unspaced,
    may_be_english,
    stem,
    terms,
)

MANY = 60
"""Vectors found, from which on the weights were fitted."""
SPREAD = 0.12
"""By how much the cosines of a question and what is not about it differ from one another."""
LOOKED_AT = 20
"""Candidates whose words are read, the best ones."""
SHORT_CHARS = 360
"""In a longer one many words stand together by chance."""
READ_CHARS = 800
"""How much of each, where most of the words stand: a long message holds any word somewhere, and
what is asked about may stand deep in it."""
MOST_CHARS = 8_000
"""So far into a message that is looked for; 0.1 ms."""


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
    nearest=13.2, coverage=2.9, unknown=0.0, unknown_name=-1.9, names_speaker=3.95, bias=-7.9
)
LEXICAL = Judgement(
    nearest=0.0, coverage=5.8, unknown=-1.7, unknown_name=-2.0, names_speaker=4.0, bias=-2.6
)
"""Where there are no vectors, or none whose scale is known."""

PROBES = (
    ("What is my dog called?", "We named our puppy Bruno after my grandfather."),
    (
        "Where did I go on holiday last summer?",
        "In July we spent two weeks hiking in the mountains of Norway.",
    ),
    ("Which foods can't I eat?", "I am allergic to peanuts and shellfish."),
    ("What kind of work does my sister do?", "My sister started as a nurse at the city hospital."),
    ("What instrument am I learning?", "I have been taking cello lessons every Tuesday."),
    ("How is my car doing?", "The mechanic says the brakes of my old Volvo need replacing."),
    (
        "Which book did I enjoy recently?",
        "I could not put down the novel about the lighthouse keeper.",
    ),
    ("When is my exam?", "The chemistry final is on the ninth of June."),
)
"""Questions, each with its answer: what a model makes of them shows its scale."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What a model's cosines mean: of a question and its answer (`signal`), of a question and
    something else (`noise`). One model calls 0.4 near, another gives 0.7 to strangers."""

    signal: float
    noise: float
    english: bool = False
    """Of English alone; of other languages the model tells little apart."""

    @property
    def tells(self) -> bool:
        """Whether the model tells the two apart."""
        return self.signal - self.noise >= LEAST_SPREAD


MINILM = Scale(signal=0.433, noise=0.046, english=True)
"""all-MiniLM-L6-v2, on which the weights were fitted. In Russian, Hindi or Arabic it finds any two
short texts near (a question and its answer 0.6 to 0.7, and so those of other questions; in German
0.47 to 0.39): "Привет" brought 31 of 40 memories, "Kannst du mir helfen?" 16 of 30."""
LEAST_SPREAD = 0.08


def known_scale(model_name: str) -> Scale | None:
    """The scale of a model that need not be probed."""
    return MINILM if "all-minilm-l6-v2" in model_name.lower() else None


def scale_of(questions: Sequence[Vector], answers: Sequence[Vector]) -> Scale:
    """The scale of a model from its vectors of `PROBES`, normalised, in their order."""
    cosines = [[sum(map(mul, q, a)) for a in answers] for q in questions]
    own = [row[i] for i, row in enumerate(cosines)]
    other = [c for i, row in enumerate(cosines) for j, c in enumerate(row) if i != j]
    return Scale(signal=fmean(own), noise=fmean(other))


_INNER_WORD = re.compile(r"(?<=[\w,;’'\"] )[^\W\d_a-zà-ÿ][\w-]+")


@dataclass(frozen=True, slots=True)
class Signs:
    """What the judgement rests on; each 0 to 1. `all_in_one`: one short memory has every word."""

    nearest: float
    coverage: float
    unknown: float
    unknown_name: bool
    names_speaker: bool
    all_in_one: bool = False


def relevance(
    text: str,
    found: Found,
    ranked: Sequence[Scored],
    *,
    scale: Scale | None = MINILM,
) -> float:
    """The chance, 0 to 1, that the candidates are about the question at all.

    `scale` is that of the vectors' model; None: not known, so that words alone are judged by.
    """
    if not ranked:
        return 0.0
    seen = signs(text, found, ranked)
    by_vector = scale is not None and scale.tells and bool(found.lists.get("dense"))
    if by_vector and scale is not None and scale.english:
        by_vector = may_be_english(text)
    weights = HYBRID if by_vector else LEXICAL
    nearest = seen.nearest
    if by_vector and scale is not None:
        share = (nearest - scale.noise) / (scale.signal - scale.noise)
        nearest = MINILM.noise + share * (MINILM.signal - MINILM.noise)
        nearest += _of_few(len(found.lists["dense"]))
    chance = _chance(weights, seen, nearest)
    # "What's my husband's name?": a vector finds little in it, and one memory has all its words.
    return max(chance, _chance(LEXICAL, seen, 0.0)) if seen.all_in_one else chance


def _chance(weights: Judgement, seen: Signs, nearest: float) -> float:
    z = (
        weights.bias
        + weights.nearest * nearest
        + weights.coverage * seen.coverage
        + weights.unknown * seen.unknown
        + weights.unknown_name * seen.unknown_name
        + weights.names_speaker * seen.names_speaker
    )
    return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, z))))


def _of_few(vectors: int) -> float:
    """What the nearest of few vectors lacks: of many that have nothing to do with the question one
    is near by chance, and the weights expect that. Where a user has three memories, the floor let
    through 61 and 82% of the questions about them (BEAM, LoCoMo's facts), and so 84 and 95; other
    users' questions stay out (97 and 96%)."""
    return SPREAD * (_largest(MANY) - _largest(vectors))


def _largest(count: int) -> float:
    """About the largest of so many draws from a normal distribution."""
    return math.sqrt(2.0 * math.log(max(1, min(count, MANY))))


def signs(text: str, found: Found, ranked: Sequence[Scored]) -> Signs:
    """Look at the best candidates."""
    text = text[:MAX_QUERY_CHARS]
    names = mentioned(text, named_speakers(found.memories.values()))
    of_names = {stem(part) for name in names for part in fold(name).split()}
    asked = [term for term in terms(text) if term not in of_names]
    # What was said in November need not have the word; where it has, that counts. "Tomorrow" and
    # numbers may stand anywhere.
    about = set(asked).intersection(terms(without_times(text))) or set(asked)
    asked = [term for term in asked if term in about or term in NAMED_DAYS]
    known: set[str] = set()
    coverage, all_in_one = 0.0, False
    for memory in _best(found, ranked) if asked else ():
        if len(memory.text) > READ_CHARS:
            said = fold(_words_of(memory))
            there = {term for term in asked if term in said}
            if there <= known and len(there) / len(about | there) <= coverage:
                continue  # a part of it can add nothing
            said = fold(_part_of(memory, asked))
        else:
            said = fold(_words_of(memory))
        matched = held(asked, said)
        share = len(matched) / len(about | matched)
        coverage = max(coverage, share)
        all_in_one |= share == 1.0 and len(memory.text) <= SHORT_CHARS
        known |= matched
        if len(matched) == len(asked):
            break  # one has them all: none can add to that
    asked = [term for term in asked if term in about or term in known]
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
        unknown_name=bool(strange) and any(stem(fold(n)) in strange for n in _inner_names(text)),
        names_speaker=bool(names),
        all_in_one=all_in_one,
    )


def _inner_names(text: str) -> list[str]:
    """Capitalised words that do not begin a sentence. Small letters are not those of Latin alone:
    each word of Russian that no memory had was taken for the name of a stranger."""
    return [word for word in _INNER_WORD.findall(text) if word[0].isupper()]


def has_half_of(text: str, memory: Memory) -> bool:
    """Whether a memory, or what it is kept as, has half of a question's words."""
    asked = terms(text)
    return bool(asked) and 2 * len(held(asked, fold(_words_of(memory)))) >= len(asked)


def _words_of(memory: Memory) -> str:
    """What it says, and what it calls that: "Works at Bosch" is the `employer`."""
    return (
        f"{memory.text[:MOST_CHARS]} {_called(memory)}" if memory.key else memory.text[:MOST_CHARS]
    )


def _part_of(memory: Memory, asked: Sequence[str]) -> str:
    """The same of a long one, where most of the words stand."""
    text = memory.text[:MOST_CHARS]
    start, _ = densest(text, asked, READ_CHARS)
    return f"{text[start : start + READ_CHARS]} {_called(memory)}"


def _called(memory: Memory) -> str:
    return f"{memory.key.replace('_', ' ')} {memory.value or ''}" if memory.key else ""


def _best(found: Found, ranked: Sequence[Scored]) -> Iterator[Memory]:
    """The best candidates in all, then those by words alone that are not among them."""
    best = ranked[:LOOKED_AT]
    for scored in best:
        yield scored.memory
    read = {scored.memory.id for scored in best}
    for id, _ in found.lists.get("lexical", ())[: LOOKED_AT // 2]:
        if id in found.memories and id not in read:
            yield found.memories[id]
