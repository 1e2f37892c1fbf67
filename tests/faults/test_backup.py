"""`backup` while serving, `restore` in its place; who was erased in between stays erased."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests import loopback
from tests.faults.conftest import Chat, pending
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults


def erase(gateway: GatewayProcess, user: str) -> dict[str, object]:
    answer = loopback.delete(
        f"{gateway.base_url}/memories", headers={"X-Memory-User": user}, timeout=10
    )
    receipt: dict[str, object] = answer.json()
    assert receipt["completed"] is True
    return receipt


def test_a_backup_of_a_running_gateway_brings_back_what_was_known_and_what_waited(
    tmp_path: Path, model: ScriptedUpstream
) -> None:
    gateway = GatewayProcess(tmp_path / "data", model.base_url)
    backup = tmp_path / "backups" / "monday"
    with gateway:
        ana = Chat(gateway)
        ana.say("I'm allergic to peanuts.")
        ana.until_known("peanuts")
        gateway.stop()
        gateway.change(extraction__idle_s=60, extraction__max_wait_s=3600)
        gateway.start()
        ana.say("I live in Lyon.")
        until(lambda: pending(gateway) == 1)
        done = gateway.command("backup", str(backup), "--json")
        assert done.returncode == 0, done.stderr
        assert ana.say("Served meanwhile").status_code == 200
        gateway.stop()
        assert backup.stat().st_mode & 0o077 == 0

    gateway = GatewayProcess(tmp_path / "other", model.base_url)
    done = gateway.command("restore", str(backup))
    assert done.returncode == 0, done.stderr
    with gateway:
        ana = Chat(gateway)
        ana.until_known("peanuts")
        assert pending(gateway) == 1  # "Lyon" waits on, until it falls due
        assert not any("Served" in text for text in ana.texts("turn"))


def test_a_backup_and_what_is_restored_take_no_more_of_the_disk_than_the_data(
    tmp_path: Path, gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    done = gateway.command("backup", str(tmp_path / "b"), "--json")
    gateway.stop()
    data = taken(gateway.data_dir)
    assert json.loads(done.stdout)["bytes"] <= taken(tmp_path / "b") < 2 * data
    assert gateway.command("restore", str(tmp_path / "b")).returncode == 0
    assert taken(gateway.data_dir) < 2 * data
    gateway.start()
    ana.until_known("peanuts")


def taken(directory: Path) -> int:
    """The bytes that its files take of the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*"))


def test_an_erasure_made_after_the_backup_is_made_again(
    tmp_path: Path, gateway: GatewayProcess, ana: Chat
) -> None:
    bob = Chat(gateway, "bob")
    ana.say("I'm allergic to peanuts.")
    bob.say("I live in Lyon.")
    ana.until_known("peanuts")
    bob.until_known("Lyon")
    assert gateway.command("backup", str(tmp_path / "b")).returncode == 0
    receipt = erase(gateway, "ana")
    gateway.stop()

    done = gateway.command("restore", str(tmp_path / "b"), "--json")
    assert json.loads(done.stdout)["erased_again"] == 1
    gateway.start()
    assert ana.texts() == []
    bob.until_known("Lyon")
    again = loopback.get(
        f"{gateway.base_url}/erasures/{receipt['id']}?verify=true",
        headers={"X-Memory-User": "ana"},
        timeout=10,
    ).json()
    assert not any(again["remaining"].values()) or until(lambda: _clean(gateway, receipt))


def _clean(gateway: GatewayProcess, receipt: dict[str, object]) -> bool:
    answer = loopback.get(
        f"{gateway.base_url}/erasures/{receipt['id']}?verify=true",
        headers={"X-Memory-User": "ana"},
        timeout=10,
    )
    return not any(answer.json()["remaining"].values())


def test_where_the_data_is_lost_erasures_kept_elsewhere_are_made_again(
    tmp_path: Path, gateway: GatewayProcess, ana: Chat, model: ScriptedUpstream
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    assert gateway.command("backup", str(tmp_path / "b")).returncode == 0
    erase(gateway, "ana")
    kept = tmp_path / "erasures.ndjson"
    kept.write_text(gateway.command("users", "erasures").stdout)
    gateway.stop()

    other = GatewayProcess(tmp_path / "other", model.base_url)
    done = other.command("restore", str(tmp_path / "b"), "--erasures", str(kept))
    assert done.returncode == 0, done.stderr
    with other:
        assert Chat(other).texts() == []


def test_a_restore_refuses_a_gateway_that_runs_and_a_backup_that_is_damaged(
    tmp_path: Path, gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("Hello")
    backup = tmp_path / "b"
    assert gateway.command("backup", str(backup)).returncode == 0
    refused = gateway.command("restore", str(backup))
    assert refused.returncode == 1
    assert "stop it first" in refused.stderr
    gateway.stop()
    with (backup / "directory.sqlite").open("r+b") as file:
        file.seek(100)
        file.write(b"rot")
    refused = gateway.command("restore", str(backup))
    assert refused.returncode == 1
    assert "directory.sqlite is not as it was written" in refused.stderr
    gateway.start()
    assert ana.texts("turn")


def test_a_backup_is_whole_or_not_there(tmp_path: Path, gateway: GatewayProcess) -> None:
    (tmp_path / "b").mkdir()
    refused = gateway.command("backup", str(tmp_path / "b"))
    assert refused.returncode == 2
    assert "exists" in refused.stderr
    inside = gateway.command("backup", str(gateway.data_dir / "b"))
    assert "outside the data directory" in inside.stderr
    assert not (gateway.data_dir / "b").exists()


def test_a_restore_that_was_interrupted_is_not_served_and_can_be_said_again(
    tmp_path: Path, gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    assert gateway.command("backup", str(tmp_path / "b")).returncode == 0
    gateway.stop()
    (gateway.data_dir / "restore.new").mkdir()
    (gateway.data_dir / "restore.old").mkdir()
    (gateway.data_dir / "qdrant").rename(gateway.data_dir / "restore.old" / "qdrant")
    with pytest.raises(RuntimeError, match="was interrupted; run it again"):
        gateway.start()
    assert gateway.command("restore", str(tmp_path / "b")).returncode == 0
    gateway.start()
    ana.until_known("peanuts")
