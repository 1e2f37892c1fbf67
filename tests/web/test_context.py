"""The memory headers: what they may be, and what is said of one that may not."""

from __future__ import annotations

import pytest

from gateway.core.errors import BadRequest
from gateway.flows.visit import Options
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.web.context import options
from tests.web.house import House

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def read(**headers: str) -> Options:
    return options(
        [(f"x-memory-{n}".replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
    )


def test_without_headers_everything_is_as_set() -> None:
    assert read() == Options()


def test_headers_say_how_memory_is_to_act() -> None:
    assert read(
        mode="readonly",
        session="s-1",
        as_of="2026-05-23T09:00:00+02:00",
        timezone="Europe/Berlin",
        max_tokens="100",
        deadline_ms="12.5",
    ) == Options("readonly", "s-1", 1779519600.0, "Europe/Berlin", 100, 12.5)


def test_an_empty_header_is_as_good_as_none() -> None:
    assert read(mode="", session="", as_of="", timezone="", max_tokens="", deadline_ms="") == (
        Options()
    )


def test_a_session_is_read_as_browsers_and_node_write_it_too() -> None:
    assert options([(b"x-memory-session", b"caf\xe9")]).session == "café"
    assert read(session="café").session == "café"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "sometimes"),
        ("session", "x" * 257),
        ("session", "a\tb"),
        ("as_of", "yesterday"),
        ("as_of", "2026-13-01T00:00:00Z"),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", "/etc/localtime"),
        ("timezone", "America"),
        ("timezone", "Europe/Berlin\x00"),
        ("max_tokens", "-1"),
        ("max_tokens", "1.5"),
        ("max_tokens", "many"),
        ("max_tokens", "٣"),
        ("deadline_ms", "-1"),
        ("deadline_ms", "nan"),
        ("deadline_ms", "inf"),
        ("deadline_ms", "soon"),
    ],
)
def test_what_a_header_may_not_be_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(**{name: value})
    assert (refused.value.param or "").lower() == f"x-memory-{name}".replace("_", "-")
    assert "allowed is" in refused.value.message


async def test_a_bad_memory_header_is_400_and_goes_nowhere(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    async with gateway.client(x_memory_user="ana", x_memory_timezone="Nowhere") as client:
        answer = await client.post("/v1/chat/completions", json=ASK)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Memory-Timezone"
    assert upstream.requests == []


async def test_a_memory_header_given_twice_is_400(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    twice = [("x-memory-user", "ana"), ("x-memory-mode", "off"), ("x-memory-mode", "full")]
    async with gateway.client() as client:
        answer = await client.post("/v1/chat/completions", json=ASK, headers=twice)
    assert answer.status_code == 400
    assert upstream.requests == []


async def test_the_bodys_user_counts_where_the_setting_allows_it(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    async with gateway.client() as client:
        answer = await client.post("/v1/chat/completions", json={**ASK, "user": "ana"})
    assert answer.headers["x-memory-status"] == "off"
    identity = gateway.settings.identity.model_copy(update={"body_user": True})
    gateway.settings = gateway.settings.model_copy(update={"identity": identity})
    async with gateway.client() as client:
        answer = await client.post("/v1/chat/completions", json={**ASK, "user": "ana"})
    assert answer.headers["x-memory-status"] == "ok"
    assert upstream.requests[1].json()["user"] == "ana"
