"""The one place where everything meets: settings become services, services a deployment.

Embedded (no URLs): one data directory, held by this process, with a redis-server and Qdrant
Edge of our own below it. Servers: clients of the Redis and Qdrant that the settings name; one
that is away now does not stop the start, for it may come back. Apps share every part that
they do not set for themselves.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.adapters.data_dir import DataDirLock, make_private
from gateway.adapters.embed_cached import CachedEmbedder
from gateway.config import AppSettings, Settings
from gateway.config.settings import EmbeddingSettings
from gateway.core.attempts import Attempts
from gateway.core.breaker import Breaker
from gateway.core.errors import (
    GatewayError,
    QueueUnavailable,
    SettingsError,
    StateUnavailable,
    StoreUnavailable,
    Unavailable,
)
from gateway.core.identity import DEFAULT_APP
from gateway.core.memory import Instant
from gateway.flows import telling
from gateway.flows.endings import Endings
from gateway.flows.guarded import guard
from gateway.flows.sweep import drain_spool
from gateway.flows.tasks import TaskGroupOfBackground, beside, ended
from gateway.ports import (
    Background,
    Cipher,
    Clock,
    Embedder,
    MemoryStore,
    Reranker,
    Services,
    Upstream,
)
from gateway.telemetry import tracing
from gateway.telemetry.logs import log
from gateway.telemetry.metrics import Metrics
from gateway.wiring_models import choose_embedder, choose_extractor
from gateway.wiring_upkeep import Copy, back_up, change_embedder, with_breaker
from gateway.worker import Worker, drain_spools

_log = log("wiring")

SPOOL_S: Final = 5.0
"""Of a start, at most, for what waits on disk; the rest goes in beside the first requests."""
RETRY_S: Final = 2.0
"""Between tries to open a Qdrant server that was away at the start."""
MODEL_POLL_S: Final = 0.25
"""How often a loading embedder is asked whether its model is known now."""
ADOPT_S: Final = 10.0
"""How long a start waits for a new store to make room for its model's vectors."""
COPIED: Final = ("spool", "redis", "qdrant", "directory")
"""The parts of a backup, in the order that they are copied in; `wiring_upkeep` says why."""
TOKEN_FILE: Final = "admin.token"  # noqa: S105 - a file's name


def now() -> Instant:
    """The wall clock, in the microseconds that stores keep."""
    return round(time.time(), 6)


class GatewayDeployment:
    """A running gateway: implements `ports.Deployment`, and owns what it opened."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._background = TaskGroupOfBackground()
        self._metrics = Metrics()
        self._attempts = Attempts(settings.server.wrong_credentials_per_minute)
        self._services: dict[str, Services] = {}
        self._draining = False
        self._changing = asyncio.Lock()
        self._stop = asyncio.Event()
        self._worker: asyncio.Task[Any] | None = None
        self.parts = AsyncExitStack()
        self.admin_token = ""
        self.copies: dict[str, Copy] = {}
        self.replaces_model = False

    @property
    def settings(self) -> Settings:
        return self._settings

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def background(self) -> Background:
        return self._background

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    @property
    def attempts(self) -> Attempts:
        return self._attempts

    @property
    def draining(self) -> bool:
        return self._draining

    def settings_for(self, app: str) -> AppSettings:
        return self._settings.app(app)

    def services_for(self, app: str) -> Services:
        return self._services.get(app) or self._services[DEFAULT_APP]

    def all_services(self) -> Sequence[Services]:
        distinct: dict[int, Services] = {}
        for services in self._services.values():
            distinct.setdefault(id(services.queue), services)
        return list(distinct.values())

    async def change_embedder(self, embedding: EmbeddingSettings) -> None:
        async with self._changing:
            scope = self._settings.model_copy(update={"embedding": embedding})
            for services in self.all_services():
                await change_embedder(
                    services, scope, metrics=self._metrics, data_dir=self._settings.data_dir
                )

    async def back_up(self, directory: Path) -> dict[str, Any]:
        copies: dict[str, Copy] = {
            name: self.copies[name] for name in COPIED if name in self.copies
        }
        async with self._changing:
            return await back_up(copies, self._settings.data_dir, directory, now=self._clock())

    def beside(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Do `work` for as long as the parts opened so far are open."""
        task = asyncio.create_task(work, name=name)
        self.parts.push_async_callback(_cancelled, task)
        return task

    def use(self, app: str, services: Services) -> None:
        """These are this app's services from now on."""
        self._services[app] = services

    def start_worker(self, concurrency: int) -> None:
        """Distil here, beside the requests."""
        worker = Worker(self, concurrency)
        self._worker = asyncio.create_task(worker.run(self._stop), name="worker")

    def start_draining(self) -> None:
        """Distil elsewhere; what waits on this machine's disk is handed over from here."""
        self._worker = asyncio.create_task(drain_spools(self, self._stop), name="drain the spool")

    def drain(self) -> None:
        """An end was asked for: say so on `/readyz`, begin no new work."""
        self._draining = True

    async def close(self) -> None:
        """Hand over what was said, let the worker give back its leases, close every part."""
        self.drain()
        await self._background.drain(self._settings.server.grace_s)
        self._stop.set()
        if self._worker is not None:
            await asyncio.wait([self._worker], timeout=self._settings.server.grace_s)
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        await self.parts.aclose()


