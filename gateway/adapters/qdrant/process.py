"""The shard's process as the gateway sees it: started, called, and started again if it dies.

Calls are numbered frames on a socket pair; answers may be awaited by many at once. A call to a
process that has died starts a new one and fails with StoreUnavailable only if that does not
answer either; what was under way when it died fails at once (its write may or may not have
been made: all writes can be repeated).
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import orjson

from gateway.adapters.frames import cut, framed
from gateway.core.errors import SettingsError, StoreUnavailable
from gateway.telemetry.logs import log

# With -P nothing is imported from the directory that the gateway happens to be started in.
_MAIN = "import sys; sys.path.append(sys.argv.pop(1)); from gateway.adapters.qdrant import shard;\
 sys.exit(shard.main())"
_ROOT = str(Path(__file__).resolve().parents[3])

START_S = 300.0
RESTART_S = 1.0
"""A process that dies at once is not started again more often than this."""
STOP_S = 30.0


class ShardProcess:
    """One shard process of one directory."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._wire: _Wire | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._started_at = float("-inf")

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start it and wait until the store is loaded.

        Raises SettingsError where the store cannot be opened (in use, of a newer format), and
        StoreUnavailable where its process does not come up.
        """
        wire = await self._connect()
        try:
            refusal = await asyncio.wait_for(wire.greeting, START_S)
        except StoreUnavailable as exc:
            assert self._child is not None  # noqa: S101 (for the type)
            code = await asyncio.get_running_loop().run_in_executor(None, self._child.wait)
            raise StoreUnavailable(
                f"the memory store at {self._path} ended at its start (exit status {code}). See"
                " that its disk has room, and that the processor is one that Qdrant Edge runs on"
            ) from exc
        except TimeoutError as exc:
            raise StoreUnavailable(f"the memory store took over {START_S:.0f} s to load") from exc
        if refusal is not None:
            raise SettingsError(refusal, param="data_dir")

    async def call(self, name: str, *arguments: Any) -> Any:
        """What the shard answers. Raises StoreUnavailable."""
        if self._closed:
            raise StoreUnavailable("the memory store is closed")
        wire = self._wire
        if wire is None or wire.lost:
            wire = await self._connect()
        return await wire.call(name, arguments)

    async def close(self) -> None:
        """Let it flush and end; repeating it is harmless."""
        self._closed = True
        if self._wire is not None:
            self._wire.close()
        child = self._child
        if child is not None and child.returncode is None:
            await asyncio.get_running_loop().run_in_executor(None, _ended, child)

    async def _connect(self) -> _Wire:
        """A new process; calls sent to it wait in the socket until it has loaded."""
        now = asyncio.get_running_loop().time()
        if now - self._started_at < RESTART_S:
            raise _gone()
        self._started_at = now
        if self._child is not None:
            self._child.kill()  # its socket is closed: it is ending, or hangs
            log("store").error("store_process_ended", code=self._child.wait(), restarted=True)
        try:
            ours = self._start_child()
        except OSError as exc:  # no memory for one more process, or no descriptor, just now
            raise StoreUnavailable(
                f"the memory store's process cannot be started: {exc.strerror}"
            ) from exc
        loop = asyncio.get_running_loop()
        _, self._wire = await loop.create_connection(_Wire, sock=ours)
        return self._wire

    def _start_child(self) -> socket.socket:
        """Start the process; our end of the socket that it reads."""
        ours, theirs = socket.socketpair()
        with theirs, ExitStack() as unless_started:
            unless_started.enter_context(ours)
            # A session of its own: Ctrl-C is for the gateway, which ends it in order.
            self._child = subprocess.Popen(  # noqa: S603  # our own module; 2 ms
                [sys.executable, "-P", "-c", _MAIN, _ROOT, str(theirs.fileno()), str(self._path)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # commands print JSON there
                start_new_session=True,
            )
            unless_started.pop_all()
        return ours


class _Wire(asyncio.Protocol):
    """Calls and their answers, JSON both ways; `shard` says what they hold."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self.greeting = self._waiting[0] = self._loop.create_future()
        # A restart does not wait for the greeting; that it failed is seen by the calls.
        self.greeting.add_done_callback(lambda one: one.cancelled() or one.exception())
        self._pending = bytearray()
        self.lost = False

    async def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if self._transport is None or self.lost:
            raise _gone()
        number = next(self._numbers)
        waiting = self._waiting[number] = self._loop.create_future()
        self._transport.write(framed(orjson.dumps([number, name, arguments])))
        try:
            return await waiting
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- asyncio's side ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pending += data
        for message in cut(self._pending):
            number, error, *value = orjson.loads(message)
            self._settle(number, error, value)

    def _settle(self, number: int, error: str | None, value: list[Any]) -> None:
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():  # its caller's deadline passed
            return
        if number == 0:
            waiting.set_result(error)
        elif error is not None:
            waiting.set_exception(StoreUnavailable(f"the memory store refused: {error}"))
        else:
            waiting.set_result(value[0])

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        self.lost = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())
        self._waiting.clear()


def _gone() -> StoreUnavailable:
    return StoreUnavailable("the memory store's process has ended; it is started again")


def _ended(child: subprocess.Popen[bytes]) -> None:
    """Wait for a process whose socket is closed; it has only to flush."""
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
