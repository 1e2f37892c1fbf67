"""A scratch memory for evaluation: one user's data in the in-memory twin, searched as in chat.

Only what recall asks is there (store, embedder, an empty queue); whatever else is touched says
so. Texts and windows are made by the same functions as the worker's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.inmemory import InMemoryStore
from gateway.core.errors import Unavailable
from gateway.core.identity import Owner, Person
from gateway.core.memory import Entry, Memory, Vector
from gateway.core.windows import dense_text, dense_window_text, windows_of
from gateway.ports import Embedder, EmbeddingModel, Reranker, Services

BATCH = 64


class Nothing:
    """A part that an evaluation does without: a queue in which nothing waits."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def pending(self, owner: Owner, *, limit: int = 50) -> list[Any]:  # noqa: ARG002
        return []

    def __getattr__(self, attribute: str) -> Any:
        raise Unavailable(f"{self._name}.{attribute} is not part of an evaluation")


def scratch_services(embedder: Embedder, reranker: Reranker | None = None) -> Services:
    """Services with a store of their own, for one user after another."""
    absent = {
        name: cast("Any", Nothing(name))
        for name in (
            *("upstream", "cipher", "directory", "keys", "queue", "spool", "state", "receipts"),
        )
    }
    return Services(
        store=InMemoryStore(Bm25Lexicon(), model=embedder.model),
        embedder=embedder,
        reranker=reranker,
        extractor=None,
        clock=lambda: 0.0,
        **absent,
    )


def scratch_owner(user: str) -> Owner:
    """An owner whose tenant is the user's name: nothing is kept, nothing need be secret."""
    return Owner(Person("eval", user), tenant=f"eval-{user}")


async def load(
    services: Services,
    owner: Owner,
    memories: Sequence[Memory],
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Store memories with their vectors and windows; `progress` is told of each batch's size."""
    windows = windows_of(memories)
    texts = [dense_text(m) for m in memories]
    texts += [dense_window_text(w) for w in windows.values()]
    vectors: dict[str, Vector] = {}
    if services.embedder.model is not None:
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        for start in range(0, len(unique), BATCH):
            batch = unique[start : start + BATCH]
            vectors |= dict(zip(batch, await services.embedder.embed(batch), strict=True))
            progress(len(batch))
    entries = [
        Entry(
            m,
            dense=vectors.get(dense_text(m)),
            window=windows.get(m.id),
            dense_window=vectors.get(dense_window_text(windows[m.id])) if m.id in windows else None,
        )
        for m in memories
    ]
    await services.store.put(owner, entries)


class Once:
    """Implements ports.Embedder over another: no text is embedded twice."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: dict[tuple[str, bool], Vector] = {}

    @property
    def model(self) -> EmbeddingModel | None:
        return self._embedder.model

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]:
        missing = [t for t in dict.fromkeys(texts) if (t, query) not in self._vectors]
        if missing:
            vectors = await self._embedder.embed(missing, query=query)
            self._vectors |= {(t, query): v for t, v in zip(missing, vectors, strict=True)}
        return [self._vectors[t, query] for t in texts]

    async def ping(self) -> None:
        await self._embedder.ping()

    async def close(self) -> None:
        """The other is its maker's to close."""