async def open_deployment(
    settings: Settings,
    *,
    clock: Clock = now,
    worker: bool | None = None,
    replaces_model: bool = False,
) -> GatewayDeployment:
    """Open every part that the settings ask for, and a worker beside them.

    `worker` defaults to yes where the gateway is embedded. `replaces_model` (for `reembed`): the
    store may hold another model's vectors than the settings ask for. Raises SettingsError where
    the settings cannot be carried out, and Unavailable where a part of our own does not come up.
    """
    deployment = GatewayDeployment(settings, clock)
    deployment.replaces_model = replaces_model
    try:
        await _open(deployment)
        await _spooled_before(deployment)
    except BaseException:
        await deployment.parts.aclose()
        raise
    if settings.embedded if worker is None else worker:
        deployment.start_worker(settings.extraction.concurrency)
    else:
        deployment.start_draining()
    return deployment


async def _open(deployment: GatewayDeployment) -> None:
    settings = deployment.settings
    if settings.tracing.enabled:
        tracing.configure(
            endpoint=settings.tracing.endpoint, service_name=settings.tracing.service_name
        )
        deployment.parts.callback(tracing.close)
    # What this process and its own children make while it serves is for this user alone.
    deployment.parts.callback(os.umask, os.umask(0o077))
    if settings.embedded:
        lock = DataDirLock(settings.data_dir)
        lock.acquire()
        deployment.parts.callback(lock.release)
        if (settings.data_dir / "restore.new").exists():
            raise SettingsError(
                f"data_dir: a restore into {settings.data_dir} was interrupted; run it again",
                param="data_dir",
            )
    else:
        make_private(settings.data_dir)
    deployment.admin_token = _admin_token(settings)
    first = await _whole_services(deployment, settings)
    deployment.use(DEFAULT_APP, first)
    for name in settings.apps:
        deployment.use(name, await _services_of_app(deployment, name, first))
    if not settings.embedded:
        told = telling.tell(deployment.all_services, deployment.metrics)
        deployment.beside(told, "tell what was counted")
    for services in deployment.all_services():
        for part, note in services.notes.items():
            _log.info("chosen", part=part, what=note)


async def _spooled_before(deployment: GatewayDeployment) -> None:
    """What waits on disk goes in before anybody is answered, as far as that is quickly done: who
    said it sends it again with the next message, and it must be known by then."""
    with suppress(GatewayError, TimeoutError):
        async with asyncio.timeout(SPOOL_S):
            for services in deployment.all_services():
                await drain_spool(services)


# --- one app's services --------------------------------------------------------------------


