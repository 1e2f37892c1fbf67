"""Chats through the gateway, as HTTP shows them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway.lab.scripted_upstream import Raw, Say, ScriptedUpstream
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

ASK = {"model": "m", "messages": [{"role": "user", "content": "What snack should I take?"}]}


async def test_memories_are_put_into_the_system_prompt_of_the_same_user_alone(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.default = Say("Try apples.")
    await gateway.know("The user is allergic to peanuts")
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert answer.json()["choices"][0]["message"]["content"] == "Try apples."
    assert "peanuts" in upstream.requests[0].json()["messages"][0]["content"]
    assert answer.headers["x-memory-injected-count"] == "1"
    async with gateway.client(x_memory_user="bob") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert upstream.requests[1].json() == ASK
    assert answer.headers["x-memory-injected-count"] == "0"
    said = await gateway.handed_over()
    assert [turn.text for turn in said[0].turns] == ["What snack should I take?", "Try apples."]


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({}, "no_user"),
        ({"x_memory_user": "ana", "x_memory_mode": "off"}, "asked"),
        ({"x_memory_user": "ana", "x_memory_mode": "writeonly"}, "asked"),
        ({"x_memory_user": "ana", "x_memory_deadline_ms": "0.001"}, "late"),
        ({"x_memory_user": "ana"}, None),
    ],
)
async def test_the_log_says_of_a_chat_why_it_had_no_memory_and_what_the_upstream_calls_it(
    gateway: House, upstream: ScriptedUpstream, headers: dict[str, str], why: str | None
) -> None:
    await gateway.know("The user is allergic to peanuts")
    upstream.script(Raw(b"{}", headers=[("x-request-id", "req-of-the-upstream")]))
    with capture_logs() as said:
        async with gateway.client(**headers) as client:
            await client.post("/v1/chat/completions", json=ASK)
        while not any(each["event"] == "answered" for each in said):  # once its last byte is out
            await asyncio.sleep(0.001)
    (line,) = [each for each in said if each["event"] == "answered"]
    assert line.get("why") == why
    assert line["upstream_request"] == "req-of-the-upstream"
    # What a client allows of its own accord is no outage of ours.
    assert [each for each in said if each["event"] == "part_failing"] == []


async def test_a_chat_that_could_not_be_answered_is_in_the_log_too(
    tmp_path: Path, redis: Redis
) -> None:
    async with (
        house(tmp_path, "http://127.0.0.1:9/v1", redis) as gateway,
        gateway.client(x_memory_user="ana") as client,
    ):
        with capture_logs() as said:
            await client.post("/v1/chat/completions", json=ASK)
    (line,) = [each for each in said if each["event"] == "answered"]
    assert (line["outcome"], line["status"]) == ("unreachable", "ok")
