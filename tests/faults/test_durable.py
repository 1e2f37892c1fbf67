"""How soon what was said survives: the gateway and its Redis killed together, at the worst time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.faults.conftest import Chat, children
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults


def kill_both(gateway: GatewayProcess) -> None:
    """`kill -9` of the gateway and its Redis: nobody is left to finish anything."""
    redis = children(gateway)["redis"]
    os.kill(gateway.pid, signal.SIGSTOP)  # else it would start another Redis
    os.kill(redis, signal.SIGKILL)
    gateway.kill()


def user_turns(gateway: GatewayProcess) -> list[str]:
    turns = Chat(gateway).memories("turn")
    return sorted(turn["text"] for turn in turns if turn["source"]["role"] == "user")


def test_what_was_answered_a_second_ago_survives(tmp_path: Path, model: ScriptedUpstream) -> None:
    with GatewayProcess(tmp_path / "data", model.base_url) as gateway:
        Chat(gateway).say("My locker number is 7.")
        time.sleep(1.0)  # the promise
        kill_both(gateway)
        gateway.start()
        until(lambda: user_turns(gateway) == ["My locker number is 7."], 30)


def test_with_durable_always_what_was_answered_survives_at_once(
    tmp_path: Path, model: ScriptedUpstream
) -> None:
    with GatewayProcess(tmp_path / "data", model.base_url, queue__durable="always") as gateway:
        assert stream(gateway, "My locker number is 7.").endswith(b"data: [DONE]\n\n")
        kill_both(gateway)
        gateway.start()
        until(lambda: user_turns(gateway) == ["My locker number is 7."], 30)


def stream(gateway: GatewayProcess, text: str) -> bytes:
    """The answer's bytes, given as soon as the last of them is there."""
    got = b""
    with httpx.stream(
        "POST",
        f"{gateway.base_url}/chat/completions",
        headers={"X-Memory-User": "ana"},
        json={"model": "m", "stream": True, "messages": [{"role": "user", "content": text}]},
        timeout=20,
    ) as answer:
        for chunk in answer.iter_raw():
            got += chunk
            if got.endswith(b"data: [DONE]\n\n"):
                break
    return got
