"""Which days a question asks about: "in August", "on 7 May 2023", "last week".

A memory of those days gets a bonus (`core/ranking`), nothing more: people also name days for
other reasons, so a date never filters. A date is read as spans of time with a weight each: what
happened on a day is often told some days later, so the days after it count, less.
Month names are known in seven languages; relative phrases ("last month") in English, by
`core/timeline`. What is asked of a time and of nothing else has no words to be found by: then the
memories of that time are what is looked for (`flows/of_a_time`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, tzinfo
from itertools import islice

from gateway.core.memory import Instant
from gateway.core.timeline import DAY_S, resolve, zone_of
from gateway.core.words import MAX_QUERY_CHARS, fold, stem, terms

_NAMES = (
    "january jan januar janvier enero gennaio janeiro januari",
    "february feb februar fevrier febrero febbraio fevereiro februari",
    "march marz mars marzo marco maart",
    "april apr avril abril aprile",
    "may mai mayo maggio maio mei",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug aout agosto augustus",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember decembre diciembre dicembre dezembro",
)
_MONTHS = {name: i for i, names in enumerate(_NAMES, 1) for name in names.split()}
# These are everyday words too: they need a day, a year or one of these words before them.
_DOUBTFUL = frozenset({"may", "march", "mars", "mei", "mai", "jan", "mayo", "marco", "maio"})
_IN = re.compile(
    r"\b(?:in|of|since|during|by|until|before|after|early|late|mid|last|this|im|en|de)$"
)
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_NAMED = re.compile(
    rf"(?:\b(?P<before>\d{{1,2}})(?:st|nd|rd|th|\.|er)?\s+(?:of\s+|de\s+)?)?\b(?P<month>{_MONTH})\b"
    r"\.?(?:\s+(?P<after>\d{1,2})(?:st|nd|rd|th)?\b(?!\d))?,?(?:\s+(?:of\s+|de\s+)?(?P<year>\d{4})\b)?"
)
_ISO = re.compile(r"\b(?P<year>(?:19|20)\d\d)-(?P<month>\d\d)(?:-(?P<day>\d\d))?\b")
_YEAR = re.compile(r"\b(?:in|im|en|during|since)\s+(?P<year>(?:19|20)\d\d)\b")
_WEEKDAY = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_RELATIVE = re.compile(
    r"\b(?:yesterday|today|tonight|tomorrow|last\s+night"
    rf"|(?:last|this|past|next)\s+(?:week|weekend|month|year|{_WEEKDAY}"
    rf"|spring|summer|autumn|fall|winter)|on\s+(?P<weekday>{_WEEKDAY})"
    r"|(?:\d{1,2}|a|one|two|three|four|five|six)\s+(?:day|week|month|year)s?\s+ago)\b"
)
_WORDS = re.compile(r"\w+")
_RELATIVE_WORDS = frozenset(
    ["yesterday", "today", "tonight", "tomorrow", "last", "this", "past", "next", "ago"]
).union(_WEEKDAY.split("|"))
"""One of them is in all that `_RELATIVE` finds."""
NAMED_DAYS = frozenset(stem(name) for name in (*_MONTHS, *_WEEKDAY.split("|")))
"""Words that tell one time from another wherever they stand; "tomorrow" is each day's."""
_IS_PAST = re.compile(r"\b(?:did|was|were|had|said|told|talked|discussed|happened|went)\b")
_TALK = """
talk talking discuss discussed discussion speak spoke chat conversation conversations happen
happened anything everything nothing going plan plans planned calendar agenda schedule
"""
_OF_NOTHING_ELSE = frozenset(map(stem, _TALK.split()))
"""Beside a time, words that say no more than that something was said or is to happen."""

SAME = 1.0
"""On the day, or within the span."""
SOON_AFTER = 0.6
"""Up to a week after a day: told when it was over."""
NEAR = 0.3
"""Within two weeks of a day, or ten days after a month."""
OF_MONTH = 0.8
OF_YEAR = 0.3
MAX_DATES = 4
MAX_YEARS = 12
"""A month without a year is looked for in this many years at most, the last ones."""


@dataclass(frozen=True, slots=True)
class AskedSpan:
    """Memories from `start` up to `end` match with `weight`."""

    start: Instant
    end: Instant
    weight: float


def names_a_time(text: str) -> bool:
    """Whether there may be a span in a question: a tenth of the work of looking for one."""
    folded = fold(text[:MAX_QUERY_CHARS])
    if "19" in folded or "20" in folded:
        return True
    said = _WORDS.findall(folded)
    return not (_MONTHS.keys().isdisjoint(said) and _RELATIVE_WORDS.isdisjoint(said))


