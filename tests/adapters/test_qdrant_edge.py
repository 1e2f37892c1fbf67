"""The embedded store and its process: what dies, what stays, who may hold it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.qdrant import shard
from gateway.adapters.qdrant.edge import EdgeEngine, QdrantEdgeStore
from gateway.adapters.qdrant.engine import Point, Row
from gateway.adapters.qdrant.process import _MAIN, _ROOT
from gateway.core.errors import SettingsError, StoreUnavailable, Unreadable
from gateway.core.identity import Owner, Person, new_owner
from gateway.core.memory import Entry, Memory, Probe, Source, Where
from gateway.core.stored import RECORD_VERSION, point_id, to_payload
from gateway.ports import EmbeddingModel
from tests.processes import gone

ANNA = new_owner(Person("default", "anna"))
BOB = new_owner(Person("default", "bob"))
MODEL = EmbeddingModel("test", "three-numbers", 3)


def memory(id: str, text: str = "likes tea", **fields: object) -> Memory:
    known = {"created_at": 1000.0, "updated_at": 1000.0, "valid_from": 1000.0}
    return Memory(id=id, kind="fact", type="profile", text=text, **(known | fields))  # type: ignore[arg-type]


def store_at(path: Path) -> QdrantEdgeStore:
    return QdrantEdgeStore(path, cipher=AesGcmCipher(), lexicon=Bm25Lexicon())


def engine_of(store: QdrantEdgeStore) -> EdgeEngine:
    assert isinstance(store.engine, EdgeEngine)
    return store.engine


def pid_of(store: QdrantEdgeStore) -> int:
    pid = engine_of(store).process.pid
    assert pid is not None
    return pid


@pytest.fixture
def tmp_path(quick_path: Path) -> Path:
    return quick_path


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[QdrantEdgeStore]:
    store = store_at(tmp_path / "qdrant")
    await store.open()
    yield store
    await store.close()


# --- what stays ------------------------------------------------------------------------------


def test_the_store_flushes_once_before_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first flush is the slow one where there is much: it is for nobody to wait for."""
    told: list[object] = []

    class Watched:
        def __init__(self, engine: Any) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> Any:
            return getattr(self._engine, name)

        def flush(self) -> None:
            told.append("flushed")
            self._engine.flush()

    load = shard.Shard._load
    monkeypatch.setattr(shard.Shard, "_load", lambda self: Watched(load(self)))
    monkeypatch.setattr(shard, "_send", lambda _, answer: told.append(answer))
    path = tmp_path / "q"
    for _ in ("new", "as it was left"):
        told.clear()
        ours, theirs = socket.socketpair()
        with theirs:
            ours.close()
            assert shard.serve(theirs, path) == 0
        assert told == ["flushed", [0, None], "flushed"], "then it greets; again at its end"


async def test_what_was_put_is_there_after_an_orderly_end(tmp_path: Path) -> None:
    store = store_at(tmp_path / "q")
    await store.open()
    await store.adopt(MODEL)
    await store.put(ANNA, [Entry(memory("a"), dense=(1.0, 0.0, 0.0))])
    await store.close()
    again = store_at(tmp_path / "q")
    await again.open()
    try:
        assert again.model == MODEL
        assert await again.get(ANNA, ["a"]) == [memory("a")]
        found = await again.search(ANNA, Probe("tea", Where(), dense=(1.0, 0.0, 0.0)))
        assert [id for id, _ in found.lists["dense"]] == ["a"]
    finally:
        await again.close()


