"""The in-memory twin of the Qdrant stores: for evaluation, replay and tests.

It ranks as they do (the same sparse vectors, IDF over the owner alone, cosine by brute force)
and keeps their promises; the contract suite runs over all of them. Nothing is kept when the
process ends, so nothing is sealed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.core.errors import SettingsError
from gateway.core.identity import Owner
from gateway.core.lookup import (
    assemble,
    in_page_order,
    is_expired,
    refuse_tags,
    statuses_of,
    tags_wanted,
)
from gateway.core.memory import (
    Entry,
    Found,
    Instant,
    ListName,
    Memory,
    Probe,
    Vector,
    Where,
    in_microseconds,
)
from gateway.core.stored import (
    point_id,
    reference,
    standing_order,
    tags_of,
)
from gateway.ports import EmbeddingModel, Lexicon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

Words = Mapping[int, float]


@dataclass(slots=True)
class _Row:
    memory: Memory
    tags: frozenset[str]
    words: Words
    window: Words | None
    dense: Vector | None
    dense_window: Vector | None


@dataclass(slots=True)
class _Index:
    """What a search over some rows needs, made when it is first asked for after a write."""

    points: list[str]
    rows: list[_Row]
    words: _Postings
    window: _Postings
    dense: tuple[Floats, Any]
    dense_window: tuple[Floats, Any]


@dataclass(slots=True)
class _Postings:
    """For each token the rows that hold it and their weights; `total` rows have the vector."""

    by_token: dict[int, tuple[list[int], list[float]]]
    total: int


@dataclass(slots=True)
class _Tenant:
    rows: dict[str, _Row] = field(default_factory=dict)
    indexes: dict[bool, _Index] = field(default_factory=dict)


class InMemoryStore:
    """The port `MemoryStore`."""

    def __init__(self, lexicon: Lexicon, *, model: EmbeddingModel | None = None) -> None:
        self._lexicon = lexicon
        self._model = model
        self._tenants: dict[str, _Tenant] = {}

    @property
    def model(self) -> EmbeddingModel | None:
        return self._model

    @property
    def notes(self) -> Mapping[str, str]:
        return {}

    async def open(self) -> None:
        """Nothing to load."""

    async def adopt(self, model: EmbeddingModel, *, replace: bool = False) -> None:
        """See the port. Raises SettingsError where vectors of another model are held."""
        if self._model == model:
            return
        if self._model is not None and not replace:
            raise SettingsError(
                f"the store holds vectors of {self._model.name} ({self._model.dimensions}), the"
                f" embedder is {model.name} ({model.dimensions}). Run reembed, or set the former",
                param="embedding.model",
            )
        self._model = model
        for tenant in self._tenants.values():
            tenant.indexes.clear()
            for row in tenant.rows.values():
                row.dense = row.dense_window = None

    # --- writing -----------------------------------------------------------------------------

    async def put(self, owner: Owner, entries: Sequence[Entry]) -> None:
        tenant = self._tenants.setdefault(owner.tenant, _Tenant())
        for entry in entries:
            memory = in_microseconds(entry.memory)
            words = self._lexicon.document(memory.text, entry.language)
            window = (
                self._lexicon.document(entry.window, entry.language, window=True)
                if entry.window is not None
                else None
            )
            tenant.rows[point_id(owner.tenant, memory.id)] = _Row(
                memory=memory,
                tags=frozenset(tags_of(owner, memory)),
                words=dict(zip(*words, strict=True)),
                window=dict(zip(*window, strict=True)) if window is not None else None,
                dense=self._fitting(entry.dense),
                dense_window=self._fitting(entry.dense_window),
            )
        tenant.indexes.clear()

    async def add_vectors(self, owner: Owner, entries: Sequence[Entry]) -> int:
        tenant = self._tenants.get(owner.tenant, _Tenant())
        given = 0
        for entry in entries:
            row = tenant.rows.get(point_id(owner.tenant, entry.memory.id))
            if row is None or row.memory.updated_at != entry.memory.updated_at:
                continue
            if (dense := self._fitting(entry.dense)) is not None:
                row.dense = dense
                row.dense_window = self._fitting(entry.dense_window)
                given += 1
        tenant.indexes.clear()
        return given

    async def delete(self, owner: Owner, ids: Sequence[str]) -> int:
        tenant = self._tenants.get(owner.tenant)
        if tenant is None:
            return 0
        points = {point_id(owner.tenant, id) for id in ids}
        gone = [tenant.rows.pop(point) for point in points if point in tenant.rows]
        tenant.indexes.clear()
        return len(gone)

    async def erase(self, tenant: str) -> int:
        held = self._tenants.pop(tenant, None)
        return len(held.rows) if held else 0

    def let_go(self, tenant: str) -> None:
        """Nothing: what is here is the store itself."""

    def _fitting(self, vector: Vector | None) -> Vector | None:
        """A vector of the model in force; any other is as good as none."""
        if vector is None or self._model is None or len(vector) != self._model.dimensions:
            return None
        return vector if math.isfinite(sum(vector)) else None

    # --- reading -----------------------------------------------------------------------------

    async def get(self, owner: Owner, ids: Sequence[str]) -> list[Memory]:
        rows = self._rows(owner)
        points = [point_id(owner.tenant, id) for id in ids]
        return [rows[point].memory for point in points if point in rows]

    async def page(
        self, owner: Owner, where: Where, *, limit: int, after: tuple[Instant, str] | None = None
    ) -> list[Memory]:
        meant = in_page_order(
            (row.memory.created_at, point, row.memory)
            for point, row in self._rows(owner).items()
            if _meant(row, where, frozenset(tags_wanted(owner, where)))
            and not is_expired(row.memory, where.expired_before)
        )
        if after is not None:
            seen = (-after[0], point_id(owner.tenant, after[1]))
            meant = [row for row in meant if (-row[0], row[1]) > seen]
        return [memory for _, _, memory in meant[:limit]]

    async def count(self, tenant: str, where: Where | None = None) -> int:
        held = self._tenants.get(tenant)
        if held is None:
            return 0
        if where is None:
            return len(held.rows)
        refuse_tags(where)
        return sum(
            _meant(row, where, frozenset()) and not is_expired(row.memory, where.expired_before)
            for row in held.rows.values()
        )

    async def search(self, owner: Owner, probe: Probe) -> Found:
        tenant = self._tenants.get(owner.tenant) or _Tenant()
        live = statuses_of(probe.where) == ("active",)
        index = tenant.indexes.get(live)
        if index is None:
            index = tenant.indexes[live] = _indexed(tenant.rows, live=live)
        tags = frozenset(tags_wanted(owner, probe.where))
        meant = {i for i, row in enumerate(index.rows) if _meant(row, probe.where, tags)}
        tokens, _ = self._lexicon.query(probe.text, probe.language)

        def best(scores: Mapping[int, float], limit: int) -> list[tuple[str, float]]:
            held = [(index.points[i], score) for i, score in scores.items() if i in meant]
            return sorted(held, key=lambda hit: (-hit[1], hit[0]))[:limit]

        hits: dict[ListName, list[tuple[str, float]]] = {
            "lexical": best(_bm25(index.words, tokens), probe.limit),
            "lexical_window": best(_bm25(index.window, tokens), probe.limit),
        }
        if (vector := self._fitting(probe.dense)) is not None:
            hits["dense"] = best(_cosines(index.dense, vector), probe.limit)
            hits["dense_window"] = best(_cosines(index.dense_window, vector), probe.limit)
        if probe.standing:
            orders = ((i, standing_order(row.memory)) for i, row in enumerate(index.rows))
            standing = {i: order for i, order in orders if order is not None}
            hits["standing"] = best(standing, probe.standing)
        named = list(dict.fromkeys(point for scored in hits.values() for point, _ in scored))
        places = {point: place for place, point in enumerate(named)}
        return assemble(
            {
                name: ([places[point] for point, _ in scored], [score for _, score in scored])
                for name, scored in hits.items()
            },
            [tenant.rows[point].memory for point in named],
            expired_before=probe.where.expired_before,
        )

    def _rows(self, owner: Owner) -> dict[str, _Row]:
        held = self._tenants.get(owner.tenant)
        return held.rows if held else {}

    # --- over all tenants --------------------------------------------------------------------

    async def expired(self, now: Instant, limit: int) -> list[tuple[str, str]]:
        return [
            (name, reference(point))
            for name, tenant in self._tenants.items()
            for point, row in tenant.rows.items()
            if is_expired(row.memory, now)
        ][:limit]

    async def unembedded(self, limit: int) -> list[tuple[str, str]]:
        return [
            (name, reference(point))
            for name, tenant in self._tenants.items()
            for point, row in tenant.rows.items()
            if row.dense is None and row.memory.text and row.memory.status != "forgotten"
        ][:limit]

    async def tenants(self) -> list[str]:
        return [name for name, tenant in self._tenants.items() if tenant.rows]

    async def ping(self) -> None:
        """Always there."""

    async def close(self) -> None:
        self._tenants.clear()


def _meant(row: _Row, where: Where, tags: frozenset[str]) -> bool:
    memory = row.memory
    statuses = statuses_of(where)
    return (
        (not statuses or memory.status in statuses)
        and (not where.kinds or memory.kind in where.kinds)
        and (not where.types or memory.type in where.types)
        and tags <= row.tags
        and (not where.sessions or memory.session in where.sessions)
        and (where.said_after is None or memory.created_at > where.said_after)
        and (
            where.as_of is None
            or (
                memory.valid_from <= where.as_of
                and (memory.valid_to is None or where.as_of < memory.valid_to)
            )
        )
    )


def _indexed(rows: Mapping[str, _Row], *, live: bool) -> _Index:
    chosen = sorted(
        (point, row) for point, row in rows.items() if not live or row.memory.status == "active"
    )
    held = [row for _, row in chosen]
    return _Index(
        points=[point for point, _ in chosen],
        rows=held,
        words=_postings([row.words for row in held]),
        window=_postings([row.window for row in held]),
        dense=_matrix([row.dense for row in held]),
        dense_window=_matrix([row.dense_window for row in held]),
    )


def _postings(documents: Sequence[Words | None]) -> _Postings:
    by_token: dict[int, tuple[list[int], list[float]]] = {}
    for i, document in enumerate(documents):
        for token, weight in (document or {}).items():
            rows, weights = by_token.setdefault(token, ([], []))
            rows.append(i)
            weights.append(weight)
    return _Postings(by_token, sum(document is not None for document in documents))


def _bm25(postings: _Postings, tokens: Sequence[int]) -> dict[int, float]:
    """Scores of the rows that share a token; the same IDF as Qdrant's modifier."""
    scores: defaultdict[int, float] = defaultdict(float)
    for token in tokens:
        rows, weights = postings.by_token.get(token, ((), ()))
        if not rows:
            continue
        idf = math.log((postings.total - len(rows) + 0.5) / (len(rows) + 0.5) + 1.0)
        for row, weight in zip(rows, weights, strict=True):
            scores[row] += idf * weight
    return scores


def _matrix(vectors: Sequence[Vector | None]) -> tuple[Floats, Any]:
    """Normalised vectors, and which row each belongs to."""
    import numpy as np  # imported where it is used: 0.1 s of CPU

    rows = np.array([i for i, vector in enumerate(vectors) if vector is not None], dtype=np.int64)
    matrix = np.array([vector for vector in vectors if vector is not None], dtype=np.float32)
    if len(rows):
        matrix /= np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)
    return matrix, rows


def _cosines(dense: tuple[Floats, Any], vector: Vector) -> dict[int, float]:
    import numpy as np

    matrix, rows = dense
    if not len(rows):
        return {}
    asked = np.asarray(vector, dtype=np.float32)
    scores = matrix @ (asked / max(float(np.linalg.norm(asked)), 1e-12))
    return dict(zip(rows.tolist(), scores.tolist(), strict=True))
