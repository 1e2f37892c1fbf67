"""Request bodies: limits of size and time, codings, and what a bad one is told."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import brotli
import httpx
import pytest
import zstandard

from gateway.core.coding import decode
from gateway.lab.scripted_upstream import Raw, ScriptedUpstream
from gateway.web import body as bodies
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHAT = "/v1/chat/completions"
BODY = b'{"model": "m",  "messages": [{"role": "user", "content": "hi"}]}'
SMALL = {"max_body_bytes": 2048, "max_upload_bytes": 4096, "body_timeout_s": 0.2}


@pytest.fixture
async def small(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    """A gateway with small limits."""
    async with house(tmp_path, upstream.base_url, redis, server=SMALL) as opened:
        yield opened


async def post(
    gateway: House, content: bytes | AsyncIterator[bytes], path: str = CHAT, **headers: str
) -> httpx.Response:
    async with gateway.client(x_memory_user="ana", **headers) as client:
        return await client.post(path, content=content)


def error(answer: httpx.Response) -> dict[str, object]:
    shown: dict[str, object] = answer.json()["error"]
    assert set(shown) == {"message", "type", "param", "code"}
    return shown


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


# --- not to be read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b'{"model":"m"}',
        b'{"messages":[]}',
        b'{"messages":"hi"}',
        b'{"messages":{}}',
        b'{"messages":null}',
        b"\xff\xfe",
    ],
)
async def test_a_body_that_is_plainly_wrong_is_400_and_goes_nowhere(
    gateway: House, upstream: ScriptedUpstream, body: bytes
) -> None:
    answer = await post(gateway, body)
    assert answer.status_code == 400
    assert error(answer)["type"] == "invalid_request_error"
    assert upstream.requests == []


async def test_who_may_not_ask_is_told_before_what_is_wrong_with_the_body(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis, identity={"mode": "key"}) as gateway:
        assert (await post(gateway, b"nonsense")).status_code == 401


# --- limits --------------------------------------------------------------------------------------


async def test_a_body_over_the_limit_is_413_by_what_is_announced(
    small: House, upstream: ScriptedUpstream
) -> None:
    answer = await post(small, b" " * 2049)
    assert answer.status_code == 413
    assert "max_body_bytes" in str(error(answer)["message"])
    assert upstream.requests == []


@pytest.mark.parametrize("parts", [[b"x" * 2049], [b"x" * 1000] * 3])
async def test_a_body_over_the_limit_is_413_when_it_is_chunked(
    small: House, upstream: ScriptedUpstream, parts: list[bytes]
) -> None:
    assert (await post(small, chunks(*parts))).status_code == 413
    assert upstream.requests == []


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
async def test_a_body_that_stops_coming_is_408_and_ends_the_connection(
    small: House, upstream: ScriptedUpstream, path: str
) -> None:
    host, _, port = small.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n".encode())
    writer.write(BODY[:10])
    async with asyncio.timeout(3):
        answer = await reader.read()  # to the end of the connection
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
    assert upstream.requests == []


async def test_an_upload_over_its_own_limit_is_413(
    small: House, upstream: ScriptedUpstream
) -> None:
    upstream.default = Raw(b"{}")
    assert (await post(small, b"x" * 4096, "/v1/files")).status_code == 200
    assert (await post(small, b"x" * 4097, "/v1/files")).status_code == 413
    assert (await post(small, chunks(*[b"x" * 1000] * 5), "/v1/files")).status_code == 413
    assert len(upstream.requests) == 1


async def test_a_large_upload_passes_through(gateway: House, upstream: ScriptedUpstream) -> None:
    upstream.default = Raw(b"{}")
    body = bytes(range(256)) * 64 * 1024
    assert (await post(gateway, body, "/v1/files")).status_code == 200
    assert upstream.requests[0].body == body


# --- codings -------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:20]) + gzip.compress(BODY[20:]),
    "deflate": zlib.compress(BODY),
    "Deflate": raw_deflate(BODY),
    "br": brotli.compress(BODY),
    "zstd": zstandard.compress(BODY),
    "gzip, br": brotli.compress(gzip.compress(BODY)),
    "identity": BODY,
}


@pytest.mark.parametrize(("coding", "packed"), PACKED.items(), ids=PACKED.keys())
async def test_a_packed_chat_is_unpacked_and_goes_on_plain(
    gateway: House, upstream: ScriptedUpstream, coding: str, packed: bytes
) -> None:
    answer = await post(gateway, packed, content_encoding=coding)
    assert answer.status_code == 200
    assert upstream.requests[0].body == BODY
    plain = None if coding != "identity" else "identity"
    assert upstream.requests[0].header("content-encoding") == plain
    assert upstream.requests[0].header("content-length") == str(len(BODY))


async def test_a_packed_body_of_another_path_stays_packed(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.default = Raw(b"{}")
    await post(gateway, PACKED["gzip"], "/v1/embeddings-like", content_encoding="gzip")
    assert upstream.requests[0].body == PACKED["gzip"]
    assert upstream.requests[0].header("content-encoding") == "gzip"


BOMB = b'{"messages": "' + b" " * 50_000_000 + b'"}'
BOMBS = {
    "gzip": gzip.compress(BOMB),
    "deflate": raw_deflate(BOMB),
    "br": brotli.compress(BOMB, quality=5),
    "zstd": zstandard.compress(BOMB),
    "gzip, gzip": gzip.compress(gzip.compress(BOMB)),
}


@pytest.mark.parametrize(("coding", "packed"), BOMBS.items(), ids=BOMBS.keys())
async def test_a_bomb_is_413(
    gateway: House, upstream: ScriptedUpstream, coding: str, packed: bytes
) -> None:
    answer = await post(gateway, packed, content_encoding=coding)
    assert answer.status_code == 413
    assert upstream.requests == []


async def test_what_a_small_body_unpacks_to_is_not_unpacked_in_the_loop(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_loop = []

    def noted(packed: bytes, names: tuple[str, ...], limit: int) -> bytes:
        if threading.current_thread() is threading.main_thread():
            in_the_loop.append(limit)
        return decode(packed, names, limit)

    monkeypatch.setattr(bodies, "decode", noted)
    long = BODY[:-1] + b" " * 10**6 + b"}"
    assert (await post(gateway, brotli.compress(long), content_encoding="br")).status_code == 200
    assert max(in_the_loop, default=0) <= bodies.OFF_THE_LOOP_BYTES


@pytest.mark.parametrize("coding", ["compress", "gzip, magic", "aes128gcm", "gzip, br, br, gzip"])
async def test_an_unknown_coding_is_415(
    gateway: House, upstream: ScriptedUpstream, coding: str
) -> None:
    answer = await post(gateway, BODY, content_encoding=coding)
    assert answer.status_code == 415
    assert error(answer)["code"] == "unsupported_encoding"
    assert upstream.requests == []


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_a_body_that_is_not_what_its_coding_says_is_400(gateway: House, coding: str) -> None:
    answer = await post(gateway, b"\x00 not packed \xff", content_encoding=coding)
    assert answer.status_code == 400
    assert error(answer)["param"] == "Content-Encoding"


@pytest.mark.parametrize("coding", ["gzip", "br"])
async def test_a_packed_body_that_was_cut_short_is_400(gateway: House, coding: str) -> None:
    assert (await post(gateway, PACKED[coding][:-9], content_encoding=coding)).status_code == 400


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
async def test_an_answer_in_any_coding_is_remembered(
    gateway: House, upstream: ScriptedUpstream, coding: str
) -> None:
    pack = {"br": brotli.compress, "zstd": zstandard.compress, "gzip": gzip.compress}[coding]
    said = {"choices": [{"index": 0, "message": {"content": "ho"}, "finish_reason": "stop"}]}
    packed = pack(json.dumps(said).encode())
    head = [("content-type", "application/json"), ("content-encoding", coding)]
    upstream.script(Raw(packed, headers=head))
    async with (
        gateway.client(x_memory_user="ana") as client,
        client.stream("POST", CHAT, content=BODY) as answer,
    ):
        assert b"".join([chunk async for chunk in answer.aiter_raw()]) == packed
    kept = await gateway.handed_over()
    assert [turn.text for turn in kept[0].turns] == ["hi", "ho"]
