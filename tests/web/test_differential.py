"""A client cannot tell that the gateway is there, nor can an upstream, but for one insertion.

The same scripted upstream is asked with and without the gateway; what it got and what the
client got are compared byte for byte.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.core.injection import BLOCK_CLOSE, BLOCK_OPEN
from gateway.lab.scripted_upstream import (
    Raw,
    Recorded,
    Say,
    Scripted,
    ScriptedUpstream,
    ToolCall,
    refusal,
    sse,
)
from tests.insertion import insertion
from tests.web.bodies import ANSWERS, REQUESTS, RESPONSES
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

CLIENTS_OWN = [
    ("authorization", "Bearer sk-the-clients-own"),
    ("openai-organization", "org-1"),
    ("openai-project", "proj-1"),
    ("api-key", "azure"),
    ("idempotency-key", "once"),
    ("x-stainless-lang", "python"),
    ("x-stainless-retry-count", "0"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("user-agent", "OpenAI/Python 3.52"),
    ("cookie", "a=b"),
    ("x-twice", "1"),
    ("x-twice", "2"),
]
OF_THE_CONNECTION = {"host", "connection", "transfer-encoding"}


@dataclass
class Seen:
    """One exchange, from both ends."""

    request: Recorded
    status: int
    headers: list[tuple[str, str]]
    body: bytes


async def ask(
    upstream: ScriptedUpstream,
    base_url: str,
    answer: Scripted,
    body: bytes | None,
    *,
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: list[tuple[str, str]] | None = None,
) -> Seen:
    upstream.clear()
    upstream.script(answer)
    async with httpx.AsyncClient(base_url=base_url, timeout=10, verify=False) as client:
        request = client.build_request(
            method, path, content=body, headers=[*CLIENTS_OWN, *(headers or [])]
        )
        response = await client.send(request, stream=True)
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
        await response.aclose()
    shown = [(k.decode().lower(), v.decode("latin-1")) for k, v in response.headers.raw]
    return Seen(upstream.all[0], response.status_code, shown, raw)


def without(headers: list[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    left_out = OF_THE_CONNECTION | set(names)
    return [(k, v) for k, v in headers if k not in left_out and not k.startswith("x-memory-")]


def heads(seen: Seen, *names: str) -> list[tuple[str, str]]:
    return without([(k.decode(), v.decode()) for k, v in seen.request.headers], *names)


def direct_url(upstream: ScriptedUpstream) -> str:
    return upstream.base_url.removesuffix("/v1")


async def both(
    gateway: House, upstream: ScriptedUpstream, answer: Scripted, body: bytes | None, **how: object
) -> tuple[Seen, Seen]:
    direct = await ask(upstream, direct_url(upstream), answer, body, **how)  # type: ignore[arg-type]
    extra = [("x-memory-user", "ana")]
    given = [*(how.pop("headers", None) or []), *extra]  # type: ignore[misc]
    through = await ask(
        upstream,
        gateway.base_url,
        answer,
        body,
        headers=given,
        **how,  # type: ignore[arg-type]
    )
    return direct, through


# --- requests ------------------------------------------------------------------------------------


BODIES = [
    *(pytest.param("/v1/chat/completions", body, id=name) for name, body in REQUESTS.items()),
    *(pytest.param("/v1/responses", body, id=f"responses-{n}") for n, body in RESPONSES.items()),
]


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_with_nothing_to_inject_the_upstream_gets_the_clients_bytes(
    gateway: House, upstream: ScriptedUpstream, path: str, body: bytes
) -> None:
    direct, through = await both(gateway, upstream, Raw(b"{}"), body, path=path)
    assert through.request.body == direct.request.body == body
    assert heads(through, "content-length") == heads(direct, "content-length")
    assert through.request.header("content-length") == direct.request.header("content-length")


@pytest.mark.parametrize(("path", "body"), BODIES)
async def test_with_memories_the_upstream_gets_the_clients_bytes_and_one_insertion(
    gateway: House, upstream: ScriptedUpstream, path: str, body: bytes
) -> None:
    await gateway.know("The user's name is “Ana” & she likes \\ and 日本")
    direct, through = await both(gateway, upstream, Raw(b"{}"), body, path=path)
    inserted = insertion(body, through.request.body).decode()
    assert inserted.count(BLOCK_OPEN) == inserted.count(BLOCK_CLOSE) == 1
    assert "日本" in inserted
    assert through.request.header("content-length") == str(len(through.request.body))
    assert heads(through, "content-length") == heads(direct, "content-length")
    assert (through.request.method, through.request.raw_path, through.request.query) == (
        direct.request.method,
        direct.request.raw_path,
        direct.request.query,
    )


@pytest.mark.parametrize(("placement", "insertions"), [("tail", 1), ("split", 2)])
@pytest.mark.parametrize(("path", "body"), [one for one in BODIES if len(one.values[1]) < 2000])
async def test_wherever_the_block_goes_the_clients_bytes_stay(
    tmp_path: Path,
    upstream: ScriptedUpstream,
    redis: Redis,
    path: str,
    body: bytes,
    placement: str,
    insertions: int,
) -> None:
    settings = {"placement": placement}
    async with house(tmp_path, upstream.base_url, redis, memory=settings) as gateway:
        await gateway.know("The user's name is “Ana”")
        await gateway.know("The user is waiting for a parcel", type="task_state")
        through = await ask(
            upstream,
            gateway.base_url,
            Raw(b"{}"),
            body,
            path=path,
            headers=[("x-memory-user", "ana")],
        )
    enriched = through.request.body
    assert 1 <= enriched.count(BLOCK_OPEN.encode()) <= insertions
    changes = SequenceMatcher(None, body, enriched, autojunk=False).get_opcodes()
    assert {kind for kind, *_ in changes} == {"equal", "insert"}
    json.loads(enriched)


async def test_a_body_that_only_our_reader_does_not_like_goes_on_as_it_came(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user likes tea")
    body = b'{"model":"m","messages":[{"role":"user","content":{"odd":"shape"}}]}'
    direct, through = await both(gateway, upstream, Say("fine"), body)
    assert through.request.body == direct.request.body
    assert through.body == direct.body
    assert ("x-memory-status", "degraded") in through.headers


async def test_without_a_user_nothing_is_read_nothing_written_and_nothing_changed(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    body = REQUESTS["plain"]
    direct = await ask(upstream, direct_url(upstream), Say("fine"), body)
    through = await ask(upstream, gateway.base_url, Say("fine"), body)
    assert through.request.body == direct.request.body
    memory = [pair for pair in through.headers if pair[0].startswith("x-memory-")]
    assert memory == [("x-memory-status", "off")]
    assert await gateway.services.directory.people() == []


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_the_client_gets_the_upstreams_bytes(
    gateway: House, upstream: ScriptedUpstream, answer: bytes
) -> None:
    await gateway.know("The user likes tea")
    direct, through = await both(gateway, upstream, Raw(answer), REQUESTS["plain"])
    assert through.body == direct.body == answer
    assert through.status == direct.status
    assert without(through.headers) == without(direct.headers)


async def test_a_compressed_answer_reaches_the_client_compressed(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    packed = gzip.compress(ANSWERS["plain"])
    answer = Raw(
        packed, headers=[("content-type", "application/json"), ("content-encoding", "gzip")]
    )
    direct, through = await both(gateway, upstream, answer, REQUESTS["plain"])
    assert through.body == direct.body == packed
    said = await gateway.handed_over()
    assert [turn.text for turn in said[0].turns] == ["hi", "ho"]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(429, "slow down", code="rate_limit_exceeded", retry_after="7", retry_after_ms="70"),
        refusal(400, "no such model", code="model_not_found"),
        refusal(401, "bad key"),
        refusal(500, "oops", x_should_retry="true"),
        Raw(b"upstream down", status=503, headers=[("content-type", "text/plain")]),
        Raw(b"", status=204, headers=[]),
        Raw(
            b"{}",
            headers=[
                ("x-ratelimit-remaining-requests", "9"),
                ("x-request-id", "req_1"),
                ("x-should-retry", "false"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("openai-processing-ms", "5"),
            ],
        ),
    ],
    ids=["429", "400", "401", "500", "503", "204", "headers"],
)
async def test_status_headers_and_error_bodies_pass_unchanged(
    gateway: House, upstream: ScriptedUpstream, answer: Raw
) -> None:
    direct, through = await both(gateway, upstream, answer, REQUESTS["plain"])
    assert (through.status, through.body) == (direct.status, direct.body)
    assert without(through.headers) == without(direct.headers)


STREAMS: dict[str, Scripted] = {
    "words": Say("one two three"),
    "tool calls": Say(tool_calls=(ToolCall("f", '{"x":1}', "a"), ToolCall("g", "{}", "b"))),
    "inside a character": sse(b'data: {"x":"\xe6', b'\x97\xa5"}\n\ndata: [DONE]\n\n'),
    "between CR and LF": sse(b"data: 1\r", b"\n\r\n", b"data: [DONE]\r\n\r\n"),
    "inside a field's name": sse(b"da", b"ta: 1\n", b"\nda", b"ta: [DONE]\n\n"),
    "comments and keep-alives": sse(b": ping\n\n", b":\n\n", b"data: 1\n\n", b": OPENROUTER\n\n"),
    "events and ids": sse(b"event: x\nid: 7\nretry: 10\ndata: 1\n\n", b"data: [DONE]\n\n"),
    "no end": sse(b"data: 1\n\n"),
    "an error inside": sse(b'data: {"error":{"message":"overloaded"}}\n\n'),
    "usage alone": sse(b'data: {"choices":[],"usage":{"total_tokens":3}}\n\n', b"data: [DONE]\n\n"),
}


@pytest.mark.parametrize("answer", STREAMS.values(), ids=STREAMS.keys())
async def test_a_stream_reaches_the_client_byte_for_byte(
    gateway: House, upstream: ScriptedUpstream, answer: Scripted
) -> None:
    body = REQUESTS["stream options"]
    direct, through = await both(gateway, upstream, answer, body)
    assert through.body == direct.body
    assert ("x-accel-buffering", "no") in through.headers
    assert without(through.headers, "x-accel-buffering") == without(direct.headers)


SPOKEN = (
    b": ping\r\n\r\nevent: message\nid: 7\n"
    b'data: {"choices":[{"index":0,"delta":{"content":"\xe6\x97\xa5"}}]}\r\n\r\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"\xf0\x9f\x8e\x89"},'
    b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
USERS = 8
"""So many that each one's pending exchanges are few enough to be looked at at once."""


