"""The local model where it can be had, else the next best: decided once, while serving.

Whether a model can be had is known only when its download has ended, long after the start.
Until then embedding is unavailable rather than done by the other one: vectors of two models
are never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.core.memory import Vector
from gateway.ports import Embedder, EmbeddingModel
from gateway.telemetry.logs import log

_log = log("embedder")


class LoadedEmbedder(Embedder, Protocol):
    """An embedder that loads behind: `state` is "loading", "ready" or "failed"."""

    state: str
    reason: str


class AutoEmbedder:
    """`local` once it is ready; `other` from the moment that `local` has failed."""

    def __init__(self, local: LoadedEmbedder, other: Embedder) -> None:
        self._local = local
        self._other = other
        self._chosen: Embedder | None = None

    @property
    def model(self) -> EmbeddingModel | None:
        return self._choice().model

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        return await self._choice().embed(texts, query=query)

    async def ping(self) -> None:
        await self._choice().ping()

    async def close(self) -> None:
        await self._local.close()
        await self._other.close()

    def _choice(self) -> Embedder:
        if self._chosen is None and self._local.state == "ready":
            self._chosen = self._local
        elif self._chosen is None and self._local.state == "failed":
            self._chosen = self._other
            _log.warning("local_model_given_up", reason=self._local.reason)
        return self._chosen or self._local
