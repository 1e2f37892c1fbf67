"""A stand-in for a Qdrant server: its REST API, as far as we use it, over Qdrant Edge shards.

No server binary can be had from a package index, and server mode must be tried all the same: by
the official client over real HTTP, from several processes, through broken connections. What is
behind it is the engine that a server has too (filters, sparse vectors with IDF over a corpus,
order, facets, named vectors added later, its log on disk). What is *not* real here: the HTTP side
and its refusals (written after the answers that the client's models and `server.py` expect), one
shard instead of a cluster, no replication, no optimizer, requests done strictly one after the
other. A test that passes here says that the gateway asks what it means to ask, and bears what
connections do; it says nothing of a server's speed, nor of a cluster's consistency. With
GATEWAY_TEST_QDRANT_URL set, the contract suite asks a real server too.

    python -m tests.qdrant_over_http PORT DIRECTORY
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import httpx
import orjson
import qdrant_edge as edge
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests import in_memory
from tests.gateway_process import free_port

VERSION = "1.20.0"
START_S = 30.0
Json = Any


class Refused(Exception):
    """An answer other than 200: status and what a server says."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


# --- a collection ----------------------------------------------------------------------------


class Collection:
    """One shard, and beside it what it was made with."""

    def __init__(self, path: Path, made: Json | None = None) -> None:
        self.path = path
        if made is not None:
            path.mkdir(parents=True)
            sparse = {
                name: edge.EdgeSparseVectorParams(
                    modifier=edge.Modifier.Idf if each.get("modifier") == "idf" else None
                )
                for name, each in (made.get("sparse_vectors") or {}).items()
            }
            shard = path / "shard"
            shard.mkdir()
            edge.EdgeShard.create(str(shard), edge.EdgeConfig(sparse_vectors=sparse)).close()
            self._keep(made | {"vectors": made.get("vectors") or {}, "schema": {}})
        self.made: Json = orjson.loads((path / "collection.json").read_bytes())
        self.shard = edge.EdgeShard.load(str(path / "shard"))

    def _keep(self, made: Json) -> None:
        self.made = made
        (self.path / "collection.json").write_bytes(orjson.dumps(made))

    def close(self) -> None:
        self.shard.flush()
        self.shard.close()

    # --- what it is ------------------------------------------------------------------------

    def info(self) -> Json:
        made = self.made
        counted = self.shard.info()
        return {
            "status": "green",
            "optimizer_status": "ok",
            "segments_count": counted.segments_count,
            "points_count": counted.points_count,
            "payload_schema": {
                field: {"data_type": schema["type"], "params": schema, "points": 0}
                for field, schema in made["schema"].items()
            },
            "config": {
                "params": {
                    "vectors": made["vectors"],
                    "sparse_vectors": made.get("sparse_vectors"),
                    "shard_number": made.get("shard_number") or 1,
                    "replication_factor": made.get("replication_factor") or 1,
                    "write_consistency_factor": made.get("write_consistency_factor") or 1,
                    "on_disk_payload": made.get("on_disk_payload"),
                },
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000}
                | (made.get("hnsw_config") or {}),
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                },
                "metadata": made.get("metadata"),
            },
        }

    def change(self, body: Json) -> Json:
        """Metadata is merged key by key, as a server does, and so is what is told of a vector."""
        metadata = (self.made.get("metadata") or {}) | (body.get("metadata") or {})
        vectors = dict(self.made["vectors"])
        for name, told in (body.get("vectors") or {}).items():
            if name not in vectors:
                raise Refused(400, f"Wrong input: Not existing vector name error: {name}")
            vectors[name] = vectors[name] | told
        self._keep(self.made | {"metadata": metadata, "vectors": vectors})
        return True

    def index(self, body: Json) -> Json:
        schema = body["field_schema"]
        schema = {"type": schema} if isinstance(schema, str) else schema
        made: Any = {
            "keyword": edge.KeywordIndexParams(is_tenant=schema.get("is_tenant", False)),
            "float": edge.PayloadSchemaType.Float,
        }[schema["type"]]
        self._update(edge.UpdateOperation.create_field_index(body["field_name"], made))
        self._keep(self.made | {"schema": self.made["schema"] | {body["field_name"]: schema}})
        return done()

    def add_vector(self, name: str, body: Json) -> Json:
        if name in self.made["vectors"]:
            raise Refused(409, f"Wrong input: Vector {name} already exists")
        dense = body["dense"]
        distance = getattr(edge.Distance, dense["distance"])
        self._update(edge.UpdateOperation.create_dense_vector(name, dense["size"], distance))
        self._keep(self.made | {"vectors": self.made["vectors"] | {name: dense}})
        return done()

    def drop_vector(self, name: str) -> Json:
        self._update(edge.UpdateOperation.delete_vector_name(name))
        left = {n: v for n, v in self.made["vectors"].items() if n != name}
        self._keep(self.made | {"vectors": left})
        return done()

    # --- writing ---------------------------------------------------------------------------

    def _update(self, operation: edge.UpdateOperation) -> None:
        try:
            self.shard.update(operation)
        except Exception as exc:
            raise Refused(400, f"Wrong input: {exc}") from exc

    def batch(self, body: Json) -> Json:
        for operation in body["operations"]:
            [(name, asked)] = operation.items()
            self.write(name, asked)
        return [done() for _ in body["operations"]]

    def write(self, name: str, asked: Json) -> Json:
        make = edge.UpdateOperation
        match name:
            case "upsert":
                points = [
                    edge.Point(_id(p["id"]), self._vectors(p["vector"]), p.get("payload"))
                    for p in asked["points"]
                ]
                self._update(make.upsert_points(points))
            case "update_vectors":
                given = [
                    edge.PointVectors(_id(p["id"]), self._vectors(p["vector"]))
                    for p in asked["points"]
                ]
                self._update(make.update_vectors(given, _filter(asked.get("update_filter"))))
            case "set_payload" if asked.get("filter"):
                self._update(make.set_payload_by_filter(_filter(asked["filter"]), asked["payload"]))
            case "delete_payload" if asked.get("filter"):
                self._update(make.delete_payload_by_filter(_filter(asked["filter"]), asked["keys"]))
            case "delete" if asked.get("filter"):
                self._update(make.delete_points_by_filter(_filter(asked["filter"])))
            case _:
                raise Refused(501, f"the stand-in knows no {name} of {sorted(asked)}")
        return done()

    def _vectors(self, vectors: Json) -> Json:
        made: dict[str, Any] = {}
        for name, vector in vectors.items():
            if isinstance(vector, dict):
                made[name] = edge.SparseVector(vector["indices"], vector["values"])
                continue
            self._must_fit(name, vector)
            made[name] = vector
        return made

    def _must_fit(self, name: str, vector: Json) -> None:
        """The engine in a process trusts its caller here; a server does not."""
        known = self.made["vectors"].get(name)
        if known is None:
            raise Refused(400, f"Wrong input: Not existing vector name error: {name}")
        if known["size"] != len(vector):
            expected = f"expected dim: {known['size']}, got {len(vector)}"
            raise Refused(400, f"Wrong input: Vector dimension error: {expected}")

    # --- reading ---------------------------------------------------------------------------

    def query(self, body: Json) -> Json:
        requests = [self._request(each) for each in body["searches"]]
        try:
            answers = self.shard.query_batch(edge.QueryBatchRequest(requests))
        except Exception as exc:
            raise Refused(400, f"Wrong input: {exc}") from exc
        return [{"points": [_shown(hit, scored=True) for hit in hits]} for hits in answers]

    def _request(self, each: Json) -> edge.QueryRequest:
        query, using = each["query"], each.get("using")
        if isinstance(query, dict):
            query = query.get("nearest", query)
        asked: Any
        if isinstance(query, dict) and "order_by" in query:
            asked = _order(query["order_by"])
        elif isinstance(query, dict):
            vector = edge.SparseVector(query["indices"], query["values"])
            asked = edge.Query.Nearest(vector, using)
        else:
            self._must_fit(using, query)
            asked = edge.Query.Nearest(query, using)
        params = None
        if idf := (each.get("params") or {}).get("idf"):
            params = edge.SearchParams(idf=edge.IdfParams(corpus=_filter(idf["corpus"])))
        return edge.QueryRequest(
            each["limit"],
            query=asked,
            filter=_filter(each.get("filter")),
            params=params,
            with_payload=each.get("with_payload"),
        )

    def retrieve(self, body: Json) -> Json:
        ids = [_id(id) for id in body["ids"]]
        return [_shown(r) for r in self.shard.retrieve(ids, body.get("with_payload"), False)]

    def scroll(self, body: Json) -> Json:
        order, offset = body.get("order_by"), body.get("offset")
        records, following = self.shard.scroll(
            edge.ScrollRequest(
                offset=_id(offset) if offset else None,
                limit=body.get("limit", 10),
                filter=_filter(body.get("filter")),
                with_payload=body.get("with_payload"),
                with_vector=False,
                order_by=_order(order) if order else None,
            )
        )
        after = str(following) if following is not None else None
        return {"points": [_shown(r) for r in records], "next_page_offset": after}

    def count(self, body: Json) -> Json:
        asked = edge.CountRequest(body.get("exact", True), _filter(body.get("filter")))
        return {"count": self.shard.count(asked)}

    def facet(self, body: Json) -> Json:
        asked = edge.FacetRequest(body["key"], limit=body["limit"], exact=body["exact"])
        hits = self.shard.facet(asked).hits
        return {"hits": [{"value": str(h.value), "count": h.count} for h in hits]}


