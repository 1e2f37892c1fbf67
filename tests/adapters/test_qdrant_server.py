"""The server engine: what it asks of a Qdrant server, and what becomes of a server's failures.

What a server answers is scripted here, on a real socket; what the calls do is held by the contract
suite, through the client's local mode and a real server where there is one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

import orjson
import pytest

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.qdrant.server import QdrantServerStore, ServerEngine
from gateway.config import QdrantSettings
from gateway.core.errors import SettingsError, StoreUnavailable
from gateway.core.identity import Person, new_owner
from gateway.core.memory import Entry, Memory, Probe, Where
from gateway.ports import EmbeddingModel

ANNA = new_owner(Person("default", "anna"))
MODEL = EmbeddingModel("test", "three-numbers", 3)
TEA = Memory("a", "turn", "likes tea", 1.0, 1.0, 1.0)

Answer = Callable[[str, str, Any], tuple[int, Any]]


class ScriptedQdrant:
    """An HTTP server that answers as it is told and notes what it was asked."""

    def __init__(self, version: str = "1.20.0") -> None:
        self.version = version
        self.asked: list[tuple[str, str, Any]] = []
        self.exists = False
        self.metadata: Any = None
        self.answer: Answer | None = None
        self.raw: bytes | None = None
        self.hang = False
        self.drop = 0
        self.keys: list[str | None] = []
        self.open: list[asyncio.StreamWriter] = []

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return server

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                size = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                body = await reader.readexactly(int(size[1])) if size else b""
                self.asked.append((method, path, orjson.loads(body) if body else None))
                key = re.search(rb"api-key: (\S+)", head, re.IGNORECASE)
                self.keys.append(key[1].decode() if key else None)
                if self.drop:
                    self.drop -= 1
                    break
                if self.hang:
                    await asyncio.sleep(30)
                if self.raw is not None:
                    writer.write(self.raw)
                    break
                status, answer = (self.answer or self.usual)(*self.asked[-1])
                text = orjson.dumps(answer)
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(text)}\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def usual(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/":
            return 200, {"title": "qdrant", "version": self.version}
        result: Any = True
        if path.endswith("/exists"):
            result = {"exists": self.exists}
        elif path == "/collections/memories" and method == "PUT":
            self.exists, self.metadata = True, body["metadata"]
        elif path == "/collections/memories" and method == "PATCH":
            self.metadata = body.get("metadata") or self.metadata
        elif path == "/collections/memories":
            result = info(self.metadata)
        elif path.startswith("/collections/memories/points/query/batch"):
            result = [{"points": []} for _ in body["searches"]]
        elif "/points" in path or "/index" in path or "/vectors" in path:
            result = {"operation_id": 1, "status": "completed"}
        return 200, {"result": result, "status": "ok", "time": 0.0}

    def requests(self, method: str, path: str) -> list[Any]:
        return [b for m, p, b in self.asked if m == method and p.split("?")[0].endswith(path)]


def info(metadata: Any) -> dict[str, Any]:
    optimizers = {
        "deleted_threshold": 0.2,
        "vacuum_min_vector_number": 1000,
        "default_segment_number": 0,
        "flush_interval_sec": 5,
    }
    return {
        "status": "green",
        "optimizer_status": "ok",
        "segments_count": 1,
        "payload_schema": {},
        "config": {
            "params": {"vectors": {}},
            "hnsw_config": {"m": 0, "ef_construct": 100, "full_scan_threshold": 10000},
            "optimizer_config": optimizers,
            "metadata": metadata,
        },
    }


@pytest.fixture
async def qdrant() -> AsyncIterator[ScriptedQdrant]:
    scripted = ScriptedQdrant()
    server = await scripted.serve()
    yield scripted
    server.close()


def store_of(qdrant: ScriptedQdrant, **settings: Any) -> QdrantServerStore:
    chosen = QdrantSettings(url=qdrant.url, timeout_s=1.0, **settings)
    return QdrantServerStore(chosen, cipher=AesGcmCipher(), lexicon=Bm25Lexicon())


@pytest.fixture
async def store(qdrant: ScriptedQdrant) -> AsyncIterator[QdrantServerStore]:
    store = store_of(qdrant)
    await store.open()
    yield store
    await store.close()


# --- what is asked ---------------------------------------------------------------------------


async def test_the_collection_is_laid_out_for_many_tenants(qdrant: ScriptedQdrant) -> None:
    store = store_of(qdrant, shard_number=6, replication_factor=2, write_consistency_factor=2)
    await store.open()
    await store.close()
    [made] = qdrant.requests("PUT", "/collections/memories")
    assert made["hnsw_config"] == {"m": 0, "payload_m": 16}
    assert (made["shard_number"], made["replication_factor"]) == (6, 2)
    assert made["write_consistency_factor"] == 2
    assert {name: v["modifier"] for name, v in made["sparse_vectors"].items()} == {
        "bm25": "idf",
        "bm25_window": "idf",
    }
    indexes = {b["field_name"]: b["field_schema"] for b in qdrant.requests("PUT", "/index")}
    tenant = {"type": "keyword", "is_tenant": True, "on_disk": True}
    assert indexes["tenant"] == indexes["live"] == tenant
    assert indexes["created_at"] == {"type": "float", "on_disk": True}
    assert indexes["owed"] == {"type": "keyword", "on_disk": True}


@pytest.mark.parametrize("on_disk", [True, False])
async def test_vectors_and_indexes_are_on_disk_or_none_of_them(
    qdrant: ScriptedQdrant, on_disk: bool
) -> None:
    store = store_of(qdrant, on_disk=on_disk)
    await store.open()
    await store.adopt(MODEL)
    await store.close()
    [made] = qdrant.requests("PUT", "/collections/memories")
    told = [vector["index"] for vector in made["sparse_vectors"].values()]
    told += [body["field_schema"] for body in qdrant.requests("PUT", "/index")]
    changes = qdrant.requests("PATCH", "/collections/memories")
    [dense] = [body["vectors"] for body in changes if body.get("vectors")]
    assert sorted(dense) == ["dense", "dense_window"]
    assert [each["on_disk"] for each in (*told, *dense.values())] == [on_disk] * 14


async def test_a_collection_that_is_there_is_taken_as_it_is(qdrant: ScriptedQdrant) -> None:
    for _ in range(2):
        store = store_of(qdrant)
        await store.open()
        await store.close()
    assert len(qdrant.requests("PUT", "/collections/memories")) == 1


async def test_a_search_is_one_batch_by_owner_alone(
    qdrant: ScriptedQdrant, store: QdrantServerStore
) -> None:
    await store.adopt(MODEL)
    qdrant.asked.clear()
    await store.search(ANNA, Probe("likes tea", Where(), dense=(1.0, 0.0, 0.0), standing=3))
    [(_, _, body)] = qdrant.asked
    mine = {"must": [{"key": "live", "match": {"value": ANNA.tenant}}]}
    assert len(body["searches"]) == 5
    for search in body["searches"]:
        assert search["filter"] == mine
        assert search["with_payload"] == ["v", "tenant", "body"]
    corpora = [s["params"]["idf"]["corpus"] for s in body["searches"] if s.get("params")]
    assert corpora == [mine, mine]


async def test_connections_are_used_again(qdrant: ScriptedQdrant, store: QdrantServerStore) -> None:
    for _ in range(20):
        await store.search(ANNA, Probe("tea", Where()))
        await store.ping()
    assert len(qdrant.open) == 2  # the client has its own
    await asyncio.gather(*(store.search(ANNA, Probe("tea", Where())) for _ in range(5)))
    assert len(qdrant.open) <= 6


async def test_a_connection_that_the_server_closed_meanwhile_fails_nothing(
    qdrant: ScriptedQdrant, store: QdrantServerStore
) -> None:
    for _ in range(3):
        await store.search(ANNA, Probe("tea", Where()))
        await store.ping()
        for writer in qdrant.open:
            writer.close()
            await writer.wait_closed()
        await asyncio.sleep(0.05)  # its end is on its way
    assert len(qdrant.open) == 6


async def test_a_server_too_old_for_idf_by_owner_is_not_asked_for_it_and_doctor_can_say_so(
    qdrant: ScriptedQdrant,
) -> None:
    qdrant.version = "1.18.2"
    store = store_of(qdrant)
    await store.open()
    await store.search(ANNA, Probe("tea", Where()))
    await store.close()
    assert all("params" not in search for search in qdrant.asked[-1][2]["searches"])
    assert "1.18" in store.notes["idf"]


async def test_a_new_server_has_nothing_to_note(store: QdrantServerStore) -> None:
    assert store.notes == {}


async def test_a_server_too_old_for_added_vectors_is_told(qdrant: ScriptedQdrant) -> None:
    qdrant.version = "1.17.0"
    store = store_of(qdrant)
    await store.open()
    with pytest.raises(SettingsError, match=r"1\.18"):
        await store.adopt(MODEL)
    await store.close()


# --- what it is told -------------------------------------------------------------------------


async def test_a_collection_of_somebody_else_is_refused(qdrant: ScriptedQdrant) -> None:
    qdrant.exists = True
    store = store_of(qdrant)
    with pytest.raises(SettingsError, match=r"qdrant\.collection"):
        await store.open()
    await store.close()


async def test_a_collection_of_a_newer_format_is_refused(qdrant: ScriptedQdrant) -> None:
    qdrant.exists, qdrant.metadata = True, {"memory_gateway": {"format": 99, "model": None}}
    store = store_of(qdrant)
    with pytest.raises(SettingsError, match="format 99"):
        await store.open()
    await store.close()


async def test_after_a_refused_opening_nothing_is_asked_until_one_succeeds(
    qdrant: ScriptedQdrant,
) -> None:
    qdrant.exists, qdrant.metadata = True, {"memory_gateway": {"format": 99, "model": None}}
    store = store_of(qdrant)
    with pytest.raises(SettingsError):
        await store.open()
    qdrant.asked.clear()
    for call in ("search", "get", "count"):
        with pytest.raises(StoreUnavailable, match=r"not open: .* format 99"):
            await CALLS[call](store)
    assert qdrant.asked == []
    qdrant.metadata = {"memory_gateway": {"format": 1, "model": None}}
    await store.open()
    await CALLS["search"](store)
    await store.close()
    with pytest.raises(StoreUnavailable, match="not open"):
        await CALLS["search"](store)


CALLS: dict[str, Callable[[QdrantServerStore], Awaitable[Any]]] = {
    "put": lambda store: store.put(ANNA, [Entry(TEA)]),
    "get": lambda store: store.get(ANNA, ["a"]),
    "page": lambda store: store.page(ANNA, Where(), limit=5),
    "search": lambda store: store.search(ANNA, Probe("tea", Where())),
    "delete": lambda store: store.delete(ANNA, ["a"]),
    "erase": lambda store: store.erase(ANNA.tenant),
    "count": lambda store: store.count(ANNA.tenant),
    "expired": lambda store: store.expired(1.0, 5),
    "unembedded": lambda store: store.unembedded(5),
    "tenants": lambda store: store.tenants(),
    "ping": lambda store: store.ping(),
    "adopt": lambda store: store.adopt(MODEL),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_server_that_fails_is_unavailable_in_every_call(
    qdrant: ScriptedQdrant, store: QdrantServerStore, call: str
) -> None:
    qdrant.answer = lambda *_: (500, {"status": {"error": "no"}})
    with pytest.raises(StoreUnavailable, match="500"):
        await CALLS[call](store)


async def test_a_search_that_met_a_closing_connection_is_asked_once_more(
    qdrant: ScriptedQdrant, store: QdrantServerStore
) -> None:
    qdrant.drop = 1
    assert (await store.search(ANNA, Probe("tea", Where()))).memories == {}
    qdrant.drop = 2
    with pytest.raises(StoreUnavailable):
        await store.search(ANNA, Probe("tea", Where()))
    assert qdrant.drop == 0


@pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection")
@pytest.mark.parametrize("key", [None, "qdrant-key"])
async def test_the_key_goes_along_with_every_call(qdrant: ScriptedQdrant, key: str | None) -> None:
    store = store_of(qdrant, api_key=key)
    await store.open()
    await store.search(ANNA, Probe("tea", Where()))
    await store.put(ANNA, [Entry(TEA)])
    await store.close()
    assert set(qdrant.keys) == {key}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"rubbish",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{]",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 401 No\r\nContent-Length: 3\r\n\r\nkey",
        b"HTTP/1.1 429 No\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 No\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=["closed", "rubbish", "torn", "no json", "other json", "401", "429", "302"],
)
async def test_an_answer_that_is_none_is_unavailable(
    qdrant: ScriptedQdrant, store: QdrantServerStore, raw: bytes
) -> None:
    qdrant.raw = raw
    with pytest.raises(StoreUnavailable):
        await store.search(ANNA, Probe("tea", Where()))


@pytest.mark.parametrize("call", ["count", "search"])
async def test_a_server_that_hangs_is_unavailable_after_the_timeout(
    qdrant: ScriptedQdrant, store: QdrantServerStore, call: str
) -> None:
    qdrant.hang = True
    with pytest.raises(StoreUnavailable, match=qdrant.url):
        await CALLS[call](store)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    store = QdrantServerStore(
        QdrantSettings(url="http://127.0.0.1:9", timeout_s=1.0),
        cipher=AesGcmCipher(),
        lexicon=Bm25Lexicon(),
    )
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        await store.open()
    await store.close()


async def test_an_address_of_a_server_without_a_port_is_the_clientsusual_one() -> None:
    engine = ServerEngine(QdrantSettings(url="http://127.0.0.1"))
    with pytest.raises(StoreUnavailable):
        await engine.open()
    await engine.close()


async def test_a_model_changed_by_another_process_is_noticed_and_the_write_made_again(
    qdrant: ScriptedQdrant, store: QdrantServerStore
) -> None:
    await store.adopt(MODEL)
    bigger = EmbeddingModel("test", "bigger", 4)
    qdrant.metadata = {"memory_gateway": {"format": 1, "model": asdict(bigger)}}

    def refuse_three_numbers(method: str, path: str, body: Any) -> tuple[int, Any]:
        if "/points" in path and "dense" in body["points"][0]["vector"]:
            wrong = "Wrong input: Vector dimension error: expected dim: 4, got 3"
            return 400, {"status": {"error": wrong}}
        return qdrant.usual(method, path, body)

    qdrant.answer = refuse_three_numbers
    await store.put(ANNA, [Entry(TEA, dense=(1.0, 0.0, 0.0))])
    assert store.model == bigger
    first, second = (body["points"][0] for body in qdrant.requests("PUT", "/points"))
    assert "owed" not in first["payload"]
    assert second["payload"]["owed"] == "yes"
    assert set(second["vector"]) == {"bm25"}


async def test_a_refused_vector_is_told_apart_from_other_refusals(
    qdrant: ScriptedQdrant, store: QdrantServerStore
) -> None:
    wrong = {"status": {"error": "Wrong input: Vector dimension error: expected dim: 3, got 4"}}
    qdrant.answer = lambda *_: (400, wrong)
    with pytest.raises(StoreUnavailable) as refusal:
        await store.engine.put([])
    assert refusal.value.code == "vectors"