def asked_spans(
    text: str, *, years: tuple[int, int], now: Instant, timezone: str | None
) -> tuple[AskedSpan, ...]:
    """The spans that a question asks about; `years` are the first and last worth a look."""
    folded = fold(text[:MAX_QUERY_CHARS])
    zone = zone_of(timezone)
    spans: list[AskedSpan] = []
    first, last = max(years[0], years[1] - MAX_YEARS), years[1]
    for match in islice(_named(folded), MAX_DATES):
        name, day, year = match["month"], match["before"] or match["after"], match["year"]
        asked = [int(year)] if year else list(range(first, last + 1))
        spans += _of(asked, _MONTHS[name], int(day) if day else None, zone)
    for match in list(_ISO.finditer(folded))[:MAX_DATES]:
        day = match["day"]
        spans += _of([int(match["year"])], int(match["month"]), int(day) if day else None, zone)
    if not spans:
        for match in list(_YEAR.finditer(folded))[:MAX_DATES]:
            spans += _span(int(match["year"]), 1, 1, int(match["year"]) + 1, 1, zone, OF_YEAR)
    is_past = _IS_PAST.search(folded) is not None
    for match in list(_RELATIVE.finditer(folded))[:MAX_DATES]:
        named = match["weekday"]
        phrase = f"last {named}" if named and is_past else match.group()
        span = resolve(phrase, said_at=now, timezone=timezone)
        if span is not None:
            spans.append(AskedSpan(span.start, span.end, SAME))
            spans.append(AskedSpan(span.end, span.end + 3 * DAY_S, NEAR))
    return tuple(spans)


def _named(folded: str) -> Iterator[re.Match[str]]:
    """Months, with a day or a year where one stands beside them."""
    for match in _NAMED.finditer(folded):
        if match["month"] not in _DOUBTFUL or not _is_bare(match):
            yield match


def _is_bare(match: re.Match[str]) -> bool:
    """Whether nothing beside it says that this is a month: "Who is April?" """
    if match["before"] or match["after"] or match["year"]:
        return False
    return _IN.search(match.string[: match.start()].rstrip()) is None


def without_times(text: str) -> str:
    """A question, folded, without the times that it names: the rest is what it is about."""
    text = text[:MAX_QUERY_CHARS]
    if not names_a_time(text):
        return text
    rest = fold(text)
    for match in reversed(list(_named(rest))):
        rest = f"{rest[: match.start()]} {rest[match.end() :]}"
    for pattern in (_ISO, _YEAR, _RELATIVE):
        rest = pattern.sub(" ", rest)
    return rest


def asks_of_a_time_alone(text: str) -> bool:
    """Whether a question is about a time and nothing else: "What did I tell you last Tuesday?"
    No memory has its words; those of that time are meant."""
    rest = without_times(text)
    if rest == text[:MAX_QUERY_CHARS] or not _OF_NOTHING_ELSE.issuperset(terms(rest)):
        return False
    return not any(map(_is_bare, _named(fold(text[:MAX_QUERY_CHARS]))))


def match(spans: Sequence[AskedSpan], at: Instant) -> float:
    """How well a time fits what is asked: 0 to 1."""
    return max((s.weight for s in spans if s.start <= at < s.end), default=0.0)


def _of(years: Sequence[int], month: int, day: int | None, zone: tzinfo) -> list[AskedSpan]:
    spans: list[AskedSpan] = []
    for year in years:
        if not 1970 <= year <= 2200 or not 1 <= month <= 12:
            continue
        if day is None:
            after = (year + month // 12, month % 12 + 1)
            spans += _span(year, month, 1, *after, zone, OF_MONTH)
            if spans:
                spans.append(AskedSpan(spans[-1].end, spans[-1].end + 10 * DAY_S, NEAR))
            continue
        try:
            that_day = date(year, month, day)
        except ValueError:
            continue
        start = _midnight(that_day, zone)
        spans += [
            # A day wider on both sides: the teller's timezone may be another.
            AskedSpan(start - DAY_S / 2, start + 1.5 * DAY_S, SAME),
            AskedSpan(start + 1.5 * DAY_S, start + 8 * DAY_S, SOON_AFTER),
            AskedSpan(start - 14 * DAY_S, start + 14 * DAY_S, NEAR),
        ]
    return spans


def _span(
    year: int, month: int, day: int, to_year: int, to_month: int, zone: tzinfo, weight: float
) -> list[AskedSpan]:
    start = _midnight(date(year, month, day), zone)
    return [AskedSpan(start, _midnight(date(to_year, to_month, 1), zone), weight)]


def _midnight(day: date, zone: tzinfo) -> Instant:
    return datetime.combine(day, time(), zone).timestamp()
