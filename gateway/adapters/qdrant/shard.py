"""The process that holds the Edge shard: reads calls from a socket, one after the other, until
it closes.

It sees points, filters and sealed bodies, never a key or a text. It lives exactly as long as
the gateway that started it: the end of the socket is its end, after a last flush, also when
the gateway was killed. Signals meant for the gateway are not its business.

Flushing: an acknowledged write is in the engine's log and survives this process; a flush (33 ms
at 100,000 points, whatever was written) only shortens the next start, which replays what was
not flushed at some 12,000 points a second. So it is done in quiet moments, and after
`FLUSH_WRITES` points at the latest.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, cast
from uuid import UUID

import orjson
import qdrant_edge as edge

from gateway.adapters.frames import cut, framed
from gateway.adapters.qdrant.holder import Refused, only_holder
from gateway.adapters.qdrant.holes import copy_with_holes
from gateway.adapters.qdrant.layout import DENSE, FORMAT, KEYWORDS, LEXICAL, NUMBERS, TENANTS
from gateway.adapters.qdrant.sent import SENT_POINTS, Sent
from gateway.core.stored import OWED

FLUSH_IDLE_S: Final = 1.0
FLUSH_WRITES: Final = 10_000

MAX_FACET: Final = 10_000_000


class Shard:
    """The engine's calls behind plain values: conditions as lists, points as dictionaries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unflushed = 0
        self._sent = Sent(SENT_POINTS)
        self._lock = only_holder(path)
        self.meta = self._read_meta()
        try:
            self._shard = self._load()
        except Exception as exc:
            raise Refused(
                f"the memory store at {path} cannot be opened: {exc}. See that its disk has room;"
                " where it is damaged restore it from a backup"
            ) from exc
        self._write_meta(self.meta)
        # At 100,000 points the first one takes 74 ms (100 under load), whenever it comes, those
        # after it 12 to 35; at a start nobody waits yet.
        self._shard.flush()

    def _load(self) -> edge.EdgeShard:
        data, draft = self.path / "shard", self.path / "shard.new"
        if not data.exists():
            # Made aside and moved: one who dies in between leaves no half of a store.
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(mode=0o700)
            _create(draft)
            draft.rename(data)
        return edge.EdgeShard.load(str(data), _config())

    # --- what the store is -------------------------------------------------------------------

    def _read_meta(self) -> dict[str, Any]:
        file = self.path / "store.json"
        if not file.exists():
            return {"format": FORMAT, "model": None}
        try:
            meta: dict[str, Any] = orjson.loads(file.read_bytes())
            newer = meta["format"] > FORMAT
        except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
            raise Refused(f"{file} cannot be read ({exc}); restore it from a backup") from exc
        if newer:
            raise Refused(
                f"the memory store at {self.path} has format {meta['format']}; this program reads"
                f" up to {FORMAT}. Start the newer program that wrote it"
            )
        return meta

    def model(self) -> Any:
        """The model whose vectors are held, or None."""
        return self.meta["model"]

    def begin_model(self, size: int, mark: bool) -> None:
        """Drop vectors of a former model and make room for those of a new one.

        Until `end_model` there is no model: one who dies in between begins again. `mark` (or an
        earlier beginning that never ended) says that memories have to be marked as waiting.
        """
        mark = mark or self.meta.get("marking", False)
        self._write_meta({**self.meta, "model": None, "marking": mark})
        for name in DENSE:
            self._shard.update(edge.UpdateOperation.delete_vector_name(name))
            self._shard.update(
                edge.UpdateOperation.create_dense_vector(name, size, edge.Distance.Cosine)
            )

    def mark_owed(self, offset: str | None, limit: int) -> str | None:
        """Mark some memories as waiting for their vector; where to go on, None at the end."""
        if not self.meta.get("marking", False):
            return None
        read, following = self._shard.scroll(
            edge.ScrollRequest(
                offset=offset,
                limit=limit,
                filter=_filter([["status", "is", "forgotten", True]]),
                with_payload=False,
                with_vector=False,
            )
        )
        if read:
            points = [record.id for record in read]
            self._shard.update(edge.UpdateOperation.set_payload(points, {"owed": OWED}))
            self.unflushed += len(points)
        return None if following is None else str(following)

    def end_model(self, model: dict[str, Any]) -> None:
        self.flush()
        self._write_meta({**self.meta, "model": model, "marking": False})

    def _write_meta(self, meta: dict[str, Any]) -> None:
        """Whole or not at all, and on the disk before anything is built on it."""
        draft = self.path / "store.json.new"
        with draft.open("wb") as file:
            file.write(orjson.dumps(meta))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path / "store.json")
        self.meta = meta

    # --- writing -----------------------------------------------------------------------------

    def put(self, points: list[Any]) -> None:
        self._shard.update(
            edge.UpdateOperation.upsert_points(
                [edge.Point(id, _vectors(vectors), payload) for id, vectors, payload in points]
            )
        )
        self.unflushed += len(points)

    def add_vectors(self, points: list[Any]) -> int:
        """Vectors for points that are still as the caller read them."""
        ids = [id for id, _, _ in points]
        read = self._shard.retrieve(ids, ["tenant", "updated_at"], False)
        present = {_uuid(r.id).hex: r.payload for r in read}
        due = [(id, vectors) for id, vectors, seen in points if present.get(id) == seen]
        if due:
            operation = edge.UpdateOperation
            self._shard.update(
                operation.update_vectors(
                    [edge.PointVectors(id, _vectors(vectors)) for id, vectors in due]
                )
            )
            self._shard.update(operation.delete_payload([id for id, _ in due], ["owed"]))
            self.unflushed += len(due)
        return len(due)

    def delete(self, conditions: list[Any]) -> int:
        chosen = _filter(conditions)
        found = self._shard.count(edge.CountRequest(True, chosen))
        if found:
            self._shard.update(edge.UpdateOperation.delete_points_by_filter(chosen))
            self.unflushed += found
        return found

    def flush(self) -> None:
        self.unflushed = 0
        self._shard.flush()

    def copy(self, destination: str) -> None:
        """Write this store, as it is between two calls, below another directory."""
        self.flush()
        target = Path(destination)
        target.mkdir(mode=0o700, parents=True)
        shutil.copytree(self.path / "shard", target / "shard", copy_function=copy_with_holes)
        shutil.copy2(self.path / "store.json", target)

    # --- reading -----------------------------------------------------------------------------

    def search(
        self,
        conditions: list[Any],
        corpus: list[Any],
        queries: list[Any],
        vectors: dict[str, Any],
        shelf: tuple[str, int],
        fields: list[str],
    ) -> list[Any]:
        """All queries in one planned batch, answered as `engine.Searched` has it, and payloads
        of what was not sent to this shelf before: each takes 6 µs to fetch, and as much to open."""
        meant = _filter(conditions)
        idf = edge.SearchParams(idf=edge.IdfParams(corpus=_filter(corpus)))
        if vectors["sparse"] is not None:
            vectors["sparse"] = edge.SparseVector(*vectors["sparse"])
        requests = []
        for by, using, limit in queries:
            asked: Any
            if by == "order":
                asked = edge.OrderBy(using, edge.Direction.Desc)
            else:
                asked = edge.Query.Nearest(vectors[by], using)
            params = idf if by == "sparse" else None
            requests.append(edge.QueryRequest(limit, query=asked, filter=meant, params=params))
        lists: list[Any] = [None] * len(queries)
        keys: list[str] = []
        ids: list[Any] = []
        place_of: dict[int, int] = {}
        unstamped: list[int] = []
        found = self._shard.query_batch(edge.QueryBatchRequest(requests))
        # Those in an order come last: the engine tells no versions of them (0), the others do.
        for n in sorted(range(len(queries)), key=lambda n: queries[n][0] == "order"):
            ordered = queries[n][0] == "order"
            places = []
            for hit in found[n]:
                id = _uuid(hit.id)
                place = place_of.get(id.int)  # as a UUID compares, at a third of the time
                if place is None:
                    place = place_of[id.int] = len(ids)
                    ids.append(id)
                    keys.append(f"{id.int:032x}{hit.version:x}")
                    if ordered:
                        unstamped.append(place)
                places.append(place)
            lists[n] = [places, [hit.order_value if ordered else hit.score for hit in found[n]]]
        for n, payload in self._payloads([ids[place] for place in unstamped], fields):
            # Its sealed body is another after every write.
            keys[unstamped[n]] = f"{ids[unstamped[n]].int:032x}x{hash(payload.get('body')):x}"
        tenant, number = shelf
        new = self._sent.add(tenant, number, keys)
        payloads = self._payloads([ids[place] for place in new], fields)
        return [keys, lists, [[new[n], payload] for n, payload in payloads]]

    def _payloads(self, ids: list[Any], fields: list[str]) -> list[tuple[int, Any]]:
        """Payloads with the places of their points in `ids`. The engine answers in the order
        asked; reading each id again would cost 1 µs."""
        if not ids:
            return []
        records = self._shard.retrieve(ids, fields, False)
        if len(records) == len(ids) and all(_uuid(records[i].id) == ids[i] for i in (0, -1)):
            return [(n, record.payload) for n, record in enumerate(records)]
        places = {id: n for n, id in enumerate(ids)}
        return [(places[_uuid(record.id)], record.payload) for record in records]

    def retrieve(self, points: list[str], fields: list[str]) -> list[Any]:
        rows = self._payloads([UUID(point) for point in points], fields)
        return [[points[n], payload] for n, payload in rows]

    def scroll(
        self, conditions: list[Any], limit: int, offset: str | None, newest: bool, fields: list[str]
    ) -> list[Any]:
        """Points with these fields: in the order of their ids, or newest first."""
        order = edge.OrderBy("created_at", edge.Direction.Desc) if newest else None
        records, _ = self._shard.scroll(
            edge.ScrollRequest(
                offset=offset,
                limit=limit,
                filter=_filter(conditions),
                with_payload=fields,
                with_vector=False,
                order_by=order,
            )
        )
        return [[_uuid(r.id).hex, r.payload] for r in records]

    def count(self, conditions: list[Any]) -> int:
        return self._shard.count(edge.CountRequest(True, _filter(conditions)))

    def tenants(self) -> list[str]:
        hits = self._shard.facet(edge.FacetRequest("tenant", limit=MAX_FACET, exact=True))
        # Of what was deleted, a word stays with nobody having it.
        return [str(hit.value) for hit in hits if hit.count]

    def ping(self) -> None:
        self._shard.info()

    def close(self) -> None:
        self._shard.flush()
        self._shard.close()
        os.close(self._lock)


