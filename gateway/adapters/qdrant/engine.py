"""What the store asks of Qdrant, in plain values: conditions, points, hits. No words, no keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

from gateway.core.lookup import Condition, Hits
from gateway.core.memory import Instant
from gateway.ports import EmbeddingModel, Sparse

Row: TypeAlias = tuple[str, Mapping[str, Any]]
"""A point's id and the payload fields that were asked for."""

POINT_DIGITS: Final = 32


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
    """One list of a search: by a vector of the question's (`using` names the points') or by a
    field's order."""

    limit: int
    using: str
    by: Literal["sparse", "dense", "order"]


@dataclass(frozen=True, slots=True)
class Queries:
    """The lists of a search, and the question as the two kinds of vectors have it."""

    lists: Sequence[Query]
    sparse: Sparse | None = None
    dense: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search hit: each point once, however many lists it stands in.

    `keys`: a point's id (`point_of`) and a stamp that changes whenever the point does. `lists`:
    for each query the places of its hits in `keys`, best first, and their scores. `payloads`:
    those that came along, with their places.
    """

    keys: Sequence[str]
    lists: Sequence[Hits]
    payloads: Sequence[tuple[int, Mapping[str, Any]]]


def point_of(key: str) -> str:
    """The point that a key of a search's answer names."""
    return key[:POINT_DIGITS]


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
        queries: Queries,
        *,
        shelf: tuple[str, int],
    ) -> Searched:
        """All queries in one batch; IDF is counted over `corpus`.

        `shelf` names where the caller keeps what searches bring: a tenant, and a number that is
        another one whenever the shelf was emptied. Payloads that were brought for the same shelf
        before may be left out, where that saves time.
        """
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
