"""Models: texts to vectors, questions to order, turns to facts; and what that may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.extraction import ExtractionBatch
from gateway.core.memory import Instant, Vector


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What made a vector: vectors of different models are never mixed."""

    provider: str
    name: str
    dimensions: int


class Embedder(Protocol):
    """Texts to vectors, normalised. Raises EmbedderUnavailable (also while it is loading)."""

    @property
    def model(self) -> EmbeddingModel | None:
        """None while it is not known (still loading) or where there is none at all."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Reranker(Protocol):
    """Reads a question and each of some texts together: how well they fit, in any unit.

    Raises EmbedderUnavailable (also while its model is loading).
    """

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]: ...

    async def close(self) -> None: ...


class Extractor(Protocol):
    """Turns to facts. Raises ExtractorUnavailable; no answer is never "no facts"."""

    @property
    def name(self) -> str: ...

    async def extract(self, batch: ExtractionBatch) -> list[Mapping[str, Any]]:
        """Facts as docs/formats.md has them, unchecked: the guards of `core/extraction` judge."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Budget(Protocol):
    """What extraction may spend a day, over all workers. Raises StateUnavailable."""

    async def spend(self, app: str, tokens: int, limit: int, *, now: Instant) -> float:
        """Take tokens from an app's budget of the day (UTC): 0.0 where there were enough left,
        else the seconds until it is renewed, and nothing is taken."""
        ...
