"""`kill -9` of the gateway, wherever it is: the next start recovers, and nothing is doubled."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests import loopback
from tests.faults.conftest import Chat, children, pending
from tests.faults.test_parts_away import FACT
from tests.gateway_process import GatewayProcess, until
from tests.processes import is_gone

pytestmark = pytest.mark.faults


def distilled_by(tmp_path: Path, model: ScriptedUpstream, by: ScriptedUpstream) -> GatewayProcess:
    return GatewayProcess(
        tmp_path / "data",
        model.base_url,
        extraction__provider="openai",
        extraction__base_url=by.base_url,
        extraction__api_key="k",
        extraction__model="scripted",
        queue__lease_s=2,
    )


def test_killed_while_the_extractor_thinks_it_distils_once_after_its_restart(
    tmp_path: Path, model: ScriptedUpstream
) -> None:
    thinking, go_on = threading.Event(), threading.Event()

    def facts(_: object) -> list[dict[str, object]]:
        thinking.set()
        go_on.wait(20)
        return [FACT]

    with ScriptedUpstream(facts=facts) as distiller:
        gateway = distilled_by(tmp_path, model, distiller)
        with gateway:
            ana = Chat(gateway)
            ana.say("I'm allergic to peanuts.")
            assert thinking.wait(20)
            gateway.kill()
            go_on.set()
            gateway.start()
            ana.until_known("peanuts", seconds=40)
            until(lambda: pending(gateway) == 0, seconds=30)
            assert ana.texts() == ["Is allergic to peanuts"]
            assert len(ana.memories("turn")) == 2


def test_killed_between_many_batches_each_exchange_is_found_once(
    tmp_path: Path, model: ScriptedUpstream
) -> None:
    gateway = GatewayProcess(
        tmp_path / "data", model.base_url, extraction__idle_s=0.05, queue__durable="always"
    )
    with gateway:
        ana = Chat(gateway)
        for n in range(12):
            ana.say(f"Remember that my locker number is {100 + n}.")
            if n in (3, 7):
                until(lambda: pending(gateway) >= 0)
                gateway.kill()
                gateway.start()
        ana.until_known(*(str(100 + n) for n in range(12) if n not in (3, 7)), seconds=40)
        until(lambda: pending(gateway) == 0, seconds=30)
        turns = ana.texts("turn")
        for n in range(12):
            said = [t for t in turns if f"number is {100 + n}." in t]
            assert len(said) <= 1
            assert len(said) == 1 or n in (3, 7)  # killed within the second after its answer


def test_an_erasure_that_is_killed_right_after_its_answer_stays_an_erasure(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    receipt = loopback.delete(
        f"{gateway.base_url}/memories", headers={"X-Memory-User": "ana"}, timeout=10
    ).json()
    assert receipt["completed"] is True
    gateway.kill()
    gateway.start()
    assert ana.texts() == []
    assert ana.texts("turn") == []
    again = loopback.get(
        f"{gateway.base_url}/erasures/{receipt['id']}?verify=true",
        headers={"X-Memory-User": "ana"},
        timeout=10,
    ).json()
    assert again["completed"] is True
    assert not any(again["remaining"].values())


def test_a_kill_leaves_no_process_behind_that_a_restart_would_double(
    gateway: GatewayProcess, ana: Chat
) -> None:
    ana.say("Hello")
    before = children(gateway)
    gateway.kill()
    gateway.start()
    after = children(gateway)
    assert set(after) == {"redis", "qdrant"}
    for pid in before.values():
        until(lambda pid=pid: is_gone(pid), seconds=15)


def test_sigterm_lets_an_open_answer_finish_and_hands_it_over(
    tmp_path: Path, model: ScriptedUpstream
) -> None:
    said = threading.Event()

    def slow(_: object) -> Say:
        said.set()
        return Say("one two three four five six", pause_s=0.15)

    model.default = slow
    gateway = GatewayProcess(tmp_path / "data", model.base_url, extraction__idle_s=30)
    with gateway:
        answer: list[bytes] = []

        def chat() -> None:
            with loopback.stream(
                "POST",
                f"{gateway.base_url}/chat/completions",
                headers={"X-Memory-User": "ana"},
                json={
                    "model": "m",
                    "stream": True,
                    "messages": [{"role": "user", "content": "I'm allergic to peanuts."}],
                },
                timeout=20,
            ) as response:
                answer.extend(response.iter_bytes())

        client = threading.Thread(target=chat)
        client.start()
        assert said.wait(10)
        assert gateway.stop() == 0
        client.join(20)
        assert b"data: [DONE]" in b"".join(answer)
        gateway.start()
        assert pending(gateway) == 1
