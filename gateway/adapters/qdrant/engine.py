"""What the store asks of Qdrant, in plain values: conditions, points, hits. No words, no keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from gateway.core.lookup import Condition
from gateway.core.memory import Instant
from gateway.ports import EmbeddingModel, Sparse

Row: TypeAlias = tuple[str, Mapping[str, Any]]
"""A point's id and the payload fields that were asked for."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point as it is written. `id` is 32 hex digits, here as everywhere."""

    id: str
    vectors: Mapping[str, list[float] | Sparse]
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class NewVectors:
    """Vectors for a point, valid only while it is the tenant's and was updated at `seen`."""

    id: str
    vectors: Mapping[str, list[float]]
    tenant: str
    seen: Instant


@dataclass(frozen=True, slots=True)
class Query:
    """One list of a search: by vector (`using` names which) or by a field's order."""

    limit: int
    using: str
    by: Literal["sparse", "dense", "order"]
    sparse: Sparse | None = None
    dense: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Searched:
    """For each query its (point, score); for each point a stamp that changes whenever the point
    does; and the payloads that came along."""

    lists: Sequence[Sequence[tuple[str, float]]]
    stamps: Mapping[str, Any]
    payloads: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Engine(Protocol):
    """Raises StoreUnavailable; with code "vectors" where named vectors are not (or no longer)
    those that the caller takes them for."""

    @property
    def notes(self) -> Mapping[str, str]: ...

    async def open(self) -> None: ...

    async def model(self) -> EmbeddingModel | None: ...

    async def change_model(self, model: EmbeddingModel, *, mark: bool) -> None:
        """Drop what dense vectors there are and make room for this model's.

        `mark` says that memories had vectors and have to be marked as waiting for new ones. One
        who dies half-way leaves a store without a model, whose next change marks as well.
        """
        ...

    async def put(self, points: Sequence[Point]) -> None: ...

    async def add_vectors(self, vectors: Sequence[NewVectors]) -> int: ...

    async def delete(self, conditions: Sequence[Condition]) -> int: ...

    async def search(
        self,
        conditions: Sequence[Condition],
        corpus: Sequence[Condition],
        queries: Sequence[Query],
        *,
        payloads: bool,
    ) -> Searched:
        """All queries in one batch; IDF is counted over `corpus`. Without `payloads` they are
        left out where that saves time."""
        ...

    async def retrieve(self, points: Sequence[str]) -> list[Row]: ...

    async def scroll(
        self,
        conditions: Sequence[Condition],
        limit: int,
        *,
        fields: Sequence[str],
        begin: str | None = None,
        newest: bool = False,
    ) -> list[Row]:
        """In the order of the points' ids from `begin` on; or newest first."""
        ...

    async def count(self, conditions: Sequence[Condition]) -> int: ...

    async def tenants(self) -> list[str]: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...
