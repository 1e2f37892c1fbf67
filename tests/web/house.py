"""A gateway for tests of flows and web: real Redis, a real directory, the in-memory store.

`house(...)` opens all parts for one test and serves the app on a loopback port with the
protocol that `serve` uses, in the test's event loop. Nothing embeds and nothing distils: recall
is lexical, and what a test wants remembered it puts into the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.directory_sqlite import SqliteDirectory
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.inmemory import InMemoryStore
from gateway.adapters.redis_queue import RedisQueue
from gateway.adapters.redis_receipts import RedisReceipts
from gateway.adapters.redis_state import RedisState
from gateway.adapters.redis_tally import RedisTally
from gateway.adapters.spool import FileSpool
from gateway.adapters.upstream import HttpUpstream
from gateway.config import AppSettings, Settings
from gateway.core.errors import SettingsError, Unprocessable
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner, Person
from gateway.core.memory import Entry, Memory, Source
from gateway.flows.tasks import TaskGroupOfBackground
from gateway.ports import Services
from gateway.telemetry.metrics import Metrics
from gateway.web.app import build_app
from gateway.web.protocol import GatewayHttpProtocol

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_780_000_000.0
ADMIN_TOKEN = "an-admin-token-for-tests"


class House:
    """Implements `ports.Deployment`, and what tests want of a running gateway."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self.settings = settings
        self.services = services
        self.background = TaskGroupOfBackground()
        self.metrics = Metrics()
        self.draining = False
        self.now = NOW
        self.base_url = ""

    def clock(self) -> float:
        return self.now

    def settings_for(self, app: str) -> AppSettings:
        return self.settings.app(app)

    def services_for(self, app: str) -> Services:
        return self.services

    async def change_embedder(self, embedding: object) -> None:
        raise SettingsError("embedding: this house has no other embedder")

    async def back_up(self, directory: object) -> dict[str, Any]:
        raise Unprocessable("this house keeps nothing on a disk")

    def all_services(self) -> Sequence[Services]:
        return [self.services]

    # --- for tests ---

    def without(self, **parts: Any) -> None:
        """Put other parts in the place of these (`state=...`), to break them."""
        self.services = replace(self.services, **parts)

    async def owner(self, user: str = "ana", app: str = "default") -> Owner:
        owner = await self.services.directory.owner(Person(app, user), create=True)
        assert owner is not None
        return owner

    async def know(self, text: str, *, user: str = "ana", type: Any = "profile") -> Memory:
        """Have a fact about a user remembered."""
        owner = await self.owner(user)
        memory = Memory(
            id=f"mem_{abs(hash(text)):x}",
            kind="fact",
            type=type,
            text=text,
            created_at=self.now - 1000,
            updated_at=self.now - 1000,
            valid_from=self.now - 1000,
            importance=0.9,
            source=Source(via="api"),
        )
        await self.services.store.put(owner, [Entry(memory)])
        await self.services.state.touch_standing(owner.tenant)
        return memory

    async def handed_over(self, user: str = "ana") -> list[Exchange]:
        """What is in the queue of a user once the background has settled."""
        await self.background.drain(5)
        return await self.services.queue.pending(await self.owner(user))

    def client(self, **headers: str) -> httpx.AsyncClient:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.AsyncClient(base_url=self.base_url, headers=named, timeout=10, verify=False)


def settings_of(tmp_path: Path, base_url: str, **sections: Any) -> Settings:
    """Settings for a test: quick timeouts, and whatever `sections` say."""
    values: dict[str, Any] = {"data_dir": str(tmp_path / "data"), "upstream": {}}
    for name, section in sections.items():
        values.setdefault(name, {}).update(section)
    values["upstream"] = {"base_url": base_url, **values["upstream"]}
    values["memory"] = {"deadline_ms": 2000, **values.get("memory", {})}
    return Settings.model_validate(values)


@asynccontextmanager
async def house(
    tmp_path: Path, upstream_url: str, redis: Redis, **sections: Any
) -> AsyncIterator[House]:
    """All parts open, and the app served; ended in order."""
    settings = settings_of(tmp_path, upstream_url, **sections)
    settings.data_dir.mkdir(mode=0o700, exist_ok=True)
    async with AsyncExitStack() as parts:
        cipher, clock = AesGcmCipher(), lambda: opened.now
        directory = SqliteDirectory(
            settings.data_dir / "directory.sqlite", clock=clock, settings=settings
        )
        parts.push_async_callback(directory.close)
        spool = FileSpool(
            settings.data_dir / "spool",
            cipher=cipher,
            by_tenant=directory.by_tenant,
            max_bytes=settings.queue.spool_max_bytes,
        )
        await spool.open()
        parts.push_async_callback(spool.close)
        upstream = HttpUpstream(settings.upstream)
        parts.push_async_callback(upstream.close)
        opened = House(
            settings,
            Services(
                upstream=upstream,
                cipher=cipher,
                directory=directory,
                keys=directory,
                store=InMemoryStore(Bm25Lexicon()),
                queue=RedisQueue(
                    redis,
                    cipher=cipher,
                    by_tenant=directory.by_tenant,
                    settings=settings.queue,
                    extraction_for=lambda app: settings.app(app).extraction,
                ),
                spool=spool,
                state=RedisState(redis, cipher),
                receipts=RedisReceipts(redis, cipher, settings.app),
                embedder=NoEmbedder("none in this test"),
                extractor=None,
                clock=clock,
                tally=RedisTally(redis),
                notes={"embedding": "none in this test"},
            ),
        )
        parts.push_async_callback(opened.background.drain, 5)
        opened.base_url = await parts.enter_async_context(
            served(build_app(opened, admin_token=ADMIN_TOKEN))
        )
        yield opened


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An ASGI app on a loopback port, in this event loop; its URL."""
    config = Config(
        app,
        interface="asgi3",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        date_header=False,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    make: Callable[[], asyncio.Protocol] = lambda: GatewayHttpProtocol(config, state, {}, loop)  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()  # type: ignore[union-attr]
        if state.tasks:
            _, hanging = await asyncio.wait(state.tasks, timeout=5)
            assert not hanging, f"requests that did not end with their client: {hanging}"
