"""The quick Redis client against a real redis-server, and against sockets that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis import exceptions
from redis.asyncio import Redis

from gateway.adapters.redis_wire import RedisWire, fits


@pytest.fixture
async def url(redis: Redis) -> str:
    path: str = redis.connection_pool.connection_kwargs["path"]
    return f"unix://{path}"


@pytest.fixture
async def wire(url: str) -> AsyncIterator[RedisWire]:
    client = RedisWire(url, timeout_s=5)
    yield client
    await client.aclose()


async def test_answers_come_back_to_whoever_asked(wire: RedisWire) -> None:
    await asyncio.gather(*(wire.execute_command("SET", f"k{n}", n) for n in range(200)))
    answers = await asyncio.gather(*(wire.execute_command("GET", f"k{n}") for n in range(200)))
    assert answers == [b"%d" % n for n in range(200)]


async def test_bytes_texts_and_numbers_are_sent_as_they_are(wire: RedisWire) -> None:
    await wire.execute_command("RPUSH", "list", b"\x00\xff", "ü", 7, 1.5)
    assert await wire.execute_command("LRANGE", "list", 0, -1) == [
        b"\x00\xff",
        "ü".encode(),
        b"7",
        b"1.5",
    ]
    assert await wire.execute_command("GET", "nothing") is None
    assert await wire.execute_command("LRANGE", "nothing", 0, -1) == []


async def test_a_script_that_redis_does_not_know_is_told_as_such(wire: RedisWire) -> None:
    with pytest.raises(exceptions.NoScriptError):
        await wire.evalsha("0" * 40, 0)
    assert await wire.eval("return {1, 'two'}", 0) == [1, b"two"]


async def test_an_error_fails_its_own_command_alone(wire: RedisWire) -> None:
    await wire.execute_command("SET", "text", "x")
    bad, good = await asyncio.gather(
        wire.execute_command("INCR", "text"),
        wire.execute_command("GET", "text"),
        return_exceptions=True,
    )
    assert isinstance(bad, exceptions.ResponseError)
    assert good == b"x"


async def test_a_pipeline_answers_in_order(wire: RedisWire) -> None:
    pipe = wire.pipeline(transaction=False)
    for n in range(5):
        pipe.execute_command("ECHO", str(n))
    assert await pipe.execute() == [b"0", b"1", b"2", b"3", b"4"]


async def test_an_error_in_a_pipeline_is_raised_and_the_others_are_done(wire: RedisWire) -> None:
    pipe = wire.pipeline(transaction=False)
    for command in (("SET", "k", 1), ("NONSENSE",), ("INCR", "k")):
        pipe.execute_command(*command)
    with pytest.raises(exceptions.ResponseError):
        await pipe.execute()
    assert await wire.execute_command("GET", "k") == b"2"


async def test_a_pipeline_that_is_cut_short_leaves_the_connection_in_order(
    wire: RedisWire,
) -> None:
    await wire.ping()
    pipe = wire.pipeline(transaction=False)
    for n in range(5):
        pipe.execute_command("ECHO", f"{n}")
    cut = asyncio.create_task(pipe.execute())
    await asyncio.sleep(0)
    cut.cancel()
    assert await wire.execute_command("ECHO", "after") == b"after"
    assert cut.cancelled()


async def test_who_gives_up_waiting_does_not_shift_the_answers(wire: RedisWire) -> None:
    await wire.ping()
    given_up = asyncio.ensure_future(wire.execute_command("ECHO", "first"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await wire.execute_command("ECHO", "second") == b"second"


async def test_a_connection_that_the_server_closed_is_made_anew(
    wire: RedisWire, redis: Redis
) -> None:
    assert await wire.ping()
    await redis.client_kill_filter(_type="normal", skipme=True)
    assert await wire.execute_command("ECHO", "still there") == b"still there"


async def test_what_is_under_way_when_the_connection_breaks_is_asked_once_more() -> None:
    seen: list[bytes] = []

    async def die_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(100))
        if len(seen) > 1:
            writer.write(b"+PONG\r\n")
            await reader.read()

    async with _server(die_once) as port:
        wire = RedisWire(f"redis://127.0.0.1:{port}", timeout_s=5)
        assert await wire.ping()
        await wire.aclose()
    assert len(seen) == 2


async def test_a_server_that_hangs_fails_all_who_wait_within_the_timeout() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with _server(hang) as port:
        wire = RedisWire(f"redis://127.0.0.1:{port}", timeout_s=0.2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        told = await asyncio.gather(*(wire.ping() for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in told] == [exceptions.TimeoutError] * 3
        assert loop.time() - began < 1.0
        await wire.aclose()


async def test_who_is_cut_short_while_connecting_takes_nobody_along() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"secret")
        asked.set()
        await go_on.wait()
        writer.write(b"+OK\r\n")
        with suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(b"+PONG\r\n" * data.count(b"PING"))

    async with _server(slow) as port:
        wire = RedisWire(f"redis://:secret@127.0.0.1:{port}", timeout_s=5)
        first = asyncio.create_task(wire.ping())
        await asked.wait()
        others = [asyncio.create_task(wire.ping()) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await asyncio.gather(*others) == [True] * 3
        await wire.aclose()


async def test_rubbish_for_an_answer_is_a_connection_error() -> None:
    async def rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with _server(rubbish) as port:
        wire = RedisWire(f"redis://127.0.0.1:{port}", timeout_s=5)
        with pytest.raises(exceptions.ConnectionError):
            await wire.ping()
        await wire.aclose()


async def test_nobody_there_is_a_connection_error(tmp_path: object) -> None:
    wire = RedisWire(f"unix://{tmp_path}/no.sock", timeout_s=1)
    told = await asyncio.gather(*(wire.ping() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, exceptions.ConnectionError) for each in told)


async def test_a_password_that_is_refused_leaves_no_connection_behind(redis: Redis) -> None:
    path: str = redis.connection_pool.connection_kwargs["path"]
    stranger = RedisWire(f"unix://:wrong@{path}", timeout_s=5)
    await redis.execute_command("ACL", "SETUSER", "default", ">right")
    try:
        before = len(await redis.client_list())
        for _ in range(10):
            with pytest.raises(exceptions.RedisError):
                await stranger.ping()
        async with asyncio.timeout(5):
            while len(await redis.client_list()) > before:
                await asyncio.sleep(0.01)
    finally:
        await redis.execute_command("ACL", "SETUSER", "default", "nopass")
        await stranger.aclose()


async def test_a_closed_client_says_so(url: str) -> None:
    wire = RedisWire(url, timeout_s=1)
    await wire.ping()
    await wire.aclose()
    with pytest.raises(exceptions.ConnectionError):
        await wire.ping()


async def test_a_database_of_its_own_is_chosen_by_the_url(url: str, wire: RedisWire) -> None:
    other = RedisWire(f"{url}?db=3", timeout_s=5)
    await other.execute_command("SET", "only-there", 1)
    assert await wire.execute_command("GET", "only-there") is None
    await other.execute_command("DEL", "only-there")
    await other.aclose()


def test_what_needs_more_than_a_plain_server_is_left_to_redis_py() -> None:
    assert fits("redis://:secret@cache:6379/2")
    assert fits("unix:///run/redis.sock?db=1")
    assert not fits("rediss://cache:6379")
    assert not fits("redis+sentinel://one,two/mymaster")
    assert not fits("redis://cache:6379?ssl_cert_reqs=none")


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _server(handle: Handler) -> AsyncIterator[int]:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await handle(reader, writer)
        writer.close()

    server = await asyncio.start_server(closing, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.01)