def done() -> Json:
    return {"operation_id": 1, "status": "completed"}


def _id(id: Json) -> Any:
    return id if isinstance(id, int) else UUID(id)


def _shown(hit: Any, *, scored: bool = False) -> Json:
    shown = {"id": str(hit.id), "payload": hit.payload}
    if scored:
        shown |= {"version": hit.version, "score": hit.score, "order_value": hit.order_value}
    return shown


def _order(order: Json) -> edge.OrderBy:
    down = order.get("direction") == "desc"
    return edge.OrderBy(order["key"], edge.Direction.Desc if down else edge.Direction.Asc)


def _filter(asked: Json) -> Any:
    if not asked:
        return None
    unknown = {k for k, v in asked.items() if v} - {"must", "must_not"}
    if unknown:
        raise Refused(501, f"the stand-in knows no filters with {sorted(unknown)}")
    must, must_not = (
        [_condition(c) for c in asked.get(part) or ()] or None for part in ("must", "must_not")
    )
    return edge.Filter(must=must, must_not=must_not)


def _condition(asked: Json) -> Any:
    if "has_id" in asked:
        return edge.HasIdCondition({_id(id) for id in asked["has_id"]})
    key = asked["key"]
    if match := asked.get("match"):
        if "any" in match:
            return edge.FieldCondition(key, match=edge.MatchAny(match["any"]))
        return edge.FieldCondition(key, match=edge.MatchValue(match["value"]))
    bounds = {name: value for name, value in asked["range"].items() if value is not None}
    return edge.FieldCondition(key, range=edge.RangeFloat(**bounds))


