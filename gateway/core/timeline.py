"""When: dates as people and models write them, resolved against the time they were said at.

Strategy: a date is a span (a day, a week, a month), not an instant: "last week" has a
beginning and an end. Models are asked for ISO dates, but what they copy from the user
("yesterday", "next Friday") is resolved here, in the user's timezone, so that the answer is
the same whichever model is used.

Own code rather than dateparser, which was measured: it yields an instant for a week, knows
neither "this weekend" nor "last summer", finds a date in "with May and", and takes 0.4 ms a
phrase and 122 ms for the first, for 15 MB in four packages. What is spoken here is English;
another language's phrase is left unresolved rather than guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo

from gateway.core.memory import Instant, Memory

DAY_S = 86_400.0
YEARS = range(1900, 2201)
"""Years that a remembered date may lie in; anything else is a slip."""


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` up to, not including, `end`."""

    start: Instant
    end: Instant


@lru_cache(maxsize=512)
def zone_of(name: str | None) -> tzinfo:
    """The timezone of an IANA name; UTC where there is none of this name."""
    if not name or not re.fullmatch(r"[A-Za-z0-9_+\-/]{1,64}", name):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # Unknown, malformed, or a directory of the database ("Europe").
        return UTC


def is_zone(name: str | None) -> bool:
    """Whether this names a timezone."""
    return name is not None and (zone_of(name) is not UTC or name in {"UTC", "Etc/UTC"})


def remembered_zone(known: Iterable[Memory]) -> str | None:
    """The timezone that one of these memories says is the user's."""
    for memory in known:
        if memory.key in ("timezone", "time_zone", "tz") and memory.status == "active":
            name = (memory.value or "").strip()
            if is_zone(name):
                return name
    return None


def local_rfc3339(at: Instant, timezone: str) -> str:
    """An instant as RFC 3339 text with the timezone's own offset, to the second."""
    return datetime.fromtimestamp(int(at), zone_of(timezone)).isoformat()


# --- resolving -----------------------------------------------------------------------------


def resolve(text: str | None, *, said_at: Instant, timezone: str | None) -> Span | None:
    """What time a date, ISO or relative, means to one who said it at `said_at`.

    None where it is no date that is understood, or lies outside the years 1900 to 2200.
    """
    if not text or len(text) > 100:
        return None
    zone = zone_of(timezone)
    words = " ".join(text.strip().casefold().split()).strip(" .,;!?()")
    try:
        span = _iso(words.upper(), zone) or _relative(words, said_at, zone)
    except (ValueError, OverflowError):
        return None
    if span is None or not -2.3e9 < span.start < 7.3e9:
        return None
    return span


_ISO_DAY = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_ISO_MONTH = re.compile(r"(\d{4})-(\d{2})")
_ISO_YEAR = re.compile(r"(\d{4})")
_ISO_WEEK = re.compile(r"(\d{4})-?W(\d{2})")
_ISO_SPAN = re.compile(r"(\S+?)(?:/| TO | - )(\S+)")


def _iso(text: str, zone: tzinfo) -> Span | None:
    if m := _ISO_DAY.fullmatch(text):
        return _days(date(int(m[1]), int(m[2]), int(m[3])), 1, zone)
    if m := _ISO_MONTH.fullmatch(text):
        return _month(int(m[1]), int(m[2]), zone)
    if m := _ISO_WEEK.fullmatch(text):
        return _days(date.fromisocalendar(int(m[1]), int(m[2]), 1), 7, zone)
    if m := _ISO_YEAR.fullmatch(text):
        return _year(int(m[1]), zone)
    if (m := _ISO_SPAN.fullmatch(text)) and m[1][:4].isdigit():
        first, last = _iso(m[1], zone), _iso(m[2], zone)
        return Span(first.start, last.end) if first and last and first.start < last.end else None
    if len(text) > 10 and text[:4].isdigit():
        moment = datetime.fromisoformat(text.replace(" UTC", "Z"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zone)
        if moment.year in YEARS:
            return Span(moment.timestamp(), moment.timestamp())
    return None


# --- relative phrases ------------------------------------------------------------------------

_NUMBERS = {
    word: n
    for n, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ]
    )
} | {"a": 1, "an": 1, "couple": 2, "few": 3, "several": 3}
_WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_SEASONS = {"spring": 3, "summer": 6, "autumn": 9, "fall": 9, "winter": 12}
_UNITS = "hour|day|week|weekend|month|year"
_N = rf"(\d{{1,4}}|{'|'.join(_NUMBERS)})"
_DAY_NAME = rf"({'|'.join(d + '|' + d[:3] for d in _WEEKDAYS)}|tues|thurs)"
_MONTH_NAME = rf"({'|'.join(m + '|' + m[:3] for m in _MONTHS)}|sept)"
_ORDINAL = r"(\d{1,2})(?:st|nd|rd|th)?"