async def test_a_stream_split_at_any_point_arrives_whole_and_is_remembered_the_same(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    for n in range(1, len(SPOKEN)):
        body = chat_of(f"question {n}")
        user = [("x-memory-user", f"u{n % USERS}"), ("x-memory-session", str(n))]
        seen = await ask(
            upstream, gateway.base_url, sse(SPOKEN[:n], SPOKEN[n:]), body, headers=user
        )
        assert seen.body == SPOKEN, n
    said = [exchange for n in range(USERS) for exchange in await gateway.handed_over(f"u{n}")]
    assert len(said) == len(SPOKEN) - 1
    assert {exchange.turns[-1].text for exchange in said} == {"日🎉"}
    assert {exchange.outcome for exchange in said} == {"complete"}


def chat_of(text: str) -> bytes:
    messages = [{"role": "user", "content": text}]
    return json.dumps({"model": "m", "stream": True, "messages": messages}).encode()


# --- everything else under /v1/ ------------------------------------------------------------------

PASSED = {
    "models": ("GET", "/v1/models", None),
    "a model": ("GET", "/v1/models/ft:gpt-4o:acme::7p4lURel", None),
    "embeddings": ("POST", "/v1/embeddings?api-version=2024-10-21", b'{"input":"x", "model":"e"}'),
    "completions": ("POST", "/v1/completions", b'{"prompt": "x"}'),
    "moderations": ("POST", "/v1/moderations", b'{"input": "x"}'),
    "batches": ("POST", "/v1/batches", b'{"input_file_id": "f"}'),
    "files": ("GET", "/v1/files?purpose=batch&limit=2&after=%2Fx+y", None),
    "a file's content": ("GET", "/v1/files/file-1/content", None),
    "delete": ("DELETE", "/v1/files/file-1", None),
    "images": ("POST", "/v1/images/generations", b'{"prompt": "x"}'),
    "encoded path": ("GET", "/v1/files/a%2Fb%20c", None),
    "stored chats": ("GET", "/v1/chat/completions?limit=1", None),
    "a response": ("GET", "/v1/responses/resp_1", None),
    "cancel": ("POST", "/v1/responses/resp_1/cancel", b""),
    "an unknown one": ("PUT", "/v1/brand/new", b"\x00\xff"),
    "options": ("OPTIONS", "/v1/chat/completions", None),
}


@pytest.mark.parametrize(("method", "path", "body"), PASSED.values(), ids=PASSED.keys())
async def test_other_paths_pass_through_untouched(
    gateway: House, upstream: ScriptedUpstream, method: str, path: str, body: bytes | None
) -> None:
    answer = Raw(b'{"passed": 1.0}', headers=[("content-type", "application/json"), ("x-a", "1")])
    direct, through = await both(gateway, upstream, answer, body, method=method, path=path)
    for seen in (direct, through):
        assert seen.request.method == method
    assert through.request.raw_path == direct.request.raw_path
    assert through.request.query == direct.request.query
    assert through.request.body == direct.request.body
    assert heads(through, "content-length") == heads(direct, "content-length")
    assert through.request.header("content-length") == direct.request.header("content-length")
    assert (through.status, through.body) == (direct.status, direct.body)
    assert without(through.headers) == without(direct.headers)


async def test_a_head_request_passes_through(gateway: House, upstream: ScriptedUpstream) -> None:
    answer = Raw(b'{"passed": 1.0}')
    direct, through = await both(
        gateway, upstream, answer, None, method="HEAD", path="/v1/models/x"
    )
    assert through.status == direct.status == 200
    assert through.body == direct.body == b""
    assert without(through.headers) == without(direct.headers)


async def test_multipart_uploads_and_downloads_pass_through(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(bytes(range(256)) * 1000, headers=[("content-type", "audio/mpeg")]))
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post(
            "/v1/audio/transcriptions",
            files={"file": ("a.wav", bytes(range(256)) * 4000, "audio/wav")},
            data={"model": "whisper-1"},
        )
    assert answer.content == bytes(range(256)) * 1000
    got = upstream.requests[0]
    assert bytes(range(256)) * 4000 in got.body
    assert (got.header("content-type") or "").startswith("multipart/form-data; boundary=")