async def _whole_services(deployment: GatewayDeployment, scope: AppSettings) -> Services:
    """Every part anew, for these settings."""
    from gateway.adapters.cipher import AesGcmCipher
    from gateway.adapters.jwks import HttpJwks
    from gateway.adapters.redis_budget import RedisBudget
    from gateway.adapters.redis_queue import RedisQueue
    from gateway.adapters.redis_receipts import RedisReceipts
    from gateway.adapters.redis_revocations import RedisRevocations
    from gateway.adapters.redis_state import RedisState
    from gateway.adapters.redis_tally import RedisTally
    from gateway.adapters.redis_writers import RedisWriters
    from gateway.adapters.spool import FileSpool

    settings, parts = deployment.settings, deployment.parts
    cipher = AesGcmCipher()
    store = _store(deployment, scope, cipher)
    parts.push_async_callback(store.close)
    opening = beside(_open_store(deployment, store), "open the store")
    try:
        # Both at once: embedded, each is a process that reads its files.
        queue_client, state_client = await _redis_clients(deployment, scope)
        await opening
    finally:
        await ended(opening)
    directory = _directory(deployment, scope, state_client)
    parts.push_async_callback(directory.close)
    embedder, embedding_note = await choose_embedder(
        scope,
        None if deployment.replaces_model else store.model,
        metrics=deployment.metrics,
        data_dir=settings.data_dir,
    )
    parts.push_async_callback(embedder.close)
    if not deployment.replaces_model:  # `change_embedder` adopts it then
        adopted = deployment.beside(_until_adopted(store, embedder), "adopt the model")
        if settings.embedded and embedder.model is not None:
            # A new store makes room for its vectors first, and the first search would wait.
            await asyncio.wait([adopted], timeout=ADOPT_S)
    extractor, extraction_note = choose_extractor(scope, metrics=deployment.metrics)
    if extractor is not None:
        parts.push_async_callback(extractor.close)
    jwks = HttpJwks()
    parts.push_async_callback(jwks.close)
    spool = FileSpool(
        settings.data_dir / "spool",
        cipher=cipher,
        by_tenant=directory.by_tenant,
        max_bytes=scope.queue.spool_max_bytes,
    )
    await spool.open()
    if settings.embedded:
        # It only grows; what a copy tears at its end is cut when it is opened.
        deployment.copies["spool"] = lambda to: asyncio.to_thread(_copy_spool, settings, to)
    parts.push_async_callback(spool.close)
    services = Services(
        upstream=_upstream(deployment, scope),
        cipher=cipher,
        directory=directory,
        keys=directory,
        store=store,
        queue=RedisQueue(
            queue_client,
            cipher=cipher,
            by_tenant=directory.by_tenant,
            settings=scope.queue,
            extraction_for=lambda app: deployment.settings_for(app).extraction,
        ),
        spool=spool,
        state=RedisState(state_client, cipher),
        receipts=RedisReceipts(state_client, cipher, deployment.settings_for),
        embedder=embedder,
        extractor=extractor,
        clock=deployment.clock,
        jwks=jwks,
        tally=RedisTally(state_client),
        revocations=RedisRevocations(state_client),
        writers=None if scope.redis.url is None else RedisWriters(state_client),
        budget=RedisBudget(state_client),
        reranker=_reranker(deployment, scope),
        notes={"embedding": embedding_note, "extraction": extraction_note},
    )
    deployment.beside(Endings(services).watch(), "let go of the erased")
    return _with_breakers(services, deployment.metrics, one_redis=queue_client is state_client)


def _reranker(deployment: GatewayDeployment, scope: AppSettings) -> Reranker | None:
    """The cross-encoder that rereads the best candidates, where the settings ask for one."""
    if scope.memory.rerank == "off":
        return None
    from gateway.adapters.rerank_fastembed import DEFAULT_MODEL, FastembedReranker

    reranker = FastembedReranker(
        scope.memory.rerank_model or DEFAULT_MODEL,
        cache_dir=deployment.settings.data_dir / "models",
    )
    deployment.parts.push_async_callback(reranker.close)
    return reranker


