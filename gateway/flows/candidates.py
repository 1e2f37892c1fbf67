"""What the store finds for a question: by words at once, by vector when the question is embedded.

The two searches are begun as early as each can be. Speakers' names are cut from what is
embedded, and they are known only from what the words have found; a question without a capital
letter that might begin a name is embedded at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

from gateway.config import AppSettings
from gateway.core.errors import StoreUnavailable
from gateway.core.identity import Owner
from gateway.core.memory import NOTHING_FOUND, Found, ListName, Probe, Vector, Where
from gateway.core.question import may_name_someone
from gateway.core.redaction import redact
from gateway.core.relevance import PROBES, Scale, known_scale, scale_of
from gateway.core.speakers import named_speakers, without_names
from gateway.flows.parts import Parts
from gateway.ports import EmbeddingModel, Services

Stage = Literal["full", "lexical", "profile", "none"]
"""How far recall came."""

BY_WORDS: Final = 30
BY_VECTOR: Final = 60
"""Results asked of each list. 100 of each find half a point more of LoCoMo's evidence (83.5% in
ten results), but every candidate is opened and scored."""

_scales: dict[EmbeddingModel, Scale] = {}
"""What the cosines of each model mean; measured once in a process."""


class Candidates:
    """The searches of one recall."""

    def __init__(
        self, services: Services, settings: AppSettings, owner: Owner, text: str, parts: Parts
    ) -> None:
        self._services = services
        self._settings = settings
        self._owner = owner
        self._text = text
        self._parts = parts
        self._where = Where()
        self._at_least = 0
        self._by_words: asyncio.Task[Found] | None = None
        self._vector: asyncio.Task[Vector] | None = None

    def begin(
        self, where: Where, *, standing: int, language: str | None = None, at_least: int = 0
    ) -> None:
        """Begin the search for words, with up to `standing` memories that always count; and the
        question's vector, where that can be told by now. Each list is asked for `at_least`
        results, where that is more than is usual."""
        self._where, self._at_least = where, at_least
        if not self._text.strip():
            probe = Probe("", where, 1, standing=standing)
            self._by_words = self._parts.begin(self._search(probe), "recall")
            return
        most = max(BY_WORDS, at_least)
        probe = Probe(self._text, where, most, language=language, standing=standing)
        self._by_words = self._parts.begin(self._search(probe), "recall-lexical")
        embeds = self._settings.embedding.provider != "none"
        if embeds and self._vector is None and not may_name_someone(self._text):
            self._vector = self._parts.begin(self._embedded(self._text), "recall-embedding")

    async def answers(self) -> bool:
        """Whether the store has answered the search that was begun."""
        return await self._parts.within(self._by_words, "lexical", needed=False) is not None

    async def find(self) -> tuple[Found, Stage]:
        """What the search finds that was begun; how far it came."""
        found = await self._parts.within(self._by_words, "lexical")
        if found is None:
            return NOTHING_FOUND, "none"
        if not self._text.strip():
            return found, "full"
        if self._settings.embedding.provider == "none":
            return found, "lexical"
        vector = self._vector
        if vector is None:
            speakers = named_speakers(found.memories.values())
            bare = without_names(self._text, speakers) or self._text
            vector = self._parts.begin(self._embedded(bare), "recall-embedding")
        dense = await self._parts.within(vector, "embedding")
        if dense is None:
            return found, "lexical"
        probe = Probe("", self._where, max(BY_VECTOR, self._at_least), dense=dense)
        by_vector = self._parts.begin(self._search(probe), "recall-dense")
        more = await self._parts.within(by_vector, "dense")
        if more is None:
            return found, "lexical"
        return _merged(found, more), "full"

    async def all_of(self, where: Where, *, at_least: int = 0) -> Found:
        """What is found, for a caller who wants nothing else. Raises Unavailable."""
        self.begin(where, standing=0, at_least=at_least)
        found, stage = await self.find()
        if stage == "none":
            late = StoreUnavailable("the store did not answer in time; try again")
            raise self._parts.failure or late
        return found

    async def scale(self) -> Scale | None:
        """What this model's cosines mean; None where that is not known in time. A model that is
        not known by name is asked for a few texts, once."""
        model = self._services.embedder.model
        if model is None:
            return None
        scale = known_scale(model.name) or _scales.get(model)
        if scale is None:
            texts = [question for question, _ in PROBES] + [answer for _, answer in PROBES]
            probing = self._parts.begin(self._services.embedder.embed(texts), "recall-scale")
            vectors = await self._parts.within(probing, "scale", needed=False)
            if vectors is None or len(vectors) != len(texts):
                return None
            half = len(PROBES)
            scale = _scales[model] = scale_of(vectors[:half], vectors[half:])
        return scale

    async def _search(self, probe: Probe) -> Found:
        return await self._services.store.search(self._owner, probe)

    async def _embedded(self, text: str) -> Vector:
        # The embedder may be another party than the upstream: it is told what may be kept (18 µs).
        shown = redact(text, self._settings.privacy.redact)
        vectors = await self._services.embedder.embed([shown], query=True)
        return vectors[0]


def _merged(one: Found, other: Found) -> Found:
    lists: dict[ListName, Sequence[tuple[str, float]]] = {
        name: hits for name, hits in one.lists.items() if hits
    }
    lists |= {name: hits for name, hits in other.lists.items() if hits}
    return Found(lists=lists, memories={**one.memories, **other.memories})
