"""The one place where everything meets: settings become services, services a deployment.

Embedded (no URLs): one data directory, held by this process, with a redis-server and Qdrant
Edge of our own below it. Servers: clients of the Redis and Qdrant that the settings name; one
that is away now does not stop the start, for it may come back. Apps share every part that
they do not set for themselves.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Final

from gateway.adapters.data_dir import DataDirLock, make_private
from gateway.config import Settings
from gateway.core.errors import GatewayError, SettingsError
from gateway.core.identity import DEFAULT_APP
from gateway.flows import telling
from gateway.flows.sweep import drain_spool
from gateway.telemetry import tracing
from gateway.telemetry.logs import log
from gateway.wiring.admin_token import admin_token
from gateway.wiring.deployment import GatewayDeployment, now
from gateway.wiring.services import services_of_app, whole_services

__all__ = ["GatewayDeployment", "now", "open_deployment"]

_log = log("wiring")

SPOOL_S: Final = 5.0
"""Of a start, at most, for what waits on disk; the rest goes in beside the first requests."""


async def open_deployment(
    settings: Settings,
    *,
    worker: bool | None = None,
    replaces_model: bool = False,
) -> GatewayDeployment:
    """Open every part that the settings ask for, and a worker beside them.

    `worker` defaults to yes where the gateway is embedded. `replaces_model` (for `reembed`): the
    store may hold another model's vectors than the settings ask for. Raises SettingsError where
    the settings cannot be carried out, and Unavailable where a part of our own does not come up.
    """
    deployment = GatewayDeployment(settings, now)
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
    deployment.admin_token = admin_token(settings)
    first = await whole_services(deployment, settings)
    deployment.use(DEFAULT_APP, first)
    for name in settings.apps:
        deployment.use(name, await services_of_app(deployment, name, first))
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