def _config() -> edge.EdgeConfig:
    """What the engine is to do; what is left out stays as the store has it.

    One thread searches: segments are searched beside one another, and here there is one of them.
    With the usual eight a search of two lists took 209 µs of CPU, with one 84: the others only woke
    each other.
    """
    sparse = {name: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf) for name in LEXICAL}
    return edge.EdgeConfig(sparse_vectors=sparse, max_search_threads=1)


def _create(path: Path) -> None:
    shard = edge.EdgeShard.create(str(path), _config())
    index = edge.UpdateOperation.create_field_index
    for field in TENANTS:
        shard.update(index(field, edge.KeywordIndexParams(is_tenant=True)))
    for field in KEYWORDS:
        shard.update(index(field, edge.PayloadSchemaType.Keyword))
    for field in NUMBERS:
        shard.update(index(field, edge.PayloadSchemaType.Float))
    shard.flush()
    shard.close()


def _filter(conditions: list[Any]) -> edge.Filter:
    """The engine's filter of these conditions; the one place where any is made."""
    must = [_condition(c) for c in conditions if not c[3]]
    must_not = [_condition(c) for c in conditions if c[3]]
    return edge.Filter(must=must or None, must_not=must_not or None)


def _condition(condition: Sequence[Any]) -> Any:
    field, op, value, _ = condition
    if field == "point":
        return edge.HasIdCondition(set(value))
    if op == "is":
        return edge.FieldCondition(field, match=edge.MatchValue(value))
    if op == "any":
        return edge.FieldCondition(field, match=edge.MatchAny(value))
    if op == "at":
        return edge.FieldCondition(field, range=edge.RangeFloat(gte=value, lte=value))
    return edge.FieldCondition(field, range=edge.RangeFloat(**{op: value}))


