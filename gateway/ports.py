"""The outside things, as the flows see them. Adapters implement these; nothing here acts.

Every call on a user's data has the owner (or, where only that is known, the tenant) as its
first argument. Every method may raise the `Unavailable` subclass that its Protocol names;
"unavailable" is never answered as "nothing found".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args

from gateway.config import AppSettings, Settings
from gateway.config.settings import EmbeddingSettings
from gateway.core.delivery import Plan
from gateway.core.exchange import Exchange
from gateway.core.extraction import ExtractionBatch as ExtractionBatch
from gateway.core.identity import Owner, Person
from gateway.core.keys import GatewayKey as GatewayKey  # re-exported: ports speak of it
from gateway.core.memory import Entry, Found, Instant, Memory, Probe, Vector, Where
from gateway.telemetry.metrics import Metrics

Clock = Callable[[], Instant]
"""Wall-clock time; the only way a flow learns it (tests pass their own)."""


# --- whose -----------------------------------------------------------------------------


class Cipher(Protocol):
    """Seals texts with an owner's key. Pure computation; no waiting.

    `context` binds a sealed text to its place (a point id, a queue key): opened elsewhere,
    it is refused. An owner with an empty key is not sealed: bytes pass as they are, marked
    so that either kind is read back.
    """

    def seal(self, owner: Owner, plain: bytes, context: str) -> bytes: ...

    def open(self, owner: Owner, sealed: bytes, context: str) -> bytes:
        """Raises Unreadable."""
        ...


class Directory(Protocol):
    """Who is who: persons, the identities linked to them, and incarnations with their keys.

    Raises DirectoryUnavailable. Keys live here and nowhere else; dropping one makes all that
    it sealed unreadable, wherever copies rest.
    """

    async def owner(self, person: Person, *, create: bool = False) -> Owner | None:
        """The person's present incarnation, links followed; made at first sight if `create`."""
        ...

    async def by_tenant(self, tenant: str) -> Owner | None:
        """The owner of a tenant; None once it was erased."""
        ...

    async def incarnations(self, person: Person) -> list[Owner]:
        """All that a person's erasure must end: the present incarnation, and those that
        linked identities had before they were linked."""
        ...

    async def drop(self, owner: Owner) -> None:
        """End this incarnation and destroy its key. Repeating it is harmless."""
        ...

    async def compact(self) -> None:
        """Have dropped keys leave the directory's own log too, where that is a step of its
        own (a sweep calls it)."""
        ...

    async def link(self, identity: Person, person: Person) -> None:
        """From now on `identity` means `person` (same app). Raises Unprocessable for a cycle."""
        ...

    async def unlink(self, identity: Person) -> None: ...

    async def links(self, person: Person) -> list[str]:
        """The users linked to this person."""
        ...

    async def people(
        self, app: str | None = None, *, prefix: str = "", limit: int = 100, after: str = ""
    ) -> list[Person]:
        """Known persons in order of (app, user), for operators.

        `after` is the last user already seen; without an app, "app/user" (no app's name
        holds a slash).
        """
        ...

    async def erased(self, record: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Erasure receipts, newest first; with `record`, keep one more (or a later state of
        the one with its `id`)."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class KeyStore(Protocol):
    """Gateway API keys and the append-only audit. Raises DirectoryUnavailable."""

    async def add(self, key: GatewayKey) -> None: ...

    async def find(self, id: str) -> GatewayKey | None: ...

    async def all(self) -> list[GatewayKey]: ...

    async def revoke(self, id: str, at: Instant) -> bool: ...

    async def audit(self, entry: Mapping[str, Any]) -> None:
        """Append who did what to whose memory, and when; never content."""
        ...

    async def audited(
        self, *, limit: int = 100, app: str | None = None, user: str | None = None
    ) -> list[dict[str, Any]]:
        """Audit entries, newest first."""
        ...


# --- memory ----------------------------------------------------------------------------

Sparse: TypeAlias = tuple[list[int], list[float]]
"""A sparse vector: token hashes, each once, and their weights."""


class Lexicon(Protocol):
    """Words to sparse vectors for BM25 (the store adds IDF). Pure computation; no waiting.

    A text without a language is read as English; a language that is known adds its stems. Any
    script works, and a document and a query of the same words always share tokens.
    """

    def document(self, text: str, language: str | None = None, *, window: bool = False) -> Sparse:
        """Weights by frequency and length; `window`: lengths are those of a neighbourhood."""
        ...

    def query(self, text: str, language: str | None = None) -> Sparse:
        """Each token once, weight 1; bounded however long the text is."""
        ...


class MemoryStore(Protocol):
    """Where memories rest: a Qdrant server, Qdrant Edge, or the in-memory twin.

    Raises StoreUnavailable. Sees the owner on every call, filters by tenant in one place,
    and checks it again on what comes back.
    """

    async def open(self) -> None:
        """Connect or load; make the collection where there is none.

        Raises SettingsError where the stored vector size differs from the embedder's,
        naming both and the way out.
        """
        ...

    @property
    def model(self) -> EmbeddingModel | None:
        """The model whose vectors are stored; None where there are none yet."""
        ...

    @property
    def notes(self) -> Mapping[str, str]:
        """What an operator should know of this store and can mend, by subject: for `doctor`."""
        ...

    async def adopt(self, model: EmbeddingModel, *, replace: bool = False) -> None:
        """From now on hold vectors of this model; repeating it changes nothing.

        Raises SettingsError where those of another model are stored, naming both and the way
        out. `replace` (the command `reembed`) drops those instead and marks every memory as
        waiting for its vector (`unembedded`); words find them meanwhile.
        """
        ...

    async def put(self, owner: Owner, entries: Sequence[Entry]) -> None:
        """Write whole entries by id; an entry of the same id is replaced, windows included."""
        ...

    async def add_vectors(self, owner: Owner, entries: Sequence[Entry]) -> int:
        """Give stored memories the dense vectors of these entries; how many got them.

        What else is stored of them stays (their words' windows too). One that has gone, or was
        updated since it was read, is left alone.
        """
        ...

    async def get(self, owner: Owner, ids: Sequence[str]) -> list[Memory]:
        """The memories of these ids in the order asked, whatever their status; missing ones
        are left out."""
        ...

    async def page(
        self, owner: Owner, where: Where, *, limit: int, after: tuple[Instant, str] | None = None
    ) -> list[Memory]:
        """Newest first; those of one instant in a fixed order of the store's own. `after` is
        the last one already seen (it may be gone by now)."""
        ...

    async def search(self, owner: Owner, probe: Probe) -> Found:
        """All lists of a probe in one batched call."""
        ...

    async def delete(self, owner: Owner, ids: Sequence[str]) -> int:
        """Remove points for good; how many there were."""
        ...

    async def erase(self, tenant: str) -> int:
        """Remove every point of a tenant; how many there were."""
        ...

    async def count(self, tenant: str, where: Where | None = None) -> int:
        """How many points a tenant has; with None every one, tombstones included."""
        ...

    async def expired(self, now: Instant, limit: int) -> list[tuple[str, str]]:
        """(tenant, reference) of memories whose `expires_at` has passed, over all tenants.

        Ids are sealed with their owner's key; `get` and `delete` take a reference for an id.
        """
        ...

    async def unembedded(self, limit: int) -> list[tuple[str, str]]:
        """(tenant, reference) of memories that wait for their vector, over all tenants."""
        ...

    async def tenants(self) -> list[str]:
        """Every tenant with a point: what a sweep compares with the directory."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


# --- what is said, on its way ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """One user's pending work in one worker's hands until `until`.

    `token` fences: it grows with every lease of this tenant, and a call with an older one
    raises LeaseLost. `plan` is there where an earlier holder had already decided.
    """

    tenant: str
    token: int
    until: Instant
    exchanges: tuple[Exchange, ...]
    tries: int
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Work that could not be distilled, whole. `exchanges` is None where its owner is gone."""

    id: str
    tenant: str
    at: Instant
    reason: str
    tries: int
    exchange_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """Counts of exchanges: waiting, in a worker's hands, dead; `oldest_s` is the age of the
    oldest one waiting; `bytes` their size in Redis."""

    pending: int
    leased: int
    dead: int
    oldest_s: float
    bytes: int


class ExchangeQueue(Protocol):
    """Each user's pending exchanges, and who works on them. Raises QueueUnavailable."""

    async def put(self, owner: Owner, exchange: Exchange, *, now: Instant) -> bool:
        """Accept an exchange; False where one of this id was accepted before (a retry).

        Raises OwnerGone where the tenant was erased, OverBudget at the queue's bounds.
        """
        ...

    async def lease(self, worker: str, *, now: Instant) -> Lease | None:
        """The user that fell due first, or None. Exchanges come in the order of their times,
        as many as a batch may hold."""
        ...

    async def next_due(self) -> Instant | None:
        """When the next user falls due (in the past: one is); None where nothing waits."""
        ...

    async def extend(self, lease: Lease, *, now: Instant) -> Lease:
        """Heartbeat: hold it longer. Raises LeaseLost."""
        ...

    async def keep_plan(self, lease: Lease, plan: Plan) -> None:
        """Keep the decision beside the work, before it is applied. Raises LeaseLost."""
        ...

    async def done(self, lease: Lease, *, now: Instant) -> None:
        """Remove exactly what was leased, and its plan. Raises LeaseLost."""
        ...

    async def give_back(
        self, lease: Lease, *, retry_at: Instant, reason: str, counts_as_try: bool
    ) -> None:
        """Return the work, to fall due at `retry_at`."""
        ...

    async def bury(self, lease: Lease, *, reason: str, now: Instant) -> None:
        """Dead-letter the leased work, whole."""
        ...

    async def pending(self, owner: Owner, *, limit: int = 50) -> list[Exchange]:
        """What this user said that is not distilled yet (leased work included), newest last."""
        ...

    async def status(self, *, now: Instant) -> QueueStatus: ...

    async def dead(self, *, limit: int = 100) -> list[DeadLetter]: ...

    async def retry(self, id: str | None = None, *, now: Instant) -> int:
        """Put one dead letter, or all, back in line; how many exchanges."""
        ...

    async def erase(self, tenant: str) -> dict[str, int]:
        """Remove pending, leased, planned and dead work of a tenant and refuse more of it;
        counts by name."""
        ...

    async def count(self, tenant: str) -> int:
        """What of a tenant is still in the queue, in any state."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Spool(Protocol):
    """Exchanges on disk while Redis is away: append-only, checksummed, bounded."""

    async def append(self, owner: Owner, exchange: Exchange) -> None:
        """Raises OverBudget at the spool's bound."""
        ...

    async def drain(self, put: Callable[[Owner, Exchange], Any]) -> int:
        """Hand each spooled exchange to `put`, oldest first, and forget it once taken."""
        ...

    async def erase(self, tenant: str) -> int: ...

    async def count(self, tenant: str | None = None) -> int: ...


# --- what a conversation has seen ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opening:
    """What a request shows of its conversation.

    `marks` are fingerprints of its messages in order (`core/capture`), system ones left out;
    `session` is the id that the client named, if any.
    """

    marks: tuple[str, ...]
    session: str | None
    now: Instant
    idle_gap_s: float


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is known of a conversation when a request of it comes in.

    `fresh` counts the messages at the end of the request that were not seen before.
    `injected` are the ids of the memories in the conversation's block, in their order;
    `block_version` changes whenever they do. `answered_turn` is the mark of the user turn
    that recall last ran for, so that a tool loop recalls once.
    """

    session: str
    fresh: int
    injected: tuple[str, ...] = ()
    recalled_for: str | None = None
    standing_version: str = ""
    pending: tuple[Exchange, ...] = ()


class ConversationState(Protocol):
    """Shared by all gateway processes; one round trip to open. Raises StateUnavailable."""

    async def open(self, owner: Owner, opening: Opening) -> Conversation: ...

    async def note_injected(
        self, owner: Owner, session: str, ids: Sequence[str], *, recalled_for: str, now: Instant
    ) -> None: ...

    async def note_seen(
        self, owner: Owner, session: str, marks: Sequence[str], *, now: Instant
    ) -> None:
        """These messages are captured (or will be): they are not new any more."""
        ...

    async def touch_standing(self, tenant: str) -> None:
        """A memory of this tenant was written: caches of profile and preferences are stale."""
        ...

    async def standing_version(self, tenant: str) -> str: ...

    async def remember_limit(self, app: str, model: str, limit: Mapping[str, Any]) -> None:
        """What an upstream model could not take (context length, no system role)."""
        ...

    async def limits(self, app: str, model: str) -> dict[str, Any]: ...

    async def once(self, owner: Owner, key: str, answer: bytes | None = None) -> bytes | None:
        """Idempotency: the answer kept for this key, keeping `answer` where none was."""
        ...

    async def allow(self, bucket: str, cost: int, per_minute: int, *, now: Instant) -> float:
        """Rate limit: 0.0 where allowed, else seconds until it would be."""
        ...

    async def charge(self, bucket: str, cost: int, per_minute: int, *, now: Instant) -> None:
        """Take from a bucket what was used already, into debt if need be."""
        ...

    async def erase(self, tenant: str) -> int: ...

    async def count(self, tenant: str) -> int: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Receipts(Protocol):
    """Why it said that: what one request considered and injected. Raises StateUnavailable."""

    async def keep(self, owner: Owner, receipt: Mapping[str, Any]) -> None: ...

    async def get(self, owner: Owner, id: str) -> dict[str, Any] | None: ...

    async def recent(self, owner: Owner, *, limit: int = 50) -> list[dict[str, Any]]: ...

    async def replace(self, owner: Owner, receipt: Mapping[str, Any]) -> None:
        """Another state of a receipt that is kept; nothing happens where it has ended."""
        ...

    async def erase(self, tenant: str) -> int: ...

    async def count(self, tenant: str) -> int: ...


Group = Literal["memory", "holdout", "shadow"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """What was seen of one group of an app's users. Conversations and people are estimates."""

    exchanges: int = 0
    repeated: int = 0
    up: int = 0
    down: int = 0
    conversations: int = 0
    people: int = 0


class Tally(Protocol):
    """Counts over all processes, by app, without content or names. Raises StateUnavailable."""

    async def exchange(
        self,
        app: str,
        group: Group,
        *,
        conversation: str,
        tenant: str,
        repeated: bool,
        now: Instant,
    ) -> None:
        """One request was answered; `repeated`: it asked again what was asked before."""
        ...

    async def thumb(self, app: str, group: Group, *, up: bool, by: int, now: Instant) -> None: ...

    async def groups(self, app: str, *, days: int, now: Instant) -> dict[Group, GroupCounts]:
        """What was counted in the last days, for each group of which there is anything."""
        ...

    async def made(self, app: str, ids: Sequence[str], *, now: Instant) -> None:
        """Facts of these ids were written."""
        ...

    async def injected(self, app: str, ids: Sequence[str], *, now: Instant) -> None: ...

    async def never_injected(self, app: str, *, now: Instant) -> tuple[int, int]:
        """Of the facts made this month and last: how many, and how many of them were never
        injected. Estimates."""
        ...


# --- models ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What made a vector: vectors of different models are never mixed."""

    provider: str
    name: str
    dimensions: int


class Embedder(Protocol):
    """Texts to vectors, normalised. Raises EmbedderUnavailable (also while it is loading)."""

    @property
    def model(self) -> EmbeddingModel | None:
        """None while it is not known (still loading) or where there is none at all."""
        ...

    async def embed(self, texts: Sequence[str], *, query: bool = False) -> list[Vector]: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Reranker(Protocol):
    """Reads a question and each of some texts together: how well they fit, in any unit.

    Raises EmbedderUnavailable (also while its model is loading).
    """

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]: ...

    async def close(self) -> None: ...


