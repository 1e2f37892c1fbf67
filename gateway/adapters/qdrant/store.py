"""The port `MemoryStore` over Qdrant: what needs a key or a word is done here, and only here.

Payloads are sealed and opened, tokens hashed with the owner's key, results checked once more
for their owner. The engine below sees plain fields and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from gateway.adapters.qdrant.engine import (
    Engine,
    NewVectors,
    Point,
    Queries,
    Query,
    Row,
    Searched,
    point_of,
)
from gateway.adapters.qdrant.layout import BODY
from gateway.adapters.qdrant.opened import Opened, Shelf
from gateway.config import CACHE_BYTES
from gateway.core.errors import SettingsError, StoreUnavailable, Unreadable
from gateway.core.identity import Owner
from gateway.core.lookup import (
    NO_HITS,
    Condition,
    Hits,
    assemble,
    in_page_order,
    of_owner,
    of_tenant,
    statuses_of,
)
from gateway.core.memory import (
    Entry,
    Found,
    Instant,
    ListName,
    Memory,
    Probe,
    Status,
    Vector,
    Where,
)
from gateway.core.stored import (
    OWED,
    KeyedTokens,
    from_payload,
    point_id,
    reference,
    to_payload,
)
from gateway.ports import Cipher, EmbeddingModel, Lexicon, Sparse
from gateway.telemetry.logs import log

WRITE_POINTS: Final = 16
"""Points a write. Embedded, a search waits for one such write at most (1 ms, p99 5.5)."""

WRITE_CHARS: Final = 1_000_000
"""Characters of text a write, where memories are large."""
TOLD: Final = 1000
"""Points that were complained of are remembered, so as to complain of each once."""

T = TypeVar("T")


class QdrantStore:
    """Memories in Qdrant, server or embedded; see the port for what each call promises."""

    def __init__(
        self,
        engine: Engine,
        *,
        cipher: Cipher,
        lexicon: Lexicon,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.engine = engine
        self._cipher = cipher
        self._lexicon = lexicon
        self._model: EmbeddingModel | None = None
        self._opened = Opened(cache_bytes)
        self._told: set[str] = set()

    @property
    def model(self) -> EmbeddingModel | None:
        return self._model

    @property
    def notes(self) -> Mapping[str, str]:
        return self.engine.notes

    async def open(self) -> None:
        await self.engine.open()
        self._model = await self.engine.model()

    async def adopt(self, model: EmbeddingModel, *, replace: bool = False) -> None:
        held = self._model = await self.engine.model()
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
        await self.engine.change_model(model, mark=held is not None)
        self._model = model

    async def _model_changed(self) -> bool:
        """Whether another process has changed the store's model under this one."""
        before, self._model = self._model, await self.engine.model()
        return before != self._model

    # --- writing -----------------------------------------------------------------------------

    async def put(self, owner: Owner, entries: Sequence[Entry]) -> None:
        words = _Words(owner, self._lexicon)
        try:
            for some in _by_size(entries):
                await self._put(owner, some, words)
        finally:
            if any(entry.memory.status == "forgotten" for entry in entries):
                self._opened.drop(owner.tenant)

    async def _put(self, owner: Owner, entries: Sequence[Entry], words: _Words) -> None:
        try:
            await self.engine.put([self._point(owner, entry, words) for entry in entries])
        except StoreUnavailable as exc:
            if exc.code != "vectors" or not await self._model_changed():
                raise
            await self.engine.put([self._point(owner, entry, words) for entry in entries])

    def _point(self, owner: Owner, entry: Entry, words: _Words) -> Point:
        memory = entry.memory
        dense = self._dense(entry)
        vectors: dict[str, list[float] | Sparse] = {**dense}
        if memory.status != "forgotten" and memory.text:
            vectors["bm25"] = words.of(memory.text, entry.language)
            if entry.window is not None:
                vectors["bm25_window"] = words.of_window(entry.window, entry.language)
        return Point(
            id=point_id(owner.tenant, memory.id),
            vectors=vectors,
            payload=to_payload(owner, entry, self._cipher.seal, embedded="dense" in dense),
        )

    async def add_vectors(self, owner: Owner, entries: Sequence[Entry]) -> int:
        new = [
            NewVectors(
                id=point_id(owner.tenant, entry.memory.id),
                vectors=vectors,
                tenant=owner.tenant,
                seen=round(entry.memory.updated_at, 6),
            )
            for entry in entries
            if "dense" in (vectors := self._dense(entry))
        ]
        return sum([await self.engine.add_vectors(some) for some in _portions(new)])

    async def delete(self, owner: Owner, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        points = tuple(point_id(owner.tenant, id) for id in ids)
        chosen = (*of_tenant(owner.tenant), Condition("point", "any", points))
        try:
            return await self.engine.delete(chosen)
        finally:
            # No search finds it any more, so that none would put it out of what is held here.
            self._opened.drop(owner.tenant)

    async def erase(self, tenant: str) -> int:
        try:
            return await self.engine.delete(of_tenant(tenant))
        finally:
            # Also after a failure: nothing of the tenant is to stay opened.
            self._opened.drop(tenant)

    def let_go(self, tenant: str) -> None:
        """Hold none of this tenant's opened memories."""
        self._opened.drop(tenant)

    def _dense(self, entry: Entry) -> dict[str, list[float]]:
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
        if not ids:
            return []
        points = [point_id(owner.tenant, id) for id in ids]
        found = dict(self._read(owner, await self.engine.retrieve(points)))
        return [found[point] for point in points if point in found]

    async def search(self, owner: Owner, probe: Probe) -> Found:
        try:
            return await self._search(owner, probe)
        except StoreUnavailable as exc:
            if exc.code != "vectors" or not await self._model_changed():
                raise
            return await self._search(owner, probe)

    async def _search(self, owner: Owner, probe: Probe) -> Found:
        names, queries = self._queries(owner, probe)
        lists: dict[ListName, Hits] = {"lexical": NO_HITS, "lexical_window": NO_HITS}
        if not names:
            return assemble(lists, (), expired_before=None)
        conditions = of_owner(owner, probe.where, expiry=False)
        shelf = self._opened.shelf(owner.tenant)
        answer = await self.engine.search(
            conditions,
            conditions[:1],
            queries,
            shelf=(owner.tenant, shelf.number),
        )
        lists.update(zip(names, answer.lists, strict=True))
        memories = await self._memories(owner, shelf, answer, statuses_of(probe.where))
        return assemble(lists, memories, expired_before=probe.where.expired_before)

    async def _memories(
        self, owner: Owner, shelf: Shelf, answer: Searched, statuses: Sequence[Status]
    ) -> Sequence[Memory | None]:
        """The memories of a search's hits: as they were opened before, or opened now. Of `statuses`
        alone: one that is asked for again may have been superseded or forgotten meanwhile."""
        keys = answer.keys
        memories = list(map(shelf.memories.get, keys))
        missing = [
            place
            for place, memory in enumerate(memories)
            if memory is None and keys[place] not in shelf.memories
        ]
        if not missing:
            return memories
        payloads = dict(answer.payloads)
        if lost := [place for place in missing if place not in payloads]:
            # They were sent to a search that was given up before it had its answer.
            rows = dict(await self.engine.retrieve([point_of(keys[place]) for place in lost]))
            payloads |= {n: rows[point] for n in lost if (point := point_of(keys[n])) in rows}
        read: dict[str, Memory | None] = {}
        for place in missing:
            if (payload := payloads.get(place)) is not None:
                key = keys[place]
                memory = self._memory(owner, point_of(key), payload, shelf.names)
                if memory is None or not statuses or memory.status in statuses:
                    memories[place] = read[key] = memory
        self._opened.keep(owner.tenant, shelf, read)
        return memories

    def _queries(self, owner: Owner, probe: Probe) -> tuple[list[ListName], Queries]:
        """Which lists are asked for and what is asked: none by words of a question without any."""
        asked: dict[ListName, Query] = {}
        if probe.standing:
            asked["standing"] = Query(probe.standing, "standing", "order")
        if (vector := self._fitting(probe.dense)) is not None:
            asked["dense"] = Query(probe.limit, "dense", "dense")
            asked["dense_window"] = Query(probe.limit, "dense_window", "dense")
        tokens, weights = self._lexicon.query(probe.text, probe.language)
        if tokens:
            asked["lexical"] = Query(probe.limit, "bm25", "sparse")
            asked["lexical_window"] = Query(probe.limit, "bm25_window", "sparse")
        words = (KeyedTokens(owner)(tokens), weights) if tokens else None
        return list(asked), Queries(list(asked.values()), words, vector)

    async def page(
        self, owner: Owner, where: Where, *, limit: int, after: tuple[Instant, str] | None = None
    ) -> list[Memory]:
        """Three calls at most: what is left of the instant where the last page ended, what is
        older, and the last instant of that again, in order, for the engine cuts it anywhere."""
        conditions = of_owner(owner, where)
        rows: list[Row] = []
        if after is not None:
            at, point = after[0], point_id(owner.tenant, after[1])
            rows = await self._instant(conditions, at, limit, _next(point))
            conditions = (*conditions, Condition("created_at", "lt", at))
        if len(rows) < limit:
            wanted = limit - len(rows)
            older = await self.engine.scroll(
                conditions, wanted, fields=(*BODY, "created_at"), newest=True
            )
            if len(older) == wanted:
                last = older[-1][1]["created_at"]
                older = [row for row in older if row[1]["created_at"] > last]
                older += await self._instant(conditions, last, wanted - len(older), None)
            rows += older
        memories = self._read(owner, rows)
        ordered = in_page_order((memory.created_at, point, memory) for point, memory in memories)
        return [memory for _, _, memory in ordered]

    async def _instant(
        self, conditions: tuple[Condition, ...], at: Instant, limit: int, begin: str | None
    ) -> list[Row]:
        same = (*conditions, Condition("created_at", "at", at))
        return await self.engine.scroll(same, limit, fields=BODY, begin=begin)

    async def count(self, tenant: str, where: Where | None = None) -> int:
        return await self.engine.count(of_tenant(tenant, where))

    def _read(self, owner: Owner, rows: Iterable[Row]) -> Iterator[tuple[str, Memory]]:
        """The memories of these points, as far as `_memory` gives any."""
        for point, payload in rows:
            if (memory := self._memory(owner, point, payload)) is not None:
                yield point, memory

    def _memory(
        self,
        owner: Owner,
        point: str,
        payload: Mapping[str, Any],
        names: dict[str, str] | None = None,
    ) -> Memory | None:
        """A point's memory; None where it is not the owner's own, or cannot be read. `names`: as
        `memory_of` has it.

        Raises Unreadable for a record of a newer version: to leave those out would be to
        forget without saying so.
        """
        if payload.get("tenant") != owner.tenant:
            self._tell("foreign_point_dropped", point)
            return None
        try:
            return from_payload(owner, point, payload, self._cipher.open, names)
        except Unreadable as exc:
            if exc.code == "record_version":
                raise
            self._tell("unreadable_point_dropped", point, reason=exc.message)
            return None

    def _tell(self, event: str, point: str, **more: str) -> None:
        if point not in self._told and len(self._told) < TOLD:
            self._told.add(point)
            log("store").error(event, point=point, **more)

    # --- over all tenants --------------------------------------------------------------------

    async def expired(self, now: Instant, limit: int) -> list[tuple[str, str]]:
        return await self._references(Condition("expires_at", "lte", now), limit)

    async def unembedded(self, limit: int) -> list[tuple[str, str]]:
        return await self._references(Condition("owed", "is", OWED), limit)

    async def _references(self, condition: Condition, limit: int) -> list[tuple[str, str]]:
        rows = await self.engine.scroll((condition,), limit, fields=("tenant",))
        return [(payload["tenant"], reference(point)) for point, payload in rows]

    async def tenants(self) -> list[str]:
        return await self.engine.tenants()

    async def ping(self) -> None:
        await self.engine.ping()

    async def close(self) -> None:
        await self.engine.close()


class _Words:
    """The lexical vectors of one write. Its memories share words, and the text of a neighbourhood:
    in a conversation of two turns both have the same."""

    def __init__(self, owner: Owner, lexicon: Lexicon) -> None:
        self._keyed = KeyedTokens(owner)
        self._lexicon = lexicon
        self._window: tuple[str, str | None] | None = None
        self._words_of_window: Sparse = ([], [])

    def of(self, text: str, language: str | None) -> Sparse:
        tokens, weights = self._lexicon.document(text, language)
        return self._keyed(tokens), weights

    def of_window(self, window: str, language: str | None) -> Sparse:
        if self._window != (window, language):
            tokens, weights = self._lexicon.document(window, language, window=True)
            self._window = window, language
            self._words_of_window = self._keyed(tokens), weights
        return self._words_of_window


def _portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[i : i + WRITE_POINTS] for i in range(0, len(items), WRITE_POINTS))


def _by_size(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    some: list[Entry] = []
    chars = 0
    for entry in entries:
        size = len(entry.memory.text)
        if some and (len(some) == WRITE_POINTS or chars + size > WRITE_CHARS):
            yield some
            some, chars = [], 0
        some.append(entry)
        chars += size
    if some:
        yield some


def _next(point: str) -> str:
    """The id right after a point's, where the next page of its instant begins."""
    return f"{min(int(point, 16) + 1, 2**128 - 1):032x}"
