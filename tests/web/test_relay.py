"""Time and breaks: chunks go on as they come, clients that leave, upstreams that die or stall."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.lab.scripted_upstream import Die, Gate, Raw, Recorded, ScriptedUpstream, Stall, sse
from tests.adapters.raw_server import Peer, raw_server
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

SOON_S = 2.0
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def delta(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(SOON_S):
        while not condition():
            await asyncio.sleep(0.005)


async def left(request: Recorded) -> bool:
    """Whether the upstream saw its client go within a second."""
    return await asyncio.to_thread(request.left.wait, 1.0)


# --- as it comes -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/audio/speech"])
async def test_each_chunk_is_there_before_the_next_one_is_sent(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    gates = [Gate(), Gate(), Gate()]
    upstream.script(sse(delta("a"), gates[0], b"data: {", gates[1], b"}\n\n", gates[2], b": end"))
    seen = []
    async with gateway.client(x_memory_user="ana") as client, asyncio.timeout(SOON_S):
        body = {**ASK, "input": "hi"}
        async with client.stream("POST", path, json=body) as answer:
            async for chunk in answer.aiter_raw():
                seen.append(chunk)
                if len(seen) <= len(gates):
                    gates[len(seen) - 1].open()
    assert seen == [delta("a"), b"data: {", b"}\n\n", b": end"]


async def test_the_head_is_there_before_the_first_chunk(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(sse(gate, delta("a")))
    async with (
        gateway.client(x_memory_user="ana") as client,
        asyncio.timeout(SOON_S),
        client.stream("POST", "/v1/chat/completions", json=ASK) as answer,
    ):
        assert answer.headers["x-memory-status"] == "ok"
        gate.open()
        assert await answer.aread() == delta("a")


async def test_a_response_head_waits_for_the_upstreams(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    gate = Gate()
    upstream.script(Raw(b"{}", status=503, before=[gate]))
    async with gateway.client() as client:
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=ASK))
        await until(lambda: upstream.requests)
        assert not asking.done()
        gate.open()
        assert (await asking).status_code == 503


# --- a client that leaves ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/completions"])
async def test_leaving_before_the_first_byte_ends_the_upstreams_work(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.script(Raw(before=[Stall()]))
    async with gateway.client(x_memory_user="ana") as client:
        body = {**ASK, "input": "hi", "stream": False}
        asking = asyncio.create_task(client.post(path, json=body))
        await until(lambda: upstream.requests)
        asking.cancel()
        assert await left(upstream.requests[0])
        with pytest.raises(asyncio.CancelledError):
            await asking


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/audio/speech"])
async def test_leaving_in_the_middle_of_a_stream_ends_the_upstreams_work(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.script(sse(delta("a"), Stall()))
    async with (
        gateway.client(x_memory_user="ana") as client,
        client.stream("POST", path, json={**ASK, "input": "hi"}) as answer,
    ):
        async for _ in answer.aiter_raw():
            break
    assert await left(upstream.requests[0])


async def test_leaving_in_the_middle_of_a_whole_answer_ends_the_upstreams_work(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    head = [("content-type", "application/json"), ("content-length", "1000")]
    upstream.script(Raw(headers=head, steps=[b'{"choices":', Stall()]))
    async with (
        gateway.client(x_memory_user="ana") as client,
        client.stream("POST", "/v1/chat/completions", json=ASK) as answer,
    ):
        async for _ in answer.aiter_raw():
            break
    assert await left(upstream.requests[0])


async def test_what_was_said_until_a_client_left_is_handed_over_as_cut_off(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(delta("As I was "), delta("saying"), Stall()))
    async with (
        gateway.client(x_memory_user="ana") as client,
        client.stream("POST", "/v1/chat/completions", json=ASK) as answer,
    ):
        got = b""
        async for chunk in answer.aiter_raw():
            got += chunk
            if got.endswith(delta("saying")):
                break
    assert await left(upstream.requests[0])
    await until(lambda: len(gateway.background))
    said = await gateway.handed_over()
    assert said[0].outcome == "cut_off"
    assert [turn.text for turn in said[0].turns] == ["hi", "As I was saying"]


async def test_a_request_tried_again_after_its_answer_broke_off_is_one_exchange(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(
        sse(delta("As I was "), delta("say"), Die()),
        sse(delta("As I was saying"), b"data: [DONE]\n\n"),
        sse(delta("Yes"), b"data: [DONE]\n\n"),
    )
    asked = {**ASK, "messages": [{"role": "user", "content": word} for word in ("well", "hi")]}
    async with gateway.client(x_memory_user="ana") as client:
        await client.post("/v1/chat/completions", json=asked)
        (broken,) = await gateway.handed_over()
        await client.post("/v1/chat/completions", json=asked)
        (whole,) = await gateway.handed_over()
        assert (broken.outcome, whole.outcome) == ("error", "complete")
        assert whole.id == broken.id
        assert [turn.text for turn in whole.turns] == ["well", "hi", "As I was saying"]
        await client.post("/v1/chat/completions", json=asked)  # nothing is owed any more
        assert await gateway.handed_over() == [whole]


async def test_leaving_before_anything_was_answered_leaves_the_words_to_the_next_try(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(Stall()), sse(delta("ho"), b"data: [DONE]\n\n"))
    async with gateway.client(x_memory_user="ana") as client:
        async with client.stream("POST", "/v1/chat/completions", json=ASK):
            pass
        assert await left(upstream.requests[0])
        await client.post("/v1/chat/completions", json=ASK)
    said = await gateway.handed_over()
    assert [turn.text for exchange in said for turn in exchange.turns] == ["hi", "ho"]


async def test_a_client_that_leaves_during_its_upload_is_noticed(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    half_there = asyncio.Event()
    gone = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.reader.readline()
        half_there.set()
        await peer.gone()
        gone.set()

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await asyncio.Event().wait()

    async with raw_server(talk) as url:
        slow = type(gateway.services.upstream)(
            gateway.settings.upstream.model_copy(update={"base_url": url})
        )
        gateway.put_in(upstream=slow)
        async with gateway.client() as client:
            sending = asyncio.create_task(client.post("/v1/files", content=body()))
            async with asyncio.timeout(SOON_S):
                await half_there.wait()
            sending.cancel()
            async with asyncio.timeout(1.0):
                await gone.wait()
            with pytest.raises(asyncio.CancelledError):
                await sending
        await slow.close()


async def test_an_upload_goes_on_as_it_comes(gateway: House) -> None:
    first_there = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        size = int(await peer.reader.readline(), 16)
        await peer.reader.readexactly(size + 2)
        first_there.set()
        await peer.chunked_body()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        async with asyncio.timeout(SOON_S):
            await first_there.wait()
        yield b"two"

    async with raw_server(talk) as url:
        slow = type(gateway.services.upstream)(
            gateway.settings.upstream.model_copy(update={"base_url": url})
        )
        gateway.put_in(upstream=slow)
        async with gateway.client() as client:
            answer = await client.post("/v1/files", content=body())
        assert answer.status_code == 200
        await slow.close()


async def test_a_control_character_in_a_header_does_not_cost_the_answer(gateway: House) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nx-odd: a\x1b[1m\x7f\r\ncontent-length: 2\r\n\r\n{}")

    async with raw_server(talk) as url:
        odd = type(gateway.services.upstream)(
            gateway.settings.upstream.model_copy(update={"base_url": url})
        )
        gateway.put_in(upstream=odd)
        async with gateway.client() as client:
            answer = await client.post("/v1/chat/completions", json=ASK)
        await odd.close()
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert answer.headers["x-odd"] == "a [1m"


# --- an upstream that breaks ---------------------------------------------------------------------


def last_event(body: bytes) -> dict[str, object]:
    data = body.rstrip(b"\n").rpartition(b"\n\n")[2]
    event: dict[str, object] = json.loads(data.removeprefix(b"data: "))
    return event


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.script(sse(delta("a"), Die()))
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post(path, json=ASK)
    assert answer.status_code == 200
    assert answer.content.startswith(delta("a"))
    assert b"[DONE]" not in answer.content
    error = last_event(answer.content)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "upstream_unreachable"
    assert error["type"] == "upstream_error"


async def test_a_stream_that_breaks_within_an_event_has_its_error_in_one_of_its_own(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(delta("a"), b'data: {"choices":', Die()))
    async with gateway.client() as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert b'{"choices":\n\ndata: {"error":' in answer.content


async def test_a_stream_whose_length_was_told_may_end_with_an_error_event_too(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    head = [("content-type", "text/event-stream"), ("content-length", "1000")]
    upstream.script(Raw(headers=head, steps=[delta("a"), Die()]))
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert answer.content.startswith(delta("a"))
    assert last_event(answer.content)["error"]


async def test_no_plain_words_are_put_into_a_packed_stream_that_breaks(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    head = [("content-type", "text/event-stream"), ("content-encoding", "gzip")]
    upstream.script(Raw(headers=head, steps=[gzip.compress(delta("a"))[:-8], Die()]))
    async with gateway.client(x_memory_user="ana") as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/chat/completions", json=ASK)


async def test_a_stream_that_breaks_behind_its_done_was_whole(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(delta("a"), b"data: [DONE]\r\n\r\n", Die()))
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert answer.content == delta("a") + b"data: [DONE]\r\n\r\n"


async def test_what_was_said_until_a_stream_broke_is_handed_over_as_an_error(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(sse(delta("As I was"), Die()))
    async with gateway.client(x_memory_user="ana") as client:
        await client.post("/v1/chat/completions", json=ASK)
    said = await gateway.handed_over()
    assert said[0].outcome == "error"
    assert said[0].turns[-1].text == "As I was"


async def test_a_whole_answer_that_breaks_is_seen_to_be_broken(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    head = [("content-type", "application/json"), ("content-length", "1000")]
    upstream.script(Raw(headers=head, steps=[b'{"choices":', Die()]))
    async with gateway.client(x_memory_user="ana") as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/chat/completions", json=ASK)


async def test_a_stalled_stream_ends_with_an_error_event(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    upstream.script(sse(delta("a"), Stall()))
    quick = {"idle_timeout_s": 0.1}
    async with (
        house(tmp_path, upstream.base_url, redis, upstream=quick) as gateway,
        gateway.client(x_memory_user="ana") as client,
    ):
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert last_event(answer.content)["error"]["code"] == "upstream_stalled"  # type: ignore[index]
    assert await left(upstream.requests[0])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_no_answer_in_time_is_504(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, path: str
) -> None:
    upstream.script(Raw(before=[Stall()]))
    quick = {"first_byte_timeout_s": 0.1}
    async with (
        house(tmp_path, upstream.base_url, redis, upstream=quick) as gateway,
        gateway.client(x_memory_user="ana") as client,
    ):
        answer = await client.post(path, json=ASK)
    assert answer.status_code == 504
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert await left(upstream.requests[0])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_an_upstream_that_is_away_is_502(tmp_path: Path, redis: Redis, path: str) -> None:
    async with (
        house(tmp_path, "http://127.0.0.1:9/v1", redis) as gateway,
        gateway.client(x_memory_user="ana") as client,
    ):
        answer = await client.post(path, json=ASK)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"
    assert "upstream.base_url" in answer.json()["error"]["message"]


async def test_where_there_is_no_answer_there_is_no_receipt_to_look_up(
    tmp_path: Path, redis: Redis
) -> None:
    async with (
        house(tmp_path, "http://127.0.0.1:9/v1", redis) as gateway,
        gateway.client(x_memory_user="ana") as client,
    ):
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert answer.headers["x-memory-status"] == "ok"
    assert "x-memory-receipt-id" not in answer.headers


# --- headers of the connection --------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_headers_of_the_connection_stay_on_it(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.script(
        Raw(
            b"{}",
            headers=[
                ("connection", "x-own-hop, close"),
                ("x-own-hop", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authenticate", "Basic"),
                ("x-kept", "1"),
            ],
        )
    )
    async with gateway.client(
        connection="keep-alive, X-Hop",
        x_hop="1",
        te="trailers",
        keep_alive="timeout=5",
        proxy_authorization="Basic eA==",
        proxy_connection="keep-alive",
        x_kept="1",
    ) as client:
        answer = await client.post(path, json=ASK)
    got = {name.decode() for name, _ in upstream.requests[0].headers}
    hops = {"x-hop", "te", "keep-alive", "proxy-authorization", "proxy-connection", "connection"}
    assert not hops & got
    assert "x-kept" in got
    assert not {"x-own-hop", "keep-alive", "proxy-authenticate"} & set(answer.headers)
    assert answer.headers["x-kept"] == "1"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_what_is_meant_for_the_gateway_does_not_go_upstream(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    async with gateway.client(
        x_memory_user="ana",
        x_memory_app="default",
        x_memory_session="s",
        x_memory_mode="readonly",
        x_memory_timezone="Europe/Berlin",
        x_memory_as_of="2026-01-01T00:00:00Z",
        x_memory_max_tokens="10",
        x_memory_deadline_ms="100",
        x_memory_unknown="1",
        x_user_id="ana",
        x_openwebui_user_id="ana",
        x_sm_user_id="ana",
        x_litellm_end_user_id="ana",
    ) as client:
        answer = await client.post(path, json=ASK)
    assert answer.status_code == 200
    got = {name.decode() for name, _ in upstream.requests[0].headers}
    assert not [name for name in got if name.startswith("x-memory-")]
    assert not {"x-user-id", "x-openwebui-user-id", "x-sm-user-id", "x-litellm-end-user-id"} & got


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
async def test_the_gateways_own_upstream_key_takes_the_place_of_the_clients(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, path: str
) -> None:
    keyed = {"api_key": "sk-the-gateways-own"}
    async with (
        house(tmp_path, upstream.base_url, redis, upstream=keyed) as gateway,
        gateway.client(authorization="Bearer sk-anything") as client,
    ):
        await client.post(path, json=ASK)
    assert upstream.all[0].values("authorization") == ["Bearer sk-the-gateways-own"]


async def test_expect_is_answered_here_and_not_sent_on(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(Raw(b"{}"))
    async with gateway.client(expect="100-continue") as client:
        answer = await client.post("/v1/files", content=b"x" * 1000)
    assert answer.status_code == 200
    assert upstream.requests[0].header("expect") is None
    assert upstream.requests[0].body == b"x" * 1000
