"""What is looked for, given what the user wrote; and what was just said, before it is distilled.

Pure. Questions come in every shape: empty, one emoji, a pasted book. What is searched with is
bounded and clean.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from gateway.core.batch import is_small_talk
from gateway.core.exchange import Exchange, Turn, turn_memory_id
from gateway.core.memory import Instant, Memory, Source
from gateway.core.words import QUESTION_MARKS, fold, held, terms

MAX_CHARS = 4000
"""Of a longer text its beginning and its end are searched with: the request stands in one."""
BEFORE_CHARS = 300
FEW_TERMS = 2
"""A message with at most so many words of substance is searched with the turn before it."""
MAX_JUST_SAID = 6
MAX_READ = 60
"""Turns not yet distilled that are looked at, the last ones."""

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufeff\u200b]")
_REFERS_BACK = re.compile(
    r"\s*(?:and|but|so|then|what about|how about|why|it|that|this|these|those|they|he|she|him|her"
    r"|them|the (?:first|second|third|last|other|same) one)\b",
    re.IGNORECASE,
)
_PAST = re.compile(
    r"\b(?:used to|previous(?:ly)?|former(?:ly)?|originally|earlier|before|back then|at first"
    r"|in the past|changed?|did i (?:live|work|have|like|use|own)|fruher|damals|vorher|ehemalig\w*"
    r"|avant|autrefois|jadis|auparavant|ancien\w*|antes|antigu\w*|anteriormente|prima|vroeger"
    r"|eerder)\b"
)
_CAPITALISED = re.compile(r"(?<!\w)[^\W\d_a-z]\w*")


def asked_text(text: str, before: str = "") -> str:
    """What is searched with: the message, with the turn before it where it is short or refers
    back; cleaned and bounded."""
    text = cleaned(text)
    if not before or not text.strip():
        return text
    if len(terms(text)) <= FEW_TERMS or _REFERS_BACK.match(text):
        return f"{text}\n{cleaned(before)[-BEFORE_CHARS:]}"
    return text


def cleaned(text: str) -> str:
    """Without characters that no tokenizer takes, and no longer than is worth searching with."""
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        text = f"{text[:half]} {text[-half:]}"
    return _UNSEEN.sub(" ", text)


def asks_of_the_past(text: str) -> bool:
    """Whether a question is about how things were: then what has changed since is meant too."""
    return _PAST.search(fold(text[:MAX_CHARS])) is not None


def may_name_someone(text: str) -> bool:
    """Whether some word, other than one that merely asks, has a capital: then the speakers'
    names must be known before the text is embedded. Scripts without capitals count as such."""
    return any(terms(word) for word in _CAPITALISED.findall(text))


def just_said(
    exchanges: Sequence[Exchange],
    *,
    text: str,
    session: str | None,
    known: Collection[str],
    as_of: Instant | None = None,
) -> list[Memory]:
    """Turns that are not distilled yet, as memories, best first.

    What the user said a moment ago in another conversation is likely meant even where it shares
    no word with the question, and there is no vector of it yet: the user's turns that share most
    words come first, the last ones of equals. Questions, small talk, the assistant's
    turns, and those of this conversation (`session`), must share half of them. `known` are the
    ids that the store has found already; what was said after `as_of` is left out.
    """
    stems = terms(text)
    turns = [
        (exchange, turn)
        for exchange in exchanges
        for turn in exchange.turns
        if turn.role in ("user", "assistant")
        and turn.text.strip()
        and (as_of is None or turn.at <= as_of)
    ]
    judged: list[tuple[float, int]] = []
    for place, (exchange, turn) in enumerate(turns := turns[-MAX_READ:]):
        shared = len(held(stems, fold(turn.text[:MAX_CHARS]))) / len(stems) if stems else 0.0
        elsewhere = session is None or exchange.session != session
        if shared >= 0.5 or (elsewhere and turn.role == "user" and _may_tell(turn.text)):
            judged.append((-shared, -place))
    judged.sort()
    found: list[Memory] = []
    for _, place in judged:
        memory = _as_memory(*turns[-place])
        if memory.id not in known:
            found.append(memory)
            if len(found) == MAX_JUST_SAID:
                break
    return found


def _may_tell(text: str) -> bool:
    """Whether a turn may say something of its speaker: a question or a greeting does not."""
    return not text.rstrip().endswith(QUESTION_MARKS) and not is_small_talk(text)


def _as_memory(exchange: Exchange, turn: Turn) -> Memory:
    """The turn as the worker will keep it, under the same id."""
    return Memory(
        id=turn_memory_id(exchange.origin, turn.n),
        kind="turn",
        text=turn.text,
        created_at=turn.at,
        updated_at=turn.at,
        valid_from=turn.at,
        source=Source(
            role=turn.role,
            via=exchange.via,
            exchange_id=exchange.origin,
            session=exchange.session,
        ),
        speaker=turn.speaker,
    )
