"""What a clause of a known form says, as a fact of docs/formats.md.

Strategy: a form's pattern is generous; its reading here refuses what the form cannot mean
("I live in fear", "I'm a beginner"). A reading that yields nothing lets the next form try.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from gateway.core.wording import gist

Match: TypeAlias = "re.Match[str]"
Found: TypeAlias = Iterator[dict[str, Any]]
Known: TypeAlias = Sequence[tuple[int, str, str | None]]
"""What is known, as far as it matters here: number, text, key."""

FORGET_OVERLAP = 0.5
"""Share of the words named that a memory must have to be the one that is meant."""

# fmt: off
LANGUAGES = {
    "english": "en", "spanish": "es", "german": "de", "french": "fr", "italian": "it",
    "portuguese": "pt", "dutch": "nl", "polish": "pl", "russian": "ru", "ukrainian": "uk",
    "turkish": "tr", "arabic": "ar", "hebrew": "he", "hindi": "hi", "chinese": "zh",
    "mandarin": "zh", "japanese": "ja", "korean": "ko", "swedish": "sv", "norwegian": "no",
    "danish": "da", "finnish": "fi", "czech": "cs", "greek": "el", "hungarian": "hu",
    "romanian": "ro", "vietnamese": "vi", "thai": "th", "indonesian": "id", "catalan": "ca",
}
LENGTHS = {
    "short": "short", "shorter": "short", "brief": "short", "briefer": "short", "concise": "short",
    "terse": "short", "succinct": "short", "long": "long", "longer": "long", "detailed": "long",
    "in-depth": "long", "thorough": "long", "elaborate": "long",
}
_OCCUPATIONS = re.compile(
    r"\w+(?:er|or|ist|cian|ologist)|nurse|student|chef|cook|clerk|pilot|architect|accountant"
    r"|consultant|assistant|scientist|analyst|librarian|veterinarian|attorney|judge|surgeon|vet"
    r"|ceo|cto|cfo|dba|sre|devops|freelancer|entrepreneur|founder|intern|researcher|fellow|postdoc"
    r"|pharmacist|paramedic|midwife|mechanic|plumber|electrician|guide|coach|agent|apprentice"
    r"|secretary|sales(?:man|woman|person)|fire(?:man|fighter)|police(?:man|woman)|soldier|priest"
)
_NO_OCCUPATIONS = frozenset({
    "beginner", "customer", "user", "newcomer", "lover", "member", "smoker", "believer", "fighter",
    "number", "stranger", "matter", "master", "sinner", "winner", "loser", "learner", "speaker",
    "mother", "father", "brother", "sister", "visitor", "owner", "subscriber", "sponsor", "reader",
})
_NO_THING = re.compile(
    r"(?:it|that|this|these|those|them|you|your|him|her|his|its|how|what|when|where|the (?:way|idea"
    r"|first|second|last|new|one|other|following|answer|sound|look)|to see (?:it|that|this)|myself"
    r"|nothing|anything|something|everything|all|one|both|neither|none|not|an? (?:lot|few|bit)"
    r"|to (?:say|admit|ask|bother|interrupt|break it)|when|if)\b",
    re.IGNORECASE,
)
NO_PLACE = frozenset({
    "fear", "peace", "hope", "hell", "harmony", "poverty", "sin", "a", "an", "my", "our", "your",
    "his", "her", "their", "constant", "it", "here", "there", "this", "that", "shared", "dark",
    "light", "version", "step", "plan", "production", "remote",
    # in German
    "angst", "frieden", "armut", "saus", "hause", "scheidung", "sünde", "freiheit",
})
NO_HOMES = frozenset({
    "linux", "ubuntu", "windows", "macos", "mac", "android", "ios", "kubernetes", "docker", "aws",
    "azure", "gcp", "postgres", "postgresql", "mysql", "mongodb", "redis", "python", "java",
    "javascript", "typescript", "rust", "go", "golang", "kotlin", "swift", "react", "vue", "django",
    "angular", "svelte", "node", "nextjs", "flask", "fastapi", "rails", "git", "github", "gitlab",
    "jira", "slack", "teams", "notion", "obsidian", "vim", "neovim", "emacs", "vscode", "chrome",
    "firefox", "excel", "terraform", "graphql", "kafka", "spark", "wordpress", "shopify", "signal",
    "telegram", "whatsapp", "bluesky", "mastodon",
})
"""What one moves to and works in, but does not live in."""
_NO_NAMES_OF_OTHERS = frozenset(LANGUAGES) | frozenset({
    "american", "british", "canadian", "australian", "indian", "mexican", "brazilian", "swiss",
    "austrian", "belgian", "irish", "scottish", "welsh", "egyptian", "iranian", "persian", "iraqi",
    "israeli", "pakistani", "bangladeshi", "nigerian", "kenyan", "ghanaian", "moroccan", "tunisian",
    "algerian", "ethiopian", "argentinian", "argentine", "chilean", "colombian", "peruvian",
    "venezuelan", "cuban", "filipino", "filipina", "malaysian", "singaporean", "taiwanese",
    "european", "african", "asian", "latino", "latina", "serbian", "croatian", "bosnian",
    "bulgarian", "slovak", "slovenian", "albanian", "lithuanian", "latvian", "estonian", "armenian",
    "kurdish", "lebanese", "syrian", "palestinian", "afghan", "nepali", "cambodian", "mongolian",
    "icelandic", "muslim", "catholic", "jewish", "hindu", "buddhist", "protestant", "sikh",
})
"""What somebody is, written as a name is: "my wife is Italian"."""
_NO_NAME = frozenset({
    "not", "a", "an", "the", "very", "so", "on", "in", "at", "too", "hard", "long", "unknown",
    "what", "maybe", "later", "back", "when", "if", "crazy", "whatever", "anything", "it", "that",
    "no", "fine", "good", "ok", "okay", "well", "ready", "new", "sorry", "sure", "done", "lost",
    "tomorrow", "today", "tonight", "asap", "now", "soon", "anytime", "again", "please", "after",
    "before", "whenever", "stupid", "old", "egal", "unwichtig", "unbekannt",
})
_PLACEHOLDER = re.compile(r"[\[\]{}<>$_]|^(?:[xX]+|\W*)$")
"""What a template leaves to be filled in."""
_QUESTION_WORDS = frozenset(
    {"what", "wher", "where", "how", "when", "who", "why", "about", "said", "told", "say", "know"}
)
# fmt: on
_PLACE_ENDS = re.compile(
    r"\s+(?:with|near|since|for|because|last|this|next|where|but|so|as|at|on|when|after|from|to"
    r"|and\s+(?:i|my|we|work)|yesterday|today|now|currently|right|\d{4}|these|a|an|which|who"
    r"|together|alone|again|recently|permanently|temporarily|already"
    r"|\w+ (?:days|weeks|months|years)"
    r"|in\s+(?:a|an|the\s+\w+ of|\d{4}|january|february|march|april|may|june|july|august"
    r"|september|october|november|december))\b.*$",
    re.IGNORECASE,
)
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_SINCE = re.compile(
    r"\b(?:yesterday|today|last (?:week|month|year|\w+day)|(?:\w+ )?\w+ (?:days?|weeks?|months?"
    r"|years?) ago|in (?:19|20)\d\d)\b",
    re.IGNORECASE,
)


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


# --- taking back -----------------------------------------------------------------------------


def forget(m: Match, known: Known) -> Found:
    what = m["value"]
    everything = re.match(
        r"(?:everything|all|anything)\b(?!.*\babout (?!me\b))", what, re.IGNORECASE
    )
    for n in [number for number, *_ in known] if everything else about(what, known):
        yield fact("profile", "", action="retract", target=n)


def no_longer(m: Match, known: Known) -> Found:
    """What has ended; where it is named ("at Google"), nothing else has."""
    named = {word.casefold() for word in re.findall(r"\b[A-Z][\w'-]+", m["value"])}
    texts = {n: text.casefold() for n, text, _ in known}
    fits = [n for n in about(m["value"], known) if all(name in texts[n] for name in named)]
    for n in fits[:1]:
        yield fact("profile", "", action="retract", target=n)


def about(what: str, known: Known) -> list[int]:
    """The known memories that share most words with what was named, if enough."""
    wanted = gist(what).words - _QUESTION_WORDS
    if not wanted:
        return []
    near: list[tuple[float, int]] = []
    for n, text, key in known:
        words = gist(text).words | gist((key or "").replace("_", " ")).words
        share = len(wanted & words) / len(wanted)
        if share >= FORGET_OVERLAP:
            near.append((share, n))
    best = max((share for share, _ in near), default=0.0)
    return [n for share, n in near if share == best][:5]


# --- who and where ---------------------------------------------------------------------------


def name(m: Match, _: Known) -> Found:
    words = m["value"].split()
    first = words[0] if words else ""  # spaces of other kinds are a value to the forms
    if first.casefold() in _NO_NAME or not first[:1].isalpha():
        return
    if _PLACEHOLDER.search(first) or (not first[:1].isupper() and len(words) > 1):
        return
    parts = [first]
    for word in words[1:4]:
        if not word[:1].isupper():
            break
        parts.append(word)
    shown = " ".join(w if w[:1].isupper() else w.capitalize() for w in parts).rstrip(",.")
    yield fact("profile", f"User's name is {shown}", key="name", value=shown, importance=0.8)


def home(m: Match, _: Known) -> Found:
    place = _PLACE_ENDS.sub("", m["value"]).strip(" ,")
    first = place.split()[0] if place.split() else ""
    if not place or first.casefold() in NO_PLACE or len(place) > 60:
        return
    if "moved" in m[0].lower() and (first.casefold() in NO_HOMES or re.search(r"\d", place)):
        return
    if first.casefold() == "the" and not place[4:5].isupper():
        return
    if _PLACEHOLDER.search(place):
        return
    if place.islower():
        if len(place.split()) > 2:
            return
        place = place.title()
    since = _SINCE.search(m["value"]) if "move" in m[0] or "relocate" in m[0] else None
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
    if said is not None and said[0].split()[0].casefold() not in _NO_NAMES_OF_OTHERS:
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
    place = _PLACE_ENDS.sub("", m["value"]).strip(" ,")
    when = re.search(r"\b(?:next|this|in|on|tomorrow)\b.*$", m["value"], re.IGNORECASE)
    if place[:1].isupper():
        text = f"User is moving to {place}"
        yield fact("profile", text, event_start=when[0] if when else None, importance=0.6)


def origin(m: Match, _: Known) -> Found:
    place = _PLACE_ENDS.sub("", m["value"]).strip(" ,")
    if place[:1].isupper():
        yield fact("profile", f"User is from {place}", key="origin", value=place, importance=0.6)


def speaks(m: Match, _: Known) -> Found:
    said = m["value"]
    if any(word in LANGUAGES for word in re.findall(r"[a-z]+", said.lower())):
        yield fact("profile", f"User speaks {said}")


def learns(m: Match, _: Known) -> Found:
    thing = re.sub(r"\s+(?:for|because|since|with|at)\b.*$", "", m["value"]).strip(" ,")
    if not _NO_THING.match(thing):
        yield fact("profile", f"User is learning {thing}")


def plays(m: Match, _: Known) -> Found:
    yield fact("profile", f"User plays {m['value'].strip(' ,')}")


def has_children(m: Match, _: Known) -> Found:
    yield fact("profile", f"User has {m['value'].lower()}", importance=0.6)


def abstains(m: Match, _: Known) -> Found:
    thing = re.sub(r"\s+(?:because|since|so|at all|any ?more)\b.*$", "", m["value"]).strip(" ,")
    if not _NO_THING.match(thing) and len(thing.split()) <= 4:
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
    if re.search(rf"\d|\b(?:{_MONTHS})", day, re.IGNORECASE):
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
    if noun not in _NO_OCCUPATIONS and _OCCUPATIONS.fullmatch(noun):
        yield from _role(m)


def _role(m: Match) -> Found:
    what = _ROLE_ENDS.sub("", m["value"]).strip(" ,")
    if what and len(what) <= 80:
        article = f"{m['article'].lower()} " if m["article"] else ""
        yield fact("profile", f"User is {article}{what}", key="role", value=what, importance=0.7)


def _head(phrase: str) -> str:
    words = re.split(r"\s+(?:at|in|for|of|on)\s+", phrase)[0].split()
    return words[-1].casefold() if words else ""


def employer(m: Match, _: Known) -> Found:
    where = _PLACE_ENDS.sub("", m["value"]).strip(" ,")
    if where[:1].isupper():
        text = f"User works {m['how'].lower()} {where}"
        yield fact("profile", text, key="employer", value=where, importance=0.6)


def tool(m: Match, _: Known) -> Found:
    ends = r"\s+(?:for|to|at|as|on|every|in|because|when|and i)\b.*$"
    what = re.sub(ends, "", m["value"]).strip(" ,")
    if what and not _NO_THING.match(what) and re.search(r"[A-Z0-9]", what) and len(what) <= 60:
        yield fact("profile", f"User uses {what}", key="tool", value=what)


def language_of_code(m: Match, _: Known) -> Found:
    yield fact("profile", f"User programs in {m['value']}", key="tool", value=m["value"])


# --- what one likes and bears ----------------------------------------------------------------


def like(m: Match, known: Known) -> Found:
    yield from _taste(m["value"], known, "likes", "dislikes")


def dislike(m: Match, known: Known) -> Found:
    yield from _taste(m["value"], known, "dislikes", "likes")


def _taste(thing: str, known: Known, key: str, opposite: str) -> Found:
    """A like or dislike; it supersedes its opposite where that is known."""
    thing = re.sub(r"\s+(?:any ?more|very much|a lot|so much|at all|the most)$", "", thing)
    thing = thing.strip(" ,")
    if not thing or _NO_THING.match(thing):
        return
    words = gist(thing).words
    against = next(
        (n for n, text, held in known if held == opposite and words <= gist(text).words), None
    )
    yield fact(
        "preference",
        f"User {key} {thing}",
        key=key,
        value=thing,
        action="add" if against is None or not words else "supersede",
        target=against if words else None,
    )


def prefer(m: Match, _: Known) -> Found:
    thing = m["value"].strip(" ,")
    if not _NO_THING.match(thing):
        yield fact("preference", f"User prefers {thing}", importance=0.6)


def favourite(m: Match, _: Known) -> Found:
    what, value = " ".join(m["what"].lower().split()), m["value"].strip(" ,")
    if not _NO_THING.match(value):
        key = f"favourite_{what.replace(' ', '_')}"
        yield fact("preference", f"User's favourite {what} is {value}", key=key, value=value)


def allergy(m: Match, _: Known) -> Found:
    to = re.sub(r"\s+(?:and i|so|which|since|but|ever)\b.*$", "", m["value"]).strip(" ,")
    if not _NO_THING.match(to):
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


def length(m: Match, _: Known) -> Found:
    value = LENGTHS[m["value"].lower()]
    text = f"User wants {value} answers"
    yield fact("preference", text, key="answer_length", value=value, importance=0.7)
