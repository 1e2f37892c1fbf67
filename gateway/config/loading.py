"""Where settings come from, weakest first: defaults, the file, the environment, the command
line; then (for the upstream alone) `OPENAI_BASE_URL` and `OPENAI_API_KEY` where nothing else
names one. The only reader of the environment.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gateway.config.settings import AppSettings, Settings
from gateway.config.words import every_setting, explained, field_of, near, plain
from gateway.core.errors import SettingsError
from gateway.core.extraction import PROMPT

ENV_PREFIX = "GATEWAY_"
SECTION_SEPARATOR = "__"
FILE_VERSION = 1
_NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
APP_NAME = r"[A-Za-z0-9_.-]{1,64}"


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
    try:
        # With or without the mark that editors on Windows put before what they save.
        values = tomllib.loads(chosen.read_text("utf-8-sig"))
    except OSError as exc:
        if named is None and isinstance(exc, _NO_FILE):
            return {}
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
    _refuse_bytes({**values, "apps": apps})
    try:
        # As JSON and strictly: `port = "8080"` or `seal = 1` is a mistake, not a port or a yes.
        settings = Settings.model_validate_json(
            json.dumps({**values, "apps": whole_apps}, default=str), strict=True
        )
    except ValidationError as exc:
        raise explained(exc) from None
    settings._own.update(apps)
    return settings


def _refuse_bytes(values: Mapping[str, Any], prefix: str = "") -> None:
    """What was no text in the environment or on the command line comes as halves of characters,
    which JSON has not: its error would show the settings about it, secrets among them."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            _refuse_bytes(value, f"{name}.")
        elif re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False, default=str)):
            raise SettingsError(f"{name}: bytes given that are no text in UTF-8", param=name)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def shipped(name: str) -> Path:
    """A file of `config/` as it came with the program (in a wheel, or in a checkout)."""
    here = Path(__file__).resolve().parent.parent
    packed = here / "_config" / name
    return packed if packed.exists() else here.parent / "config" / name


@lru_cache(maxsize=64)
def extraction_prompt(path: Path | None) -> str:
    """What an extracting model is told: the words in `path` (`extraction.prompt`), else ours.

    Read once in a process, so that all who need it have the same. Raises SettingsError.
    """
    if path is None:
        return shipped(PROMPT).read_text("utf-8")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        raise SettingsError(
            f"extraction.prompt: {path} cannot be read: {why}; name a text file, or leave it out",
            param="extraction.prompt",
        ) from exc
    if not text.strip():
        raise SettingsError(
            f"extraction.prompt: {path} is empty; begin with a copy of config/{PROMPT}",
            param="extraction.prompt",
        )
    return text


# --- the environment -----------------------------------------------------------------------


def environment_and(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with something more: for a process of our own."""
    return {**os.environ, **more}


def colours_are_wanted() -> bool:
    """By what programs commonly go by: https://no-color.org, and a terminal that knows none."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


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
            field = field_of(keys)
            if field is None:
                raise _unknown_variable(name)
            _set(values, keys, _read_text(field, env[name]))
    return values


_OF_A_SERVICE = re.compile(
    r"GATEWAY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)


def _from_kubernetes(name: str, text: str) -> bool:
    """Each Service's address is put into the environment of every pod beside it, under its name:
    that of one called `gateway`, or `gateway-redis`. Settings have two underscores in theirs."""
    if SECTION_SEPARATOR in name:
        return False
    return _OF_A_SERVICE.fullmatch(name) is not None or (
        name.endswith("_PORT") and text.startswith(("tcp://", "udp://", "sctp://"))
    )


def _unknown_variable(name: str) -> SettingsError:
    keys = name.removeprefix(ENV_PREFIX).lower().split(SECTION_SEPARATOR)
    known = [ENV_PREFIX + path.replace(".", "__").upper() for path, _ in every_setting()]
    similar = difflib.get_close_matches(
        name, [*known, "GATEWAY_CONFIG", "GATEWAY_DATA_DIR"], n=1, cutoff=0.75
    )
    if keys[0] == "apps" and len(keys) > 2:
        hint = near(keys)  # the general setting of that name would be in force for everybody
    else:
        hint = f"did you mean {similar[0]}?" if similar else "config/gateway.toml lists every one"
    return SettingsError(f"{name} (environment): no such setting; {hint}", param=name)


def _read_text(field: FieldInfo, text: str) -> Any:
    """A variable's text as what the setting holds; text that cannot be is left to be refused."""
    kind = plain(field.annotation)
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
