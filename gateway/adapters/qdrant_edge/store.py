"""The port `MemoryStore` over an Edge shard.

Here is what needs a key or a word: payloads are sealed and opened, tokens hashed, results
checked. Memories that a search found are kept opened, by user, as long as the engine's
version of their point stays the same: fetching and opening one takes 20 µs, and a search finds
a hundred.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any, Final

from gateway.adapters.qdrant_edge.process import ShardProcess
from gateway.core.errors import SettingsError, Unreadable
from gateway.core.identity import Owner
from gateway.core.lookup import (
    Condition,
    assemble,
    in_page_order,
    of_owner,
    of_tenant,
)
from gateway.core.memory import Entry, Found, Instant, ListName, Memory, Probe, Vector, Where
from gateway.core.stored import (
    OWED,
    from_payload,
    keyed_tokens,
    point_id,
    reference,
    to_payload,
)
from gateway.ports import Cipher, EmbeddingModel, Lexicon, Sparse
from gateway.telemetry.logs import log

WRITE_POINTS: Final = 16
"""Points a write; a search waits for one such write at most (1 ms, p99 5.5)."""
MARK_POINTS: Final = 1000
KEPT_MEMORIES: Final = 40_000
"""Opened memories kept in the process, some 40 MB; whole users go, the longest unused first."""

BODY: Final = ["v", "tenant", "body"]


class QdrantEdgeStore:
    """The embedded store of one directory; it has one holder at a time."""

    def __init__(self, path: Path, *, cipher: Cipher, lexicon: Lexicon) -> None:
        self._process = ShardProcess(path)
        self._cipher = cipher
        self._lexicon = lexicon
        self._model: EmbeddingModel | None = None
        self._opened = _Opened()

    @property
    def model(self) -> EmbeddingModel | None:
        return self._model

    async def open(self) -> None:
        """Start the shard's process and load the store. Raises SettingsError."""
        await self._process.start()
        await self._read_model()

    async def _read_model(self) -> None:
        stored = await self._process.call("model")
        self._model = EmbeddingModel(**stored) if stored else None

    async def adopt(self, model: EmbeddingModel, *, replace: bool = False) -> None:
        """See the port. Raises SettingsError where vectors of another model are held."""
        held = self._model
        if held == model:
            return
        if held is not None and not replace:
            raise SettingsError(
                f"the memory store holds vectors of {held.name} ({held.provider},"
                f" {held.dimensions} dimensions), but the embedder set is {model.name}"
                f" ({model.provider}, {model.dimensions} dimensions). Run `memory-gateway reembed`"
                " to change them over, or set embedding.model back",
                param="embedding.model",
            )
        self._model = None
        await self._process.call("begin_model", model.dimensions, held is not None)
        offset = await self._process.call("mark_owed", None, MARK_POINTS)
        while offset is not None:
            offset = await self._process.call("mark_owed", offset, MARK_POINTS)
        await self._process.call("end_model", asdict(model))
        self._model = model

    # --- writing -----------------------------------------------------------------------------

    async def put(self, owner: Owner, entries: Sequence[Entry]) -> None:
        for some in _portions(entries):
            await self._process.call("put", [self._point(owner, entry) for entry in some])

    def _point(self, owner: Owner, entry: Entry) -> dict[str, Any]:
        memory = entry.memory
        vectors = self._dense(entry)
        if memory.status != "forgotten" and memory.text:
            words = self._lexicon.document(memory.text, entry.language)
            vectors["bm25"] = _keyed(owner, words)
            if entry.window is not None:
                window = self._lexicon.document(entry.window, entry.language, window=True)
                vectors["bm25_window"] = _keyed(owner, window)
        return {
            "id": point_id(owner.tenant, memory.id),
            "vectors": vectors,
            "payload": to_payload(owner, entry, self._cipher.seal, embedded="dense" in vectors),
        }

    async def add_vectors(self, owner: Owner, entries: Sequence[Entry]) -> int:
        points = [
            {
                "id": point_id(owner.tenant, entry.memory.id),
                "vectors": vectors,
                "seen": {"tenant": owner.tenant, "updated_at": entry.memory.updated_at},
            }
            for entry in entries
            if "dense" in (vectors := self._dense(entry))
        ]
        given = 0
        for some in _portions(points):
            given += await self._process.call("add_vectors", some)
        return given

    async def delete(self, owner: Owner, ids: Sequence[str]) -> int:
        points = tuple(point_id(owner.tenant, id) for id in ids)
        conditions = (*of_tenant(owner.tenant), Condition("point", "any", points))
        return int(await self._process.call("delete", _plain(conditions)))

    async def erase(self, tenant: str) -> int:
        self._opened.drop(tenant)
        try:
            return int(await self._process.call("delete", _plain(of_tenant(tenant))))
        finally:
            # A search that was under way may have opened some meanwhile.
            self._opened.drop(tenant)

    def _dense(self, entry: Entry) -> dict[str, Any]:
        vectors = {"dense": entry.dense, "dense_window": entry.dense_window}
        fitting = {name: self._fitting(vector) for name, vector in vectors.items()}
        return {name: vector for name, vector in fitting.items() if vector is not None}

    def _fitting(self, vector: Vector | None) -> list[float] | None:
        """A vector of the model in force; any other is as good as none."""
        if vector is None or self._model is None or len(vector) != self._model.dimensions:
            return None
        numbers = [float(number) for number in vector]
        return numbers if math.isfinite(sum(numbers)) else None

    # --- reading -----------------------------------------------------------------------------

    async def get(self, owner: Owner, ids: Sequence[str]) -> list[Memory]:
        points = [point_id(owner.tenant, id) for id in ids]
        found = dict(self._read(owner, await self._process.call("retrieve", points)))
        return [found[point] for point in points if point in found]

    async def search(self, owner: Owner, probe: Probe) -> Found:
        names, queries = self._queries(owner, probe)
        if not queries:
            return Found(lists=dict.fromkeys(names, ()), memories={})
        conditions = of_owner(owner, probe.where, expiry=False)
        answers = await self._process.call(
            "search", _plain(conditions), _plain(conditions[:1]), queries
        )
        versions = {point: version for hits in answers for point, _, version in hits}
        memories, missing = self._opened.look(owner.tenant, versions)
        if missing:
            read = dict(self._read(owner, await self._process.call("retrieve", missing)))
            self._opened.keep(owner.tenant, read, versions)
            memories |= read
        hits = dict(zip(names, ([hit[:2] for hit in hits] for hits in answers), strict=False))
        return assemble(
            {name: hits.get(name, ()) for name in names},
            memories,
            expired_before=probe.where.expired_before,
        )

    def _queries(self, owner: Owner, probe: Probe) -> tuple[list[ListName], list[dict[str, Any]]]:
        """The lists that will be answered and, for the first of them, what is asked."""
        names: list[ListName] = []
        queries: list[dict[str, Any]] = []
        if probe.standing:
            names.append("standing")
            queries.append({"order": "standing", "limit": probe.standing})
        if (vector := self._fitting(probe.dense)) is not None:
            for name in ("dense", "dense_window"):
                names.append(name)
                queries.append({"dense": vector, "using": name, "limit": probe.limit})
        words = _keyed(owner, self._lexicon.query(probe.text, probe.language))
        names += ["lexical", "lexical_window"]
        if words[0]:
            queries += [
                {"sparse": words, "using": using, "limit": probe.limit}
                for using in ("bm25", "bm25_window")
            ]
        return names, queries

    async def page(
        self, owner: Owner, where: Where, *, limit: int, after: tuple[Instant, str] | None = None
    ) -> list[Memory]:
        """Three calls at most: what is left of the instant where the last page ended, what is
        older, and the last instant of that again, in order, for the engine cuts it anywhere."""
        conditions = of_owner(owner, where)
        rows: list[Any] = []
        if after is not None:
            at, point = after[0], point_id(owner.tenant, after[1])
            rows = await self._instant(conditions, at, limit, _next(point))
            conditions = (*conditions, Condition("created_at", "lt", at))
        if len(rows) < limit:
            wanted = limit - len(rows)
            older = await self._scroll(conditions, wanted, newest=True)
            if len(older) == wanted:
                last = older[-1][1]["created_at"]
                older = [row for row in older if row[1]["created_at"] > last]
                older += await self._instant(conditions, last, wanted - len(older), None)
            rows += older
        memories = self._read(owner, rows)
        ordered = in_page_order((memory.created_at, point, memory) for point, memory in memories)
        return [memory for _, _, memory in ordered]

    async def _instant(
        self, conditions: tuple[Condition, ...], at: Instant, limit: int, offset: str | None
    ) -> list[Any]:
        same = (*conditions, Condition("created_at", "at", at))
        return await self._scroll(same, limit, offset=offset)

    async def _scroll(
        self,
        conditions: Sequence[Condition],
        limit: int,
        *,
        offset: str | None = None,
        newest: bool = False,
        fields: Sequence[str] = (*BODY, "created_at"),
    ) -> list[Any]:
        if limit <= 0:
            return []
        rows: list[Any] = await self._process.call(
            "scroll", _plain(conditions), limit, offset, newest, fields
        )
        return rows

    async def count(self, tenant: str, where: Where | None = None) -> int:
        return int(await self._process.call("count", _plain(of_tenant(tenant, where))))

    def _read(
        self, owner: Owner, rows: Iterable[tuple[str, dict[str, Any]]]
    ) -> Iterable[tuple[str, Memory]]:
        """The memories of these points that are the owner's own and can be read.

        Raises Unreadable for a record of a newer version: to leave those out would be to
        forget without saying so.
        """
        for point, payload in rows:
            if payload.get("tenant") != owner.tenant:
                log("store").error("foreign_point_dropped", point=point)
                continue
            try:
                yield point, from_payload(owner, point, payload, self._cipher.open)
            except Unreadable as exc:
                if exc.code == "record_version":
                    raise
                log("store").error("unreadable_point_dropped", point=point, reason=exc.message)

    # --- over all tenants --------------------------------------------------------------------

    async def expired(self, now: Instant, limit: int) -> list[tuple[str, str]]:
        return await self._references(Condition("expires_at", "lte", now), limit)

    async def unembedded(self, limit: int) -> list[tuple[str, str]]:
        return await self._references(Condition("owed", "is", OWED), limit)

    async def _references(self, condition: Condition, limit: int) -> list[tuple[str, str]]:
        rows = await self._scroll((condition,), limit, fields=["tenant"])
        return [(payload["tenant"], reference(point)) for point, payload in rows]

    async def tenants(self) -> list[str]:
        return list(await self._process.call("tenants"))

    async def ping(self) -> None:
        await self._process.call("ping")

    async def close(self) -> None:
        await self._process.close()


