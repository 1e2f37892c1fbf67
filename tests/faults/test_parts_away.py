"""Parts that die, hang and come back beneath a running gateway: chats go on, nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from gateway.lab.scripted_upstream import Raw, Say, ScriptedUpstream, refusal
from tests import loopback
from tests.faults.conftest import (
    SLACK_S,
    Chat,
    children,
    frozen,
    logged,
    metric,
    pending,
)
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults


def test_a_killed_redis_is_started_again_and_what_was_said_meanwhile_takes_effect(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    first = children(gateway)["redis"]
    os.kill(first, signal.SIGKILL)
    ana.say("I live in Lisbon.")
    ana.until_known("peanuts", "Lisbon")
    assert children(gateway)["redis"] != first
    assert sum("Lisbon" in text for text in ana.texts()) == 1


def test_a_redis_that_hangs_delays_no_chat_and_loses_nothing(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    with frozen(children(gateway)["redis"]):
        for n in range(8):
            began = time.monotonic()
            answer = ana.say(f"Remember that my locker number is {100 + n}.")
            assert time.monotonic() - began < SLACK_S
            assert answer.headers["X-Memory-Status"] in {"partial", "degraded"}
        until(lambda: metric(gateway, "spool_exchanges") > 0 or spooled(gateway))
        assert loopback.get(f"{gateway.url}/readyz", timeout=10).status_code == 200
    ana.until_known(*(str(100 + n) for n in range(8)), seconds=40)
    for n in range(8):
        said = [t for t in ana.texts("turn") if f"number is {100 + n}." in t]
        assert len(said) == 1, "each exchange takes effect exactly once"


def spooled(gateway: GatewayProcess) -> bool:
    """Something waits on disk."""
    return any(
        file.stat().st_size > 32
        for file in (gateway.data_dir / "spool").rglob("*")
        if file.is_file()
    )


def test_a_killed_store_is_started_again_with_all_it_held(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    first = children(gateway)["qdrant"]
    os.kill(first, signal.SIGKILL)
    ana.say("I live in Lisbon.")
    ana.until_known("peanuts", "Lisbon")
    assert children(gateway)["qdrant"] != first


def test_a_store_that_hangs_is_left_out_within_the_deadline(
    gateway: GatewayProcess, ana: Chat, model: ScriptedUpstream
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    ana.say("What can I eat?")
    with frozen(children(gateway)["qdrant"]):
        for _ in range(8):
            began = time.monotonic()
            answer = ana.say("What can I eat at the fair?")
            assert time.monotonic() - began < SLACK_S
            assert answer.headers["X-Memory-Stage"] in {"profile", "none"}
            assert answer.headers["X-Memory-Status"] in {"partial", "degraded"}
    until(
        lambda: ana.say("What can I eat?").headers["X-Memory-Stage"] in {"full", "lexical"},
        seconds=30,
    )
    assert "peanuts" in model.requests[-1].json()["messages"][0]["content"]


def test_a_breaker_spares_chats_the_wait_for_a_store_that_hangs(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    with frozen(children(gateway)["qdrant"]):
        for _ in range(8):
            ana.say("What can I eat?")
        assert metric(gateway, "breaker_open") >= 1
    until(lambda: ana.say("What can I eat?") and metric(gateway, "breaker_open") == 0, seconds=30)


def test_an_outage_is_logged_once_and_not_with_each_chat(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("Hello")
    with frozen(children(gateway)["redis"]):
        for _ in range(30):
            ana.say("Hello again")
        complaints = [*logged(gateway, "warning"), *logged(gateway, "error")]
        assert 1 <= len(complaints) <= 12, [line.get("event") for line in complaints]


# --- the models ------------------------------------------------------------------------------


def with_embedder(tmp_path: Path, model: ScriptedUpstream, base_url: str) -> GatewayProcess:
    return GatewayProcess(
        tmp_path / "data",
        model.base_url,
        embedding__provider="openai",
        embedding__base_url=base_url,
        embedding__api_key="k",
        embedding__model="scripted",
    )


def test_memories_stored_without_a_vector_get_theirs_when_the_embedder_is_back(
    tmp_path: Path, model: ScriptedUpstream
) -> None:
    embedder = ScriptedUpstream().start()
    port = embedder.port
    gateway = with_embedder(tmp_path, model, embedder.base_url)
    gateway._environ["GATEWAY_RETENTION__SWEEP_EVERY_S"] = "0.5"
    try:
        with gateway:
            ana = Chat(gateway)
            until(lambda: ana.say("Hello").headers["X-Memory-Stage"] in {"full", "none"})
            embedder.stop()
            ana.say("I'm allergic to peanuts.")
            ana.until_known("peanuts")
            assert ana.say("What about peanuts?").headers["X-Memory-Stage"] in {"lexical", "none"}
            embedder = ScriptedUpstream(port=port).start()
            until(lambda: dense_of(gateway, "allergic peanuts") > 0, seconds=30)
    finally:
        embedder.stop()


def dense_of(gateway: GatewayProcess, query: str) -> float:
    """How near the best memory is by its vector."""
    answer = loopback.post(
        f"{gateway.base_url}/memories/search",
        headers={"X-Memory-User": "ana"},
        json={"query": query, "kinds": ["fact"]},
        timeout=10,
    )
    if answer.status_code != 200:
        return 0.0
    return max((float(r["why"].get("dense", 0.0)) for r in answer.json()["results"]), default=0.0)


FACT = {
    "action": "add",
    "target": None,
    "type": "profile",
    "key": None,
    "value": None,
    "text": "Is allergic to peanuts",
    "turn": 1,
    "quote": "allergic to peanuts",
    "importance": 0.9,
    "event_start": None,
    "event_end": None,
    "ttl_days": None,
}


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(refusal(500, "broken"), id="fails"),
        pytest.param(refusal(429, "slow down", retry_after="1"), id="is too busy"),
        pytest.param(Say("I would rather write a poem."), id="answers prose"),
        pytest.param(Raw(body=b"\xff\xfe{{{"), id="answers rubbish"),
    ],
)
def test_what_an_extractor_could_not_distil_is_distilled_when_it_can(
    tmp_path: Path, model: ScriptedUpstream, trouble: Raw | Say
) -> None:
    calls = 0

    def extraction(_: object) -> Raw | Say | None:
        nonlocal calls
        calls += 1
        return trouble if calls <= 1 else None

    class Moody(ScriptedUpstream):
        def _extraction(self, body):  # type: ignore[no-untyped-def]
            return extraction(body) or super()._extraction(body)

    with Moody(facts=lambda _: [FACT]) as distiller:
        gateway = GatewayProcess(
            tmp_path / "data",
            model.base_url,
            extraction__provider="openai",
            extraction__base_url=distiller.base_url,
            extraction__api_key="k",
            extraction__model="scripted",
        )
        with gateway:
            ana = Chat(gateway)
            ana.say("I'm allergic to peanuts.")
            ana.until_known("peanuts", seconds=40)
            assert ana.texts() == ["Is allergic to peanuts"]
            until(lambda: pending(gateway) == 0)
            assert calls >= 2


def test_an_upstream_that_is_away_is_a_502_that_says_what_to_do(
    gateway: GatewayProcess, model: ScriptedUpstream
) -> None:
    model.stop()
    answer = loopback.post(
        f"{gateway.base_url}/chat/completions",
        headers={"X-Memory-User": "ana"},
        json={"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
        timeout=10,
    )
    assert answer.status_code == 502
    assert answer.json()["error"]["message"]
    assert pending(gateway) == 0
