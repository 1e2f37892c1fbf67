"""What the fault suite works on: a gateway process, its own children, and an upstream."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests import loopback
from tests.gateway_process import GatewayProcess, until

if TYPE_CHECKING:
    from tests.faults.servers import House

DEADLINE_S = 0.15
"""The default of `memory.deadline_ms`."""
SLACK_S = 2.0
"""What a loaded machine may add to a chat. That it does not wait for the part is what is held:
each part would keep it for longer than this, or for ever."""


@pytest.fixture
def model(upstream: ScriptedUpstream) -> ScriptedUpstream:
    upstream.default = Say("Gladly.")
    return upstream


@pytest.fixture
def gateway(tmp_path: Path, model: ScriptedUpstream) -> Iterator[GatewayProcess]:
    with GatewayProcess(tmp_path / "data", model.base_url, extraction__idle_s=0.1) as running:
        yield running


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house in server mode, one for the whole run (it takes some seconds): each test has users
    of its own, and leaves every process running."""
    from tests.faults.servers import house

    with house(tmp_path_factory.mktemp("servers")) as running:
        yield running


class Chat:
    """One user's conversation with the gateway, and what is known of them."""

    def __init__(self, gateway: GatewayProcess, user: str = "ana") -> None:
        self._gateway = gateway
        self._headers = {"X-Memory-User": user}
        self._sessions = 0

    def say(
        self, text: str, *, session: str | None = None, timeout: float = 10.0
    ) -> httpx.Response:
        """A chat in a session of its own; it must succeed, whatever is away."""
        self._sessions += 1
        answer = loopback.post(
            f"{self._gateway.base_url}/chat/completions",
            headers={**self._headers, "X-Memory-Session": session or f"s{self._sessions}"},
            json={"model": "m", "messages": [{"role": "user", "content": text}]},
            timeout=timeout,
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "Gladly."
        return answer

    def memories(self, kind: str = "fact") -> list[dict[str, Any]]:
        answer = loopback.get(
            f"{self._gateway.base_url}/memories",
            params={"kind": kind, "limit": 1000},
            headers=self._headers,
            timeout=10,
        )
        if answer.status_code != 200:
            return []
        memories: list[dict[str, Any]] = answer.json()["memories"]
        return memories

    def texts(self, kind: str = "fact") -> list[str]:
        return sorted(memory["text"] for memory in self.memories(kind))

    def until_known(self, *words: str, seconds: float = 20.0) -> None:
        until(lambda: all(any(w in text for text in self.texts()) for w in words), seconds)


@pytest.fixture
def ana(gateway: GatewayProcess) -> Chat:
    return Chat(gateway)


def children(gateway: GatewayProcess) -> dict[str, int]:
    """The gateway's own processes: `redis`, `qdrant` and `embedder`."""
    found: dict[str, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent != gateway.pid:
            continue
        if b"redis-server" in command:
            found["redis"] = int(entry.name)
        elif str(gateway.data_dir / "qdrant").encode() in command:
            found["qdrant"] = int(entry.name)
        elif b"embed_fastembed" in command:
            found["embedder"] = int(entry.name)
    return found


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process hangs: it holds its connections and answers nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def metric(gateway: GatewayProcess, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = loopback.get(f"{gateway.url}/metrics", timeout=5).text.splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((f"memory_gateway_{name} ", f"memory_gateway_{name}{{"))
    )


def logged(gateway: GatewayProcess, level: str) -> list[dict[str, Any]]:
    """The gateway's log lines of a level."""
    lines = gateway.log.read_text().splitlines()
    entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry for entry in entries if entry.get("level") == level]


def pending(gateway: GatewayProcess) -> int:
    """Exchanges that wait or are being distilled; -1 where the queue cannot say."""
    token = (gateway.data_dir / "admin.token").read_text().strip()
    answer = loopback.get(
        f"{gateway.url}/admin/v1/queue", headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    if answer.status_code != 200:
        return -1
    state = answer.json()
    return int(state["pending"]) + int(state["leased"])
