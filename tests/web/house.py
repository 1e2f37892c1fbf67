"""A gateway for tests of flows and web: real Redis, a real directory, the in-memory store.

`house(...)` opens all parts for one test and serves the app on a loopback port with the
protocol that `serve` uses, in the test's event loop. Nothing embeds and nothing distils: recall
is lexical, and what a test wants remembered it puts into the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from uvicorn import Config
from uvicorn.server import ServerState

from gateway.adapters.redis_revocations import RedisRevocations
from gateway.adapters.redis_tally import RedisTally
from gateway.config import Settings
from gateway.core.exchange import Exchange
from gateway.core.memory import Memory
from gateway.ports import Services
from gateway.web.app import build_app
from gateway.web.protocol import GatewayHttpProtocol
from tests.parts import Premises, opened

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_780_000_000.0
ADMIN_TOKEN = "an-admin-token-for-tests"


class House(Premises):
    """What tests want of a running gateway."""

    def __init__(self, settings: Settings, services: Services) -> None:
        super().__init__(settings, services, now=NOW)
        self.base_url = ""

    async def know(self, text: str, *, user: str = "ana", type: Any = "profile") -> Memory:
        """Have a fact about a user remembered."""
        memory = await self.keep(text, user=user, at=self.now - 1000, type=type, importance=0.9)
        await self.services.state.touch_standing((await self.owner(user)).tenant)
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
    others = {
        "tally": RedisTally(redis),
        "revocations": RedisRevocations(redis),
        "notes": {"embedding": "none in this test"},
    }
    async with opened(settings, redis, lambda: running.now, **others) as services:
        running = House(settings, services)
        try:
            async with served(build_app(running, admin_token=ADMIN_TOKEN)) as running.base_url:
                yield running
        finally:
            await running.background.drain(5)


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
