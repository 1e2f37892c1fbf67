"""What only the SQLite directory promises: gone means gone from the disk, and one owner."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.directory_sqlite import CACHED, SqliteDirectory
from gateway.config import load
from gateway.core.errors import DirectoryUnavailable
from gateway.core.identity import Owner, Person

NOON = 1_790_000_000.0
DAY = 86_400.0


def opened(folder: Path, now: float = NOON, **environ: str) -> SqliteDirectory:
    settings = load(environ={f"GATEWAY_{k}": v for k, v in environ.items()})
    return SqliteDirectory(folder / "directory.sqlite", clock=lambda: now, settings=settings)


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[SqliteDirectory]:
    directory = opened(tmp_path)
    yield directory
    await directory.close()


async def made(directory: SqliteDirectory, user: str) -> Owner:
    owner = await directory.owner(Person("default", user), create=True)
    assert owner is not None
    return owner


def bytes_of(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


async def test_the_key_of_a_dropped_owner_stands_in_no_file(
    directory: SqliteDirectory, tmp_path: Path
) -> None:
    owners = [await made(directory, f"user-{n}") for n in range(40)]
    random.Random(7).shuffle(owners)
    dropped, kept = owners[:20], owners[20:]
    assert all(owner.key in bytes_of(tmp_path) for owner in owners)
    for owner in dropped:
        await directory.drop(owner)
        assert owner.key not in bytes_of(tmp_path)
        assert owner.tenant.encode() not in bytes_of(tmp_path)
    await directory.close()
    assert not any(owner.key in bytes_of(tmp_path) for owner in dropped)
    assert all(owner.key in bytes_of(tmp_path) for owner in kept)


async def test_people_outlive_a_restart(directory: SqliteDirectory, tmp_path: Path) -> None:
    before = await made(directory, "ann")
    await directory.link(Person("default", "slack"), before.person)
    await directory.close()
    again = opened(tmp_path)
    assert await again.owner(before.person) == before
    assert await again.owner(Person("default", "slack")) == before
    await again.close()


async def test_its_files_are_for_this_user_alone(
    directory: SqliteDirectory, tmp_path: Path
) -> None:
    await made(directory, "ann")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


async def test_a_second_process_is_told_that_the_directory_is_in_use(
    directory: SqliteDirectory, tmp_path: Path
) -> None:
    await directory.ping()
    second = opened(tmp_path)
    with pytest.raises(DirectoryUnavailable, match="in use by another process"):
        await second.ping()
    await second.close()


async def test_a_damaged_file_is_unavailable_and_never_empty(tmp_path: Path) -> None:
    (tmp_path / "directory.sqlite").write_bytes(b"no database " * 400)
    directory = opened(tmp_path)
    with pytest.raises(DirectoryUnavailable, match="backup"):
        await directory.owner(Person("default", "ann"), create=True)
    await directory.close()


async def test_a_directory_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    directory = SqliteDirectory(
        tmp_path / "absent" / "d.sqlite", clock=lambda: NOON, settings=load(environ={})
    )
    with pytest.raises(DirectoryUnavailable):
        await directory.ping()
    await directory.close()


async def test_after_close_it_is_unavailable(directory: SqliteDirectory) -> None:
    await directory.close()
    with pytest.raises(DirectoryUnavailable):
        await directory.owner(Person("default", "ann"))


async def test_a_lookup_under_way_during_a_drop_is_not_cached(directory: SqliteDirectory) -> None:
    import asyncio

    owner = await made(directory, "ann")
    await directory.by_tenant(owner.tenant)
    directory._forget_cached()
    await asyncio.gather(
        directory.owner(owner.person), directory.by_tenant(owner.tenant), directory.drop(owner)
    )
    assert await directory.owner(owner.person) is None
    assert await directory.by_tenant(owner.tenant) is None


async def test_the_cache_is_bounded(directory: SqliteDirectory) -> None:
    owner = await made(directory, "ann")
    filler: Any = {Person("default", f"u{n}"): owner for n in range(CACHED)}
    directory._owners.update(filler)
    await made(directory, "bob")
    assert len(directory._owners) <= CACHED + 1


async def test_the_audit_cannot_be_rewritten(directory: SqliteDirectory, tmp_path: Path) -> None:
    await directory.audit({"action": "read", "app": "default", "user": "ann"})
    await directory.close()
    with (
        sqlite3.connect(tmp_path / "directory.sqlite") as db,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        db.execute("UPDATE audit SET user = 'bob'")
    db.close()


async def test_the_audit_is_kept_for_its_time(tmp_path: Path) -> None:
    first = opened(tmp_path, RETENTION__AUDIT="30d")
    await first.audit({"action": "read"})
    await first.close()
    later = opened(tmp_path, NOON + 31 * DAY, RETENTION__AUDIT="30d")
    await later.audit({"action": "erase"})
    assert [entry["action"] for entry in await later.audited()] == ["erase"]
    await later.close()
