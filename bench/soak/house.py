"""The gateway under test: one embedded `memory-gateway serve` and its two children.

It is started, killed and started again on one port and one data directory. `Usage` is what its
processes hold of the machine at a moment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.soak.ledger import Death

PAGE = os.sysconf("SC_PAGE_SIZE")
START_S = 90.0
STOP_S = 60.0
PARTS = ("gateway", "redis", "qdrant")


@dataclass(frozen=True)
class Usage:
    """What is held at `at` (monotonic): bytes and descriptors by part, asyncio tasks, bytes of
    disk by directory. `pids` tell whether a part is the same process as before."""

    at: float
    pids: Mapping[str, int]
    resident: Mapping[str, int]
    descriptors: Mapping[str, int]
    tasks: int
    disk: Mapping[str, int]


class House:
    """`up` is set while the gateway answers. `deaths` are kills; `restarts` counts all starts."""

    def __init__(self, directory: Path, settings: Mapping[str, object]) -> None:
        self.data_dir = directory / "data"
        self.log = directory / "gateway.log"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.up = asyncio.Event()
        self.deaths: list[Death] = []
        self.down: list[tuple[float, float]] = []
        """When there was no gateway to be asked: from the signal until it answered again."""
        self.starts_s: list[float] = []
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "OPENAI_"))},
            "GATEWAY_DATA_DIR": str(self.data_dir),
            "GATEWAY_SERVER__PORT": str(self.port),
            "GATEWAY_LOG__FORMAT": "json",
            "GATEWAY_LOG__LEVEL": "warning",
            **{f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._down_since: float | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def token(self) -> str:
        return (self.data_dir / "admin.token").read_text().strip()

    # --- ends and starts ---------------------------------------------------------------------

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises RuntimeError where it does not come up."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"],
                env=self._environ,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with httpx.AsyncClient(timeout=2.0) as client:
            while not await self._ready(client):
                if self._process.poll() is not None:
                    raise RuntimeError(f"the gateway ended at its start:\n{self.last_words()}")
                if time.monotonic() - began > START_S:
                    raise RuntimeError(f"not ready in {START_S:.0f} s:\n{self.last_words()}")
                await asyncio.sleep(0.05)
        now = time.monotonic()
        self.starts_s.append(now - began)
        if self._down_since is not None:
            self.down.append((self._down_since, now))
            self._down_since = None
        self.up.set()

    async def _ready(self, client: httpx.AsyncClient) -> bool:
        try:
            return (await client.get(f"{self.url}/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    async def kill(self) -> None:
        """`kill -9`."""
        self._gone_from_now()
        at = time.monotonic()
        assert self._process is not None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self.deaths.append(Death(at, time.monotonic()))

    async def terminate(self) -> int:
        """SIGTERM; its exit status."""
        self._gone_from_now()
        assert self._process is not None
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, STOP_S)

    def _gone_from_now(self) -> None:
        self.up.clear()
        if self._down_since is None:
            self._down_since = time.monotonic()

    def was_down(self, begin: float, end: float) -> bool:
        """Whether it was away at any moment between."""
        since = self._down_since
        return (since is not None and since <= end) or any(
            a <= end and begin <= b for a, b in self.down
        )

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """End it for good, whatever state it is in, and its children with it."""
        if self._process is None:
            return
        own = self.children()
        for pid in (self._process.pid, *own.values()):
            _signalled(pid, signal.SIGCONT)
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in own.values():
            if _is_in(pid, self.data_dir):
                _signalled(pid, signal.SIGKILL)

    # --- its processes -----------------------------------------------------------------------

    def children(self) -> dict[str, int]:
        """The pids of its own `redis` and `qdrant`, as far as they run."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes()
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            if parent != self.pid:
                continue
            if b"redis-server" in command or b"valkey-server" in command:
                found["redis"] = int(entry.name)
            elif str(self.data_dir / "qdrant").encode() in command:
                found["qdrant"] = int(entry.name)
        return found

    async def usage(self, client: httpx.AsyncClient) -> Usage | None:
        """What it holds now; None while it is not all there."""
        pids = {"gateway": self.pid, **self.children()}
        try:
            told = (await client.get(f"{self.url}/metrics", timeout=5.0)).text
            return Usage(
                at=time.monotonic(),
                pids=pids,
                resident={part: _resident(pid) for part, pid in pids.items()},
                descriptors={p: len(os.listdir(f"/proc/{pid}/fd")) for p, pid in pids.items()},
                tasks=int(_figure(told, "memory_gateway_tasks")),
                disk={
                    place.name: sum(f.stat().st_blocks * 512 for f in _files(place))
                    for place in self.data_dir.iterdir()
                    if place.is_dir()
                },
            )
        except (OSError, httpx.HTTPError):
            return None


def _files(place: Path) -> list[Path]:
    return [file for file in place.rglob("*") if file.is_file()]


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def _figure(told: str, name: str) -> float:
    lines = (line for line in told.splitlines() if line.startswith(f"{name} "))
    return float(next(lines, " -1").rpartition(" ")[2])


def _signalled(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _is_in(pid: int, directory: Path) -> bool:
    """Whether a process still is the one of this house, and not another one of its number."""
    try:
        return str(directory).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
