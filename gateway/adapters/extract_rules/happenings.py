"""What is to happen and what is to be done: appointments, deadlines, and that they were met.

Strategy: only what names its day is read, and the day must be one that `core/timeline` resolves:
"I have a meeting" matters for one answer, "I have an interview on Friday" next week still does.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.adapters.extract_rules.readings import Found, Known, Match, fact
from gateway.adapters.extract_rules.vocabulary import MONTHS
from gateway.core.timeline import resolve
from gateway.core.wording import gist

_DAY = r"(?:mon|tues|wednes|thurs|fri|satur|sun)day"
_TH = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE = rf"(?:the )?(?:(?:{MONTHS}) {_TH}|{_TH} (?:of )?(?:{MONTHS}))"
WHEN: Final = (
    r"(?P<when>(?:today|tonight|(?:the day after )?tomorrow"
    rf"|(?:on )?(?:(?:next|this|coming) )?{_DAY}|(?:on )?{_DATE}(?:,? \d{{4}})?"
    r"|(?:on )?\d{4}-\d\d-\d\d|(?:next|this) (?:week|month|weekend)"
    r"|in (?:an?|one|two|three|four|five|six|\d{1,2}) (?:days?|weeks?|months?)"
    r"|(?:at )?the end of (?:the|this|next) (?:week|month)))"
)
TIME: Final = (
    r"(?P<time>,? (?:at|around|from) (?:noon|midnight|\d{1,2}(?:[:.]\d\d)? ?(?:am|pm|a\.m|p\.m|h"
    r"|o'clock)?)| (?:morning|afternoon|evening|night))?"
)
EVENT: Final = (
    r"(?:[\w'-]+ ){0,4}?(?:appointment|interview|exam|test|meeting|flight|presentation|wedding"
    r"|surgery|operation|check-?up|concert|trip|party|conference|audition|marathon|race|hearing"
    r"|viva|defen[cs]e|reunion|graduation|holiday|vacation)"
)
MORE: Final = r"(?P<more> (?:with|at|to|in|for|about) (?:(?! and )[^,;]){1,40}?)?"

_NEEDS = "User needs to "
_BARE = re.compile(rf"{_DAY}|{_DATE}|\d", re.IGNORECASE)
_VAGUE = re.compile(r"\b(?:it|this|that|these|those|them)\b", re.IGNORECASE)


def _theirs(said: str) -> str:
    return re.sub(r"\b(?:my|our)\b", "their", said, flags=re.IGNORECASE)


def event(m: Match, _: Known) -> Found:
    """ "I have a dentist appointment tomorrow at 3pm"."""
    when = m["when"]
    if resolve(when, said_at=0.0, timezone=None) is None:
        return
    what = m["what"]
    shown = f"on {when}" if _BARE.match(when) else when
    article = "an" if what[:1].lower() in "aeiou" else "a"
    text = f"User has {article} {what}{_theirs(m['more'] or '')} {shown}{m['time'] or ''}"
    yield fact("interaction", text, event_start=when)


def moved(m: Match, known: Known) -> Found:
    """ "My dentist appointment was moved to June 9", or called off: the one that is known."""
    wanted, when = gist(m["what"]).words, m["when"]
    for n, text, _ in reversed(known):
        if text.startswith("User has a") and wanted <= gist(text).words:
            if when is None:
                yield fact("interaction", "", action="retract", target=n)
            else:
                for new in event(m, known):
                    yield {**new, "action": "supersede", "target": n}
            return


def deadline(m: Match, _: Known) -> Found:
    """ "I need to hand in my thesis by Friday"."""
    what, when = _theirs(m["what"]), m["when"]
    if resolve(when, said_at=0.0, timezone=None) is None or _VAGUE.search(what):
        return
    text = f"{_NEEDS}{what} by {when.removeprefix('on ')}{m['time'] or ''}"
    yield fact("task_state", text, event_start=when)


def done(m: Match, known: Known) -> Found:
    """What was to be done and is; of what nobody knew, nothing."""
    what = gist(_theirs(m["value"])).words
    for n, text, _ in known:
        if text.startswith(_NEEDS) and what and what <= gist(text).words:
            was = text.removeprefix(_NEEDS)
            yield fact("task_state", f"User has done it: {was}", action="supersede", target=n)
            return
