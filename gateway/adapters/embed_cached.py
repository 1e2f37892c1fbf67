"""A bounded memory of questions' vectors, before any embedder; and its measurements.

Keyed by a digest of the text, so that no question's words rest here. Documents are embedded
once and pass by. Numbers are kept as 32-bit floats, which is what stores keep too.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector
from gateway.ports import Embedder, EmbeddingModel
from gateway.telemetry.metrics import Metrics

CACHE_BYTES = 16 * 2**20
"""About 10,000 questions at 384 numbers, 2,600 at 1,536."""
ENTRY_OVERHEAD = 200


class CachedEmbedder:
    """Wraps an embedder; everything but repeated questions reaches it."""

    def __init__(self, inner: Embedder, metrics: Metrics, *, max_bytes: int = CACHE_BYTES) -> None:
        self.inner = inner
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._bytes = 0
        self._vectors: OrderedDict[bytes, array[float]] = OrderedDict()

    @property
    def model(self) -> EmbeddingModel | None:
        return self.inner.model

    def replace(self, inner: Embedder) -> None:
        """From now on vectors are this embedder's; what was kept is forgotten."""
        self.inner = inner
        self._vectors.clear()
        self._bytes = 0

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        if not query:
            return await self._measured(texts, "document")
        keys = [
            hashlib.blake2b(t.encode("utf-8", "replace"), digest_size=16).digest() for t in texts
        ]
        known = {key: self._vectors[key] for key in keys if key in self._vectors}
        for key in known:
            self._vectors.move_to_end(key)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self._metrics.query_cache.labels("hit").inc(len(known))
        self._metrics.query_cache.labels("miss").inc(len(missing))
        if missing:
            asked = self.inner
            fresh = await self._measured(list(missing.values()), "query")
            for key, vector in zip(missing, fresh, strict=True):
                known[key] = array("f", vector)
                if asked is self.inner:
                    self._keep(key, known[key])
        return [known[key].tolist() for key in keys]

    async def ping(self) -> None:
        await self.inner.ping()

    async def close(self) -> None:
        self._vectors.clear()
        await self.inner.close()

    async def _measured(self, texts: Sequence[str], use: str) -> list[Vector]:
        started = time.perf_counter()
        result = "failed"
        try:
            vectors = await self.inner.embed(texts, query=use == "query")
            result = "ok"
            self._metrics.embedded_texts.labels(use).inc(len(texts))
            return vectors
        except EmbedderUnavailable as exc:
            if exc.code in ("none", "loading"):
                result = exc.code
            raise
        finally:
            self._metrics.embedder_calls.labels(use, result).inc()
            self._metrics.embedder_seconds.labels(use).observe(time.perf_counter() - started)

    def _keep(self, key: bytes, vector: array[float]) -> None:
        if key not in self._vectors:
            self._bytes += _size(vector)
        self._vectors[key] = vector
        while self._bytes > self._max_bytes and self._vectors:
            _, oldest = self._vectors.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(vector: array[float]) -> int:
    return len(vector) * vector.itemsize + ENTRY_OVERHEAD
