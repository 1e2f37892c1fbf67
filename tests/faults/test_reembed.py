"""Another embedder, without an end of service: `reembed`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests import loopback
from tests.faults.conftest import Chat
from tests.gateway_process import GatewayProcess, until

pytestmark = pytest.mark.faults

FACTS = ("I'm allergic to peanuts.", "I live in Lyon.", "My name is Ana.")


@pytest.fixture
def embedding(tmp_path: Path, model: ScriptedUpstream) -> GatewayProcess:
    return GatewayProcess(
        tmp_path / "data",
        model.base_url,
        embedding__provider="openai",
        embedding__base_url=model.base_url,
        embedding__api_key="k",
        embedding__model="first",
    )


def known(gateway: GatewayProcess) -> Chat:
    ana = Chat(gateway)
    for fact in FACTS:
        ana.say(fact)
    ana.until_known("peanuts", "Lyon")
    return ana


def waiting(gateway: GatewayProcess) -> int:
    token = (gateway.data_dir / "admin.token").read_text().strip()
    answer = loopback.get(
        f"{gateway.url}/admin/v1/reembed", headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    return int(answer.json()["waiting"])


def found_by_vector(gateway: GatewayProcess) -> bool:
    answer = loopback.post(
        f"{gateway.base_url}/memories/search",
        headers={"X-Memory-User": "ana"},
        json={"query": "Lives in Lyon"},
        timeout=10,
    ).json()
    return any(result["why"].get("dense") for result in answer["results"])


def test_a_running_gateway_changes_its_embedder_and_goes_on_serving(
    embedding: GatewayProcess,
) -> None:
    with embedding as gateway:
        ana = known(gateway)
        until(lambda: found_by_vector(gateway))
        done = gateway.command("reembed", embedding__model="second")
        assert done.returncode == 0, done.stderr
        assert waiting(gateway) == 0
        assert found_by_vector(gateway)
        ana.say("I work as a carpenter.")
        ana.until_known("carpenter")

        gateway.stop()
        gateway.change(embedding__model="second")
        gateway.start()
        assert found_by_vector(gateway)


def test_one_that_is_killed_on_the_way_goes_on_at_its_next_start(
    embedding: GatewayProcess, model: ScriptedUpstream
) -> None:
    with embedding as gateway:
        known(gateway)
        until(lambda: found_by_vector(gateway))
        token = (gateway.data_dir / "admin.token").read_text().strip()
        answer = loopback.post(
            f"{gateway.url}/admin/v1/reembed",
            headers={"Authorization": f"Bearer {token}"},
            json={
                "embedding": {
                    "provider": "openai",
                    "base_url": model.base_url,
                    "api_key": "k",
                    "model": "second",
                }
            },
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        gateway.kill()
        gateway.change(embedding__model="second")
        gateway.start()
        assert gateway.command("reembed").returncode == 0
        assert waiting(gateway) == 0
        assert found_by_vector(gateway)


def test_a_stopped_house_is_changed_over_too_and_a_start_before_says_how(
    embedding: GatewayProcess,
) -> None:
    with embedding as gateway:
        known(gateway)
        until(lambda: found_by_vector(gateway))
        gateway.stop()
        gateway.change(embedding__model="second")
        with pytest.raises(RuntimeError, match="memory-gateway reembed"):
            gateway.start()
        done = gateway.command("reembed")
        assert done.returncode == 0, done.stderr
        gateway.start()
        assert waiting(gateway) == 0
        assert found_by_vector(gateway)


def test_an_embedder_that_does_not_answer_changes_nothing(embedding: GatewayProcess) -> None:
    with embedding as gateway:
        known(gateway)
        until(lambda: found_by_vector(gateway))
        refused = gateway.command(
            "reembed", embedding__model="second", embedding__base_url="http://127.0.0.1:9/v1"
        )
        assert refused.returncode != 0
        assert refused.stderr.count("\n") == 1
        assert waiting(gateway) == 0
        assert found_by_vector(gateway)
