"""A running gateway: each app's settings and services, the work beside them, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from gateway.config import AppSettings, Settings
from gateway.config.settings import EmbeddingSettings
from gateway.core.attempts import Attempts
from gateway.core.identity import DEFAULT_APP
from gateway.core.memory import Instant
from gateway.flows.tasks import TaskGroupOfBackground, beside, ended
from gateway.ports import Background, Clock, Services
from gateway.telemetry.logs import log
from gateway.telemetry.metrics import Metrics
from gateway.wiring.upkeep import Copy, back_up, change_embedder
from gateway.worker import Worker, drain_spools

COPIED: Final = ("spool", "redis", "qdrant", "directory")
"""The parts of a backup, in the order that they are copied in; `upkeep` says why."""


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
            done = await back_up(copies, self._settings.data_dir, directory, now=self._clock())
        settings = self._settings
        elsewhere = [name for name in settings.apps if settings.own(name) & {"qdrant", "redis"}]
        return done | ({"left_out": sorted(elsewhere)} if elsewhere else {})

    def beside(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Do `work` for as long as the parts opened so far are open. An error in it is logged,
        never lost and never raised."""
        task = beside(work, name)
        task.add_done_callback(_said)
        self.parts.push_async_callback(ended, task)
        return task

    def use(self, app: str, services: Services) -> None:
        """These are this app's services from now on."""
        self._services[app] = services

    def start_worker(self, concurrency: int) -> None:
        """Distil here, beside the requests."""
        self._work(Worker(self, concurrency).run(self._stop), "worker")

    def start_draining(self) -> None:
        """Distil elsewhere; what waits on this machine's disk is handed over from here."""
        self._work(drain_spools(self, self._stop), "drain the spool")

    def _work(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._worker = beside(work, name)
        self._worker.add_done_callback(_said)

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
            await ended(self._worker)
        await self.parts.aclose()


def _said(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log("wiring").error("work_failed", work=task.get_name(), error=error)
