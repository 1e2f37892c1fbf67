"""Every setting: its name, meaning, default and bounds; and what several must be together.

A setting added here gets its line in `config/gateway.toml`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from gateway.config.kinds import (
    DAY_S,
    BaseUrl,
    Directory,
    Duration,
    File,
    HeaderName,
    Key,
    Network,
    RedisUrl,
    Seconds,
    Secret,
    Share,
    SigningAlgorithm,
    Text,
    WebUrl,
)
from gateway.core.errors import SettingsError
from gateway.core.memory import TYPES, Type


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(Section):
    """Where the gateway listens, and what it accepts."""

    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65_535)
    workers: int = Field(1, ge=1, le=256)
    grace_s: float = Field(20.0, ge=0.0, le=3600.0)
    max_body_bytes: int = Field(32 * 2**20, ge=1024, le=2**31)
    max_upload_bytes: int = Field(512 * 2**20, ge=1024, le=2**34)
    max_open_requests: int = Field(2048, ge=1, le=1_000_000)
    body_timeout_s: Seconds = 30.0
    wrong_credentials_per_minute: int = Field(60, ge=0, le=1_000_000)


class UpstreamSettings(Section):
    """The LLM that answers."""

    base_url: BaseUrl = Field("https://api.openai.com/v1", examples=["https://api.openai.com/v1"])
    api_key: Key = None
    connect_timeout_s: Seconds = 10.0
    first_byte_timeout_s: Seconds = 600.0
    idle_timeout_s: Seconds = 300.0
    max_connections: int = Field(1024, ge=1, le=100_000)


class IdentitySettings(Section):
    """How a request says whose it is, and who may say so."""

    mode: Literal["header", "signed", "key", "jwt"] = "header"
    aliases: tuple[HeaderName, ...] = (
        "X-User-Id",
        "X-OpenWebUI-User-Id",
        "x-sm-user-id",
        "x-litellm-end-user-id",
    )
    trusted_peers: tuple[Network, ...] = ()
    body_user: bool = False
    signing_secret: Secret = None
    jwks_url: WebUrl | None = Field(None, examples=["https://id.example.com/.well-known/jwks.json"])
    jwt_algorithms: tuple[SigningAlgorithm, ...] = ("RS256", "ES256")
    jwt_issuer: Text = None
    jwt_audience: Text = None
    jwt_user_claim: str = "sub"
    jwt_app_claim: str = "app"
    session_idle_gap_s: float = Field(6 * 3600.0, ge=60.0, le=30 * DAY_S)


class MemorySettings(Section):
    """What is recalled, how much of it, and where it is put."""

    mode: Literal["on", "shadow", "holdout", "off"] = "on"
    holdout_share: Share = 0.1
    placement: Literal["system", "split", "tail"] = "system"
    max_tokens: int = Field(1200, ge=0, le=100_000)
    max_memories: int = Field(40, ge=0, le=1000)
    deadline_ms: float = Field(150.0, ge=1.0, le=60_000.0)
    turns: Literal["on", "off"] = "on"
    types: tuple[Type, ...] = TYPES
    standing_max: int = Field(20, ge=0, le=200)
    floor: Share = 0.35
    rerank: Literal["off", "on"] = "off"
    rerank_model: Text = None
    template: Text = None
    skip_housekeeping: bool = True
    off_the_record: bool = False


CACHE_BYTES = 64 * 2**20
"""Room for some 100,000 memories of a line each. Fetching and opening one takes 20 µs: with 24 MiB,
where half of what was found had to be, a search took 0.3 ms longer, with vectors 0.6."""


class QdrantSettings(Section):
    """Where memories rest; without a URL, embedded."""

    url: BaseUrl | None = Field(None, examples=["http://127.0.0.1:6333"])
    api_key: Key = None
    collection: str = Field("memories", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$")
    shard_number: int = Field(1, ge=1, le=1024)
    replication_factor: int = Field(1, ge=1, le=16)
    write_consistency_factor: int = Field(1, ge=1, le=16)
    on_disk: bool = True
    timeout_s: Seconds = 5.0
    cache_bytes: int = Field(CACHE_BYTES, ge=0)


class RedisSettings(Section):
    """Where the queue and shared state live; without a URL, embedded."""

    url: RedisUrl | None = Field(None, examples=["redis://127.0.0.1:6379"])
    state_url: RedisUrl | None = Field(None, examples=["redis://127.0.0.1:6380"])
    timeout_s: Seconds = 2.0


class QueueSettings(Section):
    """What may wait, and how firmly it is kept."""

    durable: Literal["everysec", "always"] = "everysec"
    max_pending: int = Field(1_000_000, ge=1)
    max_bytes: int = Field(2 * 2**30, ge=2**20)
    max_user_pending: int = Field(1000, ge=1)
    max_user_bytes: int = Field(64 * 2**20, ge=2**20)
    spool_max_bytes: int = Field(256 * 2**20, ge=2**20)
    lease_s: Seconds = 60.0
    max_tries: int = Field(5, ge=1, le=100)


class EmbeddingSettings(Section):
    """What turns texts into vectors."""

    provider: Literal["auto", "openai", "fastembed", "none"] = "auto"
    base_url: BaseUrl | None = Field(None, examples=["http://127.0.0.1:11434/v1"])
    api_key: Key = None
    model: Text = None
    model_path: File = None
    dimensions: int | None = Field(None, ge=1, le=65_536)
    timeout_s: Seconds = 10.0


class ExtractionSettings(Section):
    """What turns conversations into facts, and when."""

    provider: Literal["auto", "openai", "rules", "none"] = "auto"
    base_url: BaseUrl | None = Field(None, examples=["http://127.0.0.1:11434/v1"])
    api_key: Key = None
    model: Text = None
    prompt: File = None
    idle_s: float = Field(10.0, ge=0.0, le=86_400.0)
    max_wait_s: float = Field(60.0, ge=0.0, le=86_400.0)
    max_batch_tokens: int = Field(4000, ge=100, le=200_000)
    max_batch_exchanges: int = Field(32, ge=1, le=1000)
    timeout_s: Seconds = 60.0
    daily_token_budget: int | None = Field(None, ge=0)
    skip_trivial: bool = True
    tool_output: bool = False
    rank: tuple[Literal["user", "api", "import", "chat"], ...] = ("user", "api", "import", "chat")
    concurrency: int = Field(8, ge=1, le=512)


class RetentionSettings(Section):
    """How long each kind of memory is kept."""

    profile: Duration = "never"
    preference: Duration = "never"
    interaction: Duration = "365d"
    task_state: Duration = "90d"
    turn: Duration = "30d"
    receipts: Duration = "7d"
    audit: Duration = "365d"
    sweep_every_s: Seconds = 300.0


class PrivacySettings(Section):
    """What is hidden at rest, and what is never stored."""

    seal: bool = True
    redact: tuple[
        Literal["card", "iban", "key", "password", "government_id", "email", "phone"], ...
    ] = ("card", "iban", "key", "password")
    allow_types: tuple[Type, ...] = ()
    deny_types: tuple[Type, ...] = ()


class ReceiptSettings(Section):
    """Records of why something was said."""

    share: Share = 1.0
    max_bytes: int = Field(64 * 2**10, ge=1024)
    max_per_user: int = Field(500, ge=1)
    on_demand: bool = True
    record: bool = False


class AdminSettings(Section):
    """Operators' access."""

    token: Key = None


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    content: bool = False