async def test_one_thread_searches_also_in_a_store_that_an_older_program_made(
    tmp_path: Path,
) -> None:
    async def searchers(store: QdrantEdgeStore) -> int:
        # A thread gives itself its name when it first runs, which may be after the opening.
        found = await store.search(ANNA, Probe("tea", Where(), dense=(1.0, 0.0, 0.0)))
        assert [id for id, _ in found.lists["dense"]] == ["a"]
        assert [id for id, _ in found.lists["lexical"]] == ["a"]
        threads = Path(f"/proc/{pid_of(store)}/task").iterdir()
        return sum((t / "comm").read_text().startswith("edge-search") for t in threads)

    store = store_at(tmp_path / "q")
    await store.open()
    await store.adopt(MODEL)
    await store.put(ANNA, [Entry(memory("a"), dense=(1.0, 0.0, 0.0))])
    assert await searchers(store) == 1
    await store.close()
    settings = tmp_path / "q" / "shard" / "edge_config.json"
    older = orjson.loads(settings.read_bytes())
    del older["max_search_threads"]
    settings.write_bytes(orjson.dumps(older))
    again = store_at(tmp_path / "q")
    await again.open()
    try:
        assert await searchers(again) == 1
    finally:
        await again.close()


async def test_a_process_that_ends_at_its_start_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.qdrant.process._MAIN", "raise SystemExit(3)")
    store = QdrantEdgeStore(tmp_path, cipher=AesGcmCipher(), lexicon=Bm25Lexicon())
    with pytest.raises(StoreUnavailable, match=r"exit status 3.*room"):
        await store.open()
    await store.close()


async def test_an_acknowledged_write_survives_a_killed_process_and_the_next_call_starts_a_new_one(
    store: QdrantEdgeStore,
) -> None:
    await store.put(ANNA, [Entry(memory(str(i))) for i in range(100)])
    first = pid_of(store)
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 20.0
    while True:
        try:
            assert await store.count(ANNA.tenant) == 100
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    assert pid_of(store) != first
    found = await store.search(ANNA, Probe("tea", Where(), limit=200))
    assert len(found.memories) == 100