_DAY_WORDS = {
    "today": 0,
    "this morning": 0,
    "this afternoon": 0,
    "this evening": 0,
    "tonight": 0,
    "yesterday": -1,
    "last night": -1,
    "yesterday morning": -1,
    "yesterday evening": -1,
    "the day before yesterday": -2,
    "tomorrow": 1,
    "tomorrow morning": 1,
    "tomorrow evening": 1,
    "the day after tomorrow": 2,
}

# fmt: off
_RELATIVE: list[tuple[str, str]] = [
    ("ago", rf"(?:about |around |a )?{_N}(?: of)? ({_UNITS})s? (?:ago|earlier|back)"),
    ("in", rf"in (?:about |around |a )?{_N}(?: of)? ({_UNITS})s?(?: time)?"),
    ("in", rf"(?:a )?{_N}(?: of)? ({_UNITS})s? from (?:now|today)"),
    ("past", rf"(?:over |during |in )?the (?:last|past) {_N} ({_UNITS})s?"),
    ("unit", rf"(?:the )?(last|previous|this|current|next|coming|following) ({_UNITS})"),
    ("weekday", rf"(?:on )?(?:(last|this|next|coming|this past|this coming) )?{_DAY_NAME}"),
    ("season", r"(last|this|next) (spring|summer|autumn|fall|winter)"),
    ("edge", r"(?:at |by )?(?:the )?(end|beginning|start) of "
             r"(?:(the|this|last|next) )?(week|month|year)"),
    ("month", rf"(?:in |since |by )?(?:(early|mid|late|last|this|next)[ -])?{_MONTH_NAME}"
              r"(?:,? (?:of )?(\d{4}))?"),
    ("month_day", rf"(?:on )?(?:the )?{_MONTH_NAME} {_ORDINAL}(?:,? (\d{{4}}))?"),
    ("day_month", rf"(?:on )?(?:the )?{_ORDINAL}(?: of)? {_MONTH_NAME}(?:,? (\d{{4}}))?"),
    ("year", r"(?:in |since |by )(\d{4})"),
]
# fmt: on
_COMPILED = [(name, re.compile(pattern)) for name, pattern in _RELATIVE]


def _relative(words: str, said_at: Instant, zone: tzinfo) -> Span | None:
    today = datetime.fromtimestamp(said_at, zone).date()
    bare = words.removeprefix("on ").removeprefix("since ").removeprefix("by ")
    if bare in _DAY_WORDS:
        return _days(today + timedelta(days=_DAY_WORDS[bare]), 1, zone)
    for name, pattern in _COMPILED:
        if m := pattern.fullmatch(words):
            return _READERS[name](m, today, zone)
    return None


