"""The engine on a Qdrant server or cluster, by the official client. Few calls, all of them plain.

One collection holds all users. It is laid out for many tenants: their fields are indexed as
such, and vector graphs are built within a tenant only (`m=0`, `payload_m=16`), so that a search
costs what its own user stored. Vectors and indexes are read from disk (`qdrant.on_disk`): a server
would pin the indexes of all users in memory and warm all vectors at its start, of which most are
of people who are not there. What the gateway must know of the collection (format, embedding
model) stands in the collection's metadata.

Needs: Qdrant 1.18 or newer (named vectors added to a collection that is there), 1.19 for IDF
over one user's memories; older ones count words over the whole collection, which `notes` says.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from gateway.adapters.qdrant.engine import NewVectors, Point, Queries, Row, Searched
from gateway.adapters.qdrant.layout import (
    BODY,
    DENSE,
    FORMAT,
    KEYWORDS,
    LEXICAL,
    NUMBERS,
    TENANTS,
)
from gateway.adapters.qdrant.store import QdrantStore
from gateway.config import QdrantSettings
from gateway.core.errors import SettingsError, StoreUnavailable
from gateway.core.lookup import Condition, Hits
from gateway.core.stored import OWED
from gateway.ports import Cipher, EmbeddingModel, Lexicon

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

T = TypeVar("T")

METADATA: Final = "memory_gateway"
ADDS_VECTORS_SINCE: Final = (1, 18)
IDF_BY_OWNER_SINCE: Final = (1, 19)
MAX_FACET: Final = 1_000_000
CONNECTIONS: Final = 100
KEEP_ALIVE_S: Final = 3.0
"""Less than the 5 s after which the server's side (actix, by default) lets go of one."""


class QdrantServerStore(QdrantStore):
    """Memories on a Qdrant server. `client` is given by tests; else it is made of settings."""

    def __init__(
        self,
        settings: QdrantSettings,
        *,
        cipher: Cipher,
        lexicon: Lexicon,
        client: AsyncQdrantClient | None = None,
    ) -> None:
        super().__init__(
            ServerEngine(settings, client),
            cipher=cipher,
            lexicon=lexicon,
            cache_bytes=settings.cache_bytes,
        )


