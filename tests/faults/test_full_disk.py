"""A disk without room: chats go on, and what was said takes effect once there is room again."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.faults.conftest import SLACK_S, Chat, logged, pending
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(file: Path) -> None:
    """Take all the room there is."""
    with file.open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            with suppress(OSError):  # no space left on device
                while True:
                    filler.write(b"\0" * size)


def test_chats_go_on_while_the_disk_is_full_and_nothing_is_lost(
    tmp_path: Path, small_disk: Path, model: ScriptedUpstream
) -> None:
    gateway = GatewayProcess(small_disk / "data", model.base_url, extraction__idle_s=0.1)
    gateway.log = tmp_path / "gateway.log"
    with gateway:
        ana = Chat(gateway)
        ana.say("I'm allergic to peanuts.")
        ana.until_known("peanuts")
        before = len(complaints(gateway))
        fill(small_disk / "filler")
        for n in range(6):
            began = time.monotonic()
            ana.say(f"Remember that my locker number is {100 + n}.")
            assert time.monotonic() - began < SLACK_S
        assert httpx.get(f"{gateway.url}/readyz", timeout=10).status_code == 200
        os.unlink(small_disk / "filler")
        ana.until_known(*(str(100 + n) for n in range(6)), seconds=40)
        until(lambda: pending(gateway) == 0, 30)
        turns = ana.texts("turn")
        for n in range(6):
            assert sum(f"number is {100 + n}." in turn for turn in turns) == 1
        assert len(complaints(gateway)) - before <= 12, complaints(gateway)


def complaints(gateway: GatewayProcess) -> list[str]:
    lines = [*logged(gateway, "warning"), *logged(gateway, "error")]
    return [
        f"{line.get('event')}: {line.get('part', '')} {line.get('reason', '')}" for line in lines
    ]