class TracingSettings(Section):
    """Traces for OpenTelemetry (the extra `otel`)."""

    enabled: bool = False
    endpoint: Text = None
    service_name: str = "memory-gateway"


class AppSettings(Section):
    """One app's own settings, over the general ones."""

    upstream: UpstreamSettings = UpstreamSettings()
    identity: IdentitySettings = IdentitySettings()
    memory: MemorySettings = MemorySettings()
    qdrant: QdrantSettings = QdrantSettings()
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    extraction: ExtractionSettings = ExtractionSettings()
    retention: RetentionSettings = RetentionSettings()
    privacy: PrivacySettings = PrivacySettings()
    receipts: ReceiptSettings = ReceiptSettings()


class Settings(AppSettings):
    """All settings. `apps` holds, by name, whole settings with that app's own laid over."""

    server: ServerSettings = ServerSettings()
    admin: AdminSettings = AdminSettings()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    data_dir: Directory = Path("data")
    apps: Mapping[str, AppSettings] = Field(default_factory=dict)

    _own: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def app(self, name: str) -> AppSettings:
        """The settings in force for an app: its own where it has any."""
        return self.apps.get(name, self)

    def own(self, name: str) -> frozenset[str]:
        """The sections that an app sets for itself (`qdrant`, `redis`, …)."""
        return frozenset(self._own.get(name, ()))

    @property
    def embedded(self) -> bool:
        """No servers are named: Qdrant Edge and a redis-server of our own."""
        return self.qdrant.url is None and self.redis.url is None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        _check_scope("", self)
        _check_claims("", self, self.server.host)
        for name, scope in self.apps.items():
            _check_scope(f"apps.{name}.", scope)
            _check_claims(f"apps.{name}.", scope, self.server.host)
        _check_places({"": self, **{f"apps.{name}.": scope for name, scope in self.apps.items()}})
        if self.embedded and self.server.workers > 1:
            raise SettingsError(
                f"server.workers: {self.server.workers} given, but embedded stores have one"
                " owner; allowed is 1, or set qdrant.url and redis.url",
                param="server.workers",
            )
        return self


