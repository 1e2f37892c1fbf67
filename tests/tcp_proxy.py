"""A TCP proxy in front of a server, which misbehaves on demand as networks and servers do.

It runs on a thread of its own and looks at bytes alone, so that it serves any protocol. What it
does is asked anew for every piece of data, and a change meets the connections that are open too.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self

Fault = Literal["refuses", "resets", "hangs", "is slow", "talks rubbish", "dies mid-answer"]
FAULTS: tuple[Fault, ...] = (
    "refuses",
    "resets",
    "hangs",
    "is slow",
    "talks rubbish",
    "dies mid-answer",
)
SLOW_S = 1.0
RUBBISH = b"\x00\xff\xfe{]rubbish\r\n\r\n"
PIECE = 65_536


class TcpProxy:
    """Listens on `port` of the loopback and connects to `target` for whoever comes."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._fault: Fault | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._pairs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def that(self, fault: Fault) -> Iterator[None]:
        """While inside it misbehaves so; after it, it is as if nothing had been."""
        self._run(self._change(fault))
        try:
            yield
        finally:
            self._run(self._change(None))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # --- on the proxy's own thread -----------------------------------------------------------

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _change(self, fault: Fault | None) -> None:
        before, self._fault = self._fault, fault
        if fault == "hangs":
            self._flowing.clear()
        else:
            self._flowing.set()
        if fault in ("refuses", "resets"):
            await self._cut()
        if fault == "refuses" and self._server is not None:
            self._server.close()
        elif before == "refuses":
            await self._listen()

    async def _cut(self) -> None:
        """Reset every connection."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.cancel()
        if pairs:
            await asyncio.wait(pairs)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        beyond: asyncio.StreamWriter | None = None
        reset = True
        try:
            if self._fault == "resets":
                return
            there, beyond = await asyncio.open_connection("127.0.0.1", self._target)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, beyond, answers=False))
                both.create_task(self._carry(there, writer, answers=True))
        except* _Over:
            reset = False
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._pairs.discard(task)
            for each in (writer, beyond):
                if each is not None:
                    _reset(each) if reset else each.close()

    async def _carry(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while True:
            await self._flowing.wait()
            data = await source.read(PIECE)
            await self._flowing.wait()  # it may have come while it hung
            if not data:
                raise _Over
            if answers and self._fault == "is slow":
                await asyncio.sleep(SLOW_S)
            elif answers and self._fault == "talks rubbish":
                data = RUBBISH
            elif answers and self._fault == "dies mid-answer":
                to.write(data[: len(data) // 2])
                await to.drain()
                raise _Over
            to.write(data)
            await to.drain()


class _Over(Exception):
    """One side has ended: so does the other."""


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with RST, as a host does that knows nothing of the connection."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
