"""A Redis client for the hot path: one connection, on which everybody's commands share writes.

Commands that are asked for in the same turn of the event loop leave in one write, and answers
come back in the order of the commands: redis-py's asyncio client spends 42 to 63 µs of CPU on a
command, this one 5 to 13. It knows `execute_command` and what is built on it, and raises
redis-py's errors, so that who uses it can be given either. One server, by TCP or unix socket;
TLS, sentinels and clusters are redis-py's (`fits` tells).

A connection that breaks fails what is under way on it; each such command is asked once more on
a new one (whoever uses this writes so that a repetition changes nothing). A server that does
not answer within the timeout loses its connection, and all that wait on it are told at once:
on a connection that keeps its order nothing can overtake.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from typing import Any, Final, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

import hiredis
from redis import exceptions as redis_errors
from redis.asyncio.connection import UnixDomainSocketConnection, parse_url
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

_KINDS: Final[dict[str, type[RedisError]]] = {
    "NOSCRIPT": NoScriptError,
    "LOADING": redis_errors.BusyLoadingError,
    "NOAUTH": redis_errors.AuthenticationError,
    "WRONGPASS": redis_errors.AuthenticationError,
    "OOM": redis_errors.OutOfMemoryError,
    "READONLY": ReadOnlyError,
}
_Command: TypeAlias = tuple[str | int | float | bytes | memoryview, ...]
_KNOWN: Final = frozenset({"db", "username", "password"})
_CHECKS: Final = 4
"""How often within the timeout the oldest command is looked at."""


def fits(url: str) -> bool:
    """Whether a URL asks for nothing but one server, a database and a password."""
    if not url.startswith(("redis://", "unix://")):
        return False
    asked = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    try:
        parse_url(url)
    except ValueError:
        return False
    return asked.keys() <= _KNOWN


class RedisWire:
    """A client of the server at `url`; connects when it is first asked. `aclose` ends it.

    `timeout_s` bounds connecting, and each command.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._where = parse_url(url)
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._connecting: asyncio.Future[_Link] | None = None
        self._closed = False

    def execute_command(self, *command: Any) -> Coroutine[Any, Any, Any]:
        """The server's answer; asked for at once, awaited or not. Raises RedisError."""
        packed = hiredis.pack_command(command)
        link = self._link
        if link is None or link.lost:
            return self._ask_first(packed)
        return self._answer(link, packed, link.ask(packed))

    async def _ask_first(self, packed: bytes) -> Any:
        link = await self._connected()
        return await self._answer(link, packed, link.ask(packed))

    async def connect(self) -> None:
        """Have a connection, made now where there is none. Raises RedisError."""
        if self._link is None or self._link.lost:
            await self._connected()

    async def _answer(self, link: _Link, packed: bytes, asked: asyncio.Future[Any]) -> Any:
        """What the server answers; asked once more where the connection was lost."""
        try:
            return await asked
        except (ReadOnlyError, redis_errors.BusyLoadingError):
            link.close()  # not the server for us, now: the next command looks again
            raise
        except redis_errors.TimeoutError:
            raise
        except redis_errors.ConnectionError:
            return await (await self._connected()).ask(packed)

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        return self.execute_command("EVALSHA", sha, numkeys, *keys_and_args)

    def eval(self, script: bytes | str, numkeys: int, *keys_and_args: Any) -> Awaitable[Any]:
        return self.execute_command("EVAL", script, numkeys, *keys_and_args)

    def pipeline(self, *, transaction: bool = False) -> _Pipeline:
        """Commands of one kind for many keys; none that must be atomic together."""
        assert not transaction  # noqa: S101 (scripts are what is atomic here)
        return _Pipeline(self)

    async def ping(self) -> bool:
        await self.execute_command("PING")
        return True

    async def aclose(self) -> None:
        """End the connection; what waits for an answer fails."""
        self._closed = True
        if self._link is not None:
            self._link.close()

    # --- connecting ----------------------------------------------------------------------------

    async def _connected(self) -> _Link:
        """The connection, made by whoever comes first and waited for by the others. Where that one
        is cut short (a chat's deadline passed), the next of them makes it."""
        while not self._closed:
            if self._link is not None and not self._link.lost:
                return self._link
            if self._connecting is None:
                return await self._connected_first()
            with suppress(_CutShort):
                return await asyncio.shield(self._connecting)
        raise redis_errors.ConnectionError("the client is closed")

    async def _connected_first(self) -> _Link:
        made = self._connecting = asyncio.get_running_loop().create_future()
        made.add_done_callback(_looked_at)
        try:
            link = self._link = await self._connect()
        except BaseException as exc:
            made.set_exception(exc if isinstance(exc, RedisError) else _CutShort())
            raise
        finally:
            self._connecting = None
        made.set_result(link)
        return link

    async def _connect(self) -> _Link:
        loop, where = asyncio.get_running_loop(), self._where
        timeout_s = self._timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                if where.get("connection_class") is UnixDomainSocketConnection:
                    made = loop.create_unix_connection(
                        lambda: _Link(loop, timeout_s), where["path"]
                    )
                else:
                    host, port = where.get("host", "localhost"), where.get("port", 6379)
                    made = loop.create_connection(lambda: _Link(loop, timeout_s), host, port)
                _, link = await made
                await self._greet(link)
        except TimeoutError as exc:
            raise redis_errors.TimeoutError("connecting took too long") from exc
        except OSError as exc:
            raise redis_errors.ConnectionError(f"{exc.strerror or type(exc).__name__}") from exc
        return link

    async def _greet(self, link: _Link) -> None:
        """Say who asks, and of which database. Where that is refused, or cut short, nobody will
        use the connection: left open, each try with a password that was changed kept one more,
        until neither side had any left."""
        try:
            for command in self._greeting():
                await link.ask(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub means any length
        except BaseException:
            link.close()
            raise

    def _greeting(self) -> list[_Command]:
        where = self._where
        said: list[_Command] = []
        if password := where.get("password"):
            user = where.get("username")
            said.append(("AUTH", user, password) if user else ("AUTH", password))
        if db := where.get("db"):
            said.append(("SELECT", str(db)))
        return said


class _CutShort(Exception):
    """Whoever was connecting was cancelled."""


class _Pipeline:
    """As redis-py's: commands are collected and asked for at once."""

    def __init__(self, wire: RedisWire) -> None:
        self._wire = wire
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self) -> list[Any]:
        await self._wire.connect()  # then all of them leave in one write
        asked = [self._wire.execute_command(*command) for command in self._commands]
        try:
            return [await answer for answer in asked]
        finally:
            for answer in asked:
                answer.close()  # behind an error nobody waits for the others


