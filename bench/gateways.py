"""The gateways under test, each started as its makers say, one process each, on one port.

`cpu_s` is what a gateway's own process used, `cpu_tree_s` that and its children's: the figures
that a busy machine spoils least.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Process:
    """A server as a child process; `pin` are the cores it may use."""

    def __init__(
        self,
        command: Sequence[str],
        url: str,
        *,
        environ: dict[str, str] | None = None,
        log: Path,
        cwd: Path | None = None,
        pin: set[int] | None = None,
        ready: str = "",
        patience_s: float = 90.0,
    ) -> None:
        self.command, self.url, self.environ = command, url, environ or {}
        self.log, self.cwd, self.pin = log, cwd, pin
        self.ready_path, self.patience_s = ready, patience_s
        self.started_s = 0.0

    def __enter__(self) -> Self:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "OPENAI_"))}
        began = time.perf_counter()
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command,
                env={**kept, **self.environ},
                cwd=self.cwd,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if self.pin:
            os.sched_setaffinity(self.child.pid, self.pin)
        deadline = began + self.patience_s
        while not self._answers():
            if self.child.poll() is not None or time.perf_counter() > deadline:
                self.__exit__()
                raise RuntimeError(f"{self.command[0]} did not come up; see {self.log}")
            time.sleep(0.01)
        self.started_s = time.perf_counter() - began
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(30)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def kill(self) -> None:
        self.child.kill()
        self.child.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self.ready_path, timeout=2) as answer:
                return answer.status < 400
        except urllib.error.HTTPError as error:
            return not self.ready_path or error.code < 400
        except OSError:
            return False

    # --- what it uses ------------------------------------------------------------------------

    def cpu_s(self) -> float:
        return _cpu_s(self.child.pid)

    def cpu_tree_s(self) -> float:
        return sum(_cpu_s(pid) for pid in tree(self.child.pid))

    def anonymous_mb(self, *, whole: bool = False) -> float:
        """Anonymous resident memory of the process; `whole`: with its children."""
        pids = tree(self.child.pid) if whole else [self.child.pid]
        return sum(_anonymous(pid) for pid in pids) / 2**20


def tree(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _anonymous(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def upstream(port: int, work: Path, pin: set[int] | None) -> Process:
    return Process(
        [sys.executable, "-m", "bench.upstream", str(port)],
        f"http://127.0.0.1:{port}",
        log=work / "upstream.log",
        pin=pin,
    )


def ours(
    port: int,
    upstream_url: str,
    data_dir: Path,
    work: Path,
    *,
    pin: set[int] | None = None,
    arguments: Sequence[str] = (),
    **settings: Any,
) -> Process:
    """The gateway embedded, its settings as they come but for the upstream and the models."""
    environ = {
        "GATEWAY_DATA_DIR": str(data_dir),
        "GATEWAY_SERVER__PORT": str(port),
        "GATEWAY_UPSTREAM__BASE_URL": f"{upstream_url}/v1",
        "GATEWAY_EMBEDDING__PROVIDER": "none",
        "GATEWAY_EXTRACTION__PROVIDER": "none",
        "GATEWAY_LOG__LEVEL": "warning",
        # What is offered for ten seconds without a pause is more than a queue is made for.
        "GATEWAY_QUEUE__MAX_PENDING": "10000000",
        "GATEWAY_QUEUE__MAX_BYTES": str(8 * 2**30),
        "GATEWAY_QUEUE__MAX_USER_PENDING": "1000000",
        **{f"GATEWAY_{k.upper()}": str(v) for k, v in settings.items()},
    }
    return Process(
        [sys.executable, "-m", "gateway", "serve", *arguments],
        f"http://127.0.0.1:{port}",
        environ=environ,
        log=work / "gateway.log",
        pin=pin,
        ready="/readyz",
    )
