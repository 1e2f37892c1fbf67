"""Every setting: its name, meaning, default and bounds. The only reader of the environment.

Sources, weakest first: the defaults here, the settings file, `GATEWAY_<SECTION>__<KEY>`,
then (for the upstream alone) `OPENAI_BASE_URL` and `OPENAI_API_KEY` where nothing else names
one. What is unknown, of a wrong type or impossible stops the start with a `SettingsError`.
`config/gateway.toml` documents each setting; a test holds the two together.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from gateway.core.errors import SettingsError
from gateway.telemetry.logs import without_secrets

ENV_PREFIX = "GATEWAY_"
SECTION_SEPARATOR = "__"
FILE_VERSION = 1
APP_NAME = r"[A-Za-z0-9_.-]{1,64}"
DAY_S = 86_400.0


def _whole_url(value: str) -> str:
    if not re.match(r"^[a-z]+://[^\s/?#]+", value):
        raise ValueError("no URL")
    return value.rstrip("/")


def _duration(value: str) -> str:
    if value != "never" and not re.fullmatch(r"[1-9]\d{0,5}[hd]", value):
        raise ValueError("no duration")
    return value


def _network(value: str) -> str:
    try:
        ip_network(value, strict=False)
    except ValueError:
        raise ValueError("no network") from None
    return value


Url = Annotated[str, AfterValidator(_whole_url)]
Duration = Annotated[str, AfterValidator(_duration)]
Network = Annotated[str, AfterValidator(_network)]
_FORMS = {
    _whole_url: "a URL such as http://127.0.0.1:6333",
    _duration: '"never", or a number of days or hours such as "90d" or "12h"',
    _network: "addresses or networks such as 10.0.0.0/8",
}
Share = Annotated[float, Field(ge=0.0, le=1.0)]
SigningAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
"""Asymmetric ones only: what is published to verify a token must not suffice to forge one."""
Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]


def seconds_of(duration: str) -> float | None:
    """A `Duration` in seconds; None for "never"."""
    if duration == "never":
        return None
    return int(duration[:-1]) * (DAY_S if duration.endswith("d") else 3600.0)


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


class UpstreamSettings(Section):
    """The LLM that answers."""

    base_url: Url = "https://api.openai.com/v1"
    api_key: SecretStr | None = None
    connect_timeout_s: Seconds = 10.0
    first_byte_timeout_s: Seconds = 600.0
    idle_timeout_s: Seconds = 300.0
    max_connections: int = Field(1024, ge=1, le=100_000)


class IdentitySettings(Section):
    """How a request says whose it is, and who may say so."""

    mode: Literal["header", "signed", "key", "jwt"] = "header"
    aliases: tuple[str, ...] = (
        "X-User-Id",
        "X-OpenWebUI-User-Id",
        "x-sm-user-id",
        "x-litellm-end-user-id",
    )
    trusted_peers: tuple[Network, ...] = ()
    body_user: bool = False
    signing_secret: SecretStr | None = None
    jwks_url: Url | None = None
    jwt_algorithms: tuple[SigningAlgorithm, ...] = ("RS256", "ES256")
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    jwt_user_claim: str = "sub"
    jwt_app_claim: str = "app"
    session_idle_gap_s: float = Field(6 * 3600.0, ge=60.0, le=30 * DAY_S)


class MemorySettings(Section):
    """What is recalled, how much of it, and where it is put."""

    mode: Literal["on", "shadow", "holdout", "off"] = "on"
    holdout_share: Share = 0.1
    placement: Literal["system", "split", "tail"] = "system"
    max_tokens: int = Field(800, ge=0, le=100_000)
    max_memories: int = Field(40, ge=0, le=1000)
    deadline_ms: float = Field(150.0, ge=1.0, le=60_000.0)
    turns: Literal["on", "off"] = "on"
    types: tuple[Literal["profile", "preference", "interaction", "task_state"], ...] = (
        "profile",
        "preference",
        "interaction",
        "task_state",
    )
    standing_max: int = Field(20, ge=0, le=200)
    floor: Share = 0.35
    rerank: Literal["off", "on"] = "off"
    rerank_model: str | None = None
    template: str | None = None
    skip_housekeeping: bool = True
    off_the_record: bool = False


class QdrantSettings(Section):
    """Where memories rest; without a URL, embedded."""

    url: Url | None = None
    api_key: SecretStr | None = None
    collection: str = Field("memories", pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    shard_number: int = Field(1, ge=1, le=1024)
    replication_factor: int = Field(1, ge=1, le=16)
    write_consistency_factor: int = Field(1, ge=1, le=16)
    timeout_s: Seconds = 5.0


class RedisSettings(Section):
    """Where the queue and shared state live; without a URL, embedded."""

    url: Url | None = None
    state_url: Url | None = None
    timeout_s: Seconds = 2.0


class QueueSettings(Section):
    """What may wait, and how firmly it is kept."""

    durable: Literal["everysec", "always"] = "everysec"
    max_pending: int = Field(1_000_000, ge=1)
    max_bytes: int = Field(2 * 2**30, ge=2**20)
    max_user_pending: int = Field(1000, ge=1)
    spool_max_bytes: int = Field(256 * 2**20, ge=2**20)
    lease_s: Seconds = 60.0
    max_tries: int = Field(5, ge=1, le=100)


class EmbeddingSettings(Section):
    """What turns texts into vectors."""

    provider: Literal["auto", "openai", "fastembed", "none"] = "auto"
    base_url: Url | None = None
    api_key: SecretStr | None = None
    model: str | None = None
    model_path: Path | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)
    timeout_s: Seconds = 10.0


class ExtractionSettings(Section):
    """What turns conversations into facts, and when."""

    provider: Literal["auto", "openai", "rules", "none"] = "auto"
    base_url: Url | None = None
    api_key: SecretStr | None = None
    model: str | None = None
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
    allow_types: tuple[str, ...] = ()
    deny_types: tuple[str, ...] = ()


class ReceiptSettings(Section):
    """Records of why something was said."""

    share: Share = 1.0
    max_bytes: int = Field(64 * 2**10, ge=1024)
    max_per_user: int = Field(500, ge=1)
    record: bool = False


class AdminSettings(Section):
    """Operators' access."""

    token: SecretStr | None = None


class LogSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"
    content: bool = False


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
    data_dir: Path = Path("data")
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


# --- loading -------------------------------------------------------------------------------


def load(
    path: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Read the settings file and the environment into one frozen `Settings`.

    `path` (or GATEWAY_CONFIG) must exist when it is named; without either,
    `config/gateway.toml` below the working directory is read where there is one.
    `overrides` (dotted names, from the command line) win over everything.

    Raises SettingsError, naming the setting, what was given and what is allowed.
    """
    env = os.environ if environ is None else environ
    values = _read_file(path, env)
    _lay_over(values, _from_environment(env))
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _set(values, dotted.split("."), value)
    _openai_defaults(values, env)
    return _build(values)


def _read_file(path: Path | None, env: Mapping[str, str]) -> dict[str, Any]:
    named = path or (Path(env["GATEWAY_CONFIG"]) if env.get("GATEWAY_CONFIG") else None)
    chosen = named or Path("config/gateway.toml")
    if named is None and not chosen.is_file():
        return {}
    try:
        values = tomllib.loads(chosen.read_text("utf-8"))
    except OSError as exc:
        raise SettingsError(
            f"settings file {chosen} cannot be read: {exc.strerror}. Name an existing file with"
            " --config or GATEWAY_CONFIG",
            param="config",
        ) from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise SettingsError(f"settings file {chosen} is not TOML: {exc}", param="config") from exc
    if values.pop("version", FILE_VERSION) != FILE_VERSION:
        raise SettingsError(
            f"settings file {chosen} is of another version; this program reads {FILE_VERSION}",
            param="version",
        )
    return values


def _openai_defaults(values: dict[str, Any], env: Mapping[str, str]) -> None:
    upstream = values.setdefault("upstream", {})
    if isinstance(upstream, dict):
        if env.get("OPENAI_BASE_URL"):
            upstream.setdefault("base_url", env["OPENAI_BASE_URL"])
        if env.get("OPENAI_API_KEY"):
            upstream.setdefault("api_key", env["OPENAI_API_KEY"])


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise SettingsError(f"{'.'.join(keys)}: {key!r} is no section", param=".".join(keys))
    values[keys[-1]] = value


def _lay_over(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _lay_over(base[key], value)
        else:
            base[key] = value


def _build(values: dict[str, Any]) -> Settings:
    apps = values.pop("apps", {})
    if not isinstance(apps, dict) or not all(isinstance(own, dict) for own in apps.values()):
        raise SettingsError(
            "apps: a table [apps.NAME.SECTION] for each app is needed", param="apps"
        )
    general = {k: v for k, v in values.items() if k in AppSettings.model_fields}
    whole_apps: dict[str, Any] = {}
    for name, own in apps.items():
        if not re.fullmatch(APP_NAME, name):
            raise SettingsError(
                f"apps.{name}: an app's name has 1 to 64 of the characters A-Z a-z 0-9 _ . -",
                param=f"apps.{name}",
            )
        merged: dict[str, Any] = {}
        _lay_over(merged, _copied(general))
        _lay_over(merged, _copied(own))
        whole_apps[name] = merged
    try:
        # As JSON and strictly: `port = "8080"` or `seal = 1` is a mistake, not a port or a yes.
        settings = Settings.model_validate_json(
            json.dumps({**values, "apps": whole_apps}, default=str), strict=True
        )
    except ValidationError as exc:
        raise _explained(exc) from None
    settings._own.update(apps)
    return settings


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


# --- the environment -----------------------------------------------------------------------


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    """`GATEWAY_<SECTION>__<KEY>`, read as what the setting holds. App names are lower case
    here, as nothing tells their case (`GATEWAY_APPS__SUPPORT__MEMORY__MAX_TOKENS`)."""
    values: dict[str, Any] = {}
    for name in sorted(env):
        if not name.startswith(ENV_PREFIX) or name.startswith("GATEWAY_TEST_"):
            continue
        if not env[name]:
            continue  # `${NAME:-}` of a compose file: not set
        if name == "GATEWAY_DATA_DIR":
            values["data_dir"] = env[name]
        elif name != "GATEWAY_CONFIG" and not _from_kubernetes(name, env[name]):
            keys = name.removeprefix(ENV_PREFIX).lower().split(SECTION_SEPARATOR)
            field = _field(keys)
            if field is None:
                raise _unknown_variable(name)
            _set(values, keys, _read_text(field, env[name]))
    return values


def _from_kubernetes(name: str, text: str) -> bool:
    """A Service called `gateway` has its address put into every pod's environment."""
    return re.fullmatch(r"GATEWAY_SERVICE_(HOST|PORT(_\w+)?)", name) is not None or (
        name.startswith("GATEWAY_PORT") and (text.startswith("tcp://") or "_TCP_" in name)
    )


def _field(keys: list[str]) -> FieldInfo | None:
    """The setting that this path of keys names, if there is one."""
    model: type[BaseModel] = Settings
    if keys[0] == "apps":
        model, keys = AppSettings, keys[2:]
    for n, key in enumerate(keys):
        field = model.model_fields.get(key)
        if field is None:
            return None
        if n == len(keys) - 1:
            return None if _section(field) else field
        section = _section(field)
        if section is None:
            return None
        model = section
    return None


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _unknown_variable(name: str) -> SettingsError:
    known = [ENV_PREFIX + path.replace(".", "__").upper() for path, _ in every_setting()]
    near = difflib.get_close_matches(
        name, [*known, "GATEWAY_CONFIG", "GATEWAY_DATA_DIR"], n=1, cutoff=0.75
    )
    hint = f"did you mean {near[0]}?" if near else "config/gateway.toml lists every one"
    return SettingsError(f"{name} (environment): no such setting; {hint}", param=name)


def _read_text(field: FieldInfo, text: str) -> Any:
    """A variable's text as what the setting holds; text that cannot be is left to be refused."""
    kind = _plain(field.annotation)
    try:
        if get_origin(kind) is tuple:
            return [part.strip() for part in text.split(",") if part.strip()]
        if kind is bool:
            return {"true": True, "on": True, "1": True, "yes": True}.get(
                text.lower(), False if text.lower() in ("false", "off", "0", "no") else text
            )
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
    except ValueError:
        return text
    return text


# --- what is allowed -------------------------------------------------------------------------


def every_setting(
    model: type[BaseModel] | None = None, prefix: str = ""
) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting's dotted name with its field, in the order of the file; `apps` left out."""
    for name, field in (model or Settings).model_fields.items():
        section = _section(field)
        if section is not None:
            yield from every_setting(section, f"{prefix}{name}.")
        elif name != "apps":
            yield prefix + name, field


def allowed(field: FieldInfo) -> str:
    """What a setting may be, in words."""
    kind = _plain(field.annotation)
    if get_origin(kind) is tuple:
        return f"a list of {_allowed(get_args(kind)[0], [])}"
    return _allowed(field.annotation, field.metadata)


def _allowed(annotation: Any, rules: list[Any]) -> str:
    kind, rules = _plain(annotation), [*rules, *_annotations(annotation)]
    if get_origin(kind) is Literal:
        return _either(get_args(kind))
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _range(_bounds(rules))
    if kind is bool:
        return "true or false"
    for rule in rules:
        if isinstance(rule, AfterValidator):
            return _FORMS[rule.func]  # type: ignore[index]
        if getattr(rule, "pattern", None):
            return f"text of the form {rule.pattern}"
    return "a path" if kind is Path else "text"


def _plain(kind: Any) -> Any:
    """The type below `None |` and `Annotated`."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return _plain(next(part for part in get_args(kind) if part is not NoneType))
    return kind


def _bounds(rules: list[Any]) -> dict[str, float]:
    """Bounds by name (`ge`, `gt`, `le`), from wherever they were declared."""
    found: dict[str, float] = {}
    for rule in rules:
        parts = [rule, *(rule.metadata if isinstance(rule, FieldInfo) else ())]
        for part in parts:
            found |= {n: getattr(part, n) for n in ("ge", "gt", "le") if hasattr(part, n)}
    return found


def _annotations(kind: Any) -> Iterator[Any]:
    if get_origin(kind) is Annotated:
        yield from get_args(kind)[1:]
    for part in get_args(kind) if get_origin(kind) in (Union, UnionType) else ():
        yield from _annotations(part)


def _range(rules: Mapping[str, float]) -> str:
    low = rules.get("ge", rules.get("gt", -math.inf))
    words = f" {'above' if 'gt' in rules else 'from'} {_digits(low)}" if low > -math.inf else ""
    if "le" in rules:
        words += f" {'up ' if 'gt' in rules else ''}to {_digits(rules['le'])}"
    return words or " of any size"


def _digits(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


def _either(choices: tuple[Any, ...]) -> str:
    shown = [f'"{choice}"' for choice in choices]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"


def _explained(exc: ValidationError) -> SettingsError:
    """The first fault, in words: the setting, what was given, what is allowed."""
    fault = exc.errors(include_url=False)[0]
    keys = [str(part) for part in fault["loc"] if not str(part).startswith("function-")]
    name = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return SettingsError(f"{name}: no such setting; {_near(keys)}", param=name)
    while keys and keys[-1].isdecimal():
        keys.pop()  # within a list
    field = _field(keys)
    if field is None:
        return SettingsError(f"{name}: a section [{name}] of settings is needed", param=name)
    given = "a secret" if _holds_secret(field) else _shown(fault.get("input"))
    return SettingsError(f"{name}: {given} given; allowed is {allowed(field)}", param=name)


def _holds_secret(field: FieldInfo) -> bool:
    return _plain(field.annotation) is SecretStr


def _shown(given: Any) -> str:
    """What was given, without the password that a URL may hold or a key in a wrong place."""
    text = without_secrets(re.sub(r"[^\s/'\"]*@", "***@", repr(given)))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _near(keys: list[str]) -> str:
    known = {path: None for path, _ in every_setting()}
    known |= {path.split(".")[0]: None for path in known}
    own = keys[2:] if keys[0] == "apps" else keys
    if own is not keys and ".".join(own) in known:
        return f"an app may set its own {', '.join(AppSettings.model_fields)}"
    near = difflib.get_close_matches(".".join(own), known, n=1, cutoff=0.75)
    return f"did you mean {near[0]}?" if near else "config/gateway.toml lists every one"


def shipped(name: str) -> Path:
    """A file of `config/` as it came with the program (in a wheel, or in a checkout)."""
    here = Path(__file__).resolve().parent
    packed = here / "_config" / name
    return packed if packed.exists() else here.parent / "config" / name