def _with_breakers(services: Services, metrics: Metrics, *, one_redis: bool) -> Services:
    """What chats wait for is not asked again at once where it failed a moment ago."""
    queue_breaker = Breaker()
    state_breaker = queue_breaker if one_redis else Breaker()
    if isinstance(services.embedder, CachedEmbedder):
        # Below the cache: a question known by heart needs no embedder.
        services.embedder.inner = with_breaker(services.embedder.inner, metrics)
    return replace(
        services,
        store=guard(
            services.store,
            Breaker(),
            calls=("search", "get"),
            error=StoreUnavailable,
            part="store",
            metrics=metrics,
        ),
        queue=guard(
            services.queue,
            queue_breaker,
            calls=("put", "pending"),
            error=QueueUnavailable,
            part="queue",
            metrics=metrics,
        ),
        state=guard(
            services.state,
            state_breaker,
            calls=("open", "limits", "note_seen", "note_injected"),
            cached=("limits",),
            error=StateUnavailable,
            part="state",
            metrics=metrics,
        ),
    )


async def _services_of_app(deployment: GatewayDeployment, name: str, shared: Services) -> Services:
    """The shared services with what this app sets for itself in their place."""
    scope, own = deployment.settings_for(name), deployment.settings.own(name)
    if own & {"qdrant", "redis"}:
        return await _whole_services(deployment, scope)
    if "embedding" in own and scope.embedding != deployment.settings.embedding:
        raise SettingsError(
            f"apps.{name}.embedding: vectors of two models do not mix in one store. Give the app"
            f" stores of its own (apps.{name}.qdrant and apps.{name}.redis) too",
            param=f"apps.{name}.embedding",
        )
    services = shared
    if "upstream" in own:
        services = replace(services, upstream=_upstream(deployment, scope))
    if own & {"extraction", "upstream"}:
        extractor, note = choose_extractor(scope, metrics=deployment.metrics)
        if extractor is not None:
            deployment.parts.push_async_callback(extractor.close)
        services = replace(
            services, extractor=extractor, notes={**services.notes, "extraction": note}
        )
    return services


def _upstream(deployment: GatewayDeployment, scope: AppSettings) -> Upstream:
    from gateway.adapters.upstream import HttpUpstream

    upstream = HttpUpstream(scope.upstream)
    deployment.parts.push_async_callback(upstream.close)
    return upstream


def _copy_spool(settings: Settings, to: Path) -> None:
    shutil.copytree(settings.data_dir / "spool", to / "spool")


# --- Redis ---------------------------------------------------------------------------------


async def _redis_clients(deployment: GatewayDeployment, scope: AppSettings) -> tuple[Any, Any]:
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


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


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


# --- Qdrant, and whose it all is -------------------------------------------------------------


def _store(deployment: GatewayDeployment, scope: AppSettings, cipher: Cipher) -> MemoryStore:
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


async def _open_store(deployment: GatewayDeployment, store: MemoryStore) -> None:
    """Open it now, or as soon as it is there: chats do not wait for a Qdrant that is away."""
    try:
        await store.open()
    except StoreUnavailable as exc:
        if deployment.settings.embedded:
            raise
        _log.warning("store_away", reason=exc.message, retry_s=RETRY_S)
        deployment.beside(_until_open(store), "open the store")


async def _until_open(store: MemoryStore) -> None:
    while True:
        await asyncio.sleep(RETRY_S)
        with suppress(StoreUnavailable):
            await store.open()
            _log.info("store_back")
            return


async def _until_adopted(store: MemoryStore, embedder: Embedder) -> None:
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


def _directory(deployment: GatewayDeployment, scope: AppSettings, client: Any) -> Any:
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

    return RedisDirectory(client, clock=deployment.clock, settings=deployment.settings)


# --- the admin token -------------------------------------------------------------------------


def _admin_token(settings: Settings) -> str:
    """The token set, else the one made at the first start and kept (0600)."""
    if settings.admin.token is not None:
        return settings.admin.token.get_secret_value()
    path = settings.data_dir / TOKEN_FILE
    with suppress(FileNotFoundError):
        if token := path.read_text("ascii").strip():
            return token
    token = secrets.token_urlsafe(32)
    _write_private(path, token.encode() + b"\n")
    return token


def _write_private(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
