"""The fallback extractor: plain statements, found by patterns, without any model.

Strategy: a user's message is cut into clauses (`clauses`); a clause that states something
about the user in one of a few plain forms (`forms` in English, `tongues` the commonest in
German, Spanish and French) is read as a fact of docs/formats.md (`readings`; `happenings` for what
has its day, `taking_back` for what is forgotten or over; their lists of words are `vocabulary`). It
is here so that a fresh machine shows the whole path; it finds a small part of what a language model
finds, and the start says that it is the fallback (`wiring/models.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from gateway.adapters.extract_rules import tongues
from gateway.adapters.extract_rules.clauses import bare, clauses, greets
from gateway.adapters.extract_rules.forms import INTRODUCTION, facts_of
from gateway.adapters.extract_rules.readings import Known, name
from gateway.core.suspicion import is_pasted
from gateway.ports import ExtractionBatch

OFF_THE_LOOP_CHARS: Final = 4000


class RulesExtractor:
    """The port `Extractor` by patterns; nothing it needs can be away."""

    @property
    def name(self) -> str:
        return "rules"

    async def extract(self, batch: ExtractionBatch) -> list[Mapping[str, Any]]:
        """Every plain statement of the user's turns, in order. Long ones are read in a thread: of
        the longest exchange there is that is seconds, in which nobody would be answered."""
        if sum(len(turn.text) for turn in batch.turns) > OFF_THE_LOOP_CHARS:
            return await asyncio.to_thread(_read, batch)
        return _read(batch)

    async def ping(self) -> None:
        """There is nothing to reach."""

    async def close(self) -> None:
        """There is nothing to close."""


def _read(batch: ExtractionBatch) -> list[Mapping[str, Any]]:
    known = [(k.n, k.memory.text, k.memory.key) for k in batch.known]
    facts: list[Mapping[str, Any]] = []
    for turn in batch.turns:
        if turn.role == "user":
            facts += [{**fact, "turn": turn.n} for fact in facts_in(turn.text, known)]
    return facts


def facts_in(text: str, known: Known = ()) -> list[dict[str, Any]]:
    """The facts that a message of the user states, without the number of their turn."""
    facts: dict[tuple[Any, ...], dict[str, Any]] = {}
    for clause, said in clauses(text):
        plain = bare(said)
        found = (
            list(facts_of(plain, known))
            or list(tongues.facts_of(said, known))
            # "No vivo en Madrid": what leads in where English is spoken may be the negation here.
            or list(tongues.facts_of(bare(clause, no_denies=True), known))
        )
        if not found and greets(text) and (m := INTRODUCTION.match(plain)):
            found = list(name(m, known)) if plain[-len(m["value"]) :][:1].isupper() else []
        if found and not is_pasted(clause, text):
            for fact in found:
                same = (fact["action"], fact["target"], fact["text"])
                facts.setdefault(same, {**fact, "quote": clause})
    return list(facts.values())
