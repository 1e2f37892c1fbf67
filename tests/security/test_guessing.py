"""Guessing keys and tokens is slowed by address; who has the right one goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from gateway.core.keys import make_key
from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import ADMIN_TOKEN, House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST = 3


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    limits = {"wrong_credentials_per_minute": MOST}
    async with house(tmp_path, upstream.base_url, redis, server=limits) as opened:
        yield opened


async def by_admin_token(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.get("/admin/v1/users", headers={"Authorization": f"Bearer {token}"})


async def by_key(client: httpx.AsyncClient, key: str) -> httpx.Response:
    headers = {"X-Memory-Key": key, "X-Memory-User": "ana"}
    return await client.get("/v1/memories", headers=headers)


async def by_form(client: httpx.AsyncClient, token: str) -> httpx.Response:
    return await client.post("/console/login", data={"token": token})


WAYS = pytest.mark.parametrize("by", [by_admin_token, by_key, by_form])


@WAYS
async def test_wrong_ones_are_told_to_wait_after_a_few(gateway: House, by: object) -> None:
    async with gateway.client() as client:
        for _ in range(MOST):
            assert (await by(client, "mg_wrong")).status_code == 401  # type: ignore[operator]
        answer = await by(client, "mg_wrong")  # type: ignore[operator]
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "60"
        gateway.now += 60
        assert (await by(client, "mg_wrong")).status_code == 401  # type: ignore[operator]


async def test_what_was_refused_is_counted_by_its_reason(gateway: House) -> None:
    async with gateway.client() as client:
        for _ in range(MOST + 2):
            await by_admin_token(client, "wrong")
        await client.post("/v1/chat/completions", json={}, headers={"X-Memory-Key": "mg_x"})
        await client.get("/v1/models", headers={"X-Memory-Key": "mg_x"})
        await by_form(client, "wrong")
        shown = (await client.get("/metrics")).text
    for code, count in (("invalid_admin_token", MOST), ("too_many_failures", 5)):
        assert f'memory_gateway_refused_requests_total{{code="{code}"}} {count}.0' in shown


@WAYS
async def test_a_right_one_is_not_told_apart_from_a_wrong_one_meanwhile(
    gateway: House, by: object
) -> None:
    shown, key = make_key("default", now=gateway.now)
    await gateway.services.keys.add(key)
    right = shown if by is by_key else ADMIN_TOKEN
    async with gateway.client() as client:
        for _ in range(MOST):
            await by_admin_token(client, "wrong")
        assert (await by(client, right)).status_code == 429  # type: ignore[operator]
        gateway.now += 60
        assert (await by(client, right)).status_code in (200, 303)  # type: ignore[operator]


async def test_who_was_in_before_stays_in_and_so_does_a_session(gateway: House) -> None:
    async with gateway.client() as client:
        assert (await by_admin_token(client, ADMIN_TOKEN)).status_code == 200
        assert (await by_form(client, ADMIN_TOKEN)).status_code == 303
        for _ in range(MOST + 2):
            await by_key(client, "mg_wrong")
        assert (await by_key(client, "mg_wrong")).status_code == 429
        assert (await by_admin_token(client, ADMIN_TOKEN)).status_code == 200
        assert (await by_admin_token(client, "wrong")).status_code == 429
        assert (await client.get("/console/api/overview")).status_code == 200


async def test_a_chat_without_a_credential_of_ours_never_waits(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    async with gateway.client(X_Memory_User="ana", Authorization="Bearer sk-theirs") as client:
        for _ in range(MOST + 1):
            await by_key(client, "mg_wrong")
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
