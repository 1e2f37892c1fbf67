"""The upstream's adapter, over both transports where both must hold."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator

import aiohttp
import httpx
import pytest
from aiohttp import http_exceptions
from structlog.testing import capture_logs

from gateway.adapters.upstream import HttpUpstream
from gateway.adapters.upstream.foreign import FOREIGN, as_httpx
from gateway.config import UpstreamSettings
from gateway.core.errors import UpstreamFailed, UpstreamTimedOut, UpstreamUnreachable
from gateway.lab.scripted_upstream import Die, Gate, Raw, Say, ScriptedUpstream, Stall, sse
from gateway.ports import UpstreamRequest, UpstreamResponse
from gateway.telemetry.logs import STEADY_S
from tests.adapters.raw_server import Peer, ok, raw_server

SOON_S = 2.0


def settings(base_url: str, **given: object) -> UpstreamSettings:
    return UpstreamSettings.model_validate({"base_url": base_url, **given})


@pytest.fixture(params=["aiohttp", "httpx"])
def transport(request: pytest.FixtureRequest) -> httpx.AsyncBaseTransport | None:
    return httpx.AsyncHTTPTransport() if request.param == "httpx" else None


@pytest.fixture
async def over(
    upstream: ScriptedUpstream, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[HttpUpstream]:
    """The adapter over either transport, before a scripted upstream."""
    adapter = HttpUpstream(settings(upstream.base_url), transport)
    yield adapter
    await adapter.close()


def post(body: bytes = b"{}", *headers: tuple[bytes, bytes], path: str = "/x") -> UpstreamRequest:
    return UpstreamRequest("POST", path, b"", headers, body)


async def whole(adapter: HttpUpstream, request: UpstreamRequest) -> bytes:
    response = await adapter.send(request)
    try:
        return b"".join([chunk async for chunk in response.chunks()])
    finally:
        await response.close()


async def read_into(seen: list[bytes], response: UpstreamResponse) -> None:
    async for chunk in response.chunks():
        seen.append(chunk)  # noqa: PERF401 (what came before an error counts)


# --- what goes out -------------------------------------------------------------------------------


async def test_a_request_goes_out_with_nothing_added_but_host_and_length(
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    heads = []

    async def talk(peer: Peer) -> None:
        heads.append(await peer.request())
        await peer.send(ok())

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url + "/v1"), transport)
        await whole(adapter, post(b'{"a": 1.0}', (b"x-b", b"2"), (b"x-a", b"1"), (b"x-b", b"3")))
        await adapter.close()
    host = url.removeprefix("http://").encode()
    assert heads[0].lower() == (
        b"post /v1/x http/1.1\r\nhost: " + host + b"\r\nx-b: 2\r\nx-a: 1\r\nx-b: 3\r\n"
        b'content-length: 10\r\n\r\n{"a": 1.0}'
    )


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/files/a%2Fb", b""),
        ("/a//b;c=d/%E2%82%AC", b""),
        ("/deployments/gpt%204/chat", b"api-version=2024-10-21&x=%2B+%20&y=a,b'\"|"),
        ("/models/x:y@z", b"a=1&a=%zz&=&"),
    ],
)
async def test_path_and_query_go_out_as_they_were_sent(
    transport: httpx.AsyncBaseTransport | None, path: str, query: bytes
) -> None:
    lines = []

    async def talk(peer: Peer) -> None:
        lines.append((await peer.request()).partition(b"\r\n")[0])
        await peer.send(ok())

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url + "/openai/v1"), transport)
        await whole(adapter, UpstreamRequest("GET", path, query, [], b""))
        await adapter.close()
    target = b"/openai/v1" + path.encode() + (b"?" + query if query else b"")
    assert lines == [b"GET " + target + b" HTTP/1.1"]


async def test_a_query_that_is_no_ascii_goes_out_as_its_bytes() -> None:
    lines = []

    async def talk(peer: Peer) -> None:
        lines.append((await peer.request()).partition(b"\r\n")[0])
        await peer.send(ok())

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url))
        await whole(adapter, UpstreamRequest("GET", "/x", "q=\u00fc".encode(), [], b""))
        await adapter.close()
    assert lines == ["GET /x?q=\u00fc HTTP/1.1".encode()]


async def test_an_upload_goes_out_as_it_comes(
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    first_there = asyncio.Event()
    got = []

    async def talk(peer: Peer) -> None:
        head = await peer.request()
        got.append(b"transfer-encoding: chunked" in head.lower())
        size = int(await peer.reader.readline(), 16)
        got.append(await peer.reader.readexactly(size + 2))
        first_there.set()
        got.extend(await peer.chunked_body())
        await peer.send(ok())

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await asyncio.wait_for(first_there.wait(), SOON_S)
        yield b"two"

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url), transport)
        await whole(adapter, UpstreamRequest("POST", "/files", b"", [], body()))
        await adapter.close()
    assert got == [True, b"one\r\n", b"two"]


async def test_a_large_body_arrives_whole(over: HttpUpstream, upstream: ScriptedUpstream) -> None:
    body = bytes(range(256)) * 20_000
    assert await whole(over, post(body)) != b""
    assert upstream.requests[0].body == body
    assert upstream.requests[0].header("content-length") == str(len(body))


async def test_cookies_of_an_answer_do_not_come_back_with_the_next_request(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(b"{}", headers=[("set-cookie", "session=one")]))
    await whole(over, post())
    await whole(over, post())
    assert upstream.requests[1].header("cookie") is None


async def test_a_redirect_is_an_answer_like_any_other(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(b"", status=307, headers=[("location", "/elsewhere")]))
    response = await over.send(post())
    assert response.status == 307
    await response.close()
    assert len(upstream.requests) == 1


# --- what comes back -----------------------------------------------------------------------------


async def test_headers_come_back_in_order_with_their_duplicates(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    given = [("x-b", "1"), ("set-cookie", "a=1"), ("x-a", "2"), ("set-cookie", "b=2")]
    upstream.script(Raw(b"{}", headers=given))
    response = await over.send(post())
    shown = [(name.decode(), value.decode()) for name, value in response.headers]
    assert [pair for pair in shown if pair[0] != "content-length"] == given
    await response.close()


async def test_a_chunk_is_there_before_the_next_one_is_sent(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    gates = [Gate(), Gate()]
    upstream.script(sse(b"data: 1\n\n", gates[0], b"data: 2", gates[1], b"\n\n"))
    response = await over.send(post())
    seen = []
    async with asyncio.timeout(SOON_S):
        async for chunk in response.chunks():
            seen.append(chunk)
            if len(seen) <= len(gates):
                gates[len(seen) - 1].open()
    assert seen == [b"data: 1\n\n", b"data: 2", b"\n\n"]
    await response.close()


async def test_a_compressed_answer_stays_as_it_is(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(b"\x1f\x8b not even gzip", headers=[("content-encoding", "gzip")]))
    assert await whole(over, post()) == b"\x1f\x8b not even gzip"


async def test_an_answer_may_have_very_long_headers(upstream: ScriptedUpstream) -> None:
    upstream.script(Raw(b"{}", headers=[("x-long", "v" * 60_000)]))
    adapter = HttpUpstream(settings(upstream.base_url))
    response = await adapter.send(post())
    assert (b"x-long", b"v" * 60_000) in response.headers
    await response.close()
    await adapter.close()


async def test_what_came_before_a_break_is_given_before_the_error() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        # Both in one go, so that bytes and break are known at the same time.
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url))
        response = await adapter.send(post())
        await asyncio.sleep(0.05)  # the break is there before anything is read
        seen: list[bytes] = []
        with pytest.raises(UpstreamUnreachable):
            await read_into(seen, response)
        assert b"".join(seen) == b"hello"
        await response.close()
        await adapter.close()


# --- leaving early -------------------------------------------------------------------------------


async def test_closing_an_answer_early_ends_the_upstreams_work_at_once(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(b"data: 1\n\n", Stall()))
    response = await over.send(post())
    async for _ in response.chunks():
        break
    await response.close()
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1.0)


async def test_a_cancelled_request_ends_the_upstreams_work_at_once(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(before=[Stall()]))
    sending = asyncio.create_task(over.send(post()))
    async with asyncio.timeout(SOON_S):
        while not upstream.requests:
            await asyncio.sleep(0.005)
    sending.cancel()
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1.0)
    with pytest.raises(asyncio.CancelledError):
        await sending


# --- what goes wrong -----------------------------------------------------------------------------


async def test_nobody_listening_is_unreachable(transport: httpx.AsyncBaseTransport | None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        adapter = HttpUpstream(settings(f"http://127.0.0.1:{taken.getsockname()[1]}/v1"), transport)
        with pytest.raises(UpstreamUnreachable):
            await adapter.send(post())
        await adapter.close()


async def test_an_unknown_host_is_unreachable(transport: httpx.AsyncBaseTransport | None) -> None:
    adapter = HttpUpstream(settings("http://no-such-host.invalid/v1"), transport)
    with pytest.raises(UpstreamUnreachable):
        await adapter.send(post())
    await adapter.close()


async def test_a_connection_closed_without_an_answer_is_unreachable(
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url), transport)
        with pytest.raises(UpstreamUnreachable):
            await adapter.send(post())
        await adapter.close()


async def test_an_upstream_that_is_away_is_said_once_and_once_that_it_is_back(
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    is_back = False

    async def talk(peer: Peer) -> None:
        await peer.request()
        if is_back:
            await peer.send(ok())

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url), transport)
        with capture_logs() as said:
            for _ in range(3):
                with pytest.raises(UpstreamUnreachable):
                    await adapter.send(post())
            is_back = True
            await asyncio.sleep(STEADY_S)
            for _ in range(2):
                await whole(adapter, post())
        await adapter.close()
    assert [(line["event"], line["part"]) for line in said] == [
        ("part_failing", "upstream"),
        ("part_back", "upstream"),
    ]


async def test_why_nobody_can_connect_is_said_to_the_log_and_its_kind_alone_to_clients() -> None:
    adapter = HttpUpstream(settings("http://127.0.0.1:9/v1"), None)
    with capture_logs() as said, pytest.raises(UpstreamUnreachable) as refused:
        await adapter.send(post())
    await adapter.close()
    (line,) = said
    assert line["host"] == "127.0.0.1:9"
    assert line["because"].startswith("ClientConnectorError: ")
    assert "Connect call failed" in line["because"]
    assert "Connect call failed" not in refused.value.message


async def test_a_body_that_breaks_off_is_no_outage_of_the_upstream(
    transport: httpx.AsyncBaseTransport | None,
) -> None:
    """Its client left, or sent more than is allowed: whoever may upload could raise alarm."""

    async def body() -> AsyncIterator[bytes]:
        yield b"half of"
        raise ValueError("the client left")

    async def talk(peer: Peer) -> None:
        await peer.reader.read()

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url), transport)
        with capture_logs() as said, pytest.raises((UpstreamUnreachable, ValueError)):
            await adapter.send(UpstreamRequest("POST", "/x", b"", [], body()))
        await adapter.close()
    assert said == []


@pytest.mark.parametrize(
    "head",
    [b"220 mail.example ESMTP", b"HTTP/1.1 101 Changed\r\nupgrade: x", b"HTTP/1.1 999 Denied"],
    ids=["mail", "another protocol", "a status that is none"],
)
async def test_an_answer_that_is_no_http_is_unreachable(
    transport: httpx.AsyncBaseTransport | None, head: bytes
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(head + b"\r\n\r\n")

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url), transport)
        with pytest.raises(UpstreamUnreachable):
            await adapter.send(post())
        await adapter.close()


async def test_no_head_in_time_is_a_timeout(
    upstream: ScriptedUpstream, transport: httpx.AsyncBaseTransport | None
) -> None:
    upstream.script(Raw(before=[Stall()]))
    adapter = HttpUpstream(settings(upstream.base_url, first_byte_timeout_s=0.05), transport)
    with pytest.raises(UpstreamTimedOut, match="first_byte_timeout_s"):
        await adapter.send(post())
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1.0)
    await adapter.close()


async def test_a_stall_between_chunks_is_a_timeout(
    upstream: ScriptedUpstream, transport: httpx.AsyncBaseTransport | None
) -> None:
    upstream.script(sse(b"data: 1\n\n", Stall()))
    # Longer than a busy machine lets pass between an answer's head and its first chunk.
    adapter = HttpUpstream(settings(upstream.base_url, idle_timeout_s=0.3), transport)
    response = await adapter.send(post())
    seen: list[bytes] = []
    with pytest.raises(UpstreamTimedOut, match="idle_timeout_s"):
        await read_into(seen, response)
    assert seen == [b"data: 1\n\n"]
    await response.close()
    await adapter.close()


async def test_a_slow_upload_does_not_use_up_the_time_for_the_answer(
    upstream: ScriptedUpstream, transport: httpx.AsyncBaseTransport | None
) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(8):
            await asyncio.sleep(0.05)
            yield b"x"

    adapter = HttpUpstream(settings(upstream.base_url, first_byte_timeout_s=0.2), transport)
    upstream.default = Raw(b"done")
    assert await whole(adapter, UpstreamRequest("POST", "/files", b"", [], body())) == b"done"
    await adapter.close()


async def test_a_break_in_the_middle_is_unreachable(
    over: HttpUpstream, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(b"data: 1\n\n", Die()))
    response = await over.send(post())
    with pytest.raises(UpstreamUnreachable, match="middle"):
        await read_into([], response)
    await response.close()


async def test_a_post_is_never_sent_twice_when_the_answer_does_not_come() -> None:
    seen = []

    async def talk(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            if len(seen) > 1:
                return  # the second one on this connection: taken, and no answer
            await peer.send(ok())

    async with raw_server(talk) as url:
        adapter = HttpUpstream(settings(url))
        await whole(adapter, post(b'{"n": 1}'))
        with pytest.raises(UpstreamUnreachable):
            await whole(adapter, post(b'{"n": 2}'))
        await adapter.close()
    assert len(seen) == 2


async def test_a_kept_connection_that_was_closed_before_a_byte_was_sent_is_replaced(
    upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = HttpUpstream(settings(upstream.base_url))
    await whole(adapter, post(b'{"n": 1}'))
    real = aiohttp.ClientRequest.send
    closed = []

    async def closing(self: aiohttp.ClientRequest, conn: object) -> aiohttp.ClientResponse:
        response = await real(self, conn)  # type: ignore[arg-type]
        if not closed:  # the upstream's FIN, read after the connection was chosen
            closed.append(True)
            conn.protocol.transport.abort()  # type: ignore[attr-defined]
        return response

    monkeypatch.setattr(aiohttp.ClientRequest, "send", closing)
    await whole(adapter, post(b'{"n": 2}'))
    assert [request.body for request in upstream.requests] == [b'{"n": 1}', b'{"n": 2}']
    await adapter.close()


async def test_a_kept_connection_whose_end_the_loop_has_not_read_is_replaced() -> None:
    def answer(listening: socket.socket) -> tuple[socket.socket, bytes]:
        peer, _ = listening.accept()
        got = b""
        while not got.endswith(b"}"):
            got += peer.recv(65536)
        peer.sendall(ok())
        return peer, got

    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(SOON_S)
        adapter = HttpUpstream(settings(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        first = loop.run_in_executor(None, answer, listening)
        await whole(adapter, post(b'{"n": 1}'))
        kept, _ = await first
        second = loop.run_in_executor(None, answer, listening)
        kept.close()  # as while this process was stopped: nothing runs until the next request
        try:
            assert await whole(adapter, post(b'{"n": 2}')) == b"{}"
        finally:
            peer, got = await second
            peer.close()
            await adapter.close()
    assert got.endswith(b'{"n": 2}')


def _errors_of(*modules: object) -> list[type[BaseException]]:
    found = {
        kind
        for module in modules
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, BaseException)
        and not issubclass(kind, Warning)
        and kind.__module__.startswith("aiohttp")
    }
    found -= {aiohttp.WSMessageTypeError, aiohttp.WebSocketError}  # no web sockets here
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", _errors_of(aiohttp, aiohttp.client_exceptions))
def test_every_error_of_aiohttp_has_its_meaning(kind: type[BaseException]) -> None:
    assert issubclass(kind, FOREIGN)
    meaning = as_httpx(kind.__new__(kind))
    assert isinstance(meaning, httpx.TransportError)
    assert isinstance(meaning, httpx.TimeoutException) == issubclass(kind, TimeoutError)


@pytest.mark.parametrize("kind", _errors_of(http_exceptions), ids=lambda kind: kind.__name__)
def test_every_parser_error_of_aiohttp_is_foreign(kind: type[BaseException]) -> None:
    assert issubclass(kind, FOREIGN)


def test_timeouts_and_breaks_are_told_apart() -> None:
    assert isinstance(as_httpx(aiohttp.ConnectionTimeoutError()), httpx.ConnectTimeout)
    assert isinstance(as_httpx(aiohttp.ServerDisconnectedError()), httpx.RemoteProtocolError)
    assert isinstance(as_httpx(ConnectionResetError()), httpx.ReadError)
    assert isinstance(as_httpx(TimeoutError()), httpx.ReadTimeout)


async def test_a_ping_is_answered_by_any_answer_at_all(over: HttpUpstream) -> None:
    await over.ping()


async def test_a_ping_of_nobody_fails(upstream: ScriptedUpstream) -> None:
    adapter = HttpUpstream(settings(upstream.base_url))
    upstream.stop()
    with pytest.raises(UpstreamFailed):
        await adapter.ping()
    await adapter.close()


async def test_many_requests_at_once_are_all_answered(upstream: ScriptedUpstream) -> None:
    upstream.default = Say("hi")
    adapter = HttpUpstream(settings(upstream.base_url))
    bodies = [b'{"n": %d}' % n for n in range(64)]
    await asyncio.gather(*(whole(adapter, post(body)) for body in bodies))
    assert sorted(request.body for request in upstream.requests) == sorted(bodies)
    await adapter.close()
