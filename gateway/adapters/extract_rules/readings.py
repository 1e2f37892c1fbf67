"""What a clause of a known form says, as a fact of docs/formats.md.

Strategy: a form's pattern is generous; its reading here refuses what the form cannot mean
("I live in fear", "I'm a beginner"). A reading that yields nothing lets the next form try.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from gateway.adapters.extract_rules.vocabulary import (
    LANGUAGES,
    LENGTHS,
    MONTHS,
    NO_HOMES,
    NO_NAME,
    NO_NAMES_OF_OTHERS,
    NO_OCCUPATIONS,
    NO_PLACE,
    NO_THING,
    OCCUPATIONS,
    ONE_OF_THESE,
    PLACE_ENDS,
    PLACEHOLDER,
    PLAYED,
    SINCE,
)
from gateway.core.wording import gist

Match: TypeAlias = "re.Match[str]"
Found: TypeAlias = Iterator[dict[str, Any]]
Known: TypeAlias = Sequence[tuple[int, str, str | None]]
"""What is known, as far as it matters here: number, text, key."""


def fact(
    type_: str,
    text: str,
    *,
    key: str | None = None,
    value: str | None = None,
    importance: float = 0.5,
    action: str = "add",
    target: int | None = None,
    event_start: str | None = None,
) -> dict[str, Any]:
    """A fact in that form, without its turn and quote."""
    return {
        "action": action,
        "target": target,
        "type": type_,
        "key": key,
        "value": value,
        "text": text,
        "importance": importance,
        "event_start": event_start,
        "event_end": None,
        "ttl_days": None,
    }


# --- who and where ---------------------------------------------------------------------------


def name(m: Match, _: Known) -> Found:
    words = m["value"].split()
    first = words[0] if words else ""  # spaces of other kinds are a value to the forms
    if first.casefold() in NO_NAME or not first[:1].isalpha():
        return
    if PLACEHOLDER.search(first) or (not first[:1].isupper() and len(words) > 1):
        return
    parts = [first]
    for word in words[1:4]:
        if not word[:1].isupper():
            break
        parts.append(word)
    shown = " ".join(w if w[:1].isupper() else w.capitalize() for w in parts).rstrip(",.")
    yield fact("profile", f"User's name is {shown}", key="name", value=shown, importance=0.8)


def home(m: Match, _: Known) -> Found:
    place = PLACE_ENDS.sub("", m["value"]).strip(" ,")
    first = place.split()[0] if place.split() else ""
    if not place or first.casefold() in NO_PLACE or len(place) > 60:
        return
    if "moved" in m[0].lower() and (first.casefold() in NO_HOMES or re.search(r"\d", place)):
        return
    if first.casefold() == "the" and not place[4:5].isupper():
        return
    if PLACEHOLDER.search(place):
        return
    if place.islower():
        if len(place.split()) > 2:
            return
        place = place.title()
    since = SINCE.search(m["value"]) if "move" in m[0] or "relocate" in m[0] else None
    yield fact(
        "profile",
        f"User lives in {place}",
        key="home",
        value=place,
        importance=0.7,
        event_start=since[0] if since else None,
    )


def named(m: Match, _: Known) -> Found:
    who = m["who"].lower()
    said = re.match(r"[A-Z][\w'-]*(?:\s+[A-Z][\w'-]*)*", m["value"])
    if (
        said is not None
        and not said[0].endswith("'s")
        and said[0].split()[0].casefold() not in NO_NAMES_OF_OTHERS
    ):
        yield fact(
            "profile",
            f"User's {who} is called {said[0]}",
            key=f"{who}_name",
            value=said[0],
            importance=0.6,
        )


def turned(m: Match, _: Known) -> Found:
    """ "My daughter Mia turned 6": her name. Her age is another one soon."""
    who, name_ = m["who"].lower(), m["name"]
    if name_[:1].isupper():
        text = f"User's {who} is called {name_}"
        yield fact("profile", text, key=f"{who}_name", value=name_, importance=0.6)
    years = m["years"]
    yield fact("interaction", f"User's {who} turned {years}", event_start=m["when"], importance=0.4)


def moving(m: Match, _: Known) -> Found:
    """What is to come does not end where one lives now, so it has no key."""
    place = PLACE_ENDS.sub("", m["value"]).strip(" ,")
    when = re.search(r"\b(?:next|this|in|on|tomorrow)\b.*$", m["value"], re.IGNORECASE)
    if place[:1].isupper():
        text = f"User is moving to {place}{' ' + when[0] if when else ''}"  # the guards date it
        yield fact("profile", text, event_start=when[0] if when else None, importance=0.6)


def origin(m: Match, _: Known) -> Found:
    place = PLACE_ENDS.sub("", m["value"]).strip(" ,")
    if place[:1].isupper():
        yield fact("profile", f"User is from {place}", key="origin", value=place, importance=0.6)


def speaks(m: Match, _: Known) -> Found:
    said = m["value"]
    if any(word in LANGUAGES for word in re.findall(r"[a-z]+", said.lower())):
        yield fact("profile", f"User speaks {said}")


def learns(m: Match, _: Known) -> Found:
    thing = re.sub(r"\s+(?:for|because|since|with|at)\b.*$", "", m["value"]).strip(" ,")
    if not NO_THING.match(thing):
        yield fact("profile", f"User is learning {thing}")


def plays(m: Match, _: Known) -> Found:
    yield fact("profile", f"User plays {m['value'].strip(' ,')}")


def has_children(m: Match, known: Known) -> Found:
    """So many now: another number of the same replaces the former."""
    value = m["value"].lower()
    noun = re.sub(r"(?<=child)ren$|s$", "", value.split()[-1])
    before = re.compile(rf"User has \S+ {noun}(?:ren|s)?$")
    n = next((n for n, text, _ in known if before.match(text)), None)
    yield fact(
        "profile",
        f"User has {value}",
        importance=0.6,
        action="add" if n is None else "supersede",
        target=n,
    )


def abstains(m: Match, _: Known) -> Found:
    thing = re.sub(r"\s+(?:because|since|so|at all|any ?more)\b.*$", "", m["value"]).strip(" ,")
    if not NO_THING.match(thing) and len(thing.split()) <= 4:
        text = f"User does not {m['verb'].lower()} {thing}"
        yield fact("profile", text, importance=0.7)


def illness(m: Match, _: Known) -> Found:
    yield fact("profile", f"User has {m['value'].lower()}", importance=0.9)


def units(m: Match, _: Known) -> Found:
    value = m["value"].lower()
    yield fact("preference", f"User wants {value} units", key="units", value=value, importance=0.6)


def layout(m: Match, _: Known) -> Found:
    no = bool(m["no"])
    thing = " ".join(m["value"].lower().split())
    text = f"User wants {'no ' if no else ''}{thing} in answers"
    key = thing.replace(" ", "_").rstrip("s")
    yield fact("preference", text, key=key, value="no" if no else "yes", importance=0.6)


def age(m: Match, _: Known) -> Found:
    years = int(m["value"])
    if 3 <= years <= 120:
        yield fact("profile", f"User is {years} years old", key="age", value=str(years))


def birthday(m: Match, _: Known) -> Found:
    """A day or a month; "soon" is none. "Tomorrow" is one only beside the date that guards set."""
    day = m["value"]
    text = f"User's birthday is {day}"
    if re.search(r"\d0s\b", day):
        return
    if re.search(rf"\d|\b(?:{MONTHS})", day, re.IGNORECASE):
        yield fact("profile", text, key="birthday", value=day, importance=0.7)
    elif re.search(r"\b(?:today|tomorrow|yesterday)\b", day, re.IGNORECASE):
        yield fact("profile", text, importance=0.7)


def timezone(m: Match, _: Known) -> Found:
    zone = m["value"].strip()
    if re.fullmatch(
        r"[A-Z][A-Za-z_]+/[A-Za-z_/+-]+|[A-Z]{2,5}|(?:UTC|GMT) ?[+-] ?\d{1,2}(?::\d\d)?", zone
    ):
        yield fact("profile", f"User's timezone is {zone}", key="timezone", value=zone)


# --- what one does ---------------------------------------------------------------------------

_ROLE_ENDS = re.compile(
    r"\s+(?:and|but|who|which|with|since|so|from|living|based"
    r"|for (?:over|about|the|\d|many))\b.*$",
    re.IGNORECASE,
)


def role(m: Match, _: Known) -> Found:
    """What somebody said to be their work."""
    yield from _role(m)


def perhaps_role(m: Match, _: Known) -> Found:
    """ "I'm a …": their work only where the noun is one that people work as."""
    noun = _head(_ROLE_ENDS.sub("", m["value"]))
    berliner = re.fullmatch(r"(?:New )?[A-Z][a-z]+", _ROLE_ENDS.sub("", m["value"]).strip(" ,"))
    if noun not in NO_OCCUPATIONS and OCCUPATIONS.fullmatch(noun) and not berliner:
        yield from _role(m)


def _role(m: Match) -> Found:
    what = _ROLE_ENDS.sub("", m["value"]).strip(" ,")
    if what and len(what) <= 80 and not PLAYED.search(what):
        article = f"{m['article'].lower()} " if m["article"] else ""
        yield fact("profile", f"User is {article}{what}", key="role", value=what, importance=0.7)


def _head(phrase: str) -> str:
    words = re.split(r"\s+(?:at|in|for|of|on)\s+", phrase)[0].split()
    return words[-1].casefold() if words else ""


def employer(m: Match, _: Known) -> Found:
    where = PLACE_ENDS.sub("", m["value"]).strip(" ,")
    if where[:1].isupper():
        text = f"User works {m['how'].lower()} {where}"
        yield fact("profile", text, key="employer", value=where, importance=0.6)


def tool(m: Match, _: Known) -> Found:
    ends = r"\s+(?:for|to|at|as|on|every|in|because|when|and (?:i|this|the|it|my)|but)\b.*$"
    what = re.sub(ends, "", m["value"]).strip(" ,")
    if what[:3] == "to " or NO_THING.match(what):
        return
    if re.search(r"[A-Z0-9]", what) and len(what) <= 60:
        yield fact("profile", f"User uses {what}", key="tool", value=what)


def language_of_code(m: Match, _: Known) -> Found:
    yield fact("profile", f"User programs in {m['value']}", key="tool", value=m["value"])


# --- what one likes and bears ----------------------------------------------------------------


def like(m: Match, known: Known) -> Found:
    yield from taste(m["value"], known, "likes", "dislikes")


def dislike(m: Match, known: Known) -> Found:
    yield from taste(m["value"], known, "dislikes", "likes")


def taste(thing: str, known: Known, key: str, opposite: str) -> Found:
    """A like or dislike; it supersedes its opposite where that is known, and of several things
    that were named together it alone."""
    thing = re.sub(r"\s+(?:any ?more|very much|a lot|so much|at all|the most)$", "", thing)
    thing = thing.strip(" ,")
    if not thing or NO_THING.match(thing) or ONE_OF_THESE.fullmatch(thing):
        return
    words = gist(thing).words
    against = next(
        (
            (n, text)
            for n, text, held in known
            if words and held == opposite and words <= gist(text).words
        ),
        None,
    )
    if against is None:
        yield fact("preference", f"User {key} {thing}", key=key, value=thing)
        return
    n, text = against
    several = re.split(r",\s*(?:and\s+)?|\s+and\s+", text.removeprefix(f"User {opposite} "))
    for liked, what in ((key, thing), *((opposite, it) for it in several if len(several) > 1)):
        if liked == key or gist(what).words != words:
            yield fact(
                "preference",
                f"User {liked} {what}",
                key=liked,
                value=what,
                action="supersede",
                target=n,
            )


def prefer(m: Match, _: Known) -> Found:
    thing = m["value"].strip(" ,")
    if not NO_THING.match(thing) and not ONE_OF_THESE.fullmatch(thing):
        yield fact("preference", f"User prefers {thing}", importance=0.6)


def favourite(m: Match, _: Known) -> Found:
    what, value = " ".join(m["what"].lower().split()), m["value"].strip(" ,")
    if not NO_THING.match(value):
        text = f"User's favourite {what} is {value}"
        yield fact("preference", text, key=favourite_key(what), value=value)


def favourite_key(what: str) -> str:
    """One key, whichever way it is spelt."""
    spelt = re.sub(r"(col|flav)or", r"\1our", what)
    return f"favourite_{spelt.replace(' ', '_')}"


def allergy(m: Match, _: Known) -> Found:
    to = re.sub(r"\s+(?:and i|so|which|since|but|ever)\b.*$", "", m["value"]).strip(" ,")
    if not NO_THING.match(to):
        text = f"User is allergic to {to}"
        yield fact("profile", text, key="allergy", value=to, importance=0.9)


def intolerance(m: Match, _: Known) -> Found:
    to = m["value"].lower()
    yield fact("profile", f"User is {to} intolerant", key="allergy", value=to, importance=0.9)


def diet(m: Match, _: Known) -> Found:
    what = m["value"].lower()
    yield fact("profile", f"User is {what}", key="diet", value=what, importance=0.8)


# --- how to answer ---------------------------------------------------------------------------


def language(m: Match, _: Known) -> Found:
    said = m["value"].lower()
    text = f"User wants answers in {said.capitalize()}"
    yield fact("preference", text, key="language", value=LANGUAGES[said], importance=0.8)


def switched(m: Match, known: Known) -> Found:
    """ "You can switch back to English": of answers where a language was wished for before."""
    if any(key == "language" for *_, key in known):
        yield from language(m, known)


def length(m: Match, _: Known) -> Found:
    value = LENGTHS[m["value"].lower()]
    text = f"User wants {value} answers"
    yield fact("preference", text, key="answer_length", value=value, importance=0.7)
