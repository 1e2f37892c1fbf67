"""Chats through the gateway, as HTTP shows them."""

from __future__ import annotations

from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests.web.house import House

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
