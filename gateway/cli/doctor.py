"""`doctor`: is everything there that this gateway needs? A line a check, each with its mend.

Where a gateway runs on these settings' data it is asked; else its parts are opened here, as a
start would open them. A part that is off by choice is no failure.

A gateway that runs may have been started with other settings than this command reads (a service's
environment is not the shell's). So it is asked for its upstream too; the one that is set here,
which its next start from here would have, has a line of its own that says so.
"""

from __future__ import annotations

import argparse
import asyncio
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import httpx

from gateway import config
from gateway.cli import Failed
from gateway.cli.running import Admin, Running, admin, find
from gateway.cli.shown import show_json
from gateway.config import Settings
from gateway.core.errors import GatewayError, KeysUnavailable, SettingsError
from gateway.telemetry import logs

UPSTREAM_S = 10.0
SETTLE_S = 60.0
"""How long a part may take to come up: a local model is loaded, a connection made."""
SLOW_S = 15.0
"""How long for a part that does not answer in time: on a busy machine it may the next time, but who
is woken by a Redis that hangs was told nothing for a minute."""
POLL_S = 0.3
QUICK_S = 3.0
"""After so long it is asked whether the model that is still looked for can come at all, and the
hub of models has as long to answer."""

NEEDED = (6, 2)
"""Of Redis: docs/scale.md."""

Status = Literal["ok", "off", "failed"]

