"""The route table, the gateway's own errors, and what it says of its health."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from gateway.core import errors
from gateway.core.errors import GatewayError, RateLimited, StoreUnavailable
from gateway.lab.scripted_upstream import Raw, ScriptedUpstream
from gateway.web.errors import STATUS, error_headers, status_of
from tests.web.house import ADMIN_TOKEN, House

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def shaped(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


# --- routes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/chat/completions", "/v2/models", "/v1", "/openapi", "/favicon.ico"]
)
async def test_an_unknown_path_is_404_in_the_apis_own_shape(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    async with gateway.client() as client:
        answer = await client.get(path)
    assert answer.status_code == 404
    assert shaped(answer)["code"] == "unknown_path"
    assert upstream.all == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../admin",
        "/v1/./models",
        "/v1/%2e%2e/admin",
        "/v1/files/..%2f..%2fadmin",
        "/v1/files/%2E%2E",
        "/v1/..%5cadmin",
        "/%76%31/models",
    ],
)
async def test_a_path_cannot_lead_out_of_the_upstreams_api(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    host, _, port = gateway.base_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert upstream.all == []


@pytest.mark.parametrize(
    "path",
    ["/v1/memories", "/v1/memories/x", "/v1/receipts/x", "/v1/erasures/x", "/v1/exchanges"],
)
async def test_the_gateways_own_paths_never_go_upstream(
    gateway: House, upstream: ScriptedUpstream, path: str
) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.patch(path, json={})
    assert answer.status_code in (400, 404, 405)
    shaped(answer)
    assert upstream.all == []


async def test_paths_that_only_look_like_its_own_go_upstream(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.default = Raw(b"{}")
    async with gateway.client() as client:
        for path in ("/v1/memories-of-mine", "/v1/receiptsx"):
            assert (await client.get(path)).status_code == 200
    assert [request.path for request in upstream.requests] == [
        "/v1/memories-of-mine",
        "/v1/receiptsx",
    ]


async def test_a_method_that_is_not_there_is_405_and_says_which_are(gateway: House) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.put("/v1/memories", json={})
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, HEAD, POST"
    assert "it takes DELETE, GET, HEAD, POST" in shaped(answer)["message"]


async def test_a_call_of_its_own_is_no_memory_that_is_unknown(gateway: House) -> None:
    calls = {"search": "POST", "import": "POST", "export": "GET, HEAD"}
    async with gateway.client(x_memory_user="ana") as client:
        for name, allowed in calls.items():
            for method in {"GET", "PATCH", "DELETE"} - set(allowed.split(", ")):
                answer = await client.request(method, f"/v1/memories/{name}", json={"text": "x"})
                assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
                assert f"it takes {allowed}" in shaped(answer)["message"]


async def test_a_websocket_is_clearly_refused(gateway: House, upstream: ScriptedUpstream) -> None:
    async with gateway.client(
        connection="Upgrade", upgrade="websocket", sec_websocket_version="13", sec_websocket_key="x"
    ) as client:
        answer = await client.get("/v1/realtime?model=x")
    assert answer.status_code == 400
    assert shaped(answer)["code"] == "websocket_unsupported"
    assert upstream.all == []


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_what_would_have_the_upstream_repeat_our_key_is_not_relayed(
    gateway: House, upstream: ScriptedUpstream, method: str
) -> None:
    async with gateway.client() as client:
        answer = await client.request(method, "/v1/models")
    assert answer.status_code == 400
    assert shaped(answer)["code"] == "method_unsupported"
    assert upstream.all == []


async def test_operators_need_their_token(gateway: House) -> None:
    async with gateway.client() as client:
        assert (await client.get("/admin/v1/users")).status_code == 401
        allowed = {"authorization": f"Bearer {ADMIN_TOKEN}"}
        assert (await client.get("/admin/v1/users", headers=allowed)).status_code == 200


# --- errors --------------------------------------------------------------------------------------


async def test_an_error_that_nobody_foresaw_is_500_without_its_words(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a user's words")

    monkeypatch.setattr(gateway.services.upstream, "send", fail)
    async with gateway.client() as client:
        for path in ("/v1/chat/completions", "/v1/completions"):
            answer = await client.post(path, json=ASK)
            assert answer.status_code == 500
            assert shaped(answer)["type"] == "server_error"
            assert "words" not in answer.text


def test_every_error_of_the_tree_has_a_status() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, GatewayError)
    ]
    covered = tuple(kind for kind, _, _ in STATUS)
    internal = {"GatewayError", "RequestRefused", "Unreadable", "LeaseLost", "SettingsError"}
    assert {kind.__name__ for kind in kinds if not issubclass(kind, covered)} == internal


def test_what_is_unavailable_is_never_said_to_be_absent() -> None:
    assert status_of(StoreUnavailable("away"))[0] == 503


def test_a_rate_limit_says_when_to_come_back() -> None:
    headers = dict(error_headers(RateLimited("too many", retry_after_s=1.2)))
    assert headers[b"retry-after"] == b"2"
    assert headers[b"retry-after-ms"] == b"1200"


# --- health --------------------------------------------------------------------------------------


async def test_it_says_that_it_is_alive_and_ready(gateway: House) -> None:
    async with gateway.client() as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
    assert ready.status_code == 200
    parts = ready.json()["parts"]
    assert {"upstream", "store", "queue", "state", "directory", "embedder"} <= set(parts)
    assert parts["store"]["status"] == "ok"
    assert parts["embedder"]["status"] == "off"
    assert len([line for line in ready.text.splitlines() if '"status":' in line]) > len(parts)


async def test_with_a_part_away_it_is_ready_and_says_which(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise StoreUnavailable("Qdrant does not answer; check qdrant.url")

    monkeypatch.setattr(gateway.services.store, "ping", away)
    async with gateway.client() as client:
        ready = await client.get("/readyz")
        figures = (await client.get("/metrics")).text
    assert ready.status_code == 200
    assert ready.json()["parts"]["store"] == {
        "status": "down",
        "reason": "Qdrant does not answer; check qdrant.url",
    }
    assert 'memory_gateway_part_up{part="store"} 0.0' in figures


async def test_it_is_not_ready_once_an_end_was_asked_for(gateway: House) -> None:
    gateway.draining = True
    async with gateway.client() as client:
        ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["status"] == "draining"


async def test_its_figures_count_what_was_answered(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        await client.post("/v1/chat/completions", json=ASK)
        await client.post("/v1/chat/completions", content=b"{")
        await gateway.background.drain(5)
        figures = (await client.get("/metrics")).text
    for line in (
        'memory_gateway_requests_total{route="chat/completions",status="2xx"} 1.0',
        'memory_gateway_requests_total{route="chat/completions",status="4xx"} 1.0',
        'memory_gateway_handovers_total{result="queued"} 1.0',
        "memory_gateway_upstream_first_byte_seconds_count 1.0",
        "memory_gateway_open_requests 1.0",
    ):
        assert line in figures, line
