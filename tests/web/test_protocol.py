"""Bounds on a request's head, over raw connections."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.lab.scripted_upstream import Gate, Raw, ScriptedUpstream, sse
from gateway.web import protocol
from tests.adapters.raw_server import Peer, raw_server
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis


def address(gateway: House) -> tuple[str, int]:
    host, _, port = gateway.base_url.removeprefix("http://").partition(":")
    return host, int(port)


async def talk(gateway: House, *parts: bytes) -> bytes:
    """Send these, and read until the server closes the connection."""
    reader, writer = await asyncio.open_connection(*address(gateway))
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.01)
    async with asyncio.timeout(3):
        answer = await reader.read()
    writer.close()
    return answer


def error_of(answer: bytes) -> dict[str, object]:
    error: dict[str, object] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize(
    "head",
    [
        b"x-long: " + b"v" * 70_000 + b"\r\n",
        b"".join(b"x-%d: %s\r\n" % (n, b"v" * 500) for n in range(200)),
    ],
    ids=["one long header", "many headers"],
)
async def test_a_head_that_is_too_large_is_431(
    gateway: House, upstream: ScriptedUpstream, head: bytes
) -> None:
    answer = await talk(gateway, b"GET /v1/models HTTP/1.1\r\nhost: x\r\n", head, b"\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert error_of(answer)["code"] == "head_too_large"
    assert upstream.all == []


async def test_a_request_line_that_is_too_long_is_431(gateway: House) -> None:
    answer = await talk(gateway, b"GET /v1/" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_what_is_no_http_is_400_in_the_apis_own_shape(gateway: House) -> None:
    answer = await talk(gateway, b"EHLO mail.example\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert error_of(answer)["code"] == "invalid_http"


@pytest.mark.parametrize("parts", [(), (b"GET /healthz HTTP/1.1\r\nhost: x\r\n",)])
async def test_a_head_that_does_not_come_ends_the_connection(
    gateway: House, monkeypatch: pytest.MonkeyPatch, parts: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    assert await talk(gateway, *parts) == b""


async def test_a_connection_that_is_kept_open_serves_more_than_one_request(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.15)
    async with gateway.client() as client:
        for _ in range(3):
            assert (await client.get("/healthz")).status_code == 200
            await asyncio.sleep(0.2)  # idle between requests: no head is awaited


# --- another protocol is asked for ----------------------------------------------------------------

UPGRADE = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\n"
    b"upgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
)
SAID = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'


@pytest.mark.parametrize("size", [10_000, 40, 1], ids=["in one", "in pieces", "byte by byte"])
@pytest.mark.parametrize(
    "body",
    [
        b"content-length: %d\r\n\r\n%b" % (len(SAID), SAID),
        b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SAID), SAID),
    ],
    ids=["of a length", "in chunks"],
)
async def test_a_request_that_would_upgrade_is_answered_with_its_body(
    gateway: House, upstream: ScriptedUpstream, body: bytes, size: int
) -> None:
    upstream.script(*[sse(b"a"), sse(b"b"), sse(b"c")])
    reader, writer = await asyncio.open_connection(*address(gateway))
    both = (UPGRADE + body) * 2 + STREAM % b"completions"
    for at in range(0, len(both), size):
        writer.write(both[at : at + size])
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert [await body_of(reader) for _ in "abc"] == [b"a", b"b", b"c"]
    writer.close()
    assert [request.body for request in upstream.requests] == [SAID, SAID, b"{}"]
    assert b"upgrade" not in dict(upstream.requests[0].headers)


async def test_a_request_that_would_upgrade_needs_no_body(gateway: House) -> None:
    head = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n"
    assert (await talk(gateway, head)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_behind_it_that_cannot_be_read_is_400(gateway: House) -> None:
    answer = await talk(gateway, UPGRADE + b"transfer-encoding: chunked\r\n\r\nno size\r\n")
    assert error_of(answer)["code"] == "invalid_http"


# --- chunks that are written at once --------------------------------------------------------------

STREAM = b"POST /v1/%b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def body_of(reader: asyncio.StreamReader) -> bytes:
    """The next answer's body, which is chunked."""
    await reader.readuntil(b"\r\n\r\n")
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return body


async def test_a_client_that_reads_slowly_gets_all_of_it_and_the_upstream_waits(
    tmp_path: Path, redis: Redis
) -> None:
    piece, count, sent = bytes(range(256)) * 256, 250, 0  # more than buffers on the way hold

    async def talk(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(count):
            await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += 1
        await peer.send(b"0\r\n\r\n")

    async with raw_server(talk) as url, house(tmp_path, url, redis) as gateway:
        with socket.create_connection(address(gateway)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            slow.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=slow)
            writer.write(STREAM % b"audio/speech")
            async with asyncio.timeout(20):
                before = -1
                while not sent or sent > before:
                    before = sent
                    await asyncio.sleep(0.05)
                assert sent < count
                assert await body_of(reader) == piece * count
            writer.close()


async def test_requests_sent_at_once_are_answered_in_their_order(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    gates = [Gate(), Gate()]
    upstream.script(sse(b"a", gates[0], b"b"), sse(b"c", gates[1], b"d"))
    reader, writer = await asyncio.open_connection(*address(gateway))
    writer.write(STREAM % b"completions" + STREAM % b"completions")
    async with asyncio.timeout(5):
        for gate, whole in zip(gates, (b"ab", b"cd"), strict=True):
            gate.open()
            assert await body_of(reader) == whole
    writer.close()


async def test_a_chat_leaves_nothing_behind_for_the_garbage_collector(gateway: House) -> None:
    async with gateway.client() as client:
        gc.collect()
        gc.disable()
        try:
            for _ in range(5):
                messages = [{"role": "user", "content": "hello"}]
                sent = {"model": "m", "messages": messages}
                assert (await client.post("/v1/chat/completions", json=sent)).status_code == 200
            await asyncio.sleep(0.05)
            left = Counter(type(one).__name__ for one in gc.get_objects())
        finally:
            gc.enable()
    assert left["RequestResponseCycle"] <= 2  # each open connection keeps its last one
    assert left["Departure"] == 0


async def test_a_client_of_http_1_0_gets_no_chunks(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    events = [b'data: {"choices":[]}\n\n', b"data: [DONE]\n\n"]
    upstream.script(sse(*events), Raw(steps=[b'{"choices"', b":[]}"]), Raw(b'{"choices":[]}'))
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
    for expected in (b"".join(events), b'{"choices":[]}', b'{"choices":[]}'):
        answer = await talk(gateway, head, body)
        assert b"transfer-encoding" not in answer.lower()
        assert answer.partition(b"\r\n\r\n")[2] == expected
