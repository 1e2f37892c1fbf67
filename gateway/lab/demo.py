"""`demo`: the whole journey on one machine, without a key, in a few seconds.

A scripted upstream plays the model: it answers chats, extracts facts and embeds. A real
embedded gateway stands before it, and the official `openai` client talks to that as any
chatbot would. What was learned is read from the memory API, what was injected from the request
that reached the upstream. Everything rests in a temporary directory and goes with it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam
from pydantic import SecretStr

from gateway.config import (
    EmbeddingSettings,
    ExtractionSettings,
    ServerSettings,
    Settings,
    UpstreamSettings,
)
from gateway.core.injection import BLOCK_CLOSE, BLOCK_OPEN
from gateway.flows.tasks import beside
from gateway.lab.scripted_upstream import MODEL, Recorded, Say, ScriptedUpstream
from gateway.telemetry import logs
from gateway.web.app import build_app
from gateway.wiring import open_deployment

LEARN_S = 10.0
USER, OTHER = "mara", "tom"
SYSTEM = "You are a friendly cooking assistant."
FIRST_SESSION = (
    "Hi! I'm Mara. I live in Lisbon and I'm vegetarian.",
    "One more thing: I'm allergic to peanuts. And please keep your answers short.",
)
QUESTION = "What could I cook tonight?"
FACTS: Sequence[tuple[str, Mapping[str, Any]]] = (
    (r"I'm Mara", {"type": "profile", "key": "name", "value": "Mara", "text": "Her name is Mara"}),
    (
        r"I live in Lisbon",
        {"type": "profile", "key": "home", "value": "Lisbon", "text": "Lives in Lisbon"},
    ),
    (
        r"I'm vegetarian",
        {"type": "preference", "key": "diet", "value": "vegetarian", "text": "Is vegetarian"},
    ),
    (
        r"I'm allergic to peanuts",
        {"type": "profile", "key": "allergy", "value": "peanuts", "text": "Is allergic to peanuts"},
    ),
    (
        r"keep your answers short",
        {
            "type": "preference",
            "key": "answer_length",
            "value": "short",
            "text": "Wants short answers",
        },
    ),
)


def main(asked: argparse.Namespace) -> int:
    """Hold the conversation and show it; 0 if session two knew what session one was told."""
    logs.configure("error")
    return asyncio.run(_demo(as_json=asked.json))


async def _demo(*, as_json: bool) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="memory-gateway-demo-") as directory,
        ScriptedUpstream(_answer, facts=_facts) as upstream,
    ):
        async with _gateway(Path(directory), upstream.base_url) as url:
            story = await _story(url, upstream)
    print(json.dumps(story, ensure_ascii=False)) if as_json else _tell(story)
    return 0 if "peanuts" in story["injected"] and not story["injected_for_another"] else 1


# --- the model -------------------------------------------------------------------------------


def _answer(request: Recorded) -> Say:
    """What a model that reads its system prompt would say."""
    messages = request.json()["messages"]
    known = str(messages[0]["content"])
    if QUESTION not in str(messages[-1]["content"]):
        return Say("Nice to hear! I will keep that in mind.", pause_s=0.01)
    if "peanuts" in known:
        return Say("Mushroom risotto, Mara: no meat, no peanuts.", pause_s=0.01)
    return Say("How about chicken satay with a rich peanut sauce?", pause_s=0.01)


def _facts(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an extracting model would draw from these turns (docs/formats.md)."""
    found = []
    for turn in batch["turns"]:
        for words, fact in FACTS:
            if turn["role"] == "user" and (quote := re.search(words, turn["text"])):
                found.append(
                    {
                        "action": "add",
                        "target": None,
                        "turn": turn["n"],
                        "quote": quote[0],
                        "importance": 0.8,
                        "event_start": None,
                        "event_end": None,
                        "ttl_days": None,
                        **fact,
                    }
                )
    return found


# --- the gateway -----------------------------------------------------------------------------


