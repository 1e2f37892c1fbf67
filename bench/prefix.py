"""How much of each request's prompt the upstream has seen before: what prompt caches live on.

A conversation of 30 turns by the gateway, memory on with each placement and off; the bodies that
reach the upstream are compared, message by message as the model reads them. The figure is the
share of prompt bytes that stand in the longest common prefix with the request before.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import httpx

from bench.data import FILLER, VOCABULARY, name, question
from bench.gateways import ours
from gateway.lab.scripted_upstream import ScriptedUpstream

TURNS = 30
ASKED_WORDS, ANSWER_WORDS = 40, 200
"""About what people write to an assistant and what it answers."""
CONVERSATIONS = 5
SYSTEM = "You are a helpful assistant of a small shop. Be brief, be kind. " * 8


def _prompt(body: bytes) -> bytes:
    return json.dumps(json.loads(body)["messages"], ensure_ascii=False).encode()


def _shared(one: bytes, other: bytes) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def reuse(url: str, upstream: ScriptedUpstream, mode: str) -> float:
    """The share over all requests but each conversation's first."""
    shared = whole = injected = 0
    with httpx.Client(base_url=url, timeout=20) as client:
        for user in range(CONVERSATIONS):
            drawn = random.Random(user)
            messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}]
            before = b""
            for turn in range(TURNS):
                asked = question(user, drawn)
                padding = " ".join(drawn.choices(FILLER, k=ASKED_WORDS))
                messages.append({"role": "user", "content": f"{asked} (turn {turn}) {padding}"})
                response = client.post(
                    "/v1/chat/completions",
                    json={"model": "bench", "messages": messages},
                    headers={
                        "x-memory-user": name(user),
                        "x-memory-mode": mode,
                        "x-memory-session": f"prefix-{mode}-{user}",
                    },
                )
                injected += int(response.headers.get("x-memory-injected-count", 0))
                answer = " ".join(drawn.choices(VOCABULARY, k=ANSWER_WORDS))
                messages.append({"role": "assistant", "content": answer})
                prompt = _prompt(upstream.requests[-1].body)
                if before:
                    # The closing bracket of the list of messages is ours, not the prompt's.
                    shared += _shared(before[:-1], prompt)
                    whole += len(prompt)
                before = prompt
    if mode != "off" and injected < CONVERSATIONS * TURNS:
        raise RuntimeError(f"only {injected} memories were injected: nothing was measured")
    return shared / whole


def prefix_reuse(data_dir: Path, work: Path, port: int) -> dict[str, float]:
    """The share for each placement with memory on, and with memory off."""
    found: dict[str, float] = {}
    for placement in ("system", "split", "tail"):
        with (
            ScriptedUpstream() as upstream,
            ours(
                port,
                upstream.base_url.removesuffix("/v1"),
                data_dir,
                work,
                arguments=["--no-worker"],
                memory__placement=placement,
            ) as gateway,
        ):
            if "off" not in found:
                found["off"] = reuse(gateway.url, upstream, "off")
            found[placement] = reuse(gateway.url, upstream, "full")
    return found
