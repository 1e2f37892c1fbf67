"""Whether an answer says again what is to be forgotten: "Porto, how lovely!"."""

from __future__ import annotations

from typing import Final

from gateway.core.wording import content_words, stands_in

EVERYDAY: Final = content_words(
    "like love have got get go come live know think want need use work make take say tell feel look"
    " good nice great new time day thing way lot ok okay yes no true false on off"
)
"""Words that stand in any answer: "Would you like …" does not repeat that somebody likes tea."""


def repeats(answer: str, *, value: str | None, words: str) -> bool:
    """Whether it says half of the words that count in what a fact rests on, or its value."""
    if value and content_words(value) - EVERYDAY and stands_in(value, answer):
        return True
    wanted = content_words(words) - EVERYDAY
    return bool(wanted) and 2 * len(wanted & content_words(answer)) >= len(wanted)


def says_whole(answer: str, words: str) -> bool:
    """Whether it says every word that counts, of two at least: "porto" alone may mean the wine."""
    wanted = content_words(words)
    return len(wanted) > 1 and wanted <= content_words(answer)
