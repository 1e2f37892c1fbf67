"""Bounds on a request's head, over raw connections."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.web import protocol
from tests.web.house import House


async def talk(gateway: House, *parts: bytes) -> bytes:
    """Send these, and read until the server closes the connection."""
    host, _, port = gateway.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
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
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", 0.05)
    async with gateway.client() as client:
        for _ in range(3):
            assert (await client.get("/healthz")).status_code == 200
            await asyncio.sleep(0.06)  # idle between requests: no head is awaited
