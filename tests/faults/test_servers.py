"""Server mode as a whole: several gateways and workers share one Redis and one Qdrant, and none
of them keeps anything that another needs."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.lab.scripted_upstream import Raw, ScriptedUpstream, Stall
from tests.faults.conftest import Chat, metric
from tests.faults.servers import House, facts
from tests.gateway_process import GatewayProcess, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_what_one_gateway_heard_the_other_recalls_at_once(servers: House) -> None:
    Chat(servers.a, "ada").say("I'm allergic to peanuts.")

    def recalled() -> bool:
        Chat(servers.b, "ada").say("What may I eat?")
        return "peanuts" in servers.injected()

    until(recalled)
    until(lambda: facts(servers.b, "ada"))
    assert facts(servers.a, "ada") == facts(servers.b, "ada")
    assert sum("peanuts" in text for text in facts(servers.a, "ada")) == 1


def test_a_write_by_one_process_ends_what_the_others_have_cached(servers: House) -> None:
    bob = {"X-Memory-User": "bob"}
    memories = f"{servers.a.base_url}/memories"

    def prefer(language: str) -> str:
        made = {"text": f"Answers in {language}", "type": "preference", "key": "language"}
        answer = httpx.post(memories, headers=bob, json={**made, "value": language}, timeout=10)
        assert answer.status_code == 201
        return str(answer.json()["memories"][0]["id"])

    first = prefer("Spanish")
    answer = Chat(servers.b, "bob").say("Hello")
    assert "Spanish" in servers.injected()
    with servers.qdrant.that("hangs"):
        # Nobody wrote meanwhile: what always counts is served from the process's own cache.
        answer = Chat(servers.b, "bob").say("Hello again")
        assert answer.headers["X-Memory-Stage"] == "profile"
        assert "Spanish" in servers.injected()
    until(lambda: recovered(servers.b, "bob"))
    assert httpx.delete(f"{memories}/{first}", headers=bob, timeout=10).status_code == 204
    with servers.qdrant.that("hangs"):
        # A process that was not told would go on with what was forgotten elsewhere.
        answer = Chat(servers.b, "bob").say("Hello once more")
        assert answer.headers["X-Memory-Stage"] == "none"
        assert "Spanish" not in servers.injected()
    until(lambda: recovered(servers.b, "bob"))


def recovered(gateway: GatewayProcess, user: str) -> bool:
    answer = Chat(gateway, user).say("Are you there?")
    return answer.headers["X-Memory-Status"] == "ok"


def test_a_conversation_goes_on_at_another_gateway_with_the_same_block(servers: House) -> None:
    cid = {"X-Memory-User": "cid"}
    given = [{"text": f"Has a {pet}", "type": "profile"} for pet in ("dog", "cat", "bird")]
    httpx.post(f"{servers.a.base_url}/memories", headers=cid, json=given, timeout=10)
    said = [{"role": "user", "content": "Which pets do I have, a dog?"}]
    seen = []
    for gateway in (servers.a, servers.b, servers.a):
        answer = httpx.post(
            f"{gateway.base_url}/chat/completions",
            headers=cid,
            json={"model": "m", "messages": said},
            timeout=10,
        )
        assert int(answer.headers["X-Memory-Injected-Count"]) > 0
        seen.append(servers.injected())
        said += [answer.json()["choices"][0]["message"], {"role": "user", "content": "And more?"}]
        said[-1]["content"] += "!" * len(said)
    assert seen[1].startswith(seen[0])
    assert seen[2].startswith(seen[1])

    def sessions() -> set[str]:
        kept = Chat(servers.b, "cid").memories("turn")
        return {turn["source"]["session"] for turn in kept} if len(kept) >= 6 else set()

    assert len(until(sessions)) == 1


def test_an_erasure_in_one_gateway_is_one_in_all(servers: House) -> None:
    Chat(servers.a, "dan").say("I'm allergic to shrimps.")
    until(lambda: facts(servers.b, "dan"))
    Chat(servers.b, "dan").say("I live in Lisbon.")
    erased = httpx.delete(
        f"{servers.a.base_url}/memories", headers={"X-Memory-User": "dan"}, timeout=20
    )
    assert erased.json()["completed"]

    def forgotten() -> bool:
        Chat(servers.b, "dan").say("What is it?")
        return not servers.injected()

    until(forgotten)
    verified = httpx.get(
        f"{servers.b.base_url}/erasures/{erased.json()['id']}",
        params={"verify": "true"},
        headers={"X-Memory-User": "dan"},
        timeout=20,
    )
    until(lambda: servers.queued() == 0)
    assert sum(verified.json()["remaining"].values()) == 0
    assert "shrimps" not in str(facts(servers.a, "dan") + facts(servers.b, "dan"))


def test_metrics_of_several_processes_on_a_port_are_of_all_of_them(servers: House) -> None:
    before = chats(servers.a)
    for _ in range(6):
        Chat(servers.a, "eve").say("Hello")  # each on a connection of its own: both serve some
    until(lambda: chats(servers.a) == before + 6)
    assert {chats(servers.a) for _ in range(6)} == {before + 6}
    text = httpx.get(f"{servers.a.url}/metrics", timeout=10).text
    assert re.search(r'memory_gateway_part_up\{part="store"\} 1\.0', text)
    assert 'pid="' not in text


def chats(gateway: GatewayProcess) -> float:
    text = httpx.get(f"{gateway.url}/metrics", timeout=10).text
    found = re.findall(r'requests_total\{route="chat/completions",status="2xx"\} (\S+)', text)
    return float(found[0]) if found else 0.0


def test_a_worker_tells_on_a_port_of_its_own_what_it_has_done(servers: House) -> None:
    before = metric(servers.worker, "distilled_batches_total")
    Chat(servers.a, "kit").say("I'm allergic to peanuts.")
    until(lambda: facts(servers.a, "kit"))
    until(lambda: metric(servers.worker, "distilled_batches_total") > before)
    assert metric(servers.worker, "extracted_facts_total") >= 1
    assert httpx.get(f"{servers.worker.url}/healthz", timeout=10).status_code == 200
    ready = httpx.get(f"{servers.worker.url}/readyz", timeout=10)
    assert ready.json()["parts"]["queue"] == {"status": "ok"}
    assert httpx.get(f"{servers.worker.base_url}/models", timeout=10).status_code == 404


def test_commands_work_on_the_servers_from_a_machine_without_a_gateway(servers: House) -> None:
    Chat(servers.a, "flo").say("I'm allergic to peanuts.")
    elsewhere = servers.process("elsewhere", "none")
    asked = [
        ("users", "list", "--json"),
        ("queue", "status", "--json"),
        ("doctor",),
        ("keys", "create", "--json"),
        ("backup", str(elsewhere.data_dir / "backup")),
    ]
    begun = [elsewhere.begun(*words) for words in asked]
    users, queue, doctor, key, backup = (ended(process) for process in begun)
    assert any(user["user"] == "flo" for user in json.loads(users[1])["users"])
    assert {"pending", "leased", "dead"} <= json.loads(queue[1]).keys()
    assert doctor[0] == 0
    assert re.search(r"ok +store", doctor[1])
    made = json.loads(key[1])["key"]
    answer = httpx.get(f"{servers.b.base_url}/memories", headers={"X-Memory-Key": made}, timeout=10)
    assert answer.status_code != 401
    assert backup[0] == 2  # not for these settings
    assert "take Qdrant's snapshots and Redis's append-only file" in backup[2]


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out, err


def test_a_backup_says_which_apps_rest_on_servers_and_are_not_in_it(tmp_path: Path) -> None:
    away = {"qdrant__url": "http://127.0.0.1:9", "redis__url": "redis://127.0.0.1:9"}
    own = {f"apps__legal__{name}": url for name, url in away.items()}
    stopped = GatewayProcess(tmp_path / "data", "http://127.0.0.1:9/v1", **own)
    done = stopped.command("backup", str(tmp_path / "copy"))
    assert done.returncode == 0, done.stderr
    assert "left out: legal (apps with servers of their own" in done.stderr
    assert (tmp_path / "copy" / "backup.json").exists()


class Silent(ScriptedUpstream):
    """A model that is asked to distil and never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def _extraction(self, body: Mapping[str, Any]) -> Any:
        self.asked.set()
        return Raw(before=(Stall(),))


