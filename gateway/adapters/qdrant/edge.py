"""The embedded engine: every call goes to the shard's process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from gateway.adapters.qdrant.engine import NewVectors, Point, Queries, Row, Searched
from gateway.adapters.qdrant.layout import BODY
from gateway.adapters.qdrant.process import ShardProcess
from gateway.adapters.qdrant.store import QdrantStore
from gateway.config import CACHE_BYTES
from gateway.core.lookup import Condition
from gateway.ports import Cipher, EmbeddingModel, Lexicon

MARK_POINTS: Final = 1000


class QdrantEdgeStore(QdrantStore):
    """The embedded store of one directory, which has one holder at a time."""

    def __init__(
        self, path: Path, *, cipher: Cipher, lexicon: Lexicon, cache_bytes: int = CACHE_BYTES
    ) -> None:
        self._edge = EdgeEngine(path)
        super().__init__(self._edge, cipher=cipher, lexicon=lexicon, cache_bytes=cache_bytes)

    async def copy_to(self, directory: Path) -> None:
        """Write the store as it is now to `directory`, which is made. Other calls wait for it.

        Raises StoreUnavailable.
        """
        await self._edge.process.call("copy", str(directory))


class EdgeEngine:
    """`Engine` over a shard process."""

    def __init__(self, path: Path) -> None:
        self.process = ShardProcess(path)

    @property
    def notes(self) -> Mapping[str, str]:
        return {}

    async def open(self) -> None:
        """Raises SettingsError: in use, of a newer format, damaged."""
        await self.process.start()

    async def model(self) -> EmbeddingModel | None:
        stored = await self.process.call("model")
        return EmbeddingModel(**stored) if stored else None

    async def change_model(self, model: EmbeddingModel, *, mark: bool) -> None:
        await self.process.call("begin_model", model.dimensions, mark)
        offset = await self.process.call("mark_owed", None, MARK_POINTS)
        while offset is not None:
            offset = await self.process.call("mark_owed", offset, MARK_POINTS)
        await self.process.call("end_model", asdict(model))

    async def put(self, points: Sequence[Point]) -> None:
        await self.process.call("put", [[p.id, p.vectors, p.payload] for p in points])

    async def add_vectors(self, vectors: Sequence[NewVectors]) -> int:
        rows = [[v.id, v.vectors, {"tenant": v.tenant, "updated_at": v.seen}] for v in vectors]
        return int(await self.process.call("add_vectors", rows))

    async def delete(self, conditions: Sequence[Condition]) -> int:
        return int(await self.process.call("delete", _plain(conditions)))

    async def search(
        self,
        conditions: Sequence[Condition],
        corpus: Sequence[Condition],
        queries: Queries,
        *,
        shelf: tuple[str, int],
    ) -> Searched:
        """Stamps are the engine's versions of the points."""
        asked = [(query.by, query.using, query.limit) for query in queries.lists]
        vectors = {"sparse": queries.sparse, "dense": queries.dense}
        answer = await self.process.call(
            "search", _plain(conditions), _plain(corpus), asked, vectors, shelf, BODY
        )
        return Searched(*answer)

    async def retrieve(self, points: Sequence[str]) -> list[Row]:
        rows: list[Row] = await self.process.call("retrieve", points, BODY)
        return rows

    async def scroll(
        self,
        conditions: Sequence[Condition],
        limit: int,
        *,
        fields: Sequence[str],
        begin: str | None = None,
        newest: bool = False,
    ) -> list[Row]:
        if limit <= 0:
            return []
        rows: list[Row] = await self.process.call(
            "scroll", _plain(conditions), limit, begin, newest, fields
        )
        return rows

    async def count(self, conditions: Sequence[Condition]) -> int:
        return int(await self.process.call("count", _plain(conditions)))

    async def tenants(self) -> list[str]:
        return list(await self.process.call("tenants"))

    async def ping(self) -> None:
        await self.process.call("ping")

    async def close(self) -> None:
        await self.process.close()


def _plain(conditions: Iterable[Condition]) -> list[Any]:
    # As `astuple` has it, which copies what it finds: a quarter of what a look costs here.
    return [(c.field, c.op, c.value, c.negated) for c in conditions]
