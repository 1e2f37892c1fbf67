"""Long memories as they are injected: the passage that matched, with its surroundings.

What is stored stays whole. A passage is named by its place in the text, and the place is part of
what a conversation keeps of an injected memory (`Ref`): the next request of the conversation
then injects the same bytes, whatever it asks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core.memory import Memory
from gateway.core.words import finder, fold

WHOLE_CHARS = 480
"""Up to this length a memory is injected whole."""
PASSAGE_CHARS = 400
READ_CHARS = 100_000
"""How much of a text is read for a passage; a megabyte would take 20 ms."""

_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+|(?<=[。！？])")
_REF = re.compile(r"(?s)(?P<id>.+)@(?P<start>\d{1,9})-(?P<end>\d{1,9})")


@dataclass(frozen=True, slots=True)
class Ref:
    """A memory in a conversation's block: its id and, where cut, which characters of its text."""

    id: str
    start: int | None = None
    end: int | None = None

    def __str__(self) -> str:
        if self.start is None and _REF.fullmatch(self.id) is None:
            return self.id
        return f"{self.id}@{self.start or 0}-{self.end or 0}"


def read_ref(text: str) -> Ref:
    """A `Ref` from its text; an id without a place is the whole memory."""
    match = _REF.fullmatch(text)
    if match is None:
        return Ref(text)
    start, end = int(match["start"]), int(match["end"])
    return Ref(match["id"], start, end) if end > start else Ref(match["id"])


def passage(memory: Memory, stems: Sequence[str]) -> Ref:
    """Which part of a memory to inject for a question of these stems (`words.terms`)."""
    if len(memory.text) <= WHOLE_CHARS:
        return Ref(memory.id)
    text = memory.text[:READ_CHARS]
    sentences = _sentences(text)
    best = _best_run(sentences, text, stems) if stems else (0, 0)
    start, end = _grown(sentences, *best)
    return Ref(memory.id, start, min(end, start + PASSAGE_CHARS))


def as_injected(memory: Memory, ref: Ref) -> Memory:
    """The memory with the text that `ref` names; cuts are marked."""
    text = memory.text
    if ref.start is None or ref.end is None:
        if len(text) <= WHOLE_CHARS:
            return memory
        ref = Ref(ref.id, 0, PASSAGE_CHARS)
    start, end = min(ref.start or 0, len(text)), min(ref.end or 0, len(text))
    cut = text[start:end].strip()
    return replace(
        memory, text=f"{'… ' if start > 0 else ''}{cut}{' …' if end < len(text) else ''}"
    )


def _sentences(text: str) -> list[tuple[int, int]]:
    """Where sentences begin and end; ones longer than a passage are cut at spaces."""
    spans: list[tuple[int, int]] = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        spans.append((start, match.start()))
        start = match.end()
    spans.append((start, len(text)))
    pieces: list[tuple[int, int]] = []
    for span_start, end in spans:
        begin = span_start
        while end - begin > PASSAGE_CHARS:
            cut = text.rfind(" ", begin + PASSAGE_CHARS // 2, begin + PASSAGE_CHARS)
            cut = cut if cut > begin else begin + PASSAGE_CHARS
            pieces.append((begin, cut))
            begin = cut
        if end > begin:
            pieces.append((begin, end))
    return pieces or [(0, min(len(text), PASSAGE_CHARS))]


def _best_run(
    sentences: Sequence[tuple[int, int]], text: str, stems: Sequence[str]
) -> tuple[int, int]:
    """First and last sentence of the run, as long as a passage, that holds most of the stems:
    each stem counts once, and one that is rare in the text counts more."""
    pattern = finder(tuple(stems))
    held = [pattern.findall(fold(text[start:end])) for start, end in sentences]
    counts: dict[str, int] = {}
    for found in held:
        for stem in set(found):
            counts[stem] = counts.get(stem, 0) + 1
    worth = {stem: 1.0 / (1.0 + count) ** 0.5 for stem, count in counts.items()}
    best, best_score = (0, 0), 0.0
    for first in range(len(sentences)):
        if not held[first]:
            continue
        told: set[str] = set()
        score = 0.0
        for last in range(first, len(sentences)):
            if sentences[last][1] - sentences[first][0] > PASSAGE_CHARS and last > first:
                break
            fresh = set(held[last]) - told
            if fresh:
                told |= fresh
                score += sum(worth[stem] for stem in fresh)
                # Of equal runs the shortest: its surroundings are added evenly after.
                if score > best_score + 1e-9:
                    best, best_score = (first, last), score
    return best


def _grown(sentences: Sequence[tuple[int, int]], first: int, last: int) -> tuple[int, int]:
    """A run with its neighbours, as far as a passage goes: one before, then those after."""
    if first > 0 and sentences[last][1] - sentences[first - 1][0] <= PASSAGE_CHARS:
        first -= 1
    while (
        last + 1 < len(sentences) and sentences[last + 1][1] - sentences[first][0] <= PASSAGE_CHARS
    ):
        last += 1
    while first > 0 and sentences[last][1] - sentences[first - 1][0] <= PASSAGE_CHARS:
        first -= 1
    return sentences[first][0], sentences[last][1]
