"""Whether two texts say the same, and whether one was said: comparison of words, no models.

Strategy: texts are folded (case, width, quotation marks, dashes, white space) before they are
compared. Two facts say the same only if nothing telling differs: numbers, negation, tense,
names, persons, intentions. Everything here errs towards "different": a doubled memory is a
nuisance, a merged one is a loss.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gateway.core.memory import Vector
from gateway.core.normal import normalized

_FOLD = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛`´′ʼ＇", "'"),
        **dict.fromkeys("“”„‟«»″＂", '"'),
        **dict.fromkeys("‐‑‒–—―−", "-"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
        "…": "...",
    }
)


def folded(text: str) -> str:
    """The text with case, width, quotation marks, dashes and white space made alike."""
    if text.isascii():
        return " ".join(text.replace("`", "'").lower().split())
    text = normalized("NFKC", text.translate(_FOLD)).translate(_FOLD)
    return " ".join(text.casefold().split())


SHORT_QUOTE = 8
"""A quote of fewer characters must be whole words: "i" stands in almost every text."""


def stands_in(quote: str, text: str) -> bool:
    """Whether a quote stands in a text, folded alike; dots and quotation marks around it aside."""
    wanted = folded(quote).strip(" \"'.,;:!?-")
    if not any(c.isalnum() for c in wanted):
        return False
    where = folded(text)
    if len(wanted) >= SHORT_QUOTE or not wanted.isascii():
        return wanted in where
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", where) is not None


# --- saying the same -------------------------------------------------------------------------


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# fmt: off
_EMPTY_WORDS = _set("""
    a an and are as at be been being by currently does for from has have he her him his i in is it
    its me mine my now of on or our she that the their them there they this to user users we with
    you your who which really very also just presently s
""")
NEGATIONS = _set("""
    no not never none nobody nothing nor without cannot neither don dont doesn doesnt didn isn isnt
    aren wasn won wouldn couldn can't unable longer stopped quit former formerly ex avoid avoids
    dislike dislikes hate hates refuse refuses against except nicht kein keine keinen nie ohne pas
    jamais sans nunca sin non mai senza não nem sem не нет никогда без
""")
_TENSES = _set("""
    was were had did used will would shall going plan plans planned planning want wants wanted hope
    hopes intend intends consider considers considering might may could should wish wishes try tries
    trying once previously
""")
_PERSONS = _set("""
    mother mom mum father dad parent parents sister brother sibling wife husband spouse partner
    girlfriend boyfriend fiance fiancee son daughter child children kid kids baby grandmother
    grandfather grandma grandpa aunt uncle cousin nephew niece friend friends colleague boss manager
    neighbor neighbour roommate flatmate teacher doctor dog cat pet assistant team company
""")
_ALIKE = {
    "love": "like", "enjoy": "like", "adore": "like", "reside": "live", "based": "live",
    "employed": "work", "job": "work", "called": "name", "named": "name", "favorite": "favourite",
    "color": "colour", "owns": "own",
}
# fmt: on
_WORD = re.compile(r"[^\W_]+(?:['.][^\W_]+)*")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER_WORDS = _set(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
    " hundred thousand million first second third twice half double"
)


@dataclass(frozen=True, slots=True)
class Gist:
    """What two texts are compared by. `telling` words may never differ between two that say
    the same: numbers, negation, tense, persons and names."""

    canonical: str
    order: tuple[str, ...]
    words: frozenset[str]
    telling: frozenset[str]


@lru_cache(maxsize=4096)
def gist(text: str) -> Gist:
    """The gist of a fact's text, kept for the next comparison."""
    return _gist(text)


def content_words(text: str) -> frozenset[str]:
    """The words of a text of any length that count, stemmed."""
    return _gist(text).words


def _gist(text: str) -> Gist:
    flat = folded(text)
    canonical = re.sub(r"[^\w%+#@$€£-]+", " ", flat).strip()
    canonical = re.sub(r"^(?:the )?user(?:'s| s)? ", "", canonical)
    order: list[str] = []
    telling: set[str] = set(_names(text))
    for word in _tokens(flat):
        if _has_digit(word) or word in _NUMBER_WORDS:
            telling.add(word)
        elif word in NEGATIONS or word.endswith("n't"):
            telling.add("not" if word.endswith("n't") else word)
            continue
        elif word in _TENSES or word in _PERSONS:
            telling.add(word)
        elif word in _EMPTY_WORDS:
            continue
        order.append(_stem(word))
    return Gist(canonical, tuple(order), frozenset(order), frozenset(telling))


def overlap(a: str, b: str) -> float:
    """The share of words that two texts have in common (Jaccard), 0 to 1."""
    first, second = gist(a).words, gist(b).words
    return len(first & second) / len(first | second) if first and second else 0.0


def same_text(a: str, b: str) -> bool:
    """The same sentence but for case, punctuation and who is spoken of as the user."""
    return gist(a).canonical == gist(b).canonical


VECTOR_GATE = 0.9
"""Cosine from which two facts are looked at as near duplicates. Alone it decides nothing:
"is 25" and "is 26" lie at 0.97 and above with every embedder that was tried."""
RICHER_SHARE = 0.75


def says_the_same(a: str, b: str, cosine: float | None) -> bool:
    """Whether two facts say the same in other words.

    `cosine` is how near their vectors lie, None where there are none. Without it all words
    that count must be the same in the same order; with it the order is free, and one may say
    a little more than the other.
    """
    first, second = gist(a), gist(b)
    if first.canonical == second.canonical:
        return True
    if not first.words or first.telling != second.telling:
        return False
    if cosine is None:
        return first.order == second.order
    if cosine < VECTOR_GATE:
        return False
    if first.words == second.words:
        return True
    share = len(first.words & second.words) / len(first.words | second.words)
    one_sided = first.words <= second.words or second.words <= first.words
    return one_sided and share >= RICHER_SHARE


def says_more(a: str, b: str) -> bool:
    """Whether `a` has words that `b` lacks; asked of two that say the same."""
    return bool(gist(a).words - gist(b).words)


def cosine(a: Vector, b: Vector) -> float:
    """The cosine of two normalised vectors."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def _tokens(flat: str) -> list[str]:
    if flat.isascii():
        return [word.removesuffix("'s") for word in _WORD.findall(flat)]
    tokens: list[str] = []
    for word in _WORD.findall(flat):
        if _CJK.search(word):
            # No spaces to split by: pairs of characters stand in for words.
            tokens += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            tokens.append(word.removesuffix("'s"))
    return tokens


def _has_digit(word: str) -> bool:
    return not word.isalpha() and any(c.isdigit() for c in word)


def _names(text: str) -> list[str]:
    """Words written as names: a capital within a sentence, or capitals throughout."""
    found = re.findall(r"(?<![.!?] )(?<=[\s(\"'])[A-ZÀ-ÞА-Я][\w'-]*", text.replace("\n", " "))
    return [name.casefold().removesuffix("'s") for name in found if name not in ("I", "User")]


def _stem(word: str) -> str:
    """Plural and present-tense endings off. Past ones stay: "lived" is not "lives"."""
    if not word.isascii() or _has_digit(word):
        return word
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
        if len(word) > 3 and word[-1] == word[-2]:
            word = word[:-1]
    elif len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    alike = _ALIKE.get(word) or _ALIKE.get(word + "e") or word
    return alike[:-1] if len(alike) > 3 and alike.endswith("e") else alike