def _check_scope(prefix: str, scope: AppSettings) -> None:
    """What one section alone cannot know."""
    if (scope.qdrant.url is None) != (scope.redis.url is None):
        given, missing = ("qdrant", "redis") if scope.qdrant.url else ("redis", "qdrant")
        raise SettingsError(
            f"{prefix}{missing}.url: absent, while {prefix}{given}.url is set. Set both (servers)"
            " or neither (embedded); a mixture is not supported",
            param=f"{prefix}{missing}.url",
        )
    if scope.redis.state_url is not None and scope.redis.url is None:
        raise SettingsError(
            f"{prefix}redis.state_url: set, while redis.url is absent: the embedded Redis holds"
            " the state all the same. Set redis.url and qdrant.url too, or leave it out",
            param=f"{prefix}redis.state_url",
        )
    needs = {
        "signed": ("signing_secret", scope.identity.signing_secret),
        "jwt": ("jwks_url", scope.identity.jwks_url),
    }
    if scope.identity.mode in needs and needs[scope.identity.mode][1] is None:
        key = needs[scope.identity.mode][0]
        raise SettingsError(
            f'{prefix}identity.{key}: absent, while identity.mode is "{scope.identity.mode}".'
            f" Set GATEWAY_IDENTITY__{key.upper()}",
            param=f"{prefix}identity.{key}",
        )


def _check_places(scopes: Mapping[str, AppSettings]) -> None:
    """Of two scopes, all places are the same or none is. With a queue in common but not a store,
    who takes the work would write it to the wrong store; with a store in common but not a
    directory, each would sweep out the other's users as nobody's."""

    def places(scope: AppSettings) -> tuple[object, ...]:
        redis, qdrant = scope.redis, scope.qdrant
        where = None if qdrant.url is None else (qdrant.url, qdrant.collection)
        return where, redis.url, redis.state_url or redis.url

    named = ("qdrant.url (or qdrant.collection)", "redis.url", "redis.state_url")
    for (one, first), (other, second) in combinations(scopes.items(), 2):
        same = [a == b for a, b in zip(places(first), places(second), strict=True)]
        if any(same) and not all(same):
            kept = named[same.index(True)]
            raise SettingsError(
                f"{other}{kept}: the same as {one or 'the general '}{kept}, while"
                f" {other}{named[same.index(False)]} is another. An app shares Qdrant and Redis"
                " with the others, or has both of its own",
                param=f"{other}{kept.partition(' ')[0]}",
            )


def _check_claims(prefix: str, scope: AppSettings, host: str) -> None:
    """Where others can connect, a bare header must not be proof of who is asking."""
    identity = scope.identity
    if identity.mode == "header" and not identity.trusted_peers and not _is_loopback(host):
        raise SettingsError(
            f"{prefix}identity.trusted_peers: empty, while server.host is {host!r} and"
            f' {prefix}identity.mode is "header": anyone who reaches that address could claim to'
            " be anyone. Name the addresses of your chatbot's back end, listen on 127.0.0.1,"
            ' or use identity.mode = "signed", "key" or "jwt"',
            param=f"{prefix}identity.trusted_peers",
        )


def _is_loopback(host: str) -> bool:
    if host in ("localhost", ""):
        return host == "localhost"
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