def _uuid(id: Any) -> UUID:
    """A point's id, which the engine's type says might be a number too."""
    return cast(UUID, id)


def _vectors(vectors: dict[str, Any]) -> dict[str, Any]:
    return {
        name: edge.SparseVector(*vector) if name in LEXICAL else vector
        for name, vector in vectors.items()
    }


# --- the calls -----------------------------------------------------------------------------


def serve(connection: socket.socket, path: Path) -> int:
    """Answer calls until the other side is gone. A call is JSON: a number, a name and arguments;
    an answer the number, what went wrong or null, and a value."""
    try:
        shard = Shard(path)
    except Refused as exc:
        _send(connection, [0, str(exc)])
        return 1
    except OSError as exc:
        mend = "See that this user may write there and that the disk has room"
        refusal = f"data_dir: {exc.filename or path} cannot be used: {exc.strerror}. {mend}"
        _send(connection, [0, refusal])
        return 1
    _send(connection, [0, None])
    pending = bytearray()
    while True:
        if shard.unflushed >= FLUSH_WRITES:
            shard.flush()
        readable, _, _ = select.select([connection], [], [], FLUSH_IDLE_S)
        if not readable:
            if shard.unflushed:
                shard.flush()
            continue
        try:
            received = connection.recv(1 << 20)
        except ConnectionResetError:
            received = b""  # the gateway was killed before it had read all its answers
        if not received:
            shard.close()
            return 0
        pending += received
        for call in cut(pending):
            _send(connection, _answered(shard, orjson.loads(call)))


def _answered(shard: Shard, call: list[Any]) -> list[Any]:
    number, name, arguments = call
    try:
        return [number, None, getattr(shard, name)(*arguments)]
    except Exception as exc:  # noqa: BLE001  # the engine raises bare Exception; told to the caller
        return [number, f"{type(exc).__name__}: {exc}"]


def _send(connection: socket.socket, answer: list[Any]) -> None:
    try:
        connection.sendall(framed(orjson.dumps(answer)))
    except OSError:
        # The gateway is gone; the next read says so and ends this process in order.
        return


def main() -> int:
    """Serve the socket (a descriptor) and the directory that the arguments name."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        return serve(connection, Path(sys.argv[2]))