class Extractor(Protocol):
    """Turns to facts. Raises ExtractorUnavailable; no answer is never "no facts"."""

    @property
    def name(self) -> str: ...

    async def extract(self, batch: ExtractionBatch) -> list[Mapping[str, Any]]:
        """Facts as CONTRACT §7 has them, unchecked: the guards of `core/extraction` judge."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Budget(Protocol):
    """What extraction may spend a day, over all workers. Raises StateUnavailable."""

    async def spend(self, app: str, tokens: int, limit: int, *, now: Instant) -> float:
        """Take tokens from an app's budget of the day (UTC): 0.0 where there were enough left,
        else the seconds until it is renewed, and nothing is taken."""
        ...


# --- tokens of others ---------------------------------------------------------------------


class JwksSource(Protocol):
    """The public keys that sign users' tokens (RFC 7517), by the URL they are published at."""

    async def keys(self, url: str, *, kid: str | None) -> Sequence[Mapping[str, Any]]:
        """The keys published there, as JWKs; fetched again, within limits, where none is
        called `kid`. Raises KeysUnavailable where none were ever had."""
        ...

    async def close(self) -> None: ...


# --- the upstream ------------------------------------------------------------------------

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to relay. `path` is below the upstream's base URL (`/chat/completions`), still
    percent-encoded; `query` as the client sent it. `body` is whole bytes (their length is said
    for them), or a stream for uploads (a `content-length` among `headers`, or chunked)."""

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes | AsyncIterator[bytes]


class UpstreamResponse(Protocol):
    """An answer whose head has arrived. `chunks` yields raw bytes as they come; leaving it
    early or calling `close` ends the upstream's work. Raises UpstreamFailed while reading."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Headers: ...

    def chunks(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None: ...


class Upstream(Protocol):
    """The LLM behind the gateway. Raises UpstreamUnreachable, UpstreamTimedOut."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


# --- all of it ---------------------------------------------------------------------------

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
    notes: Mapping[str, str] = field(default_factory=dict)
    """What was decided at the start and why (`embedding`, `extraction`): for `doctor`,
    `/readyz` and the log."""


class Background(Protocol):
    """Work that outlives a request. `spawn` never loses an error; `drain` waits for the end."""

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None: ...

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
