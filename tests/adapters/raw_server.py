"""A server that sends exactly the bytes it is told to, and keeps exactly those it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

Talk = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One connection: what came over it, and a way to answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = b""
        self.body = b""

    async def request(self) -> bytes:
        """The next request's head and, where its length is said, body."""
        self.head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in self.head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        self.body = await self.reader.readexactly(length)
        return self.head + self.body

    async def chunked_body(self) -> list[bytes]:
        """A chunked body, as the chunks in which it was sent."""
        chunks = []
        while size := int(await self.reader.readline(), 16):
            chunks.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readline()
        return chunks

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> None:
        """Returns once the other side has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


@asynccontextmanager
async def raw_server(talk: Talk) -> AsyncIterator[str]:
    """Runs `talk` for each connection; its URL."""

    talking: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(Peer(reader, writer))
        with suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        if talking:
            await asyncio.wait(talking, timeout=2)


def ok(body: bytes = b"{}", *headers: bytes) -> bytes:
    """A whole answer with its length."""
    lines = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
