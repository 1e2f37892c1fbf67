"""What `restore` takes for a backup and makes of it. Whole houses: `faults/test_backup`."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import Failed
from gateway.cli.restoring import put_back
from gateway.wiring.upkeep import sum_of


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    made = tmp_path / "backup"
    (made / "spool").mkdir(parents=True)
    with closing(sqlite3.connect(made / "directory.sqlite")) as db, db:
        db.execute("CREATE TABLE erased (n INTEGER PRIMARY KEY, id TEXT, record TEXT)")
    files = {"directory.sqlite": sum_of(made / "directory.sqlite")}
    manifest = {"format": 1, "at": "2026-01-02T00:00:00Z", "version": "0.1.0", "files": files}
    (made / "backup.json").write_text(json.dumps(manifest))
    return made


@pytest.mark.parametrize("manifest", ["", "[]", "null", "{}", '{"format": 1, "files": ["a"]}'])
def test_what_is_no_list_of_a_backups_files_is_said_in_a_line(
    tmp_path: Path, backup: Path, manifest: str
) -> None:
    (backup / "backup.json").write_text(manifest)
    with pytest.raises(Failed, match="is no backup"):
        put_back(backup, tmp_path / "data")


def test_what_was_backed_up_and_made_read_only_can_be_written_again(
    tmp_path: Path, backup: Path
) -> None:
    """Copied read-only, it could not be moved into place, and another try could not remove it."""
    for path in (*backup.rglob("*"), backup):
        path.chmod(0o555 if path.is_dir() else 0o444)
    data = tmp_path / "data"
    assert put_back(backup, data)["files"] == 1
    assert (data / "spool").stat().st_mode & 0o777 == 0o700
    assert (data / "directory.sqlite").stat().st_mode & 0o777 == 0o600
    assert not (data / "restore.new").exists()
