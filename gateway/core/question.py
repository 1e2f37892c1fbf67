"""What is looked for, given what the user wrote.

Pure. Questions come in every shape: empty, one emoji, a pasted book. What is searched with is
bounded and clean.
"""

from __future__ import annotations

import re

from gateway.core.words import QUESTION_MARKS, fold, terms, words

MAX_CHARS = 4000
"""Of a longer text its beginning and its end are searched with: the request stands in one."""
BEFORE_CHARS = 300
ASK_CHARS = 400
"""No one asks in a longer sentence."""
LONG_CHARS = 1000
"""A message of more says more than what is asked."""
FEW_TERMS = 2
"""A message with at most so many words of substance may lean on the turn before it."""
FEW_WORDS = 3
"""Of such messages, those of so many words, or with a word that points at something, do."""

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufeff\u200b]")
_REFERS_BACK = re.compile(
    r"\s*(?:and|but|so|then|what about|how about|why|it|that|this|these|those|they|he|she|him|her"
    r"|them|the (?:first|second|third|last|other|same) one)\b",
    re.IGNORECASE,
)
_POINTING = """
it its that this these those they their them he his she her him there then one ones
er sie es ihn ihm ihr ihnen das dort davon damit il elle elles lui leur eux ca cela
el ella ellos ellas eso esto alli ahi ele ela isso hij zij het dat daar lei loro
"""
_POINTS = frozenset(_POINTING.split())
"""Some are everyday words of a neighbour language ("es"): the turn before is looked at in vain."""
_PAST = re.compile(
    r"\b(?:used? to|previous(?:ly)?|former(?:ly)?|originally|earlier|before|back then|at first"
    r"|in the past|changed?|was i|were we|my old|have i (?:ever )?(?:lived|worked|studied)"
    r"|did i (?:live|work|have|like|use|own)|fruher|damals|vorher|ehemalig\w*"
    r"|avant|autrefois|jadis|auparavant|ancien\w*|antes|antigu\w*|anteriormente|prima|vroeger"
    r"|eerder)\b"
    r"|以前|之前|从前|過去|过去|かつて|前は"
)
_ALL = re.compile(
    r"\b(?:how (?:many|much|often)|in total|altogether|so far|list|all (?:of )?(?:my|the|our)"
    r"|wie ?viele?|wie oft|combien|cuant[oa]s?|quant[oaie]s?|hoeveel|сколько|ile|kac)\b"
    r"|多少|几个|几次|幾|いくつ|いくら|何回|何人|몇|얼마"
)
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？؟])\s+|(?<=[。！？])|\s*\n\s*")
_CAPITALISED = re.compile(r"(?<!\w)[^\W\d_a-z]\w*")


def asked_text(text: str, before: str = "") -> str:
    """What is searched with: the message, with the turn before it where it leans on that; cleaned
    and bounded."""
    text = cleaned(text)
    if before and text.strip() and _leans_back(text):
        return f"{text}\n{cleaned(before)[-BEFORE_CHARS:]}"
    return text


def _leans_back(text: str) -> bool:
    """Whether a message is no whole question without the turn before it: "and hers?", "in July?",
    "what is it called?" "What is my cat called?" has one word of substance, too, and is whole: with
    an answer of 300 characters about something else beside it, no cat was found."""
    if _REFERS_BACK.match(text):
        return True
    about = terms(text)
    if len(about) > FEW_TERMS:
        return False
    said = words(text)
    return not about or len(said) <= FEW_WORDS or not _POINTS.isdisjoint(said)


def asks(text: str) -> tuple[str, ...]:
    """What a message asks in so many words: its first and its last sentence, where they end in a
    question mark. What stands beside them may be a page that was pasted."""
    sentences = [s for s in _SENTENCE_END.split(text.strip()) if s]
    ends = dict.fromkeys(s for s in (*sentences[:1], *sentences[-1:]) if len(s) <= ASK_CHARS)
    return tuple(sentence for sentence in ends if sentence.endswith(QUESTION_MARKS))


def cleaned(text: str) -> str:
    """Without characters that no tokenizer takes, and no longer than is worth searching with."""
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        text = f"{text[:half]} {text[-half:]}"
    return _UNSEEN.sub(" ", text)


def asks_of_the_past(text: str) -> bool:
    """Whether a question is about how things were: then what has changed since is meant too."""
    return _PAST.search(fold(text[:MAX_CHARS])) is not None


def asks_for_all(text: str) -> bool:
    """Whether a question counts or lists: no one memory answers it, but all of them."""
    return _ALL.search(fold(text[:MAX_CHARS])) is not None


def may_name_someone(text: str) -> bool:
    """Whether some word, other than one that merely asks, has a capital: then the speakers'
    names must be known before the text is embedded. Scripts without capitals count as such."""
    return any(terms(word) for word in _CAPITALISED.findall(text))
