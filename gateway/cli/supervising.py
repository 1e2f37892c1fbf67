"""Several gateway processes on one port, and the one that keeps them running."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from tempfile import TemporaryDirectory

from prometheus_client.multiprocess import mark_process_dead

from gateway import config
from gateway.adapters.data_dir import make_private
from gateway.cli.listening import begin_to_listen, url_of
from gateway.cli.running import announced
from gateway.config import Settings
from gateway.telemetry import logs

RESTART_PAUSE_S = 1.0
EXTRA_GRACE_S = 10.0

_log = logs.log("serve")


def supervise(
    settings: Settings,
    listener: socket.socket,
    asked: argparse.Namespace,
    *,
    ends: Iterable[signal.Signals],
) -> int:
    """Keep N processes accepting from one socket; one that dies is replaced, one that cannot
    start ends them all with its exit code."""
    ending = threading.Event()
    for number in ends:
        signal.signal(number, lambda *_: ending.set())
    make_private(settings.data_dir)  # for the note below; of a first start it was not made yet
    begin_to_listen(settings, listener)
    code = 0
    with (
        # Where they count together; in memory, as far as the system's temporary files are.
        TemporaryDirectory(prefix="memory-gateway-metrics-") as counts,
        announced(settings.data_dir, url_of(listener)),
    ):
        children = [_child(listener, asked, counts) for _ in range(settings.server.workers)]
        while not ending.wait(0.2):
            for n, child in enumerate(children):
                if child.poll() is None:
                    continue
                if child.returncode in (1, 2):
                    code = child.returncode
                    ending.set()
                    break
                _log.warning("process_died", pid=child.pid, code=child.returncode)
                mark_process_dead(child.pid, counts)  # type: ignore[no-untyped-call]
                ending.wait(RESTART_PAUSE_S)
                children[n] = _child(listener, asked, counts)
        listener.close()
        _end(children, settings.server.grace_s + EXTRA_GRACE_S)
    return code


def _child(
    listener: socket.socket, asked: argparse.Namespace, counts: str
) -> subprocess.Popen[bytes]:
    fd = listener.fileno()
    arguments = ["serve", "--workers", "1", "--listen-fd", str(fd)]
    for name in ("config", "host", "port"):
        value = getattr(asked, name)
        arguments += [f"--{name}", str(value)] if value is not None else []
    arguments += ["--no-worker"] if asked.no_worker else []
    # The pipe to its stdin closes when this process dies, however it dies: the child's sign.
    return subprocess.Popen(  # noqa: S603 - our own program, our own arguments
        [sys.executable, "-m", "gateway", *arguments],
        pass_fds=[fd],
        stdin=subprocess.PIPE,
        env=config.environment_and({"PROMETHEUS_MULTIPROC_DIR": counts}),
    )


def end_with_parent(end: Callable[[], None]) -> None:
    """`end` is called once the process that keeps this one is no more."""
    fd = sys.stdin.fileno()

    def read() -> None:
        if not os.read(fd, 1):
            asyncio.get_running_loop().remove_reader(fd)
            end()

    asyncio.get_running_loop().add_reader(fd, read)


def _end(children: list[subprocess.Popen[bytes]], patience_s: float) -> None:
    for child in children:
        child.terminate()
    give_up = time.monotonic() + patience_s
    for child in children:
        try:
            child.wait(max(0.1, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()
