"""The model's process as the gateway sees it: one process, started, asked, and ended.

Calls are numbered frames on a socket pair; answers may be awaited by many at once. What is under
way when the process dies fails at once. Starting another one is the embedder's business.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from gateway.adapters.frames import cut, framed
from gateway.core.errors import EmbedderUnavailable
from gateway.core.memory import Vector

# With -P nothing is imported from the directory that the gateway happens to be started in.
_MAIN = "import sys; sys.path.append(sys.argv.pop(1));\
 from gateway.adapters.embed_fastembed import model; model.main()"
_ROOT = str(Path(__file__).resolve().parents[3])


class Greeting(NamedTuple):
    """What a process says once it has loaded: its vectors' size, or the failure's name."""

    size: int = 0
    failure: str | None = None


class ModelProcess:
    """One process of one model. `how` is what `model` makes its engine with."""

    def __init__(self, how: dict[str, Any]) -> None:
        self._socket, theirs = socket.socketpair()
        try:
            self._child = _started(theirs, how)
        except OSError:
            self._socket.close()
            raise
        self._wire: _Wire | None = None
        self._connecting = asyncio.Lock()
        self._claim = threading.Lock()
        self._claimed = self._discarded = False
        self._size = 0

    @property
    def pid(self) -> int:
        return self._child.pid

    # --- in the thread that keeps it -----------------------------------------------------------

    def greeting(self) -> Greeting | None:
        """Wait until it has loaded; None where it has ended before it could say anything."""
        length = self._read(4)
        message = self._read(int.from_bytes(length, "big")) if length else None
        if message is None:
            return None
        failed, told = message[4], orjson.loads(message[5:])
        if failed:
            return Greeting(failure=told)
        self._size = told
        return Greeting(self._size)

    def _read(self, size: int) -> bytes | None:
        read = b""
        while len(read) < size:
            try:
                more = self._socket.recv(size - len(read))
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            read += more
        return read

    def wait(self) -> int:
        """Wait until it has ended; its exit status."""
        return self._child.wait()

    def discard(self) -> None:
        """End it at once, and let go of what it held. It has nothing that could be lost."""
        self._child.kill()
        self._child.wait()
        with self._claim:
            self._discarded = True
            if not self._claimed:
                self._socket.close()

    # --- in the event loop -------------------------------------------------------------------

    async def embed(self, texts: Sequence[str], *, query: bool) -> list[Vector]:
        """One vector a text. Raises EmbedderUnavailable."""
        wire = self._wire or await self._connected()
        numbers = array("f", await wire.call(texts, query=query)).tolist()
        return [numbers[at : at + self._size] for at in range(0, len(numbers), self._size)]

    async def _connected(self) -> _Wire:
        """Connected once. Who asks first may leave meanwhile, and the socket is gone then: this
        process ends, and there is another one soon."""
        async with self._connecting:
            if self._wire is None:
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> _Wire:
        with self._claim:
            # From here on the socket is the loop's: closed by another thread, its number might
            # already be a client's connection.
            if self._discarded or self._claimed:
                raise _gone()
            self._claimed = True
        try:
            loop = asyncio.get_running_loop()
            _, wire = await loop.create_connection(_Wire, sock=self._socket)
        except (OSError, ValueError) as exc:
            self._socket.close()
            raise _gone() from exc
        return wire

    def end(self) -> None:
        """Have it end now; `wait` returns."""
        self._child.kill()
        if self._wire is not None:
            self._wire.close()


def _started(connection: socket.socket, how: dict[str, Any]) -> subprocess.Popen[bytes]:
    with connection:
        descriptor = connection.fileno()
        # A group of its own: Ctrl-C is for the gateway, which ends it in order. No session of its
        # own: Linux shares cores between sessions first (autogroup), and the niceness of documents
        # would count for nothing against the gateway.
        return subprocess.Popen(  # noqa: S603  # our own module
            [
                *(sys.executable, "-P", "-c", _MAIN, _ROOT),
                *(str(descriptor), orjson.dumps(how).decode()),
            ],
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # commands print JSON there
            process_group=0,
        )


class _Wire(asyncio.Protocol):
    """Calls and their answers; `model` says how their frames look."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._lost = False

    async def call(self, texts: Sequence[str], *, query: bool) -> bytes:
        if self._transport is None or self._lost:
            raise _gone()
        number = next(self._numbers)
        waiting = self._waiting[number] = self._loop.create_future()
        # Half a character that a client sent is no reason to have no vector.
        whole = [text.encode("utf-8", "replace").decode() for text in texts]
        self._send([number, query, whole])
        try:
            answer: bytes = await waiting
            return answer
        except asyncio.CancelledError:
            self._send([number])
            raise
        finally:
            self._waiting.pop(number, None)

    def _send(self, frame: list[Any]) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(framed(orjson.dumps(frame)))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # --- asyncio's side ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pending += data
        for message in cut(self._pending):
            number, failed, answer = int.from_bytes(message[:4], "big"), message[4], message[5:]
            waiting = self._waiting.get(number)
            if waiting is None or waiting.done():  # its caller's deadline passed
                continue
            if failed:
                waiting.set_exception(
                    EmbedderUnavailable(
                        f"no embedding: the model failed ({orjson.loads(answer)})", code="failing"
                    )
                )
            else:
                waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        self._lost = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(_gone())
        self._waiting.clear()


def _gone() -> EmbedderUnavailable:
    return EmbedderUnavailable(
        "no embedding: the model's process has ended; it is started again", code="failing"
    )
