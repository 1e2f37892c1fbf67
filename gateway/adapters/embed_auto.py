"""The local model where it can be had, else the next best: decided once, while serving.

Whether a model can be had is known only when its download has ended, long after the start.
Until then embedding is unavailable rather than done by the other one: vectors of two models
are never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector
from gateway.ports import Embedder, EmbeddingModel
from gateway.telemetry.logs import log

_log = log("embedder")


class LoadedEmbedder(Embedder, Protocol):
    """An embedder that loads behind: `state` is "loading", "ready" or "failed"."""

    state: str
    reason: str


class AutoEmbedder:
    """`local` once it is ready; `other` from the moment that `local` has failed.

    Without an `other` there is no embedder until `local`, which goes on trying, is ready.
    """

    def __init__(self, local: LoadedEmbedder, other: Embedder | None) -> None:
        self._local = local
        self._other = other
        self._chosen: Embedder | None = None

    @property
    def model(self) -> EmbeddingModel | None:
        self._choose()
        return self._chosen.model if self._chosen else None

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        return await self._present().embed(texts, query=query)

    async def ping(self) -> None:
        await self._present().ping()

    async def close(self) -> None:
        await self._local.close()
        if self._other is not None:
            await self._other.close()

    def _choose(self) -> None:
        if self._chosen is not None:
            return
        if self._local.state == "ready":
            self._chosen = self._local
        elif self._local.state == "failed" and self._other is not None:
            self._chosen = self._other
            _log.warning("local_model_given_up", reason=self._local.reason)

    def _present(self) -> Embedder:
        self._choose()
        if self._chosen is None and self._local.state == "failed":
            raise EmbedderUnavailable(f"recall is lexical: {self._local.reason}", code="none")
        return self._chosen or self._local
