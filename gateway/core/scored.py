"""A candidate with its score, and the parts that the score is made of.

A request has some sixty candidates, and a receipt keeps them all: so the parts are a row of
numbers, each in its place, rather than a dictionary by name. `core/ranking` fills the row,
`core/choice` reads a few places of it, `core/considered` packs it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.core.memory import Memory

PARTS: Final = (
    "dense",
    "lexical",
    "recency",
    "importance",
    "focus",
    "speaker",
    "date",
    "fact",
    "past",
    "question",
    "links",
    "session",
    "repeated",
    "rerank",
    "outdated",
)
"""The names of all that a score may be made of, in the order of their places. New ones go to the
end: receipts that are kept already know fewer."""

DENSE: Final = PARTS.index("dense")
LEXICAL: Final = PARTS.index("lexical")
FOCUS: Final = PARTS.index("focus")
DATE: Final = PARTS.index("date")
LINKS: Final = PARTS.index("links")
SESSION: Final = PARTS.index("session")
REPEATED: Final = PARTS.index("repeated")
RERANK: Final = PARTS.index("rerank")
OUTDATED: Final = PARTS.index("outdated")
"""Places of those that are read or set by themselves."""

ALWAYS: Final = frozenset({"dense", "lexical", "recency", "importance"})
"""Parts that are told though they be nought."""


@dataclass(slots=True)
class Scored:
    """A memory with its score and what it is made of: `parts`, in the order of `PARTS`; what
    plays no part is nought. `left_out` says why it was not chosen; None: it was.

    Once ranked, nothing but `left_out` changes; frozen, a hundred of them take 0.1 ms more to make.
    """

    memory: Memory
    score: float
    parts: list[float]
    left_out: str | None = None

    @property
    def why(self) -> Mapping[str, float]:
        """The parts by their names, as people are shown them: those that are nought left out."""
        return {
            name: part
            for name, part in zip(PARTS, self.parts, strict=True)
            if part or name in ALWAYS
        }
