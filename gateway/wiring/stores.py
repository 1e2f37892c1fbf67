"""Redis, Qdrant and the directory: embedded or servers, now or as soon as they are there."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.config import AppSettings
from gateway.core.errors import SettingsError, StoreUnavailable, Unavailable
from gateway.ports import Cipher, Embedder, MemoryStore
from gateway.telemetry.logs import log
from gateway.wiring.deployment import GatewayDeployment

_log = log("wiring")

RETRY_S: Final = 2.0
"""Between tries to open a Qdrant server that was away at the start."""
MODEL_POLL_S: Final = 0.25
"""How often a loading embedder is asked whether its model is known now."""


async def redis_clients(deployment: GatewayDeployment, scope: AppSettings) -> tuple[Any, Any]:
    """The queue's client, and the shared state's (the same unless it has a URL of its own)."""
    if scope.redis.url is None:
        client = _redis_client(deployment, await _embedded_redis(deployment, scope), scope)
        return client, client
    client = _redis_client(deployment, scope.redis.url, scope)
    if scope.redis.state_url is None:
        return client, client
    return client, _redis_client(deployment, scope.redis.state_url, scope)


async def _embedded_redis(deployment: GatewayDeployment, scope: AppSettings) -> str:
    from gateway.adapters.embedded_redis import EmbeddedRedis

    server = EmbeddedRedis(deployment.settings.data_dir / "redis", durable=scope.queue.durable)
    deployment.copies["redis"] = lambda to: server.copy_to(to / "redis")
    url = await server.start()
    deployment.parts.push_async_callback(server.stop)
    deployment.beside(server.keep_alive(), "keep the embedded redis alive")
    return url


def _redis_client(deployment: GatewayDeployment, url: str, scope: AppSettings) -> Any:
    """A client of one server, a cluster (`redis+cluster://`) or whoever the sentinels name
    (`redis+sentinel://host:26379,host:26379/service/db`)."""
    from gateway.adapters.redis_wire import RedisWire, fits

    client: Any
    if fits(url):
        client = RedisWire(url, timeout_s=scope.redis.timeout_s)
    else:
        from gateway.adapters.redis_fleet import redis_fleet

        client = redis_fleet(url, timeout_s=scope.redis.timeout_s)
    deployment.parts.push_async_callback(client.aclose)
    return client


def memory_store(deployment: GatewayDeployment, scope: AppSettings, cipher: Cipher) -> MemoryStore:
    from gateway.adapters.bm25 import Bm25Lexicon

    lexicon = Bm25Lexicon()
    lexicon.load()
    if scope.qdrant.url is None:
        from gateway.adapters.qdrant.edge import QdrantEdgeStore

        store = QdrantEdgeStore(
            deployment.settings.data_dir / "qdrant",
            cipher=cipher,
            lexicon=lexicon,
            cache_bytes=scope.qdrant.cache_bytes,
        )
        deployment.copies["qdrant"] = lambda to: store.copy_to(to / "qdrant")
        return store
    from gateway.adapters.qdrant.server import QdrantServerStore

    return QdrantServerStore(scope.qdrant, cipher=cipher, lexicon=lexicon)


async def open_store(deployment: GatewayDeployment, scope: AppSettings, store: MemoryStore) -> None:
    """Open it now, or as soon as it is there: chats do not wait for a Qdrant that is away."""
    try:
        await store.open()
    except StoreUnavailable as exc:
        if scope.qdrant.url is None:
            raise
        _log.warning("store_away", reason=exc.message, retry_s=RETRY_S)
        deployment.beside(_until_open(store), "open the store")


async def _until_open(store: MemoryStore) -> None:
    while True:
        await asyncio.sleep(RETRY_S)
        try:
            await store.open()
        except StoreUnavailable:
            continue
        except SettingsError as exc:
            _log.error("store_refused", reason=exc.message)
        else:
            _log.info("store_back")
        return


async def until_adopted(store: MemoryStore, embedder: Embedder) -> None:
    """Tell the store the model of its vectors once that is known: a local one loads behind."""
    while True:
        model = embedder.model
        if model is None:
            await asyncio.sleep(MODEL_POLL_S)
            continue
        try:
            await store.adopt(model)
        except Unavailable:
            await asyncio.sleep(RETRY_S)
            continue
        except SettingsError as exc:
            _log.error("embedder_refused", reason=exc.message)
        return


def directory_of(deployment: GatewayDeployment, scope: AppSettings, client: Any) -> Any:
    if scope.redis.url is None:
        from gateway.adapters.directory_sqlite import SqliteDirectory

        directory = SqliteDirectory(
            deployment.settings.data_dir / "directory.sqlite",
            clock=deployment.clock,
            settings=deployment.settings,
        )
        deployment.copies["directory"] = lambda to: directory.copy_to(to / "directory.sqlite")
        return directory
    from gateway.adapters.directory_redis import RedisDirectory

    breaker_open = deployment.metrics.breaker_open.labels("directory")
    breaker_open.set(0)
    return RedisDirectory(
        client,
        clock=deployment.clock,
        settings=deployment.settings,
        tell_open=breaker_open.set,
    )
