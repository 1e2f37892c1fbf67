"""The engine on a Qdrant server or cluster. Few calls, all of them plain.

Writing and looking after go by the official client, reading by `Connection.post`; how the
collection is laid out is said in `collection`.

Needs: Qdrant 1.18 or newer (named vectors added to a collection that is there), 1.19 for IDF
over one user's memories; older ones count words over the whole collection, which `notes` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import UUID

from gateway.adapters.qdrant.collection import Collection
from gateway.adapters.qdrant.connection import Connection
from gateway.adapters.qdrant.engine import NewVectors, Point, Queries, Query, Row, Searched
from gateway.adapters.qdrant.filters import filter_of
from gateway.adapters.qdrant.layout import BODY, LEXICAL
from gateway.adapters.qdrant.store import QdrantStore
from gateway.config import QdrantSettings
from gateway.core.errors import StoreUnavailable
from gateway.core.lookup import Condition, Hits
from gateway.ports import Cipher, EmbeddingModel, Lexicon

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

IDF_BY_OWNER_SINCE: Final = (1, 19)
MAX_FACET: Final = 1_000_000


class QdrantServerStore(QdrantStore):
    """Memories on a Qdrant server."""

    def __init__(
        self,
        settings: QdrantSettings,
        *,
        cipher: Cipher,
        lexicon: Lexicon,
        connection: Connection | None = None,
    ) -> None:
        """`connection`: another way to a server than the settings tell."""
        super().__init__(
            ServerEngine(settings, connection),
            cipher=cipher,
            lexicon=lexicon,
            cache_bytes=settings.cache_bytes,
        )


class ServerEngine:
    """`Engine` over a connection to a server."""

    def __init__(self, settings: QdrantSettings, connection: Connection | None = None) -> None:
        self._name = settings.collection
        self._points = f"/collections/{quote(settings.collection, safe='')}/points"
        self._connection = connection or Connection(settings)
        self._collection = Collection(settings, self._connection)
        self._asked = self._connection.asked

    @property
    def notes(self) -> Mapping[str, str]:
        if self._idf_by_owner:
            return {}
        major, minor = self._collection.version
        return {
            "idf": f"Qdrant {major}.{minor} counts how rare words are over all users; 1.19 and"
            " newer count over each user alone"
        }

    @property
    def _idf_by_owner(self) -> bool:
        return self._collection.version >= IDF_BY_OWNER_SINCE

    # --- the collection ------------------------------------------------------------------------

    async def open(self) -> None:
        """Raises StoreUnavailable, and SettingsError for a collection that is not for us."""
        self._connection.open()
        try:
            await self._collection.open()
        except BaseException as exc:
            # It is tried again, by another connection; until then nothing is read or written.
            await self._connection.close(str(exc))
            raise

    async def model(self) -> EmbeddingModel | None:
        return await self._collection.model()

    async def change_model(self, model: EmbeddingModel, *, mark: bool) -> None:
        await self._collection.change_model(model, mark=mark)

    async def ping(self) -> None:
        if not await self._asked(self._client.collection_exists(self._name)):
            raise StoreUnavailable(f"the Qdrant collection {self._name!r} is gone")

    async def close(self) -> None:
        await self._connection.close()

    # --- writing -----------------------------------------------------------------------------

    async def put(self, points: Sequence[Point]) -> None:
        models = self._connection.models
        structs = [
            models.PointStruct(
                id=str(UUID(point.id)),
                vector={
                    name: models.SparseVector(indices=vector[0], values=vector[1])
                    if name in LEXICAL
                    else vector
                    for name, vector in point.vectors.items()
                },
                payload=dict(point.payload),
            )
            for point in points
        ]
        await self._asked(self._client.upsert(self._name, structs, wait=True))

    async def add_vectors(self, vectors: Sequence[NewVectors]) -> int:
        models = self._connection.models
        present = dict(await self._rows([v.id for v in vectors], fields=("tenant", "updated_at")))
        due = [
            v for v in vectors if present.get(v.id) == {"tenant": v.tenant, "updated_at": v.seen}
        ]
        operations: list[Any] = []
        for new in due:
            # Each with its own condition: it may be corrected between reading and writing.
            id = str(UUID(new.id))
            still = self._filter(
                [
                    Condition("point", "any", (new.id,)),
                    Condition("tenant", "is", new.tenant),
                    Condition("updated_at", "at", new.seen),
                ]
            )
            given = models.PointVectors(id=id, vector=dict(new.vectors))
            operations += [
                models.UpdateVectorsOperation(
                    update_vectors=models.UpdateVectors(points=[given], update_filter=still)
                ),
                models.DeletePayloadOperation(
                    delete_payload=models.DeletePayload(keys=["owed"], filter=still)
                ),
            ]
        if operations:
            await self._asked(self._client.batch_update_points(self._name, operations, wait=True))
        return len(due)

    async def delete(self, conditions: Sequence[Condition]) -> int:
        found = await self.count(conditions)
        # Also where none was counted: one may have been written since.
        selector = self._connection.models.FilterSelector(filter=self._filter(conditions))
        await self._asked(self._client.delete(self._name, selector, wait=True))
        return found

    # --- reading -----------------------------------------------------------------------------

    async def search(
        self,
        conditions: Sequence[Condition],
        corpus: Sequence[Condition],
        queries: Queries,
        *,
        shelf: tuple[str, int],  # noqa: ARG002  # payloads always come along: no state to keep
    ) -> Searched:
        """A point's stamp is made of its sealed body: replicas count versions each for
        themselves."""
        meant = filter_of(conditions)
        idf = {"idf": {"corpus": filter_of(corpus)}} if self._idf_by_owner else None
        searches = []
        for query in queries.lists:
            search = {"filter": meant, "limit": query.limit, "with_payload": BODY}
            search |= _asked_by(query, queries)
            if query.by == "sparse" and idf is not None:
                search["params"] = idf
            searches.append(search)
        answers = await self._connection.post(f"{self._points}/query/batch", {"searches": searches})
        try:
            return _searched(answers)
        except (KeyError, TypeError, AttributeError, ValueError) as exc:
            raise self._connection.unusable(exc) from exc

    async def retrieve(self, points: Sequence[str]) -> list[Row]:
        return await self._rows(points, fields=BODY)

    async def _rows(self, points: Sequence[str], *, fields: Sequence[str]) -> list[Row]:
        ids = [str(UUID(point)) for point in points]
        records = await self._connection.post(
            self._points, {"ids": ids, "with_payload": fields, "with_vector": False}
        )
        try:
            return [(_hex(record["id"]), record.get("payload") or {}) for record in records]
        except (KeyError, TypeError, AttributeError) as exc:
            raise self._connection.unusable(exc) from exc

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
        models = self._connection.models
        order = models.OrderBy(key="created_at", direction=models.Direction.DESC)
        records, _ = await self._asked(
            self._client.scroll(
                self._name,
                scroll_filter=self._filter(conditions),
                limit=limit,
                order_by=order if newest else None,
                offset=str(UUID(begin)) if begin else None,
                with_payload=list(fields),
            )
        )
        return [(_hex(record.id), record.payload or {}) for record in records]

    async def count(self, conditions: Sequence[Condition]) -> int:
        counted = await self._asked(
            self._client.count(self._name, self._filter(conditions), exact=True)
        )
        return int(counted.count)

    async def tenants(self) -> list[str]:
        facets = await self._asked(
            self._client.facet(self._name, "tenant", limit=MAX_FACET, exact=True)
        )
        # A tenant looks like a UUID, and some engines give it back in a UUID's usual form.
        return [_hex(hit.value) for hit in facets.hits if hit.count]

    @property
    def _client(self) -> AsyncQdrantClient:
        return self._connection.client

    def _filter(self, conditions: Sequence[Condition]) -> Any:
        return self._connection.models.Filter(**filter_of(conditions))


def _asked_by(query: Query, queries: Queries) -> dict[str, Any]:
    """What one list of a search is ordered by."""
    if query.by == "order":
        return {"query": {"order_by": {"key": query.using, "direction": "desc"}}}
    asked: Any = queries.dense
    if query.by == "sparse" and queries.sparse is not None:
        asked = {"indices": queries.sparse[0], "values": queries.sparse[1]}
    return {"query": asked, "using": query.using}


def _searched(answers: Sequence[Mapping[str, Any]]) -> Searched:
    lists: list[Hits] = []
    keys: list[str] = []
    place_of: dict[str, int] = {}
    payloads: list[tuple[int, Mapping[str, Any]]] = []
    for answer in answers:
        places, scores = [], []
        for hit in answer["points"]:
            id = hit["id"]
            place = place_of.get(id)
            if place is None:
                place = place_of[id] = len(keys)
                payload = hit.get("payload") or {}
                keys.append(_hex(id) + _stamp(payload))
                payloads.append((place, payload))
            order = hit.get("order_value")
            places.append(place)
            scores.append(float(hit["score"] if order is None else order))
        lists.append((places, scores))
    return Searched(keys, lists, payloads)


def _hex(id: Any) -> str:
    return str(id).replace("-", "")


def _stamp(payload: Mapping[str, Any]) -> str:
    body = str(payload.get("body")).encode()
    return blake2b(body, digest_size=8, usedforsecurity=False).hexdigest()
