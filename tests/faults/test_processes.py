"""`serve --workers`: several processes on one port, and what becomes of them."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.cli.running import Running, find
from gateway.lab.scripted_upstream import Gate, Raw, ScriptedUpstream
from tests import loopback
from tests.gateway_process import GatewayProcess, until
from tests.processes import is_gone

pytestmark = pytest.mark.faults

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
AWAY = {"qdrant__url": "http://127.0.0.1:9", "redis__url": "redis://127.0.0.1:9"}
"""Neither server is there: chats are served all the same, and that is what is asked here."""


def test_several_processes_share_one_port_and_one_that_dies_is_replaced(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with GatewayProcess(tmp_path / "data", upstream.base_url, server__workers=2, **AWAY) as gateway:
        children = until(lambda: len(_children(gateway.pid)) == 2 and _children(gateway.pid))
        os.kill(children[0], signal.SIGKILL)
        until(lambda: set(_children(gateway.pid)) - set(children))
        assert loopback.get(f"{gateway.base_url}/models").status_code == 200
        children = _children(gateway.pid)
        assert gateway.stop() == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_several_processes_are_found_by_commands_from_their_first_start_on(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with GatewayProcess(tmp_path / "data", upstream.base_url, server__workers=2, **AWAY) as gateway:
        assert find(gateway.data_dir) == Running(gateway.url, gateway.pid)
        token = (gateway.data_dir / "admin.token").read_text().strip()
        for _ in range(8):  # whichever process answers
            asked = loopback.get(
                f"{gateway.url}/admin/v1/queue", headers={"authorization": f"Bearer {token}"}
            )
            assert asked.status_code == 503  # Redis is away; it is not the token that is wrong


def test_processes_end_with_the_one_that_keeps_them_as_if_they_were_told_to(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Raw(b"{}", before=[gate]))
    with (
        GatewayProcess(tmp_path / "data", upstream.base_url, server__workers=2, **AWAY) as gateway,
        ThreadPoolExecutor() as threads,
    ):
        children = until(lambda: len(_children(gateway.pid)) == 2 and _children(gateway.pid))
        answer = threads.submit(
            loopback.post, f"{gateway.base_url}/chat/completions", json=CHAT, timeout=10
        )
        until(lambda: upstream.requests)
        gateway.kill()
        until(lambda: loopback.get(f"{gateway.url}/readyz", timeout=5).status_code == 503)
        gate.open()
        assert answer.result().status_code == 200
        until(lambda: all(is_gone(child) for child in children))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
