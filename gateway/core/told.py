"""What the prompt says already: the request's own texts, and the memories chosen so far.

A memory that says the same is not injected: nearly the same words, and none among the others that
tells anything. (By the share of words alone the second of two medicines "taken every morning with
breakfast" was left out.) Nearly none does, so each is first held against everything at once: the
present texts as one, and all the words that are told.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Literal, TypeAlias

from gateway.core.memory import Memory
from gateway.core.wording import NEGATIONS
from gateway.core.words import fold, terms, words

ALIKE = 0.8
"""Shared words over all words below which no two texts say the same."""
READ_PRESENT_CHARS = 200_000
READ_CHARS = 600
"""How much of a memory is compared with others."""
BEGINNING_CHARS = 400
"""How much of a text is looked for first: nearly none goes on. To fold 30 memories of 200,000
letters whole took 0.8 s of each chat. And what is longer is no part of a word."""
FEW_OTHERS = 12
"""So many characters beyond ASCII may be left out of a text's words."""
QUOTE_CHARS = 12
"""A quote shorter than this stands in any conversation."""
OWN_QUOTE_BYTES = 9
"""The same for a quote from the conversation that the request belongs to, in UTF-8: three Chinese
characters (我吃素, "I am a vegetarian") say as much as nine Latin letters."""

_WORDS_ALONE = bytes(ord(chr(b).lower()) if chr(b).isalnum() else 32 for b in range(128))
_WORDS_ALONE += bytes(range(128, 256))


Said: TypeAlias = frozenset[Hashable]
"""The words of a memory: as text, or as bytes where it is ASCII but for a few signs."""


def said_in(memory: Memory) -> Said:
    """The words of a memory, for comparing it with others."""
    text = memory.text[:READ_CHARS]
    plain = text.encode("ascii", "ignore")
    if len(text) - len(plain) > FEW_OTHERS:
        return frozenset(words(text))
    return frozenset(plain.translate(_WORDS_ALONE).split())


class Told:
    """Grows with each memory that is chosen. `present` are the texts of the request, `session` is
    the conversation that it belongs to, `exchange` what it is remembered as ("": not known)."""

    def __init__(
        self, present: Iterable[str], session: str | None = None, exchange: str = ""
    ) -> None:
        self._present = _normalised(present)
        self._session = session
        self._exchange = exchange
        # No normalised text has a line break in it: what is found, is found within one of them.
        self._all_present = "\n".join(self._present)
        self._told: list[frozenset[Hashable]] = []
        self._all_words: set[Hashable] = set()

    def add(self, said: Said) -> None:
        """A memory of these words is told from now on."""
        self._told.append(said)
        self._all_words |= said

    def where(self, memory: Memory, said: Said) -> Literal["present", "duplicate"] | None:
        """Where the same as in this memory is told already, if anywhere."""
        if self._is_present(memory):
            return "present"
        return "duplicate" if self._is_duplicate(said) else None

    def _is_duplicate(self, said: Said) -> bool:
        own = len(said)
        least = ALIKE * own
        # It shares no more words with any one of them than with all of them together.
        if not own or len(said & self._all_words) < least:
            return False
        for told in self._told:
            other = len(told)
            if other >= least and own >= ALIKE * other:
                shared = len(said & told)
                if shared >= ALIKE * (own + other - shared) and _adds_nothing(said, told):
                    return True
        return False

    def _is_present(self, memory: Memory) -> bool:
        """Whether the request still contains what this memory says: its own text (a fact that was
        written has no other words), or those that a fact rests on. So does the answer that it had
        before: whoever asks anew wants another one."""
        if memory.kind == "turn" and self._exchange and memory.source.exchange_id == self._exchange:
            return True
        if not self._present:
            return False
        said = memory.text if memory.kind == "turn" else memory.source.quote
        if not said:
            return self._contains_statement(memory.text)
        if not self._may_contain(said):
            return False
        own = " ".join(fold(said[:READ_PRESENT_CHARS]).split())
        if own not in self._all_present:
            return False
        if len(own) >= QUOTE_CHARS:
            return True
        if memory.kind == "turn":
            return own in self._present
        here = self._session is not None and memory.source.session == self._session
        return here and len(own.encode()) >= OWN_QUOTE_BYTES

    def _may_contain(self, text: str) -> bool:
        """Whether the request contains how a text begins; the last letters may change with those
        that follow."""
        if len(text) <= BEGINNING_CHARS:
            return True
        begins = " ".join(fold(text[:BEGINNING_CHARS]).split())[:-4]
        return begins.rstrip(".!") in self._all_present

    def _contains_statement(self, text: str) -> bool:
        """Whether a text stands in the request in whole words, whatever sign follows."""
        if not self._may_contain(text):
            return False
        own = " ".join(fold(text).split()).rstrip(".!")
        if len(own) < QUOTE_CHARS or own not in self._all_present:
            return False
        if len(own) > BEGINNING_CHARS:
            return True
        return re.search(rf"(?<!\w){re.escape(own)}(?!\w)", self._all_present) is not None


def _adds_nothing(said: Said, told: Said) -> bool:
    """Whether what a text has beyond one that is like it are words without substance, or other
    forms of that one's; and neither denies what the other says."""
    more, less = _texts(said - told), _texts(told - said)
    new = set(terms(" ".join(more))).difference(terms(" ".join(less)))
    return not new and NEGATIONS.isdisjoint(more | less)


def _texts(words: Said) -> set[str]:
    return {word.decode() if isinstance(word, bytes) else str(word) for word in words}


def _normalised(texts: Iterable[str]) -> tuple[str, ...]:
    """The present texts, folded, the last ones first up to a bound."""
    kept: list[str] = []
    left = READ_PRESENT_CHARS
    for text in reversed(tuple(texts)):
        if left <= 0:
            break
        kept.append(" ".join(fold(text[:left]).split()))
        left -= len(text)
    return tuple(kept)
