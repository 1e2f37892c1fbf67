"""A house in server mode: two gateways (one of two processes), a worker, and the servers that
they share, each behind a proxy that can misbehave.

Redis is a real redis-server, reached by TCP; Qdrant is the stand-in of `tests/qdrant_over_http`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import httpx

from gateway.adapters.embedded_redis import find_server
from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests import in_memory
from tests.faults.conftest import Chat
from tests.gateway_process import START_S, GatewayProcess, free_port, until
from tests.qdrant_over_http import QdrantOverHttp
from tests.tcp_proxy import TcpProxy

TOKEN = "an-admin-token-of-the-tests"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Process(GatewayProcess):
    """`serve` or another command that goes on; begun without being waited for."""

    def __init__(self, *command: str, folder: Path, settings: dict[str, Any], model: str) -> None:
        super().__init__(folder / "data", model, **settings)
        self._command = command
        self._starts = 0
        folder.mkdir()

    def begin(self) -> Self:
        self._starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", *self._command],
                env=self._environ,
                cwd=self.data_dir.parent,
                stdout=log,
                stderr=log,
            )
        return self

    def start(self) -> Self:
        return self.begin().ready()

    @property
    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def begun(self, *words: str) -> subprocess.Popen[str]:
        """Another command under the same settings, not waited for."""
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", *words],
            env=self._environ,
            cwd=self.data_dir.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> Self:
        """Wait until it serves, or works."""
        until(self._is_ready, 6 * START_S)  # several start at once
        return self

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"{self._command} ended at its start:\n{self.log.read_text()}")
        if self._command[:1] == ("worker",) and "--port" not in self._command:
            return self.log.read_text().count('"event":"working"') == self._starts
        asked = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            asked.request("GET", "/readyz")
            return asked.getresponse().status == 200
        except OSError:
            return False
        finally:
            asked.close()


class House:
    """Everything at once; `a` and `b` are gateways, `worker` distils for both."""

    def __init__(self, folder: Path, parts: ExitStack) -> None:
        self._folder = folder
        self._parts = parts
        self.model = parts.enter_context(ScriptedUpstream(Say("Gladly.")))
        redis = _redis(parts)
        self.stand_in = parts.enter_context(QdrantOverHttp())
        self.qdrant = parts.enter_context(TcpProxy(self.stand_in.port))
        self.redis = parts.enter_context(TcpProxy(redis))
        self.settings: dict[str, Any] = {
            "qdrant__url": f"http://127.0.0.1:{self.qdrant.port}",
            "redis__url": f"redis://127.0.0.1:{self.redis.port}",
            "admin__token": TOKEN,
            "server__grace_s": 10,
        }
        self.a = self.process("a", "serve", "--workers", "2")
        self.b = self.process("b", "serve")
        port = str(free_port())
        self.worker = self.process("w", "worker", "--concurrency", "2", "--port", port)
        self.worker.port = int(port)
        for each in (self.a, self.b, self.worker):
            each.begin()
        for each in (self.a, self.b, self.worker):
            each.ready()

    def process(self, name: str, *command: str, **settings: Any) -> Process:
        """A process of this house, ended with it at the latest."""
        made = Process(
            *command,
            folder=self._folder / name,
            settings=self.settings | settings,
            model=self.model.base_url,
        )
        self._parts.callback(_stopped, made)
        return made

    def injected(self) -> str:
        """What the model was last shown before the conversation."""
        first: dict[str, Any] = self.model.requests[-1].json()["messages"][0]
        return str(first["content"]) if first["role"] == "system" else ""

    def queued(self) -> int:
        answer = httpx.get(f"{self.b.url}/admin/v1/queue", headers=AUTHORIZED, timeout=10)
        if answer.status_code != 200:
            return -1
        return int(answer.json()["pending"]) + int(answer.json()["leased"])


@contextmanager
def house(folder: Path) -> Iterator[House]:
    with ExitStack() as parts:
        yield House(folder, parts)


def facts(gateway: GatewayProcess, user: str) -> list[str]:
    return Chat(gateway, user).texts()


def _stopped(process: Process) -> None:
    if not process.ended:
        process.stop()


def _redis(parts: ExitStack) -> int:
    port = free_port()
    folder = parts.enter_context(tempfile.TemporaryDirectory(dir=in_memory.place()))
    kept: Sequence[str] = ("--appendonly", "yes", "--save", "")
    server = subprocess.Popen(
        [find_server(), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, *kept],
        stdout=subprocess.DEVNULL,
    )
    parts.callback(server.wait)
    parts.callback(server.terminate)
    return port
