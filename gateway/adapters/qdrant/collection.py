"""The collection on a Qdrant server: how it is laid out and made, and what is noted with it.

One collection holds all users. It is laid out for many tenants: their fields are indexed as
such, and vector graphs are built within a tenant only (`m=0`, `payload_m=16`), so that a search
costs what its own user stored. Vectors and indexes are read from disk (`qdrant.on_disk`): a server
would pin the indexes of all users in memory and warm all vectors at its start, of which most are
of people who are not there. What the gateway must know of the collection (format, embedding
model) stands in the collection's metadata.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from gateway.adapters.qdrant.connection import Connection
from gateway.adapters.qdrant.filters import filter_of
from gateway.adapters.qdrant.layout import DENSE, FORMAT, KEYWORDS, LEXICAL, NUMBERS, TENANTS
from gateway.config import QdrantSettings
from gateway.core.errors import SettingsError, StoreUnavailable
from gateway.core.lookup import Condition
from gateway.core.stored import OWED
from gateway.ports import EmbeddingModel

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

METADATA: Final = "memory_gateway"
ADDS_VECTORS_SINCE: Final = (1, 18)
NO_VERSION: Final = (0, 0)


class Collection:
    """The collection of these settings. `version` is the server's, known once it is open."""

    def __init__(self, settings: QdrantSettings, connection: Connection) -> None:
        self._settings = settings
        self._name = settings.collection
        self._connection = connection
        self._asked = connection.asked
        self.version: tuple[int, int] = NO_VERSION

    @property
    def _client(self) -> AsyncQdrantClient:
        return self._connection.client

    # --- opening -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Make it where there is none. Raises StoreUnavailable, and SettingsError for a collection
        of a newer format, or one that is not ours."""
        told = await self._asked(self._client.info())
        self.version = _version(told.version)
        if not await self._asked(self._client.collection_exists(self._name)):
            await self._create()
        await self._make_indexes()
        self._checked(await self._metadata())

    async def _create(self) -> None:
        models, settings = self._connection.models, self._settings
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
        models, on_disk = self._connection.models, self._settings.on_disk
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
        if self.version < ADDS_VECTORS_SINCE:
            raise SettingsError(
                f"Qdrant {'.'.join(map(str, self.version))} cannot add vectors to a collection;"
                ' 1.18 or newer is needed, or embedding.provider = "none"',
                param="qdrant.url",
            )
        models = self._connection.models
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
            unforgotten = filter_of([Condition("status", "is", "forgotten", negated=True)])
            everything = models.Filter(**unforgotten)
            await self._asked(
                self._client.set_payload(self._name, {"owed": OWED}, everything, wait=False)
            )
        await self._note(model, marking=False)

    async def _note(self, model: EmbeddingModel | None, *, marking: bool) -> None:
        ours = {"format": FORMAT, "model": asdict(model) if model else None, "marking": marking}
        await self._asked(self._client.update_collection(self._name, metadata={METADATA: ours}))


def _version(text: str) -> tuple[int, int]:
    """Major and minor; a version that cannot be read counts as new."""
    parts = text.split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (99, 0)
