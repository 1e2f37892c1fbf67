"""What is behind a gateway in tests: real Redis, a real directory, the in-memory store.

`web/house.py` serves it over HTTP, `flows/workshop.py` distils in it.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.directory_sqlite import SqliteDirectory
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.inmemory import InMemoryStore
from gateway.adapters.redis_queue import RedisQueue
from gateway.adapters.redis_receipts import RedisReceipts
from gateway.adapters.redis_state import RedisState
from gateway.adapters.spool import FileSpool
from gateway.adapters.upstream import HttpUpstream
from gateway.config import AppSettings, Settings
from gateway.core.attempts import Attempts
from gateway.core.errors import SettingsError, Unprocessable
from gateway.core.identity import Owner, Person
from gateway.core.memory import Entry, Instant, Memory, Source
from gateway.flows.tasks import TaskGroupOfBackground
from gateway.ports import Services
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Premises:
    """Implements `ports.Deployment`, one set of services for every app, and a clock to set."""

    def __init__(self, settings: Settings, services: Services, *, now: Instant) -> None:
        self.settings = settings
        self.services = services
        self.background = TaskGroupOfBackground()
        self.metrics = Metrics()
        self.attempts = Attempts(settings.server.wrong_credentials_per_minute)
        self.draining = False
        self.now = now

    def clock(self) -> Instant:
        return self.now

    def settings_for(self, app: str) -> AppSettings:
        return self.settings.app(app)

    def services_for(self, app: str) -> Services:
        return self.services

    def all_services(self) -> Sequence[Services]:
        return [self.services]

    async def change_embedder(self, embedding: object) -> None:
        raise SettingsError("embedding: there is no other embedder here")

    async def back_up(self, directory: object) -> dict[str, Any]:
        raise Unprocessable("nothing is kept on a disk here")

    # --- for tests ---

    def put_in(self, **parts: Any) -> None:
        """Other parts in the place of these (`state=...`), to break or to watch them."""
        self.services = replace(self.services, **parts)

    async def owner(self, user: str = "ana", app: str = "default") -> Owner:
        owner = await self.services.directory.owner(Person(app, user), create=True)
        assert owner is not None
        return owner

    async def keep(self, text: str, *, user: str, at: Instant, **fields: Any) -> Memory:
        """Have a fact in the store that a person wrote through the API at that time."""
        whole: dict[str, Any] = {
            "id": f"mem_known_{zlib.crc32(text.encode()):x}",
            "kind": "fact",
            "type": "profile",
            "text": text,
            "created_at": at,
            "updated_at": at,
            "valid_from": at,
            "source": Source(via="api"),
        }
        memory = Memory(**(whole | fields))
        await self.services.store.put(await self.owner(user), [Entry(memory)])
        return memory


@asynccontextmanager
async def opened(
    settings: Settings, redis: Redis, clock: Callable[[], Instant], **others: Any
) -> AsyncIterator[Services]:
    """All parts open, `others` in the place of these; closed in order.

    Nothing embeds and nothing distils unless `others` do.
    """
    settings.data_dir.mkdir(mode=0o700, exist_ok=True)
    async with AsyncExitStack() as stack:
        cipher = AesGcmCipher()
        directory = SqliteDirectory(
            settings.data_dir / "directory.sqlite", clock=clock, settings=settings
        )
        stack.push_async_callback(directory.close)
        spool = FileSpool(
            settings.data_dir / "spool",
            cipher=cipher,
            by_tenant=directory.by_tenant,
            max_bytes=settings.queue.spool_max_bytes,
        )
        await spool.open()
        stack.push_async_callback(spool.close)
        upstream = HttpUpstream(settings.upstream)
        stack.push_async_callback(upstream.close)
        queue = RedisQueue(
            redis,
            cipher=cipher,
            by_tenant=directory.by_tenant,
            settings=settings.queue,
            extraction_for=lambda app: settings.app(app).extraction,
        )
        parts: dict[str, Any] = {
            "upstream": upstream,
            "cipher": cipher,
            "directory": directory,
            "keys": directory,
            "store": InMemoryStore(Bm25Lexicon()),
            "queue": queue,
            "spool": spool,
            "state": RedisState(redis, cipher),
            "receipts": RedisReceipts(redis, cipher, settings.app),
            "embedder": NoEmbedder("none in this test"),
            "extractor": None,
            "clock": clock,
        }
        yield Services(**(parts | others))
