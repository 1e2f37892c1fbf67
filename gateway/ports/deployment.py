"""All of it: what one app's requests use, and a running gateway as its rooms see it."""

from __future__ import annotations

from asyncio import Task
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from gateway.config import AppSettings, Settings
from gateway.config.settings import EmbeddingSettings
from gateway.core.attempts import Attempts
from gateway.core.memory import Instant
from gateway.ports.directory import Cipher, Directory, JwksSource, KeyStore, Revocations
from gateway.ports.exchanges import ExchangeQueue, Spool
from gateway.ports.models import Budget, Embedder, Extractor, Reranker
from gateway.ports.records import Receipts, Tally
from gateway.ports.state import ConversationState
from gateway.ports.store import MemoryStore, Writers
from gateway.ports.upstream import Upstream
from gateway.telemetry.metrics import Metrics

Clock = Callable[[], Instant]
"""Wall-clock time; the only way a flow learns it (tests pass their own)."""


Health = Literal["ok", "down", "loading", "off"]


@dataclass(frozen=True, slots=True)
class Services:
    """Every outside thing that one app's requests use. Made in `wiring`, passed to flows.

    `close` hooks run in reverse order at the end.
    """

    upstream: Upstream
    cipher: Cipher
    directory: Directory
    keys: KeyStore
    store: MemoryStore
    queue: ExchangeQueue
    spool: Spool
    state: ConversationState
    receipts: Receipts
    embedder: Embedder
    extractor: Extractor | None
    clock: Clock
    jwks: JwksSource | None = None
    reranker: Reranker | None = None
    budget: Budget | None = None
    tally: Tally | None = None
    revocations: Revocations | None = None
    writers: Writers | None = None
    """None where this process alone writes."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What was decided at the start and why (`embedding`, `extraction`): for `doctor`,
    `/readyz` and the log."""


class Background(Protocol):
    """Work that outlives a request. `spawn` never loses an error, and tells of the end by its task;
    `drain` waits for the end of all."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> Task[Any]: ...

    async def drain(self, grace_s: float) -> None: ...


class Deployment(Protocol):
    """A running gateway as its rooms see it: each app's settings and services.

    Apps share what they do not set for themselves; an app with a Qdrant and Redis of its own
    has services of its own.
    """

    @property
    def settings(self) -> Settings: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def background(self) -> Background: ...

    @property
    def metrics(self) -> Metrics: ...

    @property
    def attempts(self) -> Attempts:
        """Which addresses sent wrong credentials too often."""
        ...

    @property
    def draining(self) -> bool:
        """An end was asked for: `/readyz` says so, no new work is begun."""
        ...

    def settings_for(self, app: str) -> AppSettings: ...

    def services_for(self, app: str) -> Services: ...

    def all_services(self) -> Sequence[Services]:
        """Each distinct set of services once: what workers and sweeps go over."""
        ...

    async def change_embedder(self, embedding: EmbeddingSettings) -> None:
        """From now on vectors are this embedder's; those of another model are dropped, and
        their memories wait for new ones (`unembedded`).

        Raises SettingsError, EmbedderUnavailable (nothing has changed then), StoreUnavailable.
        """
        ...

    async def back_up(self, directory: Path) -> dict[str, Any]:
        """Write all that is kept here to a new directory; what was written, counted.

        Raises Unprocessable where the data rests on servers or the directory cannot be used,
        and Unavailable where a part is away.
        """
        ...