MENDS: Mapping[str, str] = {
    "upstream": "is upstream.base_url (or OPENAI_BASE_URL) right, and is it running?",
    "store": "is Qdrant running and qdrant.url right? Embedded: is the disk full?",
    "queue": "is Redis running and redis.url right? Until it is back, exchanges wait on disk",
    "state": "is Redis running and redis.url (or redis.state_url) right?",
    "directory": "is Redis running and redis.url right? Embedded: may the data directory be read?",
    "embedder": "see embedding.base_url, .api_key, .model and .model_path; recall is lexical",
    "extractor": "see extraction.base_url, .api_key and .model; what was said waits meanwhile",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `mend` says what to do about a failed one."""

    name: str
    status: Status
    detail: str
    mend: str = ""


def main(asked: argparse.Namespace) -> int:
    """Print the findings; 1 if any failed."""
    checks = asyncio.run(_all(asked))
    if asked.json:
        show_json(
            {"ok": _whole(checks), "checks": [asdict(check) for check in checks]},
        )
    else:
        _show(checks)
    return 0 if _whole(checks) else 1


def _whole(checks: list[Check]) -> bool:
    return not any(check.status == "failed" for check in checks)


def _show(checks: list[Check]) -> None:
    colours = {"ok": "\x1b[32m", "off": "\x1b[33m", "failed": "\x1b[31m"}
    signs = {"ok": "ok    ", "off": "off   ", "failed": "FAILED"}
    in_colour = logs.in_colour(sys.stdout)
    width = max(len(check.name) for check in checks)
    for check in checks:
        sign = signs[check.status]
        if in_colour:
            sign = f"{colours[check.status]}{sign}\x1b[0m"
        mend = f" → {check.mend}" if check.mend and check.status == "failed" else ""
        print(f"{sign}  {check.name:<{width}}  {check.detail}{mend}")


async def _all(asked: argparse.Namespace) -> list[Check]:
    try:
        settings = config.load(asked.config)
    except SettingsError as exc:
        return [Check("settings", "failed", exc.message, "put it right and run doctor again")]
    logs.configure("error", settings.log.format)
    home = "embedded" if settings.embedded else "Qdrant and Redis by URL"
    running = find(settings.data_dir)
    if running is not None:
        home += "; as this command reads them (the gateway that runs may have others)"
    checks = [Check("settings", "ok", home), *_data_dir(settings)]
    checks += [check async for check in _redis(settings)]
    checks += [check async for check in _issuers(settings)]
    checks += [check async for check in _upstreams(settings, running)]
    checks += [check async for check in _parts(settings, running)]
    return checks


# --- this machine ----------------------------------------------------------------------------


def _data_dir(settings: Settings) -> Iterator[Check]:
    path = settings.data_dir
    name = "data directory"
    try:
        made = path.exists()
    except OSError as exc:
        mend = "set GATEWAY_DATA_DIR to one that this user may write"
        yield Check(name, "failed", f"{path} cannot be looked at: {exc.strerror}", mend)
        return
    if not made:
        yield Check(name, "ok", f"{path.absolute()} (will be made at the first start)")
    elif not path.is_dir():
        yield Check(name, "failed", f"{path} is no directory", "set GATEWAY_DATA_DIR to one")
    elif (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        mend = f"chmod 700 {path}"
        yield Check(name, "failed", f"{path.absolute()} is open to others ({mode:o})", mend)
    else:
        yield Check(name, "ok", str(path.absolute()))
    if settings.embedded and find(path) is None:
        yield _redis_server()


def _redis_server() -> Check:
    from gateway.adapters.embedded_redis import find_server

    try:
        return Check("redis-server", "ok", find_server())
    except SettingsError as exc:
        what, _, mend = exc.message.partition(". ")
        return Check("redis-server", "failed", what, mend)


async def _redis(settings: Settings) -> AsyncIterator[Check]:
    """What the server that is set here says of itself: it answers as well where it drops what it
    has no room for, which are exchanges that wait and everyone's keys. One that does not say, or
    is away, has no line here; its parts have theirs."""
    from gateway.adapters.redis_fleet import redis_fleet

    if settings.redis.url is None:
        return
    try:
        client = redis_fleet(settings.redis.url, timeout_s=QUICK_S)
    except SettingsError:
        return  # a start would stop with it, which is said below
    try:
        told = await client.info()
    except Exception:  # noqa: BLE001 (a cluster's faults are no RedisError; its parts say them)
        return
    finally:
        await client.aclose()
    if "redis_version" in told:
        yield _redis_said(told)


def _redis_said(told: Mapping[str, Any]) -> Check:
    name, version = "redis-server", str(told["redis_version"])
    policy = told.get("maxmemory_policy", "noeviction")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < NEEDED:
        mend = f"use {'.'.join(map(str, NEEDED))} or newer"
        return Check(name, "failed", f"version {version}", mend)
    if policy != "noeviction":
        detail = f"version {version}; maxmemory-policy {policy} drops what people said, and keys"
        return Check(name, "failed", detail, "set maxmemory-policy noeviction")
    if not int(told.get("aof_enabled", 1)):
        detail = "its append-only file is off: a restart may lose what waits, and everyone's keys"
        return Check(name, "ok", f"version {version}; {detail}")
    return Check(name, "ok", f"version {version}, with an append-only file, evicts nothing")


async def _issuers(settings: Settings) -> AsyncIterator[Check]:
    """Where tokens say whose a request is: without the keys that they are checked with, every
    chat that brings one is refused."""
    from gateway.adapters.jwks import HttpJwks

    asked = {"identity": settings.identity}
    for name, app in settings.apps.items():
        if app.identity != settings.identity:
            asked[f"identity of {name}"] = app.identity
    for name, identity in asked.items():
        if identity.mode != "jwt" or identity.jwks_url is None:
            continue
        issuer = HttpJwks()
        try:
            keys = await issuer.keys(identity.jwks_url, kid=None)
        except KeysUnavailable as exc:
            yield Check(name, "failed", exc.message, "is identity.jwks_url the issuer's?")
        else:
            told = f"identity.jwks_url publishes {len(keys)} key(s)"
            yield Check(name, "ok" if keys else "failed", told, "is it the issuer's?")
        finally:
            await issuer.close()


# --- the upstream ----------------------------------------------------------------------------


async def _upstreams(settings: Settings, running: Running | None) -> AsyncIterator[Check]:
    """The general upstream, and those that apps have for themselves, as the settings read here
    have them."""
    asked = {"upstream": settings.upstream}
    for name, app in settings.apps.items():
        if app.upstream != settings.upstream:
            asked[f"upstream of {name}"] = app.upstream
    for name, upstream in asked.items():
        yield await _upstream(name if running is None else f"{name} as set here", upstream)


async def _upstream(name: str, upstream: config.UpstreamSettings) -> Check:
    url = f"{upstream.base_url}/models"
    key = upstream.api_key.get_secret_value() if upstream.api_key else None
    headers = {"authorization": f"Bearer {key}"} if key else {}
    shown = logs.without_secrets(url)
    try:
        async with httpx.AsyncClient(timeout=UPSTREAM_S) as client:
            status = (await client.get(url, headers=headers)).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        because = logs.without_secrets(str(exc))
        told = f"{shown} does not answer ({type(exc).__name__}: {because})"
        return Check(name, "failed", told, MENDS["upstream"])
    if status in (401, 403) and key:
        mend = "set upstream.api_key (or OPENAI_API_KEY) to a key that it knows"
        return Check(name, "failed", f"{shown} refuses the key (HTTP {status})", mend)
    if status >= 500:
        return Check(name, "failed", f"{shown} answers HTTP {status}", "wait, or ask who runs it")
    whose = "with the gateway's key" if key else "no key here: each client's own is forwarded"
    return Check(name, "ok", f"{shown} answers, {whose}")


# --- memory's parts --------------------------------------------------------------------------


async def _parts(settings: Settings, running: Running | None) -> AsyncIterator[Check]:
    if running is not None:
        yield Check("gateway", "ok", f"runs at {running.url} (pid {running.pid})")
    try:
        async with admin(settings) as opened:
            for name, part in (await _settled(opened, settings)).items():
                if not name.startswith("upstream"):
                    yield _part(name, part)
                elif running is not None:
                    yield _part(name, part, well="answers the gateway that runs")
    except Failed as exc:
        yield Check("gateway", "failed", str(exc), "is it ending?")
    except GatewayError as exc:
        yield Check("start", "failed", exc.message, "a start would stop with this")


async def _settled(opened: Admin, settings: Settings) -> Mapping[str, Any]:
    """The parts, once none of them is still on its way (or was too slow to say). A model that
    would have to be fetched from where nobody answers is not waited for."""
    began = asyncio.get_running_loop().time()
    away: str | None = None
    looked = False
    while True:
        parts: Mapping[str, Any] = await opened.parts()
        loading = [name for name, part in parts.items() if part["status"] == "loading"]
        slow = [n for n, part in parts.items() if "no answer within" in part.get("reason", "")]
        took = asyncio.get_running_loop().time() - began
        if loading and took > QUICK_S and not looked:
            looked, away = True, await _hub_away(settings)
        if away is not None and loading and not slow:
            return {name: _not_to_be_had(p, away, settings) for name, p in parts.items()}
        if not (loading or slow) or took > (SETTLE_S if loading else SLOW_S):
            return parts
        await asyncio.sleep(POLL_S)


async def _hub_away(settings: Settings) -> str | None:
    """What was tried in vain to reach the hub of models; None where it answers, or where the
    model needs none: it is named by its path, or was fetched before."""
    fetched = settings.data_dir / "models"
    if settings.embedding.model_path is not None or any(fetched.rglob("*.onnx")):
        return None
    try:
        from huggingface_hub.constants import ENDPOINT
    except ImportError:
        return None
    try:
        async with httpx.AsyncClient(timeout=QUICK_S) as client:
            await client.head(ENDPOINT)
    except httpx.HTTPError as exc:
        return f"{ENDPOINT} does not answer ({type(exc).__name__})"
    if sys.stderr.isatty():
        print("The embedding model is being fetched …", file=sys.stderr)
    return None


def _not_to_be_had(part: Mapping[str, Any], away: str, settings: Settings) -> Mapping[str, Any]:
    if part["status"] != "loading":
        return part
    reason = (
        f"the model cannot be fetched: {away}; recall is lexical until it can. A machine that"
        " cannot reach a model hub needs embedding.model_path"
    )
    status = "off" if settings.embedding.provider == "auto" else "failed"
    return {**part, "status": status, "reason": reason}


def _part(name: str, part: Mapping[str, Any], well: str = "answers") -> Check:
    said = [part[key] for key in ("note", "reason") if part.get(key)]
    detail = "; ".join(dict.fromkeys(said)) or well
    if part["status"] in ("ok", "off"):
        return Check(name, part["status"], detail)
    return Check(name, "failed", detail, MENDS.get(name.split("_")[0], ""))
