"""What a user takes back: forgotten where that is asked, ended where it is no longer so.

Strategy: what is named is looked for among what is known. "My name" and "where I live" name a
key, in each of the four languages, and nothing else goes; other words are looked for in the texts.
Where nothing is known, nothing is taken back.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.adapters.extract_rules.readings import Found, Known, Match, fact, favourite_key
from gateway.adapters.extract_rules.vocabulary import QUESTION_WORDS
from gateway.core.everything import EVERYTHING, OF_MEMORY
from gateway.core.slots import plain_key
from gateway.core.wording import gist

FORGET_OVERLAP = 0.5
"""Share of the words named that a memory must have to be the one that is meant."""

# --- forgetting --------------------------------------------------------------------------------

_FORGETS = re.compile(
    r"(?:you \w+ |i want you to |i'd like you to |i (?:don't|do not) want you to )?"
    r"(?:forget|unlearn|remember|(?:don't|do not) remember)\b",
    re.IGNORECASE,
)
_MY = r"(?:my |the |mein(?:en?|e)? |mis? |mon |ma |mes )"
_TOPICS: Final = [
    (re.compile(form, re.IGNORECASE), frozenset(keys.split()))
    for keys, form in (
        (
            "name",
            rf"{_MY}(?:(?:full|first) )?(?:names?|namen|vornamen?|nombre|nom|prénom)|who i am"
            r"|what i(?:'m| am) called|wie ich hei(?:ß|ss)e|cómo me llamo|comment je m'appelle",
        ),
        (
            "home",
            r"where (?:i live|i(?:'m| am) living)|wo ich (?:wohne|lebe)|dónde vivo|où (?:j'habite"
            rf"|je vis)|{_MY}(?:home|(?:home )?(?:address|town|city)|location|residence|wohnort"
            r"|adresse|dirección|domicilio|ville)",
        ),
        (
            "employer role",
            r"(?:where|what) i (?:work|do)(?: (?:as|for (?:a living|work)))?|(?:wo|als was) ich"
            r" arbeite|dónde trabajo|où je travaille"
            rf"|{_MY}(?:job|work(?:place)?|employer|arbeit(?:geber|splatz)?|beruf|trabajo|empleo"
            r"|travail|métier|employeur)",
        ),
        (
            "age",
            rf"{_MY}(?:age|alter|edad)|mon âge|how old i am|wie alt ich bin|cuántos años tengo"
            r"|quel âge j'ai",
        ),
        (
            "birthday",
            rf"{_MY}(?:birthday|date of birth|birth ?date|geburtstag|geburtsdatum|cumpleaños"
            r"|anniversaire)|when i was born|wann ich geboren (?:bin|wurde)",
        ),
        (
            "allergy",
            rf"{_MY}(?:allerg(?:y|ies)|allergien?|alergias?)|what i(?:'m| am) allergic to",
        ),
        ("diet", rf"{_MY}(?:diet|ernährung|dieta|régime)"),
        ("language", rf"{_MY}(?:language(?: preference)?|sprache|idioma|langue)"),
        (
            "likes dislikes",
            r"what i (?:(?:dis)?like|love|hate)|was ich (?:nicht )?mag|(?:qué|lo que) me gusta"
            rf"|ce que j'aime|{_MY}(?:likes|dislikes|likes and dislikes|tastes)",
        ),
    )
]
"""What is named by its key: "my name" is not the dog's."""
_PREFERENCES = re.compile(
    rf"(?:all |alle |todas |toutes )?{_MY}(?:preferences?|vorlieben|preferencias|préférences)",
    re.IGNORECASE,
)
_PREFERRED = re.compile(r"User (?:wants|likes|dislikes|prefers) |User's favou?rite ")


def forget(m: Match, known: Known) -> Found:
    """What is named goes. What is cut from code or a text ("remove all comments") is not memory."""
    if not _FORGETS.match(m[0]) and not OF_MEMORY.search(m[0]):
        return
    for n in meant(m["value"], known):
        yield fact("profile", "", action="retract", target=n)


def forget_all(_: Match, known: Known) -> Found:
    """ "Clear your memory"."""
    for n, *_rest in known:
        yield fact("profile", "", action="retract", target=n)


def meant(what: str, known: Known, words: str | None = None) -> list[int]:
    """The known memories that are meant by what is named; `words` are those that name something,
    where they are known to be fewer."""
    what = what.strip(" ,.!")
    if EVERYTHING.fullmatch(what):
        return [n for n, *_ in known]
    if _PREFERENCES.fullmatch(what):
        return [n for n, text, _ in known if _PREFERRED.match(text)]
    for form, keys in _TOPICS:
        if form.fullmatch(what):
            return [n for n, _, key in known if key is not None and plain_key(key) in keys]
    return about(what, _naming(what, known)) if words is None else about(words, known)


def about(what: str, known: Known) -> list[int]:
    """The known memories that share most words with what was named, if enough."""
    wanted = gist(what).words - QUESTION_WORDS
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


# --- ending ------------------------------------------------------------------------------------

_DOING = gist(
    "live living lived work working worked like love enjoy use using eat drink smoke speak play be"
    " have want study learn code program allergic vegetarian vegan"
).words
"""What is done, not at what: "I no longer live in Porto" does not end Rome."""
_KINDS = gist("allergic vegetarian vegan smoke").words
"""Of those, what says enough by itself."""


def no_longer(m: Match, known: Known) -> Found:
    """What has ended."""
    for n in about(m["value"], _naming(m["value"], known))[:1]:
        yield fact("profile", "", action="retract", target=n)


def _naming(what: str, known: Known) -> Known:
    """What is known of that which is named ("at Google"): of others nothing is meant."""
    names = {
        word.casefold().removesuffix("'s")
        for word in re.findall(r"\b[A-Z][\w'-]+", what)
        if not word.startswith("I'")
    }
    telling = gist(what).words - (_DOING - _KINDS) - QUESTION_WORDS
    return [
        (n, text, key)
        for n, text, key in known
        if all(name in text.casefold() for name in names)
        and (
            not telling or telling & (gist(text).words | gist((key or "").replace("_", " ")).words)
        )
    ]


def left(m: Match, known: Known) -> Found:
    """ "I left Google": the employer of this name. One leaves many a place for an hour."""
    for n, text, key in known:
        if key == "employer" and re.search(rf"\b{re.escape(m['value'])}\b", text, re.IGNORECASE):
            yield fact("profile", "", action="retract", target=n)


def not_favourite(m: Match, known: Known) -> Found:
    what = " ".join(m["what"].lower().split())
    for n, text, key in known:
        if key == favourite_key(what) and gist(m["value"]).words <= gist(text).words:
            yield fact("preference", "", action="retract", target=n)
