"""One app's services: every part anew, or the shared ones with its own in their place."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from gateway.adapters.embed_cached import CachedEmbedder
from gateway.config import AppSettings, Settings
from gateway.core.breaker import Breaker
from gateway.core.errors import QueueUnavailable, SettingsError, StateUnavailable, StoreUnavailable
from gateway.flows.endings import Endings
from gateway.flows.guarded import guard
from gateway.flows.tasks import beside, ended
from gateway.ports import Reranker, Services, Upstream
from gateway.telemetry.metrics import Metrics
from gateway.wiring.deployment import GatewayDeployment
from gateway.wiring.models import choose_embedder, choose_extractor
from gateway.wiring.stores import (
    directory_of,
    memory_store,
    open_store,
    redis_clients,
    until_adopted,
)
from gateway.wiring.upkeep import with_breaker

ADOPT_S: Final = 10.0
"""How long a start waits for a new store to make room for its model's vectors."""


async def whole_services(
    deployment: GatewayDeployment, scope: AppSettings, *, app: str | None = None
) -> Services:
    """Every part anew, for these settings; with `app`, for that one alone."""
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
    store = memory_store(deployment, scope, cipher)
    parts.push_async_callback(store.close)
    opening = beside(open_store(deployment, scope, store), "open the store")
    try:
        # Both at once: embedded, each is a process that reads its files.
        queue_client, state_client = await redis_clients(deployment, scope)
        await opening
    finally:
        await ended(opening)
    directory = directory_of(deployment, scope, state_client)
    parts.push_async_callback(directory.close)
    embedder, embedding_note = await choose_embedder(
        scope,
        None if deployment.replaces_model else store.model,
        metrics=deployment.metrics,
        data_dir=settings.data_dir,
    )
    parts.push_async_callback(embedder.close)
    if not deployment.replaces_model:  # `change_embedder` adopts it then
        adopted = deployment.beside(until_adopted(store, embedder), "adopt the model")
        if settings.embedded and embedder.model is not None:
            # A new store makes room for its vectors first, and the first search would wait.
            await asyncio.wait([adopted], timeout=ADOPT_S)
    extractor, extraction_note = choose_extractor(scope, metrics=deployment.metrics)
    if extractor is not None:
        parts.push_async_callback(extractor.close)
    jwks = HttpJwks()
    parts.push_async_callback(jwks.close)
    spool = FileSpool(
        # Of its own for an app with a directory of its own: to another directory its users are
        # nobody, and who drains drops what is nobody's.
        settings.data_dir / "spool" if app is None else settings.data_dir / "spool" / "apps" / app,
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


async def services_of_app(deployment: GatewayDeployment, name: str, shared: Services) -> Services:
    """The shared services with what this app sets for itself in their place. Raises SettingsError,
    naming the setting as the app's where it is: the parts do not know for whom they are opened."""
    try:
        return await _with_its_own(deployment, name, shared)
    except SettingsError as exc:
        if exc.message.partition(".")[0] not in deployment.settings.own(name):
            raise
        of_app = f"apps.{name}."
        param = exc.param and of_app + exc.param
        raise SettingsError(of_app + exc.message, param=param) from exc


async def _with_its_own(deployment: GatewayDeployment, name: str, shared: Services) -> Services:
    scope, own = deployment.settings_for(name), deployment.settings.own(name)
    if stores := own & {"qdrant", "redis"}:
        if scope.qdrant.url is None:
            raise SettingsError(
                f"apps.{name}.{min(stores)}: embedded stores are the whole gateway's. Leave the"
                f" section out, or set both apps.{name}.qdrant.url and apps.{name}.redis.url",
                param=f"apps.{name}.{min(stores)}",
            )
        return await whole_services(deployment, scope, app=name)
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
