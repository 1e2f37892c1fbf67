"""What is done to a house as a whole: another embedder, a backup, a restore."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from gateway import config
from gateway.cli import Failed
from gateway.cli.running import Admin, admin, find
from gateway.cli.shown import agreed, show_json, show_pairs
from gateway.config import Settings
from gateway.telemetry import logs

POLL_S: Final = 0.5

Asked = argparse.Namespace


def reembed(asked: Asked) -> int:
    """Embed every memory with the embedder that the settings name now.

    A running gateway changes over and goes on serving. Interrupted, it goes on by itself; said
    again, this shows how far it is.
    """
    settings = _settings(asked)

    async def whole() -> int:
        async with admin(settings, replaces_model=True) as api:
            body = {"embedding": _plain(settings)}
            status = await api.post("/reembed", body)
            status = await _watched(api, status, bar=sys.stderr.isatty() and not asked.json)
        done = {"embedded": status["total"]}
        show_json(done) if asked.json else show_pairs(done)
        return 0

    return asyncio.run(whole())


def _plain(settings: Settings) -> dict[str, Any]:
    """The section as it is sent: to this machine alone, and with its key."""
    asked = settings.embedding
    plain: dict[str, Any] = asked.model_dump(mode="json", exclude_none=True)
    if asked.api_key is not None:
        plain["api_key"] = asked.api_key.get_secret_value()
    if asked.model_path is not None:
        plain["model_path"] = str(asked.model_path.absolute())
    return plain


async def _watched(api: Admin, status: dict[str, Any], *, bar: bool) -> dict[str, Any]:
    """Look on until nothing waits."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("memories embedded"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not bar,
    ) as progress:
        shown = progress.add_task("reembed", total=status["total"])
        while status["waiting"]:
            progress.update(
                shown, total=status["total"], completed=status["total"] - status["waiting"]
            )
            if not status["running"]:
                raise Failed(
                    f"{status['waiting']} memories still wait for their vector:"
                    f" {status['reason'] or 'the gateway is ending'}"
                )
            await asyncio.sleep(POLL_S)
            status = await api.get("/reembed")
        progress.update(shown, completed=status["total"])
    return status


def backup(asked: Asked) -> int:
    """Write all that an embedded gateway keeps to a new directory."""
    settings = _settings(asked)

    async def whole() -> int:
        async with admin(settings) as api:
            done = await api.post("/backup", {"directory": str(asked.directory.absolute())})
        if left_out := done.get("left_out"):
            print(
                f"memory-gateway: left out: {', '.join(left_out)} (apps with servers of their own:"
                " take Qdrant's snapshots and Redis's append-only file, see docs/reliability.md)",
                file=sys.stderr,
            )
        if asked.json:
            show_json(done)
        else:
            show_pairs({name: value for name, value in done.items() if name != "left_out"})
        return 0

    return asyncio.run(whole())


def erasures(asked: Asked) -> int:
    """Every erasure known, a line of JSON each: to be kept apart from the data, for `restore`."""
    settings = _settings(asked)

    async def whole() -> int:
        async with admin(settings) as api:
            for record in (await api.get("/erasures"))["erasures"]:
                print(json.dumps(record, ensure_ascii=False))
        return 0

    return asyncio.run(whole())


def restore(asked: Asked) -> int:
    """Put a backup in the place of what the data directory holds. No gateway may run on it."""
    from gateway.cli.restoring import put_back

    settings = _settings(asked)
    if not settings.embedded:
        raise Failed(
            "the data rests on servers (qdrant.url, redis.url): restore those from Qdrant's"
            " snapshots and Redis's append-only file, as docs/reliability.md says"
        )
    if (running := find(settings.data_dir)) is not None:
        raise Failed(f"a gateway runs on {settings.data_dir} (pid {running.pid}): stop it first")
    question = f"Replace what {settings.data_dir} holds by {asked.directory}?"
    if sys.stdin.isatty() and sys.stdout.isatty() and not (asked.yes or agreed(question)):
        raise Failed("nothing was restored")
    lines = None if asked.erasures is None else _lines(asked.erasures)
    done = put_back(asked.directory, settings.data_dir, lines)
    show_json(done) if asked.json else show_pairs(done)
    return 0


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError as exc:
        raise Failed(f"{path} cannot be read: {exc.strerror}", code=2) from exc


def _settings(asked: Asked) -> Settings:
    settings = config.load(asked.config)
    logs.configure("warning", settings.log.format)
    return settings
