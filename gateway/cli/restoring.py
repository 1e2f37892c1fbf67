"""Putting a backup in place, and making it forget again who was erased after it was taken.

A backup holds everyone's keys as they were. So the erasures that the data directory knows of
are carried over: the keys of the erased are deleted before anything is put in place, and the
next start removes their records. The new parts are made beside the old ones (`restore.new`)
and moved; while that directory is there a gateway refuses to start and another `restore`
begins again. The old parts go (`restore.old`) once all are in place.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from gateway.adapters.data_dir import DataDirLock
from gateway.adapters.qdrant.holes import copy_with_holes
from gateway.cli import Failed
from gateway.wiring.upkeep import FORMAT, MANIFEST, sum_of

PARTS: Final = ("spool", "redis", "qdrant", "directory.sqlite")
DIRECTORY: Final = "directory.sqlite"


def put_back(backup: Path, data_dir: Path, erasures: list[bytes] | None = None) -> dict[str, Any]:
    """Replace what the data directory holds by a backup; what was done.

    `erasures`: lines of JSON of erasures made since, where the data directory that knew of them
    is gone. Raises Failed for a backup that is not whole, SettingsError where a gateway runs.
    """
    manifest = _checked(backup)
    lock = DataDirLock(data_dir)
    lock.acquire()
    try:
        new, old = data_dir / "restore.new", data_dir / "restore.old"
        known = {record["id"]: record for record in _given(erasures or ())}
        for place in (old / DIRECTORY, data_dir / DIRECTORY):
            known |= {record["id"]: record for record in _erasures(place)}
        shutil.rmtree(new, ignore_errors=True)
        _copy(backup, new)
        again = _erase_again(new / DIRECTORY, list(known.values()))
        _move(new, data_dir, old)
    except OSError as exc:
        raise Failed(f"{data_dir} cannot be restored: {exc.strerror or exc}; run it again") from exc
    finally:
        lock.release()
    return {"restored": manifest.get("at"), "files": len(manifest["files"]), "erased_again": again}


def _checked(backup: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((backup / MANIFEST).read_bytes())
        found = manifest["format"]
        sums: dict[str, str] = dict(manifest["files"]) if found == FORMAT else {}
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise Failed(f"{backup} is no backup: {MANIFEST} cannot be read", code=2) from exc
    if found != FORMAT:
        raise Failed(
            f"{backup} has format {found}, this program reads {FORMAT}:"
            f" restore it with version {manifest.get('version')}",
            code=2,
        )
    for name, sum in sums.items():
        try:
            whole = sum_of(backup / name) == sum
        except OSError:
            whole = False
        if not whole:
            raise Failed(f"{backup} is damaged: {name} is not as it was written; nothing was done")
    return manifest


def _copy(backup: Path, new: Path) -> None:
    """Only this user's to read and write, whatever the backup's files are: one that was made
    read-only to guard it could be copied and not moved, and not be removed for another try."""
    for folder, _, names in os.walk(backup, followlinks=True):
        made = new / Path(folder).relative_to(backup)
        made.mkdir(mode=0o700)
        for name in names:
            copy_with_holes(Path(folder, name), made / name)
            (made / name).chmod(0o600)


def _given(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            records.append({**record, "id": str(record["id"]), "tenants": list(record["tenants"])})
        except (ValueError, KeyError, TypeError) as exc:
            raise Failed(f"line {number} is no erasure: id and tenants are needed", code=2) from exc
    return records


def _erasures(directory: Path) -> list[dict[str, Any]]:
    """What a directory knows of erasures; nothing where there is none."""
    if not directory.exists():
        return []
    try:
        with closing(sqlite3.connect(directory)) as db:
            rows = db.execute("SELECT record FROM erased ORDER BY n").fetchall()
    except sqlite3.DatabaseError as exc:
        raise Failed(
            f"{directory} is damaged, so that it is not known who was erased since the backup."
            " Move it away to go on without, and give the erasures with --erasures if you have"
            " them"
        ) from exc
    return [json.loads(text) for (text,) in rows]


def _erase_again(directory: Path, records: list[dict[str, Any]]) -> int:
    """Delete the keys of the erased, and leave their records to the next start; how many
    erasures the backup did not know of."""
    with closing(sqlite3.connect(directory)) as db, db:
        db.execute("PRAGMA secure_delete = ON")
        had = {id for (id,) in db.execute("SELECT id FROM erased")}
        fresh = [record for record in records if record["id"] not in had]
        for record in fresh:
            for tenant in record["tenants"]:
                db.execute("DELETE FROM person WHERE tenant = ?", (tenant,))
            open_again = {"counts": {}, **record, "completed": False}
            db.execute(
                "INSERT INTO erased (id, record) VALUES (?, ?)",
                (record["id"], json.dumps(open_again)),
            )
    return len(fresh)


def _move(new: Path, data_dir: Path, old: Path) -> None:
    old.mkdir(mode=0o700, exist_ok=True)
    for name in PARTS:
        _gone(old / name)
        if (data_dir / name).exists():
            (data_dir / name).rename(old / name)
        if (new / name).exists():
            (new / name).rename(data_dir / name)
    shutil.rmtree(new)
    shutil.rmtree(old)


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