async def test_a_process_that_cannot_be_started_just_now_is_a_store_that_is_away(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("gateway.adapters.qdrant.process.RESTART_S", 0.0)
    os.kill(pid_of(store), signal.SIGKILL)
    with pytest.raises(StoreUnavailable):
        await store.count(ANNA.tenant)
    with monkeypatch.context() as full:
        full.setattr(subprocess, "Popen", no_room)
        with pytest.raises(StoreUnavailable, match="cannot be started"):
            await store.count(ANNA.tenant)
    assert await store.count(ANNA.tenant) == 0


async def test_a_call_under_way_when_the_process_dies_fails_as_unavailable(
    store: QdrantEdgeStore,
) -> None:
    os.kill(pid_of(store), signal.SIGSTOP)
    waiting = asyncio.gather(
        *(store.get(ANNA, ["a"]) for _ in range(3)), store.tenants(), return_exceptions=True
    )
    await asyncio.sleep(0)
    os.kill(pid_of(store), signal.SIGKILL)
    assert [type(answer) for answer in await waiting] == [StoreUnavailable] * 4


async def test_a_deadline_on_a_slow_call_leaves_the_store_usable(store: QdrantEdgeStore) -> None:
    await store.put(ANNA, [Entry(memory("a"))])
    os.kill(pid_of(store), signal.SIGSTOP)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await store.search(ANNA, Probe("tea", Where()))
    finally:
        os.kill(pid_of(store), signal.SIGCONT)
    assert set((await store.search(ANNA, Probe("tea", Where()))).memories) == {"a"}


GATEWAY = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.qdrant.edge import QdrantEdgeStore
from gateway.core.identity import Owner, Person
from gateway.core.memory import Entry, Memory

async def main():
    store = QdrantEdgeStore(Path(sys.argv[1]), cipher=AesGcmCipher(), lexicon=Bm25Lexicon())
    await store.open()
    owner = Owner(Person("default", "anna"), sys.argv[2], bytes.fromhex(sys.argv[3]))
    for i in range(50):
        await store.put(owner, [Entry(Memory(str(i), "turn", "tea", 1.0, 1.0, 1.0))])
    print(store.engine.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def gateway(path: Path, owner: Owner = ANNA) -> subprocess.Popen[str]:
    """Another process that holds the store at `path` and has put fifty memories."""
    arguments = [str(path), owner.tenant, owner.key.hex()]
    return subprocess.Popen(
        [sys.executable, "-c", GATEWAY, *arguments], stdout=subprocess.PIPE, text=True
    )


async def test_all_is_there_after_kill_9_of_the_gateway_and_its_process_is_gone(
    tmp_path: Path,
) -> None:
    with gateway(tmp_path / "q") as other:
        assert other.stdout is not None
        shard = int(await asyncio.to_thread(other.stdout.readline))
        other.kill()
    store = store_at(tmp_path / "q")
    await store.open()  # waits for the orphan, which flushes and ends
    try:
        assert await store.count(ANNA.tenant) == 50
        await gone(shard)
    finally:
        await store.close()


def test_it_ends_in_order_where_the_gateway_left_answers_unread(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = [_ROOT, str(theirs.fileno()), str(tmp_path / "q")]
        shard = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, *arguments], pass_fds=(theirs.fileno(),)
        )
    with shard, ours:
        ours.settimeout(30)
        assert ours.recv(4096, socket.MSG_PEEK)  # it has loaded; closed unread, that is a reset
        ours.close()
        assert shard.wait(30) == 0


# --- what a search brings --------------------------------------------------------------------


class Calls:
    """What is asked of the store's process, as it is asked."""

    def __init__(self, store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        process = engine_of(store).process
        call = process.call

        async def told(name: str, *arguments: object) -> object:
            self.names.append(name)
            return await call(name, *arguments)

        monkeypatch.setattr(process, "call", told)


async def test_a_search_is_one_call_whatever_of_it_was_opened_before(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(ANNA, [Entry(memory("a", "tea")), Entry(memory("b", "tea and milk"))])
    calls = Calls(store, monkeypatch)
    assert set((await store.search(ANNA, Probe("milk", Where()))).memories) == {"b"}
    assert set((await store.search(ANNA, Probe("tea", Where()))).memories) == {"a", "b"}
    again = await store.search(ANNA, Probe("tea", Where()))
    assert again.memories == {m.id: m for m in await store.get(ANNA, ["a", "b"])}
    assert calls.names == ["search"] * 3 + ["retrieve"]


@pytest.mark.parametrize("gone", ["forgotten", "deleted"])
async def test_of_what_is_gone_no_words_are_held_opened(store: QdrantEdgeStore, gone: str) -> None:
    await store.put(ANNA, [Entry(memory("a", "tea")), Entry(memory("b", "tea and milk"))])
    await store.search(ANNA, Probe("tea", Where()))
    if gone == "forgotten":
        await store.put(ANNA, [Entry(replace(memory("a", ""), status="forgotten"))])
    else:
        await store.delete(ANNA, ["a"])
    assert store._opened.shelf(ANNA.tenant).memories == {}
    assert set((await store.search(ANNA, Probe("tea", Where()))).memories) == {"b"}


async def test_what_was_written_again_is_found_as_it_now_is(store: QdrantEdgeStore) -> None:
    for text in ("tea with milk", "tea with lemon", "tea with honey"):
        await store.put(ANNA, [Entry(memory("a", text)), Entry(memory("b", "tea"))])
        for _ in range(2):
            found = await store.search(ANNA, Probe("tea", Where()))
            assert {m.text for m in found.memories.values()} == {text, "tea"}


async def test_what_went_to_a_search_that_was_given_up_is_asked_for_again(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(ANNA, [Entry(memory("a", "tea")), Entry(memory("b", "tea and milk"))])
    given_up = asyncio.create_task(store.search(ANNA, Probe("milk", Where())))
    await asyncio.sleep(0)  # it has asked
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    calls = Calls(store, monkeypatch)
    for _ in range(2):
        found = await store.search(ANNA, Probe("tea", Where()))
        assert set(found.memories) == {"a", "b"}
        assert [id for id, _ in found.lists["lexical"]] == ["a", "b"]
    assert calls.names == ["search", "retrieve", "search"]


async def test_what_cannot_be_read_is_sent_once_and_read_as_soon_as_it_can_be(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(ANNA, [Entry(memory("a", "tea"))])
    moved = to_payload(ANNA, Entry(memory("b")), AesGcmCipher().seal, embedded=True)
    await engine_of(store).put([Point(point_id(ANNA.tenant, "c"), {}, moved)])
    calls = Calls(store, monkeypatch)
    for _ in range(3):
        assert set((await store.search(ANNA, Probe("tea", Where(), standing=9))).memories) == {"a"}
    assert calls.names == ["search"] * 3
    await store.put(ANNA, [Entry(memory("c"))])  # it was restored
    found = await store.search(ANNA, Probe("tea", Where(), standing=9))
    assert set(found.memories) == {"a", "c"}


async def test_what_changed_before_it_was_asked_for_again_is_left_out(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(ANNA, [Entry(memory("a", "tea")), Entry(memory("b", "tea and milk"))])
    given_up = asyncio.create_task(store.search(ANNA, Probe("tea", Where())))
    await asyncio.sleep(0)  # it has asked
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    engine = engine_of(store)
    retrieve = engine.retrieve

    async def late(points: Sequence[str]) -> list[Row]:
        await store.put(ANNA, [Entry(replace(memory("a", "tea"), status="superseded"))])
        return await retrieve(points)

    monkeypatch.setattr(engine, "retrieve", late)
    found = await store.search(ANNA, Probe("tea", Where()))
    assert {m.id: m.status for m in found.memories.values()} == {"b": "active"}


async def test_a_new_process_sends_what_the_former_had_sent(
    store: QdrantEdgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.qdrant.process.RESTART_S", 0.0)
    await store.put(ANNA, [Entry(memory("a", "tea")), Entry(memory("b", "tea and milk"))])
    await store.search(ANNA, Probe("milk", Where()))
    os.kill(pid_of(store), signal.SIGKILL)
    deadline = time.monotonic() + 20.0
    while True:
        try:
            found = await store.search(ANNA, Probe("tea", Where()))
            break
        except StoreUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
    assert set(found.memories) == {"a", "b"}


async def test_without_a_cache_a_search_is_still_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = QdrantEdgeStore(tmp_path, cipher=AesGcmCipher(), lexicon=Bm25Lexicon(), cache_bytes=0)
    await bare.open()
    try:
        await bare.put(ANNA, [Entry(memory("a", "tea")), Entry(memory("b", "tea and milk"))])
        calls = Calls(bare, monkeypatch)
        for _ in range(3):
            assert set((await bare.search(ANNA, Probe("tea", Where()))).memories) == {"a", "b"}
        assert calls.names == ["search"] * 3
        assert len(bare._opened) == 0
    finally:
        await bare.close()


async def test_many_searches_at_once_each_find_all(tmp_path: Path) -> None:
    """Also with a cache that holds a handful: what was sent is gone when it is asked for."""
    few = QdrantEdgeStore(
        tmp_path, cipher=AesGcmCipher(), lexicon=Bm25Lexicon(), cache_bytes=20_000
    )
    await few.open()
    try:
        owners = [new_owner(Person("default", str(n))) for n in range(4)]
        for owner in owners:
            texts = [f"tea {'milk' if n % 2 else 'lemon'}" for n in range(20)]
            made = [memory(f"{owner.tenant}-{n}", text) for n, text in enumerate(texts)]
            await few.put(owner, [Entry(one) for one in made])
        asked = [(o, word) for o in owners for word in ("tea", "milk", "lemon")] * 10
        found = await asyncio.gather(*(few.search(o, Probe(w, Where())) for o, w in asked))
        for (owner, word), one in zip(asked, found, strict=True):
            assert len(one.memories) == (20 if word == "tea" else 10)
            assert all(id.startswith(owner.tenant) for id in one.memories)
            assert {id for id, _ in one.lists["lexical"]} == set(one.memories)
    finally:
        await few.close()


# --- who holds it ----------------------------------------------------------------------------


async def test_a_second_gateway_is_told_in_one_line_who_holds_the_store(tmp_path: Path) -> None:
    with gateway(tmp_path / "q") as other:
        assert other.stdout is not None
        shard = int(await asyncio.to_thread(other.stdout.readline))
        second = store_at(tmp_path / "q")
        with pytest.raises(SettingsError, match=f"process id {other.pid}") as refusal:
            await second.open()
        assert "\n" not in refusal.value.message
        await second.close()
        other.kill()
    await gone(shard)


async def test_two_stores_in_one_process_do_not_share_a_directory(
    store: QdrantEdgeStore, tmp_path: Path
) -> None:
    second = store_at(tmp_path / "qdrant")
    with pytest.raises(SettingsError, match=f"process id {os.getpid()}"):
        await second.open()
    await second.close()
    await store.ping()


async def test_the_directory_is_for_its_user_alone(store: QdrantEdgeStore, tmp_path: Path) -> None:
    assert (tmp_path / "qdrant").stat().st_mode & 0o777 == 0o700


async def test_closing_ends_the_process_and_may_be_repeated(tmp_path: Path) -> None:
    store = store_at(tmp_path / "q")
    await store.open()
    pid = pid_of(store)
    await store.close()
    await store.close()
    await gone(pid)
    with pytest.raises(StoreUnavailable):
        await store.ping()


async def test_the_process_leaves_ctrl_c_and_termination_to_the_gateway(
    store: QdrantEdgeStore,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid_of(store), number)
    await store.ping()
    assert os.getsid(pid_of(store)) != os.getsid(0)


# --- what is refused -------------------------------------------------------------------------


async def test_a_store_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    store = store_at(tmp_path / "q")
    await store.open()
    await store.close()
    (tmp_path / "q" / "store.json").write_bytes(orjson.dumps({"format": 99, "model": None}))
    newer = store_at(tmp_path / "q")
    with pytest.raises(SettingsError, match="format 99"):
        await newer.open()
    await newer.close()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"model": null}'])
async def test_a_damaged_store_is_refused_and_never_begun_anew(
    tmp_path: Path, damage: bytes
) -> None:
    store = store_at(tmp_path / "q")
    await store.open()
    await store.put(ANNA, [Entry(memory("a"))])
    await store.close()
    meta = tmp_path / "q" / "store.json"
    whole = meta.read_bytes()
    meta.write_bytes(damage)
    damaged = store_at(tmp_path / "q")
    with pytest.raises(SettingsError, match=r"store\.json"):
        await damaged.open()
    await damaged.close()
    meta.write_bytes(whole)
    mended = store_at(tmp_path / "q")
    await mended.open()
    assert await mended.count(ANNA.tenant) == 1
    await mended.close()


async def test_a_store_whose_making_was_interrupted_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "q" / "shard.new" / "segments"
    half.mkdir(parents=True)
    (half / "rubbish").write_text("x")
    store = store_at(tmp_path / "q")
    await store.open()
    await store.put(ANNA, [Entry(memory("a"))])
    assert await store.count(ANNA.tenant) == 1
    await store.close()
    assert not (tmp_path / "q" / "shard.new").exists()


async def test_a_changed_model_that_was_interrupted_is_changed_from_the_start(
    tmp_path: Path,
) -> None:
    store = store_at(tmp_path / "q")
    await store.open()
    await store.adopt(MODEL)
    await store.put(ANNA, [Entry(memory(str(i)), dense=(1.0, 0.0, 0.0)) for i in range(3)])
    await engine_of(store).process.call("begin_model", 4, True)
    await store.close()
    again = store_at(tmp_path / "q")
    await again.open()
    try:
        assert again.model is None
        assert set((await again.search(ANNA, Probe("tea", Where()))).memories) == {"0", "1", "2"}
        bigger = EmbeddingModel("test", "bigger", 5)
        await again.adopt(bigger)
        assert again.model == bigger
        assert len(await again.unembedded(10)) == 3
    finally:
        await again.close()


async def test_a_memory_of_a_newer_version_is_refused_and_not_passed_over(
    store: QdrantEdgeStore,
) -> None:
    await store.put(ANNA, [Entry(memory("a"))])
    newer = to_payload(ANNA, Entry(memory("b")), AesGcmCipher().seal, embedded=True)
    newer["v"] = RECORD_VERSION + 1
    await engine_of(store).put([Point(point_id(ANNA.tenant, "b"), {}, newer)])
    assert await store.get(ANNA, ["a"]) == [memory("a")]
    with pytest.raises(Unreadable, match="newer program"):
        await store.get(ANNA, ["a", "b"])
    with pytest.raises(Unreadable, match="newer program"):
        await store.page(ANNA, Where(), limit=10)


async def test_one_damaged_memory_does_not_take_the_others_with_it(store: QdrantEdgeStore) -> None:
    await store.put(ANNA, [Entry(memory("a"))])
    moved = to_payload(ANNA, Entry(memory("b")), AesGcmCipher().seal, embedded=True)
    await engine_of(store).put([Point(point_id(ANNA.tenant, "c"), {}, moved)])
    assert [m.id for m in await store.page(ANNA, Where(), limit=10)] == ["a"]
    assert await store.get(ANNA, ["c"]) == []


async def test_a_point_that_claims_a_tenant_is_still_not_readable_with_another_key(
    store: QdrantEdgeStore,
) -> None:
    """Someone who can write to the engine cannot move Anna's words to Bob."""
    await store.put(ANNA, [Entry(memory("a", "tea with lemon"))])
    [(point, payload)] = await engine_of(store).retrieve([point_id(ANNA.tenant, "a")])
    stolen = dict(payload) | {"tenant": BOB.tenant, "live": BOB.tenant}
    await engine_of(store).put([Point(point, {}, stolen)])
    assert await store.page(BOB, Where(), limit=10) == []
    assert await store.get(ANNA, ["a"]) == []


# --- what rests on the disk ------------------------------------------------------------------


def bytes_below(path: Path) -> bytes:
    """What the files hold; the engine makes them large, and mostly holes."""
    return b"".join(data_of(file) for file in sorted(path.rglob("*")) if file.is_file())


def data_of(file: Path) -> bytes:
    parts = []
    descriptor = os.open(file, os.O_RDONLY)
    try:
        size, at = os.fstat(descriptor).st_size, 0
        while at < size:
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError:  # nothing but a hole from here on
                break
            end = os.lseek(descriptor, at, os.SEEK_HOLE)
            parts.append(os.pread(descriptor, end - at, at))
            at = end
    finally:
        os.close(descriptor)
    return b"".join(parts)


async def test_no_word_and_no_outside_id_rests_on_the_disk(tmp_path: Path) -> None:
    store = store_at(tmp_path / "q")
    await store.open()
    secret = memory(
        "outside-identifier",
        "is allergic to pistachios",
        key="allergy",
        value="hazelnut",
        source=Source("user", "chat", "exchange-seven", "session-seven", "no walnuts"),
        speaker="Annabelle",
        metadata={"project": "macadamia"},
    )
    window = "asked about cashews\nis allergic to pistachios"
    await store.put(ANNA, [Entry(secret, window=window)])
    words = [b"pistachio", b"hazelnut", b"walnut", b"macadamia", b"cashew", b"allerg"]
    words += [b"Annabelle", b"outside-identifier", b"-seven", b"project"]
    await engine_of(store).process.call("flush")
    for stage in ("while it is open", "after it was erased", "after it was closed"):
        rests = bytes_below(tmp_path / "q")
        assert ANNA.tenant.encode() in rests
        assert [word for word in words if word in rests] == [], stage
        if stage == "while it is open":
            assert await store.erase(ANNA.tenant) == 1
            await engine_of(store).process.call("flush")
        elif stage == "after it was erased":
            await store.close()


async def test_an_owner_whose_texts_are_not_sealed_is_served_as_well(
    store: QdrantEdgeStore,
) -> None:
    plain = Owner(Person("default", "open"), "f" * 32)
    noted = memory("a", source=Source(session="s"), metadata={"n": 1})
    await store.put(plain, [Entry(noted)])
    where = Where(session="s", metadata={"n": 1})
    assert (await store.search(plain, Probe("tea", where))).memories == {"a": noted}