class _Link(asyncio.Protocol):
    """One connection, and who waits on it for an answer, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader(replyError=_error, protocolError=redis_errors.ConnectionError)
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._out: list[bytes] = []
        self._check: asyncio.TimerHandle | None = None
        self.lost = False

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Send it with whatever else is asked in this turn of the loop."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.lost:
            answer.set_exception(redis_errors.ConnectionError("the connection is closed"))
            return answer
        self._waiting.append((answer, self._loop.time() + self._timeout_s))
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(packed)
        if self._check is None:
            self._check = self._loop.call_later(self._timeout_s / _CHECKS, self._look)
        return answer

    def close(self) -> None:
        self._fail(redis_errors.ConnectionError("the connection was closed"))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and not self.lost:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _look(self) -> None:
        """Whether the oldest command has waited too long; as long as there is any."""
        self._check = None
        if not self._waiting or self.lost:
            return
        if self._waiting[0][1] <= self._loop.time():
            self._fail(redis_errors.TimeoutError(f"no answer within {self._timeout_s:g} s"))
            return
        self._check = self._loop.call_later(self._timeout_s / _CHECKS, self._look)

    def _fail(self, error: RedisError) -> None:
        self.lost = True
        if self._check is not None:
            self._check.cancel()
            self._check = None
        waiting, self._waiting = self._waiting, deque()
        for answer, _ in waiting:
            if not answer.done():
                answer.set_exception(error)
                answer.exception()  # one that is not awaited any more is nobody's loss
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio's side ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            # False is "not whole yet": RESP2, which is spoken here, has no other false.
            while (answer := reader.gets()) is not False:
                if not waiting:
                    raise redis_errors.ConnectionError("an answer that nobody asked for")
                asked, _ = waiting.popleft()
                if asked.done():
                    continue  # its caller's deadline passed
                if isinstance(answer, RedisError):
                    asked.set_exception(answer)
                    asked.exception()  # as in `_fail`
                else:
                    asked.set_result(answer)
        except redis_errors.ConnectionError as exc:
            self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        if not self.lost:
            self._fail(redis_errors.ConnectionError("the server closed the connection"))


def _error(message: str) -> RedisError:
    kind, _, rest = message.partition(" ")
    return _KINDS.get(kind, ResponseError)(rest if kind in _KINDS else message)


def _looked_at(made: asyncio.Future[Any]) -> None:
    if not made.cancelled():
        made.exception()
