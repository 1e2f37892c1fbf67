"""What is done to the open parts as a whole while they serve: another embedder, a backup.

A backup is taken part by part against the way that an exchange goes (spool, queue, store), so
that one that moves on meanwhile is there twice rather than not at all: the queue refuses what
it has accepted before, and what is distilled again takes effect once, as after a kill. The
directory with everyone's keys comes last: who comes into being meanwhile has theirs, and who is
erased meanwhile leaves only what cannot be opened.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from gateway import __version__
from gateway.adapters.embed_cached import CachedEmbedder
from gateway.adapters.embed_none import NoEmbedder
from gateway.config import AppSettings
from gateway.core.breaker import Breaker
from gateway.core.errors import EmbedderUnavailable, SettingsError, Unprocessable
from gateway.core.memory import Instant, rfc3339
from gateway.flows.guarded import guard
from gateway.ports import Embedder, Services
from gateway.telemetry.metrics import Metrics
from gateway.wiring.models import choose_embedder

MANIFEST: Final = "backup.json"
FORMAT: Final = 1
LOAD_S: Final = 300.0
"""A local model that is downloaded first may take minutes."""
SETTLE_S: Final = 2.0
"""From an embedder's last vector until the store has it: a worker writes at once."""
BLOCK: Final = 512
"""Bytes that `st_blocks` counts in, whatever the file system's own blocks."""

Copy = Callable[[Path], Awaitable[None]]


# --- another embedder ------------------------------------------------------------------------


async def change_embedder(
    services: Services, scope: AppSettings, *, metrics: Metrics, data_dir: Path
) -> None:
    """Vectors are this embedder's from now on. Raises SettingsError, EmbedderUnavailable."""
    cached = services.embedder
    if not isinstance(cached, CachedEmbedder):
        raise SettingsError("embedding: this deployment's embedder cannot be changed")
    chosen, note = await choose_embedder(scope, None, metrics=metrics, data_dir=data_dir)
    fresh = chosen.inner if isinstance(chosen, CachedEmbedder) else chosen
    try:
        await _until_it_embeds(fresh, note)
    except BaseException:
        await fresh.close()
        raise
    former = cached.inner
    model = fresh.model
    assert model is not None  # noqa: S101  # it has embedded
    if former.model != model:
        # Nobody's vectors until the store has changed over: what is written waits for its own.
        cached.replace(NoEmbedder("the embedder is being changed; recall is lexical"))
        await asyncio.sleep(SETTLE_S if former.model is not None else 0)
    try:
        await services.store.adopt(model, replace=True)
    except BaseException:
        cached.replace(former)
        await fresh.close()
        raise
    cached.replace(with_breaker(fresh, metrics))
    await former.close()


async def _until_it_embeds(embedder: Embedder, note: str) -> None:
    if isinstance(embedder, NoEmbedder):
        raise SettingsError(f"embedding: {note}", param="embedding.provider")
    loop = asyncio.get_running_loop()
    give_up = loop.time() + LOAD_S
    while True:
        try:
            await embedder.embed(["probe"])
            return
        except EmbedderUnavailable as exc:
            if exc.code != "loading" or loop.time() > give_up:
                raise
            await asyncio.sleep(0.1)


def with_breaker(embedder: Embedder, metrics: Metrics) -> Embedder:
    """An embedder that is not asked again at once where it failed a moment ago."""
    return guard(
        embedder,
        Breaker(),
        calls=("embed",),
        error=EmbedderUnavailable,
        part="embedder",
        metrics=metrics,
    )


# --- backup ----------------------------------------------------------------------------------


async def back_up(
    copies: Mapping[str, Copy], data_dir: Path, directory: Path, *, now: Instant
) -> dict[str, Any]:
    """Have each part copied below a directory, which is there whole or not at all.

    Raises Unprocessable, and Unavailable where a part is away.
    """
    if not copies:
        raise Unprocessable(
            "the data rests on servers of your own: take Qdrant's snapshots and Redis's"
            " append-only file, as docs/reliability.md says"
        )
    await asyncio.to_thread(_check_place, data_dir, directory)
    draft = directory.with_name(directory.name + ".partial")
    try:
        await asyncio.to_thread(_fresh, draft)
        for copy in copies.values():
            await copy(draft)
        return await asyncio.to_thread(_sealed, draft, directory, rfc3339(now))
    except OSError as exc:
        raise Unprocessable(f"{directory} cannot be written: {exc.strerror or exc}") from exc
    finally:
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)


def _check_place(data_dir: Path, directory: Path) -> None:
    if not directory.is_absolute() or directory.is_relative_to(data_dir.absolute()):
        raise Unprocessable("a backup needs an absolute path outside the data directory")
    try:
        taken = directory.exists()
    except OSError as exc:  # nobody may look there, or the name is too long for one
        raise Unprocessable(f"{directory} cannot be written: {exc.strerror}") from exc
    if taken:
        raise Unprocessable(f"{directory} exists; a backup is written to a new directory")


def _fresh(draft: Path) -> None:
    if draft.exists():
        shutil.rmtree(draft)
    draft.mkdir(mode=0o700, parents=True)


def _sealed(draft: Path, directory: Path, at: str) -> dict[str, Any]:
    """Sums of all files beside them, everything on the disk, and the name that counts."""
    sums: dict[str, str] = {}
    size = 0
    for path in sorted(p for p in draft.rglob("*") if p.is_file()):
        sums[str(path.relative_to(draft))] = sum_of(path)
        size += path.stat().st_blocks * BLOCK  # what it takes: the store's files are mostly holes
        _sync(path)
    manifest = {"format": FORMAT, "at": at, "version": __version__, "files": sums}
    file = draft / MANIFEST
    file.write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    _sync(file)
    draft.rename(directory)
    _sync(directory.parent)
    return {"directory": str(directory), "files": len(sums), "bytes": size, "at": at}


def sum_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
