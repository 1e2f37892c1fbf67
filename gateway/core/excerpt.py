"""Long memories as they are injected: the passage that matched, with its surroundings.

What is stored stays whole. A passage is named by its place in the text, and the place is part of
what a conversation keeps of an injected memory (`Ref`): the next request of the conversation
then injects the same bytes, whatever it asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from gateway.core.memory import Memory
from gateway.core.words import fold, places


@dataclass(frozen=True, slots=True)
class Cut:
    """Up to `whole` characters a text is injected whole; of a longer one `passage` are taken."""

    whole: int
    passage: int


TURN = Cut(whole=360, passage=200)
BRIEF_TURN = Cut(whole=180, passage=100)
"""For turns after the best few: twice as many of them find room (docs/recall.md)."""
FACT = Cut(whole=600, passage=400)
PINNED = Cut(whole=1200, passage=1000)
READ_CHARS = 50_000
"""How much of a text is read for a passage; a megabyte would take 20 ms."""

_BOUNDARY = re.compile(r"[.!?]\s+|\n+|[。！？]")
_REF = re.compile(r"(?s)(?P<id>.+)@(?P<start>\d{1,9})-(?P<end>\d{1,9})(?:/(?P<of>\d{1,9}))?")


class Ref(NamedTuple):
    """A memory in a conversation's block: its id and, where cut, which characters of its text,
    and how long that was: in another text the place says nothing."""

    id: str
    start: int | None = None
    end: int | None = None
    of: int | None = None

    def fits(self, memory: Memory) -> bool:
        """Whether the memory still has the text that this was cut from, as far as its length
        tells."""
        return self.of is None or self.of == len(memory.text)

    def __str__(self) -> str:
        if self.start is None and ("@" not in self.id or _REF.fullmatch(self.id) is None):
            return self.id
        of = "" if self.of is None else f"/{self.of}"
        return f"{self.id}@{self.start or 0}-{self.end or 0}{of}"


def read_ref(text: str) -> Ref:
    """A `Ref` from its text; an id without a place is the whole memory."""
    match = _REF.fullmatch(text)
    if match is None:
        return Ref(text)
    start, end = int(match["start"]), int(match["end"])
    of = int(match["of"]) if match["of"] else None
    return Ref(match["id"], start, end, of) if end > start else Ref(match["id"])


def cut_of(memory: Memory, *, brief: bool = False) -> Cut:
    """How much of such a memory is injected."""
    if memory.pinned:
        return PINNED
    if memory.kind == "fact":
        return FACT
    return BRIEF_TURN if brief else TURN


def passage(memory: Memory, stems: Sequence[str], *, brief: bool = False) -> Ref:
    """Which part of a memory to inject for a question of these stems (`words.terms`)."""
    cut = cut_of(memory, brief=brief)
    if len(memory.text) <= cut.whole:
        return Ref(memory.id)
    text = memory.text[:READ_CHARS]
    start, end = densest(text, stems, cut.passage) if stems else (0, 0)
    place = _whole_sentences(text, start, end, cut.passage)
    return Ref(memory.id, *place, of=len(memory.text))


def as_injected(memory: Memory, ref: Ref) -> Memory:
    """The memory with the text that `ref` names; cuts are marked."""
    text = memory.text
    start, end = ref.start, ref.end
    if start is None or end is None:
        cut = cut_of(memory)
        if len(text) <= cut.whole:
            return memory
        start, end = 0, cut.passage
    start, end = min(start, len(text)), min(end, len(text))
    shown = text[start:end].strip()
    return replace(
        memory, text=f"{'… ' if start > 0 else ''}{shown}{' …' if end < len(text) else ''}"
    )


def densest(text: str, stems: Sequence[str], length: int) -> tuple[int, int]:
    """From the first to the last match of the run, no longer than a passage, that holds most of
    the stems: each counts once, and one that is rare in the text counts more. Of equal runs the
    first; (0, 0) where nothing matches. Of a word that is longer than a passage (a URL, a key in
    base64) its beginning counts."""
    folded = fold(text)
    if len(folded) != len(text):  # folding took accents apart: places would be wrong
        folded = text.lower()
    hits = places(stems, folded)
    counts: dict[str, int] = {}
    for _, _, stem in hits:
        counts[stem] = counts.get(stem, 0) + 1
    worth = {stem: count**-0.5 for stem, count in counts.items()}
    within: dict[str, int] = {}
    best, best_score, score, first = (0, 0), 0.0, 0.0, 0
    for start, past, stem in hits:
        end = min(past, start + length)
        if not within.get(stem):
            score += worth[stem]
        within[stem] = within.get(stem, 0) + 1
        while end - hits[first][0] > length:
            gone = hits[first][2]
            within[gone] -= 1
            if not within[gone]:
                score -= worth[gone]
            first += 1
        if score > best_score + 1e-9:
            best, best_score = (hits[first][0], end), score
    return best


def _whole_sentences(text: str, start: int, end: int, length: int) -> tuple[int, int]:
    """A run grown to whole sentences, some before and more after, up to a passage's length."""
    before = max(0, start - max(0, length - (end - start)) // 2)
    begin = before
    if before > 0:
        ends = [m.end() for m in _BOUNDARY.finditer(text, before, start)]
        space = text.find(" ", before, start)
        begin = ends[0] if ends else space + 1 if space >= 0 else start
    limit = min(begin + length, len(text))
    if limit == len(text):
        return begin, limit
    ends = [m.end() for m in _BOUNDARY.finditer(text, max(end, begin + 1), limit)]
    space = text.rfind(" ", end, limit)
    return begin, ends[-1] if ends else space if space > begin else limit