def test_a_worker_that_is_told_to_end_gives_back_what_it_holds(servers: House) -> None:
    """Its lease would have lasted for another minute."""
    servers.worker.stop()
    try:
        with Silent() as silent:
            stuck = servers.process(
                "stuck",
                "worker",
                extraction__provider="openai",
                extraction__base_url=silent.base_url,
                extraction__api_key="k",
                extraction__model="silent",
                server__grace_s=0.2,
            ).start()
            Chat(servers.a, "gil").say("I'm allergic to peanuts.")
            assert silent.asked.wait(30)
            servers.worker.start()
            began = time.monotonic()
            assert stuck.stop() == 0
            until(lambda: facts(servers.b, "gil"))
            assert time.monotonic() - began < 30
    finally:
        if servers.worker.ended:
            servers.worker.start()


def ready(client: httpx.Client, gateway: GatewayProcess) -> bool:
    """Whether it says so; who cannot be asked is not."""
    try:
        return client.get(f"{gateway.url}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_rolling_restart_under_load_fails_no_request(servers: House) -> None:
    """Clients (or a balancer) that go to the other gateway where one is not ready, or is not
    there to take their connection."""
    gateways = [servers.a, servers.b]
    over = threading.Event()
    failures: list[str] = []
    answered = [0, 0]

    def client(n: int) -> None:
        while not over.wait(0.02):
            for turn in range(20):
                which = (n + turn) % 2
                try:
                    with httpx.Client(timeout=60, verify=False) as once:
                        if not ready(once, gateways[which]):
                            continue
                        said = {"role": "user", "content": f"Hello from {n}"}
                        answer = once.post(
                            f"{gateways[which].base_url}/chat/completions",
                            headers={"X-Memory-User": f"rolling-{n}"},
                            json={"model": "m", "messages": [said], "stream": turn % 4 == 0},
                        )
                except httpx.ConnectError:
                    time.sleep(0.01)
                    continue
                except httpx.HTTPError as exc:
                    failures.append(f"{which}: {exc!r}")
                    break
                answered[which] += 1
                if answer.status_code != 200 or "Gladly." not in answer.text.replace('"', ""):
                    failures.append(f"{which}: {answer.status_code} {answer.text[:200]}")
                break
            else:
                failures.append("no gateway was ready")

    clients = [threading.Thread(target=client, args=(n,)) for n in range(4)]
    for each in clients:
        each.start()
    try:
        for gateway in gateways:
            until(lambda: min(answered) > 5)
            assert gateway.stop() == 0
            gateway.start()
            answered[:] = [0, 0]
        until(lambda: min(answered) > 5)
    finally:
        over.set()
        for each in clients:
            each.join()
    assert failures == []