class _Opened:
    """Memories as they were opened, by tenant, with the versions of their points."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[str, dict[str, tuple[int, Memory]]] = OrderedDict()
        self._held = 0

    def look(self, tenant: str, versions: dict[str, int]) -> tuple[dict[str, Memory], list[str]]:
        """Those that are held as they now stand, and the points of the others."""
        held = self._tenants.get(tenant)
        if held is None:
            return {}, list(versions)
        self._tenants.move_to_end(tenant)
        found: dict[str, Memory] = {}
        missing: list[str] = []
        for point, version in versions.items():
            kept = held.get(point)
            if kept is not None and kept[0] == version:
                found[point] = kept[1]
            else:
                missing.append(point)
        return found, missing

    def keep(self, tenant: str, memories: dict[str, Memory], versions: dict[str, int]) -> None:
        held = self._tenants.setdefault(tenant, {})
        self._held -= len(held)
        held.update((point, (versions[point], memory)) for point, memory in memories.items())
        self._held += len(held)
        while self._held > KEPT_MEMORIES and len(self._tenants) > 1:
            _, gone = self._tenants.popitem(last=False)
            self._held -= len(gone)

    def drop(self, tenant: str) -> None:
        self._held -= len(self._tenants.pop(tenant, {}))


def _keyed(owner: Owner, sparse: Sparse) -> Sparse:
    indices, values = sparse
    return keyed_tokens(owner, indices), values


def _plain(conditions: Iterable[Condition]) -> list[Any]:
    return [astuple(condition) for condition in conditions]


def _portions(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[i : i + WRITE_POINTS] for i in range(0, len(items), WRITE_POINTS))


def _next(point: str) -> str | None:
    """The id right after a point's, where the next page of its instant begins."""
    return f"{min(int(point, 16) + 1, 2**128 - 1):032x}"