# --- the server ------------------------------------------------------------------------------


class Collections:
    """What stands below a directory, opened when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._open: dict[str, Collection] = {}

    def exists(self, name: str) -> bool:
        return (self._root / name / "collection.json").exists()

    def of(self, name: str) -> Collection:
        if name not in self._open:
            if not self.exists(name):
                raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
            self._open[name] = Collection(self._root / name)
        return self._open[name]

    def create(self, name: str, body: Json) -> Json:
        if self.exists(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        self._open[name] = Collection(self._root / name, body)
        return True

    def drop(self, name: str) -> Json:
        self.of(name)
        self._open.pop(name).close()
        shutil.rmtree(self._root / name)
        return True

    def close(self) -> None:
        for collection in self._open.values():
            collection.close()


def app(root: Path) -> Starlette:
    """The API over the collections below `root`."""
    every = Collections(root)

    def route(
        path: str, method: str, answer: Callable[[Any, Json], Json], *, bare: bool = False
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            try:
                result = answer(request.path_params, orjson.loads(body) if body else {})
            except Refused as exc:
                refusal = {"status": {"error": str(exc)}, "time": 0.0}
                return _json(refusal, exc.status)
            return _json(result if bare else {"result": result, "status": "ok", "time": 0.0})

        return Route(path, endpoint, methods=[method])

    def of(path: str, method: str, answer: Callable[[Collection, Json], Json]) -> Route:
        return route(
            f"/collections/{{c}}{path}", method, lambda p, body: answer(every.of(p["c"]), body)
        )

    def write(name: str) -> Callable[[Collection, Json], Json]:
        return lambda c, body: c.write(name, body)

    vector = "/collections/{c}/vectors/{v}"
    title = {"title": "qdrant - vector search engine", "version": VERSION}
    return Starlette(
        routes=[
            route("/", "GET", lambda *_: title, bare=True),
            route("/collections/{c}/exists", "GET", lambda p, _: {"exists": every.exists(p["c"])}),
            route("/collections/{c}", "PUT", lambda p, body: every.create(p["c"], body)),
            route("/collections/{c}", "DELETE", lambda p, _: every.drop(p["c"])),
            of("", "GET", lambda c, _: c.info()),
            of("", "PATCH", Collection.change),
            of("/index", "PUT", Collection.index),
            route(vector, "PUT", lambda p, body: every.of(p["c"]).add_vector(p["v"], body)),
            route(vector, "DELETE", lambda p, _: every.of(p["c"]).drop_vector(p["v"])),
            # The client's own shape of an upsert: {"points": […]}.
            of("/points", "PUT", write("upsert")),
            of("/points/payload", "POST", write("set_payload")),
            of("/points/payload/delete", "POST", write("delete_payload")),
            of("/points/vectors", "PUT", write("update_vectors")),
            of("/points/delete", "POST", write("delete")),
            of("/points/batch", "POST", Collection.batch),
            of("/points", "POST", Collection.retrieve),
            of("/points/scroll", "POST", Collection.scroll),
            of("/points/count", "POST", Collection.count),
            of("/points/query/batch", "POST", Collection.query),
            of("/facet", "POST", Collection.facet),
        ]
    )


def _json(content: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")


class QdrantOverHttp:
    """The stand-in as a process; its port and what it holds stay the same over restarts."""

    def __init__(self) -> None:
        # In memory where there is room: an index made on a disk waits for it, 0.1 s each. It
        # outlives the process all the same, with what the log of the engine holds.
        self._directory = tempfile.TemporaryDirectory(prefix="mg-qdrant-", dir=in_memory.place())
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        command = [sys.executable, "-m", "tests.qdrant_over_http", str(self.port)]
        self._process = subprocess.Popen(
            [*command, self._directory.name], cwd=Path(__file__).parents[1]
        )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError("the stand-in for Qdrant ended at its start")
            try:
                if httpx.get(self.url, timeout=1).status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.02)
        raise RuntimeError(f"the stand-in for Qdrant did not answer in {START_S} s")

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()


if __name__ == "__main__":
    uvicorn.run(app(Path(sys.argv[2])), port=int(sys.argv[1]), log_level="error", lifespan="off")
