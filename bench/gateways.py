"""The gateways under test, each started as its makers say, one process each, on one port.

`cpu_s` is what a gateway's own process used, `cpu_tree_s` that and its children's: the figures
that a busy machine spoils least.
"""

from __future__ import annotations

import contextlib
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
        return cpu_s(self.child.pid)

    def cpu_tree_s(self) -> float:
        return sum(cpu_s(pid) for pid in tree(self.child.pid))

    def anonymous_mb(self) -> float:
        """Anonymous resident memory of the gateway's own process."""
        return _kilobytes(self.child.pid, "status", "RssAnon:") / 1024

    def anonymous_by_process(self) -> dict[str, float]:
        """Anonymous resident memory of each process, in MB: the gateway, Redis, the store's, and
        the embedder's.

        A page that two of them share counts for each by half: while Redis rewrites its log, a
        fork holds nearly all of Redis's pages a second time, and none of it is more memory.
        """
        found: dict[str, float] = {}
        for pid in tree(self.child.pid):
            with contextlib.suppress(OSError):  # that fork may just have ended
                name = "gateway" if pid == self.child.pid else _name(pid)
                size = _kilobytes(pid, "smaps_rollup", "Pss_Anon:") / 1024
                found[name] = found.get(name, 0.0) + size
        return found


def tree(pid: int) -> list[int]:
    """A process and all below it, as far as they still run."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += tree(int(child))
    return found


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def _kilobytes(pid: int, file: str, name: str) -> int:
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    return 0


def _name(pid: int) -> str:
    """What a child of the gateway is: `redis-server`, or a Python that is told what."""
    told = Path(f"/proc/{pid}/cmdline").read_bytes()
    for name, word in (("embedder", b"embed_fastembed"), ("store", b"qdrant")):
        if word in told:
            return name
    return Path(f"/proc/{pid}/comm").read_text().strip()


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
    """The gateway embedded. Its settings are as they come but for the upstream and the models,
    the log's level (a line for each chat is not written) and the queue's bounds."""
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