@asynccontextmanager
async def _gateway(data_dir: Path, upstream_url: str) -> AsyncIterator[str]:
    """An embedded gateway on a free port, with a worker inside; its address."""
    settings = Settings(
        server=ServerSettings(port=0, grace_s=2.0),
        upstream=UpstreamSettings(base_url=upstream_url, api_key=SecretStr("sk-demo-0000")),
        embedding=EmbeddingSettings(provider="openai", model=MODEL),
        extraction=ExtractionSettings(provider="openai", model=MODEL, idle_s=0.2, max_wait_s=1.0),
        data_dir=data_dir / "data",
    )
    deployment = await open_deployment(settings)
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(
                build_app(deployment, admin_token=deployment.admin_token),
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=2,
            )
        )
        serving = beside(server.serve(sockets=[listener]), "demo gateway")
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
    finally:
        await deployment.close()


# --- the conversation ------------------------------------------------------------------------


async def _story(url: str, upstream: ScriptedUpstream) -> dict[str, Any]:
    first = await _session(url, USER, "session-1", FIRST_SESSION)
    learned = await _learned(url, len(FACTS))
    second = await _session(url, USER, "session-2", (QUESTION,))
    injected = _block(upstream.requests[-1])
    other = await _session(url, OTHER, "session-3", (QUESTION,))
    return {
        "base_url": f"{url}/v1",
        "session_one": first,
        "learned": learned,
        "session_two": second,
        "injected": injected,
        "answer": second[-1]["answer"],
        "another_user": other,
        "injected_for_another": _block(upstream.requests[-1]),
    }


async def _session(url: str, user: str, session: str, texts: Sequence[str]) -> list[dict[str, str]]:
    """One conversation through the official client, streamed as chatbots do."""
    headers = {"X-Memory-User": user, "X-Memory-Session": session}
    messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": SYSTEM}]
    told = []
    async with AsyncOpenAI(
        base_url=f"{url}/v1", api_key="sk-clients-own", default_headers=headers
    ) as client:
        for text in texts:
            messages.append({"role": "user", "content": text})
            answer = ""
            async with await client.chat.completions.create(
                model=MODEL, messages=messages, stream=True
            ) as chunks:
                async for chunk in chunks:
                    answer += chunk.choices[0].delta.content or "" if chunk.choices else ""
            messages.append({"role": "assistant", "content": answer})
            told.append({"user": text, "answer": answer})
    return told


async def _learned(url: str, count: int) -> list[dict[str, Any]]:
    """The facts, once they are there (or after a while those that are)."""
    give_up = asyncio.get_running_loop().time() + LEARN_S
    async with httpx.AsyncClient(base_url=url, headers={"X-Memory-User": USER}) as client:
        while True:
            answer = await client.get("/v1/memories", params={"kind": "fact", "limit": 100})
            facts: list[dict[str, Any]] = answer.raise_for_status().json()["memories"]
            if len(facts) >= count or asyncio.get_running_loop().time() > give_up:
                return [{key: fact.get(key) for key in ("type", "text")} for fact in facts]
            await asyncio.sleep(0.05)


def _block(request: Recorded) -> str:
    """What the gateway put into this request's system prompt; empty for nothing."""
    prompt = str(request.json()["messages"][0]["content"])
    found = re.search(f"{BLOCK_OPEN}.*?{BLOCK_CLOSE}", prompt, re.DOTALL)
    return found[0] if found else ""


# --- telling it ------------------------------------------------------------------------------


def _tell(story: Mapping[str, Any]) -> None:
    bold, plain = ("\x1b[1m", "\x1b[0m") if logs.in_colour(sys.stdout) else ("", "")

    def heading(text: str) -> None:
        print(f"\n{bold}{text}{plain}")

    def turns(told: Sequence[Mapping[str, str]], who: str) -> None:
        for turn in told:
            print(f"  {who + ':':<10} {turn['user']}")
            print(f"  {'model:':<10} {turn['answer']}")

    print(f"The gateway listens at {story['base_url']}, a scripted model stands behind it.")
    heading("Session one")
    turns(story["session_one"], USER)
    heading("What was learned")
    for fact in story["learned"]:
        print(f"  {fact['type'] + ':':<12} {fact['text']}")
    heading("Session two, new: what the gateway put into the system prompt")
    print(textwrap.indent(story["injected"] or "(nothing)", "  "))
    heading("Session two")
    turns(story["session_two"], USER)
    heading("Another user asks the same: nothing of Mara's is there")
    turns(story["another_user"], OTHER)
    print("\nYour own chatbot: run `make run`, set its base_url to http://127.0.0.1:8080/v1 and")
    print("send the header X-Memory-User with each request. The README shows how.")
