"""A gateway as its users run it: a process of its own, told by its environment alone."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx

from tests import loopback

START_S = 30.0


PORTS = range(10_000, 20_000)
"""Below those that systems give to connections going out, so that a port stays free while its
server is away, and so is the one 10,000 above (a cluster's bus)."""
PROCESSES = 8


def free_port() -> int:
    """A port that nobody listens on; tests that run beside these in other processes get others."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PROCESSES
    while True:
        port = random.choice(PORTS[process::PROCESSES])
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class GatewayProcess:
    """`memory-gateway serve` on a port and data directory that stay the same over restarts."""

    def __init__(self, data_dir: Path, upstream_url: str, **settings: Any) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "OPENAI_"))},
            "GATEWAY_DATA_DIR": str(data_dir),
            "GATEWAY_SERVER__PORT": str(self.port),
            "GATEWAY_UPSTREAM__BASE_URL": upstream_url,
            "GATEWAY_EMBEDDING__PROVIDER": "none",
            "GATEWAY_EXTRACTION__IDLE_S": "0.1",
            "GATEWAY_LOG__FORMAT": "json",
            **{f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.log = data_dir.parent / f"{data_dir.name}.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"],
                env=self._environ,
                cwd=self.data_dir.parent,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the gateway ended at its start:\n{self.log.read_text()}")
            try:
                if loopback.get(f"{self.url}/readyz", timeout=1).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        self.kill()  # nobody else will: `with` was not entered
        raise RuntimeError(f"the gateway was not ready in {START_S} s:\n{self.log.read_text()}")

    def command(self, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run another command under the same settings, or with some of them changed."""
        changed = {f"GATEWAY_{name.upper()}": str(value) for name, value in settings.items()}
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words],
            env={**self._environ, **changed},
            cwd=self.data_dir.parent,
            capture_output=True,
            text=True,
            timeout=150,
        )

    def change(self, **settings: Any) -> None:
        """Settings of the next start."""
        self._environ |= {f"GATEWAY_{name.upper()}": str(v) for name, v in settings.items()}

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it and return its exit status (negative: the signal's number)."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(timeout=30)

    def kill(self) -> None:
        """`kill -9`."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        """In order, but at once: asked a second time, by Ctrl-C, it does not stay for half a second
        for who may still come (`STILL_S`)."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            self.stop(signal.SIGINT)


def until(what: Any, seconds: float = 15.0) -> Any:
    """The first truthy answer of `what`, asked again and again for at most `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"nothing came of {what} in {seconds} s")
        time.sleep(0.02)
    return answer
