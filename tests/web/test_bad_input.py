"""Questions, memories and headers that nobody should send: a clear 400 where the caller can mend
it, a bounded and useful answer otherwise."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import House

ANA = {"x_memory_user": "ana"}
HABIT = "Ana drinks green tea every morning"
FACT = "Her dog Rex loves the beach"
ODD = {
    "blank": " \t\n",
    "one emoji": "🙂",
    "control characters": "\x00\x07\x1b[2J tea \x7f",
    "half of a surrogate pair": "\ud83d tea",
    "54,000 terms": "tea dog " * 27_000,
    "a word of a megabyte": "x" * 2**20,
    "syntax of searches": "tea OR (dog AND \"-rex*) ~2 ^5 {!} '; DROP TABLE --",
    "no letter at all": "?!… 0.1e309 --",
}
REFUSED = {
    ODD[name] for name in ("half of a surrogate pair", "54,000 terms", "a word of a megabyte")
}


async def know(gateway: House) -> None:
    await gateway.know(HABIT, type="preference")
    await gateway.know(FACT, type="interaction")


def told(answer: httpx.Response) -> str:
    """The message of an error in OpenAI's shape."""
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    message: str = error["message"]
    return message


@pytest.mark.parametrize("query", ["", *ODD.values()], ids=["empty", *ODD])
async def test_any_search_is_answered_or_told_what_is_wrong(gateway: House, query: str) -> None:
    await know(gateway)
    async with gateway.client(**ANA) as client:
        answer = await client.post("/v1/memories/search", content=body(query=query, limit=5))
    if query in REFUSED:
        assert answer.status_code == 400
        assert "query" in told(answer) or "surrogate" in told(answer)
        assert len(answer.content) < 500
    else:
        assert answer.status_code == 200
        assert len(answer.json()["results"]) <= 5


@pytest.mark.parametrize("text", ["", *ODD.values()], ids=["empty", *ODD])
async def test_any_message_is_a_chat_and_preferences_still_count(
    gateway: House, upstream: ScriptedUpstream, text: str
) -> None:
    await know(gateway)
    messages = [{"role": "user", "content": text}]
    async with gateway.client(**ANA) as client:
        answer = await client.post(
            "/v1/chat/completions", content=body(model="m", messages=messages)
        )
    assert (answer.status_code, answer.headers["x-memory-status"]) == (200, "ok")
    assert HABIT.encode() in upstream.requests[-1].body
    assert int(answer.headers["x-memory-tokens"]) < 200


async def test_a_memory_of_a_megabyte_is_refused_and_a_long_one_injected_in_part(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    sentence = "The cellar holds old wine. "
    chat = {"model": "m", "messages": [{"role": "user", "content": "What does the cellar hold?"}]}
    async with gateway.client(**ANA) as client:
        row = {"text": sentence * 40_000, "type": "interaction"}
        refused = await client.post("/v1/memories", json=row)
        kept = await client.post("/v1/memories", json={**row, "text": sentence * 7_000})
        answer = await client.post("/v1/chat/completions", json=chat)
    assert refused.status_code == 400
    assert "text" in told(refused)
    assert kept.status_code == 201
    assert answer.headers["x-memory-injected-count"] == "1"
    assert b"old wine" in upstream.requests[-1].body
    assert len(upstream.requests[-1].body) < 2000


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "+99999-01-01T00:00:00Z"),
        ("valid_from", "12026-01-01T00:00:00Z"),
        ("expires_at", "9999-12-31T23:59:59Z"),
        ("created_at", "yesterday"),
        ("created_at", 1e300),
    ],
)
async def test_a_time_outside_the_calendar_is_refused(
    gateway: House, field: str, value: Any
) -> None:
    row = {"text": FACT, "type": "interaction", field: value}
    async with gateway.client(**ANA) as client:
        answer = await client.post("/v1/memories", json=row)
    assert answer.status_code == 400
    assert field in told(answer)


async def test_a_far_future_is_kept_found_and_told(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    row = {"text": FACT, "type": "interaction", "valid_from": "9998-12-31T23:59:59Z"}
    row["created_at"] = "2900-01-01T00:00:00Z"
    chat = {"model": "m", "messages": [{"role": "user", "content": "What does Rex love?"}]}
    async with gateway.client(**ANA) as client:
        assert (await client.post("/v1/memories", json=row)).status_code == 201
        query = {"query": "What did Rex love in 9998?", "as_of": "9998-12-31T23:59:59Z"}
        found = await client.post("/v1/memories/search", json=query)
        answer = await client.post("/v1/chat/completions", json=chat)
    assert [one["memory"]["text"] for one in found.json()["results"]] == [FACT]
    assert answer.headers["x-memory-status"] == "ok"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Memory-Timezone", "Mars/Olympus"),
        ("X-Memory-As-Of", "99999-01-01T00:00:00Z"),
        ("X-Memory-As-Of", "tomorrow"),
        ("X-Memory-Max-Tokens", "-1"),
        ("X-Memory-Deadline-Ms", "soon"),
        ("X-Memory-Mode", "sometimes"),
    ],
)
async def test_a_header_that_cannot_be_read_is_named(
    gateway: House, upstream: ScriptedUpstream, header: str, value: str
) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.client(**ANA) as client:
        answer = await client.post("/v1/chat/completions", json=chat, headers={header: value})
    assert answer.status_code == 400
    assert header.lower() in told(answer).lower()
    assert not upstream.requests


def body(**members: Any) -> bytes:
    """JSON as a client may write it, half of a surrogate pair included."""
    return json.dumps(members).encode()
