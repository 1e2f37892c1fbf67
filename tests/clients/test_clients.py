"""Popular clients report the same with the gateway before their upstream as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.injection import BLOCK_CLOSE, BLOCK_OPEN
from gateway.lab.scripted_upstream import Recorded
from tests.clients.cast import EXPECTED, WAIT_S
from tests.clients.conftest import DIRECT, KNOWN, NEWCOMER, Performance
from tests.insertion import insertion

pytestmark = [pytest.mark.clients, pytest.mark.timeout(300)]

_CHAT = (
    "chat",
    "stream",
    "tools",
    "tools streamed",
    "tool loop",
    "structured",
    "vision",
    "refused",
    "retry 429",
    "retry 500",
    "cancel",
    "broken",
    "error inside",
)
_RESPONSES = ("responses", "responses streamed", "responses tools")

SCENES: dict[str, tuple[str, ...]] = {
    "openai_python": (*_CHAT, *_RESPONSES, "embeddings", "models", "files"),
    "openai_node": (*_CHAT, *_RESPONSES, "embeddings", "models", "files"),
    "langchain": (*_CHAT, *_RESPONSES, "embeddings"),
    "litellm": (*_CHAT, "responses", "embeddings"),
    "ai_sdk": (*_CHAT, "embeddings"),
}
"""Which client can play what: a scene that is not here is not in that client's power."""

OF_MEMORY = [
    (client, scene)
    for client, scenes in SCENES.items()
    for scene in scenes
    if scene in (*_CHAT, *_RESPONSES)
]
OF_THE_CONNECTION = {"host", "connection", "x-run"}

Performed = Callable[[str], Performance]


def told(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "waited_s"}


@pytest.mark.parametrize(
    ("client", "scene"), [(c, s) for c, scenes in SCENES.items() for s in scenes]
)
def test_a_client_gets_the_same_through_the_gateway_as_without_it(
    performance: Performed, client: str, scene: str
) -> None:
    reported = performance(client).reported
    direct = told(reported[DIRECT][scene])
    assert {name: direct.get(name) for name in EXPECTED[scene]} == EXPECTED[scene], direct
    assert told(reported[NEWCOMER][scene]) == direct
    assert told(reported[KNOWN][scene]) == direct


@pytest.mark.parametrize("client", SCENES)
def test_no_scene_is_left_out(performance: Performed, client: str) -> None:
    for scenes in performance(client).reported.values():
        assert tuple(scenes) == SCENES[client]


@pytest.mark.parametrize(("client", "scene"), OF_MEMORY)
def test_the_upstream_gets_a_newcomers_request_as_the_client_wrote_it(
    performance: Performed, client: str, scene: str
) -> None:
    direct, through = (performance(client).got(run, scene) for run in (DIRECT, NEWCOMER))
    assert direct
    assert [as_sent(request) for request in through] == [as_sent(request) for request in direct]


def as_sent(request: Recorded) -> tuple[object, ...]:
    headers = [
        (name, value) for name, value in request.headers if name.decode() not in OF_THE_CONNECTION
    ]
    return request.method, request.raw_path, request.query, headers, request.body


@pytest.mark.parametrize(("client", "scene"), OF_MEMORY)
def test_the_upstream_gets_a_known_users_request_with_one_insertion(
    performance: Performed, client: str, scene: str
) -> None:
    direct, through = (performance(client).got(run, scene) for run in (DIRECT, KNOWN))
    if scene == "refused":  # the gateway sends the original once more
        assert [request.body for request in through[1:]] == [request.body for request in direct]
        direct, through = direct[:1], through[:1]
    assert len(through) == len(direct)
    for original, enriched in zip(direct, through, strict=True):
        inserted = insertion(original.body, enriched.body).decode()
        assert inserted.count(BLOCK_OPEN) == inserted.count(BLOCK_CLOSE) == 1
        assert "lives in Ávila" in inserted or "lives in \\u00c1vila" in inserted


@pytest.mark.parametrize("client", SCENES)
@pytest.mark.parametrize("run", [DIRECT, NEWCOMER, KNOWN])
def test_retries_are_told_when_to_come_back(performance: Performed, client: str, run: str) -> None:
    played = performance(client)
    for scene in ("retry 429", "retry 500"):
        assert len(played.got(run, scene)) == 2
    # Left to itself, a client's first pause is another: half a second, or two.
    assert played.reported[run]["retry 429"]["waited_s"] >= WAIT_S * 0.95


@pytest.mark.parametrize("client", SCENES)
def test_what_is_meant_for_the_gateway_does_not_reach_the_upstream(
    performance: Performed, client: str
) -> None:
    for request in performance(client).requests:
        assert [name for name, _ in request.headers if name.startswith(b"x-memory-")] == []