def _ago(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    return _shifted(today, -_count(m[1]), m[2], zone)


def _in(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    return _shifted(today, _count(m[1]), m[2], zone)


def _past(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    first = _shifted(today, -_count(m[1]), m[2], zone)
    return Span(first.start, _days(today, 1, zone).end) if first else None


def _unit(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    step = {"last": -1, "previous": -1, "this": 0, "current": 0}.get(m[1], 1)
    monday = today - timedelta(days=today.weekday())
    if m[2] == "day":
        return _days(today + timedelta(days=step), 1, zone)
    if m[2] == "week":
        return _days(monday + timedelta(weeks=step), 7, zone)
    if m[2] == "weekend":
        # Said on Monday, "last weekend" is the one just past; "this weekend" the coming one.
        return _days(monday + timedelta(days=5, weeks=step), 2, zone)
    if m[2] == "month":
        return _month(*_month_after(today, step), zone)
    return _year(today.year + step, zone) if m[2] == "year" else None


def _weekday(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    name = next(i for i, day in enumerate(_WEEKDAYS) if day.startswith(m[2][:3]))
    ahead = (name - today.weekday()) % 7
    if m[1] in {"last", "this past"}:
        return _days(today - timedelta(days=(today.weekday() - name) % 7 or 7), 1, zone)
    if m[1] in {"next", "coming", "this coming"}:
        return _days(today + timedelta(days=ahead or 7), 1, zone)
    if m[1] == "this":
        return _days(today - timedelta(days=today.weekday() - name), 1, zone)
    # A bare "on Friday" may mean either; the caller has the sentence, we have not: the coming
    # one, as people rather say "last Friday" for the other.
    return _days(today + timedelta(days=ahead), 1, zone)


def _season(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    first = _SEASONS[m[2]]
    year = today.year
    begun = date(year, first, 1) <= today
    if m[1] == "last":
        year -= 0 if begun and today >= _first_of(*_plus(year, first, 3)) else 1
    elif m[1] == "next":
        year += 1 if begun else 0
    start = _first_of(year, first)
    return _between(start, _first_of(*_plus(year, first, 3)), zone)


def _edge(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    step = {"last": -1, "next": 1}.get(m[2] or "this", 0)
    if m[3] == "week":
        monday = today - timedelta(days=today.weekday()) + timedelta(weeks=step)
        return _days(monday + timedelta(days=4 if m[1] == "end" else 0), 1, zone)
    if m[3] == "month":
        year, month = _month_after(today, step)
        last = _first_of(*_plus(year, month, 1)) - timedelta(days=1)
        return _days(last if m[1] == "end" else date(year, month, 1), 1, zone)
    year = today.year + step
    return _days(date(year, 12, 31) if m[1] == "end" else date(year, 1, 1), 1, zone)


def _month_phrase(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    month = _month_number(m[2])
    if m[3]:
        year = int(m[3])
    elif m[1] == "last":
        year = today.year if month < today.month else today.year - 1
    elif m[1] == "next":
        year = today.year if month > today.month else today.year + 1
    else:
        year = today.year
    if m[1] in {"early", "mid", "late"}:
        first = {"early": 1, "mid": 11, "late": 21}[m[1]]
        after = (
            _first_of(*_plus(year, month, 1)) if m[1] == "late" else date(year, month, first + 10)
        )
        return _between(date(year, month, first), after, zone)
    return _month(year, month, zone)


def _month_day(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    return _dated(_month_number(m[1]), int(m[2]), m[3], today, zone)


def _day_month(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:
    return _dated(_month_number(m[2]), int(m[1]), m[3], today, zone)


def _in_year(m: re.Match[str], today: date, zone: tzinfo) -> Span | None:  # noqa: ARG001
    return _year(int(m[1]), zone)


_Reader = Callable[["re.Match[str]", date, tzinfo], "Span | None"]
_READERS: dict[str, _Reader] = {
    "ago": _ago,
    "in": _in,
    "past": _past,
    "unit": _unit,
    "weekday": _weekday,
    "season": _season,
    "edge": _edge,
    "month": _month_phrase,
    "month_day": _month_day,
    "day_month": _day_month,
    "year": _in_year,
}


# --- calendar ------------------------------------------------------------------------------


def _count(word: str) -> int:
    return int(word) if word.isdigit() else _NUMBERS[word]


def _shifted(today: date, n: int, unit: str, zone: tzinfo) -> Span | None:
    """`n` units away from today. The span is as exact as the unit: weeks are meant by the day,
    months and years as a whole."""
    if unit == "hour":
        return _days(today, 1, zone) if abs(n) < 12 else None
    if unit == "day":
        return _days(today + timedelta(days=n), 1, zone)
    if unit == "week":
        return _days(today + timedelta(weeks=n), 1, zone)
    if unit == "weekend":
        monday = today - timedelta(days=today.weekday())
        return _days(monday + timedelta(days=5, weeks=n), 2, zone)
    if unit == "month":
        return _month(*_month_after(today, n), zone)
    return _year(today.year + n, zone)


def _dated(month: int, day: int, year: str | None, today: date, zone: tzinfo) -> Span | None:
    """A day of a month; without a year the one that is nearest to today."""
    if year:
        return _days(date(int(year), month, day), 1, zone)
    near = []
    for around in (today.year - 1, today.year, today.year + 1):
        with suppress(ValueError):  # most years have no 29 February
            near.append(date(around, month, day))
    return _days(min(near, key=lambda d: abs((d - today).days)), 1, zone) if near else None


def _month_number(name: str) -> int:
    return next(i for i, m in enumerate(_MONTHS, 1) if m.startswith(name[:3]))


def _plus(year: int, month: int, months: int) -> tuple[int, int]:
    total = year * 12 + month - 1 + months
    return total // 12, total % 12 + 1


def _month_after(day: date, months: int) -> tuple[int, int]:
    return _plus(day.year, day.month, months)


def _first_of(year: int, month: int) -> date:
    return date(year, month, 1)


def _month(year: int, month: int, zone: tzinfo) -> Span:
    return _between(date(year, month, 1), _first_of(*_plus(year, month, 1)), zone)


def _year(year: int, zone: tzinfo) -> Span | None:
    return _between(date(year, 1, 1), date(year + 1, 1, 1), zone) if year in YEARS else None


def _days(first: date, n: int, zone: tzinfo) -> Span:
    return _between(first, first + timedelta(days=n), zone)


def _between(first: date, after: date, zone: tzinfo) -> Span:
    return Span(_midnight(first, zone), _midnight(after, zone))


def _midnight(day: date, zone: tzinfo) -> Instant:
    return datetime.combine(day, time(), zone).timestamp()


# --- in a text -----------------------------------------------------------------------------

_ANCHORED = re.compile(
    rf"\b(?:the day (?:before|after) (?:yesterday|tomorrow)|(?:yesterday|tomorrow)"
    rf"(?: (?:morning|evening))?|today|tonight|last night|this (?:morning|afternoon|evening)"
    rf"|(?:(?:about |around |a )?{_N}(?: of)? ({_UNITS})s? (?:ago|from now))"
    rf"|in (?:about |around |a )?{_N}(?: of)? ({_UNITS})s?(?: time)?\b(?! of)"
    rf"|(?:last|next|this) (?:{_UNITS}|spring|summer|autumn|fall|winter|{_DAY_NAME})"
    rf")\b(?! \()",
    re.IGNORECASE,
)
_HABIT = re.compile(r"\b(?:every|each|usually|always|daily|weekly|often|never)\b", re.IGNORECASE)


def anchored(text: str, *, said_at: Instant, timezone: str | None) -> tuple[str, Span | None]:
    """The text with the date set beside each "yesterday" or "next Friday", and the first span.

    Remembered as it was said, "yesterday" would be wrong the day after. A text about a habit is
    left as it is.
    """
    if _HABIT.search(text):
        return text, None
    spans: list[Span] = []

    def dated(m: re.Match[str]) -> str:
        span = resolve(m[0], said_at=said_at, timezone=timezone)
        if span is None:
            return m[0]
        spans.append(span)
        return f"{m[0]} ({shown(span, timezone)})"

    text = _ANCHORED.sub(dated, text)
    return text, spans[0] if spans else None


def shown(span: Span, timezone: str | None) -> str:
    """A span as short as it can be said: a day, a month, a year, or from … to …"""
    zone = zone_of(timezone)
    first = datetime.fromtimestamp(span.start, zone).date()
    last = datetime.fromtimestamp(max(span.start, span.end - 1), zone).date()
    after = last + timedelta(days=1)
    if first == last:
        return first.isoformat()
    if (first.month, first.day, after.month, after.day) == (1, 1, 1, 1):
        return f"{first.year}" if after.year == first.year + 1 else f"{first.year} to {last.year}"
    if first.day == after.day == 1 and _plus(first.year, first.month, 1) == (
        after.year,
        after.month,
    ):
        return f"{first.year}-{first.month:02}"
    return f"{first.isoformat()} to {last.isoformat()}"