class ServerEngine:
    """`Engine` over an AsyncQdrantClient."""

    def __init__(self, settings: QdrantSettings, client: AsyncQdrantClient | None = None) -> None:
        self._settings = settings
        self._name = settings.collection
        self._given = client
        self._made: AsyncQdrantClient | None = None
        self._version: tuple[int, int] = (0, 0)

    @property
    def _client(self) -> AsyncQdrantClient:
        if self._made is None:
            raise StoreUnavailable("the memory store is not open")
        return self._made

    @property
    def notes(self) -> Mapping[str, str]:
        if self._version >= IDF_BY_OWNER_SINCE:
            return {}
        major, minor = self._version
        return {
            "idf": f"Qdrant {major}.{minor} counts how rare words are over all users; 1.19 and"
            " newer count over each user alone"
        }

    # --- opening -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, and make the collection where there is none.

        Raises SettingsError for a collection of a newer format, or one that is not ours.
        """
        # Imported where they are used: 0.4 s of CPU.
        from httpx import Limits
        from httpx_aiohttp import AiohttpTransport
        from qdrant_client import AsyncQdrantClient, models

        self._models = models
        if self._given is not None:
            self._made = self._given
        else:
            key = self._settings.api_key
            # A search took 1.4 ms of CPU here, and takes 0.9: by itself the client opens a
            # connection for each call to a server on this machine, and speaks through httpcore.
            limits = Limits(
                max_connections=CONNECTIONS,
                max_keepalive_connections=CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE_S,
            )
            self._made = AsyncQdrantClient(
                url=self._settings.url,
                api_key=key.get_secret_value() if key else None,
                timeout=math.ceil(self._settings.timeout_s),
                check_compatibility=False,  # it asks in the way of `open`, and only warns
                limits=limits,
                transport=AiohttpTransport(limits=limits),
            )
        told = await self._asked(self._client.info())
        self._version = _version(told.version)
        if not await self._asked(self._client.collection_exists(self._name)):
            await self._create()
        await self._make_indexes()
        self._checked(await self._metadata())

    async def _create(self) -> None:
        models, settings = self._models, self._settings
        idf = models.SparseVectorParams(
            modifier=models.Modifier.IDF, index=models.SparseIndexParams(on_disk=settings.on_disk)
        )
        try:
            await self._asked(
                self._client.create_collection(
                    self._name,
                    vectors_config={},
                    sparse_vectors_config=dict.fromkeys(LEXICAL, idf),
                    hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
                    shard_number=settings.shard_number,
                    replication_factor=settings.replication_factor,
                    write_consistency_factor=settings.write_consistency_factor,
                    on_disk_payload=True,
                    metadata={METADATA: {"format": FORMAT, "model": None}},
                )
            )
        except StoreUnavailable:
            # Several gateways start at once: another one may have made it first.
            if not await self._asked(self._client.collection_exists(self._name)):
                raise

    async def _make_indexes(self) -> None:
        """Those that are missing: one who died in between has left some out."""
        models, on_disk = self._models, self._settings.on_disk
        info = await self._asked(self._client.get_collection(self._name))
        word, number = models.KeywordIndexType.KEYWORD, models.FloatIndexType.FLOAT
        tenant = models.KeywordIndexParams(type=word, is_tenant=True, on_disk=on_disk)
        schemas: dict[str, Any] = dict.fromkeys(TENANTS, tenant)
        schemas |= dict.fromkeys(KEYWORDS, models.KeywordIndexParams(type=word, on_disk=on_disk))
        schemas |= dict.fromkeys(NUMBERS, models.FloatIndexParams(type=number, on_disk=on_disk))
        for field, schema in schemas.items():
            if field not in info.payload_schema:
                await self._asked(
                    self._client.create_payload_index(self._name, field, schema, wait=True)
                )

    async def _metadata(self) -> dict[str, Any] | None:
        info = await self._asked(self._client.get_collection(self._name))
        return (info.config.metadata or {}).get(METADATA)

    def _checked(self, ours: dict[str, Any] | None) -> dict[str, Any]:
        if ours is None:
            raise SettingsError(
                f"the Qdrant collection {self._name!r} was not made by this program. Name another"
                " one with qdrant.collection",
                param="qdrant.collection",
            )
        if ours["format"] > FORMAT:
            raise SettingsError(
                f"the Qdrant collection {self._name!r} has format {ours['format']}; this program"
                f" reads up to {FORMAT}. Start the newer program that wrote it",
                param="qdrant.collection",
            )
        return ours

    # --- the model ---------------------------------------------------------------------------

    async def model(self) -> EmbeddingModel | None:
        stored = self._checked(await self._metadata())["model"]
        return EmbeddingModel(**stored) if stored else None

    async def change_model(self, model: EmbeddingModel, *, mark: bool) -> None:
        if self._version < ADDS_VECTORS_SINCE:
            raise SettingsError(
                f"Qdrant {'.'.join(map(str, self._version))} cannot add vectors to a collection;"
                ' 1.18 or newer is needed, or embedding.provider = "none"',
                param="qdrant.url",
            )
        models = self._models
        mark = mark or self._checked(await self._metadata()).get("marking", False)
        await self._note(None, marking=mark)
        info = await self._asked(self._client.get_collection(self._name))
        dense = models.DenseVectorConfig(size=model.dimensions, distance=models.Distance.COSINE)
        for name in DENSE:
            if name in (info.config.params.vectors or {}):
                await self._asked(self._client.delete_vector_name(self._name, name))
            await self._asked(
                self._client.create_vector_name(
                    self._name, name, models.DenseVectorNameConfig(dense=dense)
                )
            )
        # A vector that is added cannot be told where it is to be, so it is told afterwards.
        where = models.VectorParamsDiff(on_disk=self._settings.on_disk)
        await self._asked(
            self._client.update_collection(self._name, vectors_config=dict.fromkeys(DENSE, where))
        )
        if mark:
            # Not waited for: it is logged before any later write, and may take minutes.
            everything = self._filter([Condition("status", "is", "forgotten", negated=True)])
            await self._asked(
                self._client.set_payload(self._name, {"owed": OWED}, everything, wait=False)
            )
        await self._note(model, marking=False)

    async def _note(self, model: EmbeddingModel | None, *, marking: bool) -> None:
        ours = {"format": FORMAT, "model": asdict(model) if model else None, "marking": marking}
        await self._asked(self._client.update_collection(self._name, metadata={METADATA: ours}))

    # --- writing -----------------------------------------------------------------------------

    async def put(self, points: Sequence[Point]) -> None:
        models = self._models
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
        models = self._models
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
        selector = self._models.FilterSelector(filter=self._filter(conditions))
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
        models = self._models
        meant = self._filter(conditions)
        idf = None
        if self._version >= IDF_BY_OWNER_SINCE:
            idf = models.SearchParams(idf=models.IdfCorpusParams(corpus=self._filter(corpus)))
        requests = []
        for query in queries.lists:
            asked: Any = queries.dense
            if query.by == "order":
                order = models.OrderBy(key=query.using, direction=models.Direction.DESC)
                asked = models.OrderByQuery(order_by=order)
            elif query.by == "sparse" and queries.sparse is not None:
                asked = models.SparseVector(indices=queries.sparse[0], values=queries.sparse[1])
            requests.append(
                models.QueryRequest(
                    query=asked,
                    using=None if query.by == "order" else query.using,
                    filter=meant,
                    limit=query.limit,
                    params=idf if query.by == "sparse" else None,
                    with_payload=list(BODY),
                )
            )
        answers = await self._asked(self._client.query_batch_points(self._name, requests))
        lists: list[Hits] = []
        keys: list[str] = []
        place_of: dict[str, int] = {}
        payloads: list[tuple[int, Mapping[str, Any]]] = []
        for answer in answers:
            places, scores = [], []
            for hit in answer.points:
                point, payload = _hex(hit.id), hit.payload or {}
                place = place_of.setdefault(point, len(keys))
                if place == len(keys):
                    keys.append(point + _stamp(payload))
                    payloads.append((place, payload))
                score = hit.score if hit.order_value is None else hit.order_value
                places.append(place)
                scores.append(float(score))
            lists.append((places, scores))
        return Searched(keys, lists, payloads)

    async def retrieve(self, points: Sequence[str]) -> list[Row]:
        return await self._rows(points, fields=BODY)

    async def _rows(self, points: Sequence[str], *, fields: Sequence[str]) -> list[Row]:
        records = await self._asked(
            self._client.retrieve(
                self._name, [str(UUID(point)) for point in points], with_payload=list(fields)
            )
        )
        return [(_hex(record.id), record.payload or {}) for record in records]

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
        models = self._models
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

    async def ping(self) -> None:
        if not await self._asked(self._client.collection_exists(self._name)):
            raise StoreUnavailable(f"the Qdrant collection {self._name!r} is gone")

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()

    def _filter(self, conditions: Sequence[Condition]) -> Any:
        """The client's filter of these conditions; the one place where any is made."""
        models = self._models

        def made(condition: Condition) -> Any:
            field, op, value = condition.field, condition.op, condition.value
            if field == "point" and isinstance(value, tuple):
                return models.HasIdCondition(has_id=[str(UUID(point)) for point in value])
            if op == "is":
                return models.FieldCondition(key=field, match=models.MatchValue(value=value))
            if op == "any" and isinstance(value, tuple):
                return models.FieldCondition(key=field, match=models.MatchAny(any=list(value)))
            bounds: dict[str, Any] = {"gte": value, "lte": value} if op == "at" else {op: value}
            return models.FieldCondition(key=field, range=models.Range(**bounds))

        must = [made(c) for c in conditions if not c.negated]
        must_not = [made(c) for c in conditions if c.negated]
        return models.Filter(must=must or None, must_not=must_not or None)

    async def _asked(self, call: Awaitable[T]) -> T:
        """Await a call of the client; its many failures become StoreUnavailable."""
        from httpx import HTTPError
        from pydantic import ValidationError
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

        try:
            return await call
        except UnexpectedResponse as exc:
            reason = exc.content[:300].decode("utf-8", "replace")
            vectors = exc.status_code == 400 and "vector" in reason.lower()
            raise StoreUnavailable(
                f"Qdrant at {self._settings.url} answered {exc.status_code}: {reason}",
                code="vectors" if vectors else None,
            ) from exc
        except (ApiException, QdrantException, HTTPError, OSError) as exc:
            raise StoreUnavailable(
                f"Qdrant at {self._settings.url} does not answer: {exc}"
            ) from exc
        except (ValidationError, ValueError, RuntimeError) as exc:
            # An answer that is none of Qdrant's; the client's local mode refuses by ValueError.
            raise StoreUnavailable(
                f"Qdrant at {self._settings.url} gave no usable answer: {exc}"
            ) from exc


def _hex(id: Any) -> str:
    return str(id).replace("-", "")


def _stamp(payload: Mapping[str, Any]) -> str:
    body = str(payload.get("body")).encode()
    return blake2b(body, digest_size=8, usedforsecurity=False).hexdigest()


def _version(text: str) -> tuple[int, int]:
    """Major and minor; a version that cannot be read counts as new."""
    parts = text.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (99, 0)
