"""The spine, as its users meet it: a gateway process, the official client, a real upstream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from gateway.lab.scripted_upstream import Say, ScriptedUpstream
from tests import loopback
from tests.gateway_process import GatewayProcess, until


@pytest.fixture
def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[GatewayProcess]:
    upstream.default = Say("Gladly.")
    with GatewayProcess(tmp_path / "data", upstream.base_url) as running:
        yield running


def client_of(gateway: GatewayProcess, user: str, session: str) -> OpenAI:
    return OpenAI(
        base_url=gateway.base_url,
        api_key="sk-the-clients-own",
        default_headers={"X-Memory-User": user, "X-Memory-Session": session},
        max_retries=0,
    )


def say(client: OpenAI, text: str, *, stream: bool = False) -> str:
    messages: list[Any] = [
        {"role": "system", "content": "You are a cook."},
        {"role": "user", "content": text},
    ]
    if stream:
        chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    answer = client.chat.completions.create(model="m", messages=messages)
    return answer.choices[0].message.content or ""


def facts_of(gateway: GatewayProcess, user: str) -> list[dict[str, Any]]:
    answer = loopback.get(
        f"{gateway.base_url}/memories?kind=fact", headers={"X-Memory-User": user}, timeout=5
    )
    assert answer.status_code == 200, answer.text
    memories: list[dict[str, Any]] = answer.json()["memories"]
    return memories


def system_prompt(upstream: ScriptedUpstream) -> str:
    content: str = upstream.requests[-1].json()["messages"][0]["content"]
    return content


@pytest.mark.parametrize("stream", [False, True])
def test_what_one_session_was_told_the_next_one_knows_and_no_other_user_does(
    gateway: GatewayProcess, upstream: ScriptedUpstream, stream: bool
) -> None:
    ana = client_of(gateway, "ana", "monday")
    told = "My name is Ana. I'm allergic to peanuts. Please answer in Spanish."
    assert say(ana, told, stream=stream) == "Gladly."
    assert system_prompt(upstream) == "You are a cook."
    until(lambda: len(facts_of(gateway, "ana")) >= 3)

    say(client_of(gateway, "ana", "tuesday"), "What snack should I take along?", stream=stream)
    prompt = system_prompt(upstream)
    assert prompt.startswith("You are a cook.")
    assert "peanuts" in prompt
    assert "Ana" in prompt
    assert "panish" in prompt

    say(client_of(gateway, "bob", "tuesday"), "What snack should I take along?", stream=stream)
    assert system_prompt(upstream) == "You are a cook."
    assert facts_of(gateway, "bob") == []


def test_it_still_knows_after_it_was_killed(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    say(client_of(gateway, "ana", "monday"), "I'm allergic to peanuts.")
    until(lambda: facts_of(gateway, "ana"))
    gateway.kill()
    gateway.start()
    assert any("peanuts" in fact["text"] for fact in facts_of(gateway, "ana"))
    say(client_of(gateway, "ana", "tuesday"), "What snack should I take along?")
    assert "peanuts" in system_prompt(upstream)
    say(client_of(gateway, "bob", "tuesday"), "What snack should I take along?")
    assert "peanuts" not in system_prompt(upstream)


def test_what_was_said_but_not_yet_distilled_survives_a_kill(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with GatewayProcess(tmp_path / "data", upstream.base_url, extraction__idle_s=4) as gateway:
        say(client_of(gateway, "ana", "monday"), "I'm allergic to peanuts.")
        # Durable within a second: the queue's log is synced every second.
        until(lambda: synced(gateway))
        assert facts_of(gateway, "ana") == []
        gateway.kill()
        gateway.start()
        until(lambda: facts_of(gateway, "ana"))


def pending(gateway: GatewayProcess) -> int:
    token = (gateway.data_dir / "admin.token").read_text().strip()
    answer = loopback.get(
        f"{gateway.url}/admin/v1/queue", headers={"Authorization": f"Bearer {token}"}, timeout=5
    )
    assert answer.status_code == 200, answer.text
    return int(answer.json()["pending"])


def synced(gateway: GatewayProcess) -> bool:
    """The exchange stands in the append-only file."""
    return any(
        b":exchange:" in file.read_bytes()
        for file in gateway.data_dir.rglob("*.aof")
        if file.is_file()
    )


def test_without_an_identity_nothing_is_read_or_written(
    gateway: GatewayProcess, upstream: ScriptedUpstream
) -> None:
    body = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "I'm allergic to peanuts."}]}
    ).encode()
    answer = loopback.post(
        f"{gateway.base_url}/chat/completions",
        content=body,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200
    assert answer.headers["X-Memory-Status"] == "off"
    assert upstream.requests[-1].body == body
    assert pending(gateway) == 0


def test_sigterm_ends_it_cleanly_and_leaves_no_redis_behind(gateway: GatewayProcess) -> None:
    assert gateway.stop() == 0
    left = [
        entry.name
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(gateway.data_dir) in _cwd(entry)
    ]
    assert left == []


def _cwd(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""
