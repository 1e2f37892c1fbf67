"""No embedder: recall is lexical. An embedder that can be asked, and always says so."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector
from gateway.ports import EmbeddingModel


class NoEmbedder:
    """Embeds nothing. `reason` says why, and what would change it."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    @property
    def model(self) -> EmbeddingModel | None:
        return None

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:  # noqa: ARG002
        raise EmbedderUnavailable(self.reason, code="none")

    async def ping(self) -> None:
        raise EmbedderUnavailable(self.reason, code="none")

    async def close(self) -> None:
        return None
