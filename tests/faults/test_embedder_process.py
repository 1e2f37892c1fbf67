"""The process that computes vectors is killed, and the gateway beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests import loopback
from tests.adapters.tiny_model import write_tiny_model
from tests.faults.conftest import Chat, children
from tests.gateway_process import GatewayProcess, until
from tests.processes import is_gone

pytestmark = pytest.mark.faults


@pytest.fixture
def embedding(tmp_path: Path, model: ScriptedUpstream) -> Iterator[GatewayProcess]:
    """A gateway that embeds by a model of its own, which is loaded."""
    with GatewayProcess(
        tmp_path / "data",
        model.base_url,
        embedding__provider="fastembed",
        embedding__model_path=write_tiny_model(tmp_path / "tiny"),
    ) as running:
        until(lambda: embedder(running) == "ok", 30)
        yield running


def embedder(gateway: GatewayProcess) -> str:
    status: str = loopback.get(f"{gateway.url}/readyz").json()["parts"]["embedder"]["status"]
    return status


def test_chats_go_on_while_it_is_dead_and_it_is_started_again(embedding: GatewayProcess) -> None:
    ana = Chat(embedding)
    ana.say("I'm allergic to peanuts.")
    ana.until_known("peanuts")
    first = children(embedding)["embedder"]
    os.kill(first, signal.SIGKILL)
    answer = ana.say("What am I allergic to?")
    assert answer.headers["x-memory-status"] == "partial"
    until(lambda: children(embedding).get("embedder", first) != first, 30)
    until(lambda: embedder(embedding) == "ok", 30)
    until(lambda: ana.say("Am I allergic to peanuts?").headers["x-memory-status"] == "ok", 30)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_is_gone_with_the_gateway(embedding: GatewayProcess, how: signal.Signals) -> None:
    pid = children(embedding)["embedder"]
    embedding.stop(how)
    until(lambda: is_gone(pid))
    embedding.start()
    assert children(embedding)["embedder"] != pid
