"""What memory does in the journey of a chat, seen from its two ends and from the queue."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import brotli
import httpx
import pytest

from gateway.core import capture
from gateway.core.choice import TAIL_SHARE
from gateway.core.errors import (
    DirectoryUnavailable,
    QueueUnavailable,
    StateUnavailable,
    StoreUnavailable,
)
from gateway.core.identity import Person
from gateway.core.injection import BLOCK_OPEN
from gateway.core.memory import Source
from gateway.core.tokens import estimate_tokens
from gateway.flows import answer as answer_page
from gateway.flows import handover, receipts
from gateway.lab.scripted_upstream import (
    Gate,
    Raw,
    Say,
    ScriptedUpstream,
    Stall,
    ToolCall,
    refusal,
    sse,
)
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis

CHAT = "/v1/chat/completions"
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"Gladly."}}]}\n\n'
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    upstream.default = Say("Gladly.")
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.flows.unnoted.AGAIN_S", 0.01)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


async def chat(
    gateway: House, *messages: dict[str, Any], path: str = CHAT, body: Any = None, **headers: str
) -> httpx.Response:
    given = {"x_memory_user": "ana", **headers}
    async with gateway.client(**given) as client:
        return await client.post(path, json={"model": "m", "messages": messages, **(body or {})})


def sent(upstream: ScriptedUpstream, n: int = -1) -> str:
    return upstream.requests[n].body.decode()


class Away:
    """A part that is away: whatever is asked of it fails, after a pause if it hangs."""

    def __init__(self, error: Exception, *, hangs: bool = False) -> None:
        self._error = error
        self._hangs = hangs

    def __getattr__(self, name: str) -> Any:
        async def fail(*_: Any, **__: Any) -> Any:
            if self._hangs:
                await asyncio.sleep(30)
            raise self._error

        return fail


# --- conversations -------------------------------------------------------------------------------


async def test_each_turn_of_a_conversation_is_handed_over_once(gateway: House) -> None:
    first = [user("I live in Rome")]
    await chat(gateway, *first)
    second = [*first, assistant("Gladly."), user("and I like tea")]
    await chat(gateway, *second)
    said = await gateway.handed_over()
    assert [[turn.text for turn in exchange.turns] for exchange in said] == [
        ["I live in Rome", "Gladly."],
        ["and I like tea", "Gladly."],
    ]
    assert said[0].session == said[1].session


async def test_a_retry_of_the_same_request_is_the_same_exchange(gateway: House) -> None:
    for _ in range(3):
        await chat(gateway, user("I live in Rome"))
    assert len(await gateway.handed_over()) == 1


async def test_a_request_that_follows_at_once_finds_the_last_one_handed_over(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    history: list[dict[str, Any]] = []
    for n in range(5):
        history.append(user(f"message {n}"))
        answer = await chat(gateway, *history)
        history.append(assistant(answer.json()["choices"][0]["message"]["content"]))
    said = await gateway.handed_over()
    assert [exchange.turns[0].text for exchange in said] == [f"message {n}" for n in range(5)]
    assert all(len(exchange.turns) == 2 for exchange in said)


@pytest.mark.parametrize("last", [2, 3, 4, 6])
async def test_a_client_that_sends_its_last_few_messages_says_each_of_them_once(
    gateway: House, last: int
) -> None:
    history: list[dict[str, Any]] = []
    for n in range(8):
        history.append(user(f"message {n}"))
        answer = await chat(gateway, *history[-last:])
        history.append(assistant(answer.json()["choices"][0]["message"]["content"]))
    said = await gateway.handed_over()
    texts = [turn.text for exchange in said for turn in exchange.turns if turn.role == "user"]
    assert texts == [f"message {n}" for n in range(8)]
    assert len({exchange.session for exchange in said}) == 1


async def test_a_chat_that_begins_with_the_same_words_hears_what_was_just_said_in_the_other(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    opening = [user("hi"), assistant("Gladly.")]
    await chat(gateway, opening[0])
    await chat(gateway, *opening, user("I am allergic to peanuts."))
    await chat(gateway, opening[0])
    await chat(gateway, *opening, user("Which snack for tonight?"))
    assert "allergic to peanuts" in sent(upstream)
    said = await gateway.handed_over()
    assert len({exchange.session for exchange in said}) == 2


@pytest.mark.parametrize("last", [100, 4], ids=["whole history", "last four"])
async def test_a_client_that_wraps_its_last_message_in_documents_says_each_of_them_once(
    gateway: House, upstream: ScriptedUpstream, last: int
) -> None:
    history: list[dict[str, Any]] = []
    for n in range(5):
        upstream.default = Say(
            f"Answer {n}: it stands on that page, in the second paragraph from below."
        )
        wrapped = user(f"Context: page {n} of the manual.\nQuestion: message {n}")
        answer = await chat(gateway, *[*history, wrapped][-last:])
        said = answer.json()["choices"][0]["message"]["content"]
        history += [user(f"message {n}"), assistant(said)]
    exchanges = await gateway.handed_over()
    assert [len(exchange.turns) for exchange in exchanges] == [2] * 5
    assert len({exchange.session for exchange in exchanges}) == 1


@pytest.mark.parametrize("link", ["previous_response_id", "conversation"])
async def test_a_response_that_goes_on_from_another_is_in_its_conversation(
    gateway: House, link: str
) -> None:
    kept = {"conversation": {"id": "conv_1"}} if link == "conversation" else {}
    async with gateway.client(x_memory_user="ana") as client:
        first = await client.post("/v1/responses", json={"model": "m", "input": "one", **kept})
        await gateway.background.drain(5)
        kept = kept or {"previous_response_id": first.json()["id"]}
        await client.post("/v1/responses", json={"model": "m", "input": "two", **kept})
    said = await gateway.handed_over()
    assert [[turn.text for turn in exchange.turns] for exchange in said] == [
        ["one", "Gladly."],
        ["two", "Gladly."],
    ]
    assert said[0].session == said[1].session


async def test_yes_to_two_responses_is_said_twice_and_a_retry_once(gateway: House) -> None:
    async with gateway.client(x_memory_user="ana") as client:
        for previous in ("resp_1", "resp_2", "resp_2"):
            body = {"model": "m", "input": "yes", "previous_response_id": previous}
            await client.post("/v1/responses", json=body)
            await gateway.background.drain(5)
    assert len(await gateway.handed_over()) == 2


async def test_what_is_kept_is_what_the_client_said_not_what_was_injected(
    gateway: House,
) -> None:
    await gateway.know("The user is allergic to peanuts")
    await chat(gateway, {"role": "system", "content": "Be a cook."}, user("a snack?"))
    said = await gateway.handed_over()
    assert [turn.text for turn in said[0].turns] == ["a snack?", "Gladly."]


async def test_an_error_answer_is_not_handed_over(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(refusal(429, "slow down"), Say("Gladly."))
    await chat(gateway, user("hi"))
    assert await gateway.handed_over() == []
    await chat(gateway, user("hi"))
    assert len(await gateway.handed_over()) == 1


async def test_the_models_api_of_responses_has_memory_too(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    for stream in (False, True):
        async with gateway.client(x_memory_user="ana") as client:
            body = {"model": "m", "input": f"a snack? {stream}", "stream": stream}
            await client.post("/v1/responses", json=body)
        assert "peanuts" in upstream.requests[-1].json()["instructions"]
    said = await gateway.handed_over()
    assert [turn.text for exchange in said for turn in exchange.turns] == [
        "a snack? False",
        "Gladly.",
        "a snack? True",
        "Gladly.",
    ]


async def test_a_response_without_messages_of_its_own_is_answered(gateway: House) -> None:
    body = {"model": "m", "input": [], "previous_response_id": "resp_1"}
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post("/v1/responses", json=body)
    assert answer.status_code == 200


# --- tool loops ----------------------------------------------------------------------------------


async def test_a_tool_loop_recalls_once_and_is_handed_over_once(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    searched = 0
    search = gateway.services.store.search

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal searched
        searched += 1
        return await search(*args, **named)

    gateway.services.store.search = counted  # type: ignore[method-assign]
    upstream.script(Say(tool_calls=(ToolCall("look_up", '{"x":1}', "call_1"),)), Say("Apples."))
    asked = [user("Which snack?")]
    first = await chat(gateway, *asked, body={"tools": TOOLS})
    call = first.json()["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    await gateway.know("The user is called Ana")  # learned meanwhile: not for this turn
    second = await chat(gateway, *asked, call, result, body={"tools": TOOLS})
    assert searched == 1
    blocks = [sent(upstream, n).partition(BLOCK_OPEN)[2].partition("</")[0] for n in (0, 1)]
    assert blocks[0] == blocks[1] != ""
    assert second.headers["x-memory-injected-count"] == "1"
    said = await gateway.handed_over()
    assert len(said) == 1
    assert said[0].turns[-1].text == "Apples."


async def test_words_are_kept_though_their_call_has_the_result_that_another_had(
    gateway: House,
) -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "do", "arguments": ""}}
    result = {"role": "function", "name": "do", "content": "ok"}
    for words in ("Note that I live in Rome.", "Note that I like tea."):
        await chat(gateway, user(words), call, result)
    said = await gateway.handed_over()
    texts = [turn.text for exchange in said for turn in exchange.turns if turn.role == "user"]
    assert texts == ["Note that I live in Rome.", "Note that I like tea."]
    assert said[0].session != said[1].session


async def test_what_is_said_to_an_agent_that_answers_by_calls_alone_is_kept(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.default = Say(tool_calls=(ToolCall("final_result", '{"reply":"Noted."}', "c1"),))
    history: list[dict[str, Any]] = []
    for words in ("I am allergic to peanuts.", "My sister is called Paula."):
        history.append(user(words))
        answer = await chat(gateway, *history, body={"tools": TOOLS, "tool_choice": "required"})
        history.append(answer.json()["choices"][0]["message"])
        history.append({"role": "tool", "tool_call_id": "c1", "content": "Final result processed."})
    said = await gateway.handed_over()
    texts = [turn.text for exchange in said for turn in exchange.turns if turn.role == "user"]
    assert texts == ["I am allergic to peanuts.", "My sister is called Paula."]
    assert len({exchange.session for exchange in said}) == 1


@pytest.mark.parametrize("shown_as", ["words", "calls"])
async def test_of_an_agent_that_may_answer_by_a_call_all_but_the_last_words_are_kept(
    gateway: House, upstream: ScriptedUpstream, shown_as: str
) -> None:
    upstream.default = Say(tool_calls=(ToolCall("final_answer", '{"reply":"Noted."}', "c1"),))
    history: list[dict[str, Any]] = []
    for words in ("I am allergic to peanuts.", "My sister is called Paula.", "Which snack?"):
        history.append(user(words))
        answer = await chat(gateway, *history, body={"tools": TOOLS})
        call = answer.json()["choices"][0]["message"]
        result = {"role": "tool", "tool_call_id": "c1", "content": "sent"}
        history += [assistant("Noted.")] if shown_as == "words" else [call, result]
    said = await gateway.handed_over()
    texts = [[turn.text for turn in exchange.turns if turn.role == "user"] for exchange in said]
    assert texts == [["I am allergic to peanuts."], ["My sister is called Paula."]]
    assert len({exchange.session for exchange in said}) == 1
    upstream.default = Say("Apples.")
    await chat(gateway, *history[:-1], result, body={"tools": TOOLS})
    turns = [turn.text for turn in (await gateway.handed_over())[-1].turns]
    assert (turns[0], turns[-1]) == ("Which snack?", "Apples.")


@pytest.mark.parametrize("link", ["previous_response_id", "conversation", "whole", "not stored"])
async def test_what_led_to_a_call_is_kept_though_its_result_comes_without_it(
    gateway: House, upstream: ScriptedUpstream, link: str
) -> None:
    upstream.script(Say(tool_calls=(ToolCall("look_up", "{}", "c1"),)), Say("Mild, all day."))
    asked: list[dict[str, Any]] = [user("I live in Rome. The weather?")]
    call = {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "14°C"}
    first: dict[str, Any] = {"input": asked}
    if link == "conversation":
        first["conversation"] = "conv_1"
    if link == "not stored":
        first["store"] = False
    async with gateway.client(x_memory_user="ana") as client:
        answer = await client.post("/v1/responses", json={"model": "m", **first})
        await gateway.background.drain(5)
        second = {**first, "input": [result]}
        if link in ("whole", "not stored"):
            second["input"] = [*asked, call, result]
        elif link == "previous_response_id":
            second[link] = answer.json()["id"]
        await client.post("/v1/responses", json={"model": "m", **second})
    said = await gateway.handed_over()
    turns = [(turn.role, turn.text) for exchange in said for turn in exchange.turns]
    assert turns == [
        ("user", "I live in Rome. The weather?"),
        ("tool", "14°C"),
        ("assistant", "Mild, all day."),
    ]
    assert len({exchange.session for exchange in said}) == 1
    assert len(said) == (1 if link == "not stored" else 2)


async def test_memory_is_searched_while_the_conversation_is_opened(gateway: House) -> None:
    await gateway.know("The user is allergic to peanuts")
    await chat(gateway, user("Hello"))  # what always counts is kept from here on
    searching = asyncio.Event()
    search, open_ = gateway.services.store.search, gateway.services.state.open

    async def searched(*args: Any, **named: Any) -> Any:
        searching.set()
        return await search(*args, **named)

    async def opened(*args: Any, **named: Any) -> Any:
        await searching.wait()
        return await open_(*args, **named)

    gateway.services.store.search = searched  # type: ignore[method-assign]
    gateway.services.state.open = opened  # type: ignore[method-assign]
    answer = await chat(gateway, user("Which snack?"))
    assert (answer.headers["x-memory-status"], answer.headers["x-memory-injected-count"]) == (
        "ok",
        "1",
    )


async def test_a_question_that_is_asked_again_finds_what_was_learned_meanwhile(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    asked = [user("Which snack?")]
    first = await chat(gateway, *asked)
    await gateway.know("The user is allergic to peanuts")
    second = await chat(gateway, *asked)
    counts = [answer.headers["x-memory-injected-count"] for answer in (first, second)]
    assert counts == ["0", "1"]
    assert "allergic to peanuts" in sent(upstream, 1)


async def test_an_answer_that_is_wanted_anew_does_not_come_back_as_memory(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(Say("Visit the museum of clocks in Dresden."), Say("Visit the harbour."))
    asked = [user("Which museum of clocks in Dresden?")]
    await chat(gateway, *asked)
    await chat(gateway, *asked)
    assert upstream.requests[0].body == upstream.requests[1].body
    await chat(gateway, user("Dresden: which museum of clocks was that?"))
    assert "Visit the museum of clocks" in sent(upstream)


# --- injected once -------------------------------------------------------------------------------


async def test_the_block_stays_as_it_was_within_a_conversation(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    first = [user("a snack?")]
    await chat(gateway, *first)
    await chat(gateway, *first, assistant("Gladly."), user("something about mountains"))
    systems = [request.json()["messages"][0]["content"] for request in upstream.requests]
    assert systems[0] == systems[1]


@pytest.mark.parametrize("apart", ["in the past", "no room", "little room", "the block is late"])
async def test_a_request_that_has_another_block_leaves_the_conversations_as_it_was(
    gateway: House, upstream: ScriptedUpstream, apart: str
) -> None:
    await gateway.know("Is a nurse")
    await gateway.know("The user sailed to the island of Hvar", type="interaction")
    named = {"x_memory_session": "s1"}
    headers = {
        "in the past": {"x_memory_as_of": "2001-01-01T00:00:00Z"},
        "no room": {"x_memory_max_tokens": "0"},
        "little room": {"x_memory_max_tokens": "90"},
        "the block is late": {"x_memory_deadline_ms": "300"},
    }
    await chat(gateway, user("where did I sail, which island?"), **named)
    await gateway.background.drain(5)
    get = gateway.services.store.get
    if apart == "the block is late":
        late = Away(StoreUnavailable("away"), hangs=True)
        gateway.services.store.get = late.get  # type: ignore[method-assign]
    await chat(gateway, user("something about mountains"), **named, **headers[apart])
    gateway.services.store.get = get  # type: ignore[method-assign]
    await gateway.background.drain(5)
    await chat(gateway, user("something about penguins"), **named)
    blocks = [sent(upstream, n).partition(BLOCK_OPEN)[2].partition("</")[0] for n in (0, 1, 2)]
    assert "Hvar" not in blocks[1]
    assert blocks[0] == blocks[2] != ""


async def test_the_block_of_an_answer_under_way_stays_in_a_request_beside_it(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    gate, noted = Gate(), asyncio.Event()
    note_injected = gateway.services.state.note_injected

    async def note(*args: Any, **named: Any) -> None:
        await note_injected(*args, **named)
        noted.set()

    gateway.services.state.note_injected = note  # type: ignore[method-assign]
    await gateway.know("The user is allergic to peanuts", type="interaction")
    upstream.script(sse(CHUNK, gate, b"data: [DONE]\n\n"), Say("Fine."))
    named = {"x_memory_session": "s1"}
    first = asyncio.create_task(
        chat(gateway, user("peanuts in a snack?"), body={"stream": True}, **named)
    )
    async with asyncio.timeout(5):
        await noted.wait()
    await chat(gateway, user("something about mountains"), **named)
    gate.open()
    await first
    blocks = [sent(upstream, n).partition(BLOCK_OPEN)[2].partition("</")[0] for n in (0, 1)]
    assert blocks[0] == blocks[1] != ""


async def test_what_is_forgotten_leaves_the_block_though_shared_state_cannot_be_told(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    memory = await gateway.know("The user is allergic to peanuts")
    await chat(gateway, user("Which snack?"))  # what always counts is kept from here on
    await gateway.background.drain(5)
    told = gateway.services.state.touch_standing

    async def away(_: str) -> None:
        raise StateUnavailable("away")

    gateway.services.state.touch_standing = away  # type: ignore[method-assign]
    async with gateway.client(x_memory_user="ana") as client:
        assert (await client.delete(f"/v1/memories/{memory.id}")).status_code == 204
    gateway.services.state.touch_standing = told  # type: ignore[method-assign]
    await chat(gateway, user("Which meal?"))
    assert "peanuts" not in sent(upstream)


async def test_what_is_forgotten_is_not_told_by_the_words_that_wait_to_be_distilled(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    words = "I am allergic to peanuts"
    source = Source(role="user", quote=words)
    fact = await gateway.keep(words, user="ana", at=gateway.now - 1000, source=source)
    await chat(gateway, user(f"{words}, as I said."), x_memory_session="one")
    await gateway.background.drain(5)
    for session, told in (("two", True), ("three", False)):
        await chat(gateway, user("What am I allergic to?"), x_memory_session=session)
        assert ("as I said" in sent(upstream)) is told
        gateway.now += 1
        async with gateway.client(x_memory_user="ana") as client:
            await client.delete(f"/v1/memories/{fact.id}")


# --- modes ---------------------------------------------------------------------------------------


async def test_readonly_recalls_and_keeps_nothing(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    await chat(gateway, user("a snack?"), x_memory_mode="readonly")
    assert "peanuts" in sent(upstream)
    assert await gateway.handed_over() == []


async def test_readonly_of_an_unknown_user_makes_nobody_known(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    answer = await chat(gateway, user("hi"), x_memory_mode="readonly")
    assert answer.headers["x-memory-status"] == "ok"
    await gateway.background.drain(5)
    assert await gateway.services.directory.people() == []


async def test_writeonly_keeps_and_recalls_nothing(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    await chat(gateway, user("a snack?"), x_memory_mode="writeonly")
    assert "peanuts" not in sent(upstream)
    assert len(await gateway.handed_over()) == 1


async def test_off_neither_recalls_nor_keeps(gateway: House, upstream: ScriptedUpstream) -> None:
    await gateway.know("The user is allergic to peanuts")
    answer = await chat(gateway, user("a snack?"), x_memory_mode="off")
    assert "peanuts" not in sent(upstream)
    assert await gateway.handed_over() == []
    assert answer.headers["x-memory-status"] == "off"


async def test_shadow_recalls_and_records_but_injects_nothing(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    shadow = {"mode": "shadow"}
    async with house(tmp_path, upstream.base_url, redis, memory=shadow) as gateway:
        await gateway.know("The user is allergic to peanuts")
        answer = await chat(gateway, user("a snack without peanuts?"))
        assert BLOCK_OPEN not in sent(upstream)
        assert answer.headers["x-memory-injected-count"] == "0"
        assert len(await gateway.handed_over()) == 1
        id = answer.headers["x-memory-receipt-id"]
        receipt = await gateway.services.receipts.get(await gateway.owner(), id)
        assert receipt is not None
        assert [one["left_out"] for one in receipt["considered"]] == [None]
        assert receipt["injected"] == []


async def test_holdout_leaves_a_stable_share_of_users_without_and_keeps_what_they_say(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    half = {"mode": "holdout", "holdout_share": 0.5}
    async with house(tmp_path, upstream.base_url, redis, memory=half) as gateway:
        without = set()
        for name in [f"user-{n}" for n in range(12)]:
            await gateway.know("The user is allergic to peanuts", user=name)
            for _ in range(2):
                await chat(gateway, user("a snack?"), x_memory_user=name)
                without.add((name, "peanuts" not in sent(upstream)))
            assert len(await gateway.handed_over(name)) == 1
        assert len(without) == 12  # the same both times
        assert 0 < sum(held for _, held in without) < 12


async def test_the_request_can_lower_the_tokens_but_not_raise_them(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    answer = await chat(gateway, user("a snack?"), x_memory_max_tokens="0")
    assert answer.headers["x-memory-injected-count"] == "0"
    answer = await chat(gateway, user("another snack?"), x_memory_max_tokens="999999")
    assert 0 < int(answer.headers["x-memory-tokens"]) <= gateway.settings.memory.max_tokens


async def test_housekeeping_of_chat_front_ends_has_no_memory(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    title = (
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat"
        " history.\n### Chat History:\n<chat_history>\nUSER: a snack?\n</chat_history>"
    )
    answer = await chat(gateway, user(title))
    assert "peanuts" not in sent(upstream)
    assert answer.headers["x-memory-status"] == "off"
    assert await gateway.handed_over() == []


async def test_off_the_record_is_not_kept_where_the_setting_allows_it(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(
        tmp_path, upstream.base_url, redis, memory={"off_the_record": True}
    ) as gateway:
        await chat(gateway, user("Off the record: I am looking for another job."))
        assert await gateway.handed_over() == []
        await chat(gateway, user("I like tea."))
        assert len(await gateway.handed_over()) == 1


async def test_an_answer_that_was_wanted_anew_leads_on_in_its_conversation(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(Say("Rome, then."), Say("So you live in Rome."))
    for _ in range(2):
        await chat(gateway, user("I live in Rome"))
    await chat(gateway, assistant("So you live in Rome."), user("and I like tea"))
    said = await gateway.handed_over()
    assert [[turn.text for turn in exchange.turns] for exchange in said] == [
        ["I live in Rome", "Rome, then."],
        ["and I like tea", "Gladly."],
    ]
    assert said[0].session == said[1].session


@pytest.mark.parametrize("left_out", ["readonly", "off", "off the record"])
@pytest.mark.parametrize("last", [100, 2], ids=["whole history", "last two"])
@pytest.mark.parametrize("first", [True, False], ids=["begins with it", "goes on with it"])
async def test_what_was_not_to_be_kept_is_not_kept_with_the_next_message(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, left_out: str, last: int, first: bool
) -> None:
    secret = "Off the record: I am looking for another job."
    history: list[dict[str, Any]] = []
    async with house(
        tmp_path, upstream.base_url, redis, memory={"off_the_record": left_out == "off the record"}
    ) as gateway:
        await gateway.know("The user is called Ana")
        for words in (secret, "I like tea.") if first else ("I like tea.", secret, "And scones."):
            mode = left_out if words == secret and left_out != "off the record" else "full"
            upstream.default = Say(f"Of {words}")
            history.append(user(words))
            await chat(gateway, *history[-last:], x_memory_mode=mode)
            history.append(assistant(f"Of {words}"))
        said = await gateway.handed_over()
        kept = [turn.text for exchange in said for turn in exchange.turns]
        assert kept == [f"{of}{words}" for words in TOLD[: 1 if first else 2] for of in ("", "Of ")]
        assert len({exchange.session for exchange in said}) == 1


async def test_what_is_left_out_at_once_after_an_answer_stays_in_its_conversation(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.flows.prepare.SETTLE_S", 1.0)
    await gateway.know("The user is called Ana")
    put = gateway.services.queue.put

    async def slow(*args: Any, **kwargs: Any) -> bool:
        await asyncio.sleep(0.05)  # the next message is there before this one is noted
        return await put(*args, **kwargs)

    monkeypatch.setattr(gateway.services.queue, "put", slow)
    words = [user("I like tea."), assistant("Gladly."), user("What is the time?")]
    await chat(gateway, *words[:1])
    await chat(gateway, *words[-2:], x_memory_mode="off")
    await chat(gateway, assistant("Gladly."), user("And scones."))
    first, last = await gateway.handed_over()
    assert first.session == last.session


TOLD = ("I like tea.", "And scones.")


@pytest.mark.parametrize("left_out", ["readonly", "off"])
async def test_what_was_not_to_be_kept_and_is_sent_again_to_be_kept_is(
    gateway: House, left_out: str
) -> None:
    await gateway.know("The user is called Ana")
    before = [user("I live in Rome"), assistant("Gladly.")]
    await chat(gateway, *before, user("And what else?"), x_memory_mode=left_out)
    await chat(gateway, *before, user("I like tea."), user("Rewrite it."), x_memory_mode=left_out)
    await chat(gateway, *before, user("I like tea."), x_memory_mode=left_out)
    assert await gateway.handed_over() == []
    await chat(gateway, *before, user("I like tea."))
    (exchange,) = await gateway.handed_over()
    assert "I like tea." in [turn.text for turn in exchange.turns]


# --- an upstream that refuses --------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_refused_enriched_request_is_sent_once_more_as_it_came(
    gateway: House, upstream: ScriptedUpstream, status: int
) -> None:
    await gateway.know("The user is allergic to peanuts")
    upstream.script(refusal(status, "maximum context length exceeded"), Say("Fine."))
    answer = await chat(gateway, user("a snack?"))
    assert answer.json()["choices"][0]["message"]["content"] == "Fine."
    assert answer.headers["x-memory-injected-count"] == "0"
    assert "peanuts" in sent(upstream, 0)
    assert upstream.requests[1].json()["messages"] == [user("a snack?")]
    assert len(upstream.requests) == 2
    assert len(await gateway.handed_over()) == 1


async def test_where_the_original_is_refused_too_the_client_gets_that_answer(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    upstream.script(refusal(400, "first"), refusal(422, "second"), Say("never"))
    answer = await chat(gateway, user("a snack?"))
    assert (answer.status_code, answer.json()["error"]["message"]) == (422, "second")
    assert len(upstream.requests) == 2


async def test_a_refused_request_that_was_not_enriched_is_not_sent_again(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    upstream.script(refusal(400, "no such model"))
    answer = await chat(gateway, user("hi"))
    assert answer.status_code == 400
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("rest", [b"x" * 50_000_000, Stall()], ids=["endless", "stalled"])
async def test_of_a_refusal_only_its_beginning_is_read(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis, rest: bytes | Stall
) -> None:
    head = [("content-type", "application/json")]
    upstream.script(Raw(status=400, headers=head, steps=[b'{"error":', rest]), Say("Fine."))
    quick = {"idle_timeout_s": 0.2}
    async with house(tmp_path, upstream.base_url, redis, upstream=quick) as gateway:
        await gateway.know("The user is allergic to peanuts")
        answer = await chat(gateway, user("a snack?"))
    assert answer.json()["choices"][0]["message"]["content"] == "Fine."
    assert len(upstream.requests) == 2
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1.0)


async def test_a_refusal_whose_words_stall_is_not_waited_for(
    gateway: House, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_page, "REASON_S", 0.1)
    head = [("content-type", "application/json"), ("content-length", "100")]
    stalled = Raw(status=400, headers=head, steps=[b'{"error":', Stall()])
    upstream.script(stalled, Say("Fine."))
    await gateway.know("The user is allergic to peanuts")
    async with asyncio.timeout(5):
        answer = await chat(gateway, user("a snack?"))
    assert answer.json()["choices"][0]["message"]["content"] == "Fine."


async def test_an_original_that_gets_no_answer_is_not_called_enriched(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    upstream.script(refusal(400, "too long"), Raw(before=[Stall()]))
    quick = {"first_byte_timeout_s": 0.2}
    async with house(tmp_path, upstream.base_url, redis, upstream=quick) as gateway:
        await gateway.know("The user is allergic to peanuts")
        answer = await chat(gateway, user("a snack?"))
    assert answer.status_code == 504
    assert answer.headers["x-memory-injected-count"] == "0"


async def test_a_model_without_a_system_role_gets_its_memories_elsewhere_next_time(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")

    def no_system(request: Any) -> Say | Raw:
        roles = [message["role"] for message in request.json()["messages"]]
        return refusal(400, "System role not supported") if "system" in roles else Say("Fine.")

    upstream.default = no_system
    await chat(gateway, user("a snack?"))
    assert len(upstream.requests) == 2
    await gateway.background.drain(5)
    answer = await chat(gateway, user("another snack?"))
    assert len(upstream.requests) == 3
    assert "peanuts" in upstream.requests[2].json()["messages"][0]["content"]
    assert answer.headers["x-memory-injected-count"] != "0"


@pytest.mark.parametrize("coding", ["gzip", "br"])
async def test_why_an_enriched_request_was_refused_is_read_where_the_answer_is_packed(
    gateway: House, upstream: ScriptedUpstream, coding: str
) -> None:
    await gateway.know("The user is allergic to peanuts")
    pack = {"gzip": gzip.compress, "br": brotli.compress}[coding]
    plain = refusal(400, "System role not supported", content_encoding=coding)
    upstream.script(replace(plain, body=pack(plain.body)), Say("Fine."))
    await chat(gateway, user("a snack?"))
    await gateway.background.drain(5)
    await chat(gateway, user("another snack?"))
    assert "peanuts" in upstream.requests[2].json()["messages"][0]["content"]
    assert upstream.requests[2].json()["messages"][0]["role"] == "user"


async def test_a_filter_that_one_users_memory_trips_leaves_others_their_memory(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user collects swords")
    await gateway.know("The user is allergic to peanuts", user="bob")

    def filtered(request: Any) -> Say | Raw:
        found = "swords" in request.body.decode()
        return refusal(400, "Prompt flagged", code="content_filter") if found else Say("Fine.")

    upstream.default = filtered
    for n in range(4):
        await chat(gateway, user(f"a gift number {n}?"))
        await gateway.background.drain(5)
    answer = await chat(gateway, user("a snack?"), x_memory_user="bob")
    assert answer.headers["x-memory-injected-count"] == "1"


async def test_a_request_of_one_user_that_had_no_room_leaves_others_their_memory(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user collects swords")
    await gateway.know("The user is allergic to peanuts", user="bob")

    def full(request: Any) -> Say | Raw:
        asked = request.json()
        longest = asked.get("max_tokens", 0) > 8000 and len(request.body) > 200
        return refusal(400, "maximum context length is 8192") if longest else Say("Fine.")

    upstream.default = full
    await chat(gateway, user("a gift?"), body={"max_tokens": 8150})
    await gateway.background.drain(5)
    assert len(upstream.requests) == 2
    await chat(gateway, user("another gift?"), body={"max_tokens": 8150})
    assert len(upstream.requests) == 3
    answer = await chat(gateway, user("a snack? " * 50), x_memory_user="bob")
    assert answer.headers["x-memory-injected-count"] == "1"


async def test_what_moves_to_the_end_for_such_a_model_has_no_more_than_a_share_of_the_budget(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    for n in range(1, 41):
        told = f"The user told of snack number {n}: peanuts, roasted in oven {n * 7} for long"
        await gateway.know(told, type="interaction")
    await gateway.services.state.remember_limit("default", "modest", {"no_system": True})
    blocks = []
    for model in ("able", "modest"):
        await chat(gateway, user("which snack of peanuts?"), body={"model": model})
        [block] = [
            (message["role"], estimate_tokens(message["content"]))
            for message in upstream.requests[-1].json()["messages"]
            if BLOCK_OPEN in message["content"]
        ]
        blocks.append(block)
    (_, in_system), (place, at_end) = blocks
    share = TAIL_SHARE * gateway.settings.memory.max_tokens
    assert place == "user"
    assert at_end < share + estimate_tokens("which snack of peanuts?") < in_system


@pytest.mark.parametrize("reason", ["maximum context length is 100", "no idea why"])
async def test_what_a_model_could_not_take_is_not_sent_to_it_again(
    gateway: House, upstream: ScriptedUpstream, reason: str
) -> None:
    for n in range(5):
        await gateway.know(f"The user has a fact number {n} about peanuts and other snacks")
    most = 0

    def small(request: Any) -> Say | Raw:
        nonlocal most
        said = sum(len(message["content"]) for message in request.json()["messages"])
        most = max(most, said)
        return refusal(400, reason) if said > 120 else Say("Fine.")

    upstream.default = small
    for n in range(8):
        answer = await chat(gateway, user(f"a snack {n}?"))
        assert answer.status_code == 200
        await gateway.background.drain(5)
    before = len(upstream.requests)
    await chat(gateway, user("a snack at last?"))
    assert len(upstream.requests) == before + 1


# --- parts that are away -------------------------------------------------------------------------


PARTS = {
    "store": StoreUnavailable("away"),
    "state": StateUnavailable("away"),
    "receipts": StateUnavailable("away"),
    "directory": DirectoryUnavailable("away"),
}


@pytest.mark.parametrize("hangs", [False, True], ids=["down", "hanging"])
@pytest.mark.parametrize("part", PARTS)
async def test_a_chat_goes_on_with_any_part_of_memory_away(
    gateway: House, upstream: ScriptedUpstream, part: str, hangs: bool
) -> None:
    await gateway.know("The user is allergic to peanuts")
    real = getattr(gateway.services, part)
    gateway.put_in(**{part: Away(PARTS[part], hangs=hangs)})
    answer = await chat(gateway, user("a snack?"), x_memory_deadline_ms="60")
    assert answer.json()["choices"][0]["message"]["content"] == "Gladly."
    expected = {"receipts": "ok", "state": "partial"}.get(part, "degraded")
    assert hangs or answer.headers["x-memory-status"] == expected
    gateway.put_in(**{part: real})
    await gateway.background.drain(0.05)  # what tries to hand over would go on for minutes


@pytest.mark.parametrize("step", ["asking.choose", "answer.splice", "prepare.room"])
async def test_a_fault_of_the_programs_own_in_recall_fails_no_chat(
    gateway: House, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await gateway.know("The user is allergic to peanuts")

    def faulty(*_: Any, **__: Any) -> Any:
        raise IndexError("nobody foresaw it")

    monkeypatch.setattr(f"gateway.flows.{step}", faulty)
    answer = await chat(gateway, user("a snack?"))
    assert (answer.status_code, answer.headers["x-memory-status"]) == (200, "degraded")
    assert upstream.requests[0].json()["messages"] == [user("a snack?")]
    assert len(await gateway.handed_over()) == 1


async def test_a_long_word_that_is_asked_about_in_another_chat_is_recalled(gateway: House) -> None:
    key = "z" * 5000
    await chat(gateway, user(f"The key of the house is {key}, by the way."))
    answer = await chat(gateway, user(f"Which key is {key}?"))
    assert (answer.status_code, answer.headers["x-memory-status"]) == (200, "ok")
    assert answer.headers["x-memory-injected-count"] == "1"


@pytest.mark.parametrize("part", ["store", "state", "receipts"])
async def test_what_was_said_is_kept_though_a_part_is_away(gateway: House, part: str) -> None:
    await gateway.owner()
    gateway.put_in(**{part: Away(PARTS[part])})
    await chat(gateway, user("I live in Rome"))
    gateway.draining = True  # or it would be tried on to note what was seen
    said = await gateway.handed_over()
    assert [turn.text for turn in said[0].turns] == ["I live in Rome", "Gladly."]


async def test_what_was_said_waits_on_disk_while_the_queue_is_away(gateway: House) -> None:
    real = gateway.services.queue
    gateway.put_in(queue=Away(QueueUnavailable("away")))
    answer = await chat(gateway, user("I live in Rome"))
    assert answer.status_code == 200
    await gateway.background.drain(5)
    assert await gateway.services.spool.count() == 1
    gateway.put_in(queue=real)


async def test_what_was_kept_while_shared_state_was_away_is_not_new_in_the_history_sent_later(
    gateway: House,
) -> None:
    real = gateway.services.state
    gateway.put_in(state=Away(StateUnavailable("away")))
    await chat(gateway, user("I live in Rome"))
    gateway.put_in(state=real)
    await chat(gateway, user("I live in Rome"), assistant("Gladly."), user("and I like tea"))
    said = await gateway.handed_over()
    assert [[turn.text for turn in exchange.turns] for exchange in said] == [
        ["I live in Rome", "Gladly."],
        ["and I like tea", "Gladly."],
    ]


async def test_what_was_not_to_be_kept_while_shared_state_was_away_is_not_kept_later(
    gateway: House,
) -> None:
    await gateway.owner()
    real = gateway.services.state
    gateway.put_in(state=Away(StateUnavailable("away")))
    await chat(gateway, user("I look for another job"), x_memory_mode="readonly")
    gateway.put_in(state=real)
    history = [user("I look for another job"), assistant("Gladly.")]
    await chat(gateway, *history, user("and I like tea"))
    (exchange,) = await gateway.handed_over()
    assert [turn.text for turn in exchange.turns] == ["and I like tea", "Gladly."]


async def test_a_conversation_that_was_late_for_a_request_is_found_for_what_is_kept_of_it(
    gateway: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chat(gateway, user("I live in Rome"))
    await gateway.background.drain(1)
    opened, late = gateway.services.state.open, [1.0]

    async def open_late(*args: Any) -> Any:
        await asyncio.sleep(late.pop() if late else 0)
        return await opened(*args)

    monkeypatch.setattr(gateway.services.state, "open", open_late)
    window = [assistant("Gladly."), user("and I like tea")]
    await chat(gateway, *window, x_memory_deadline_ms="50")
    said = await gateway.handed_over()
    assert [[turn.text for turn in exchange.turns] for exchange in said] == [
        ["I live in Rome", "Gladly."],
        ["and I like tea", "Gladly."],
    ]
    assert said[0].session == said[1].session


async def test_without_shared_state_only_the_last_words_of_a_history_are_new(
    gateway: House,
) -> None:
    gateway.put_in(state=Away(StateUnavailable("away")))
    await chat(gateway, user("I live in Rome"), assistant("Nice."), user("and I like tea"))
    gateway.draining = True  # or it would be tried on to note what was seen
    said = await gateway.handed_over()
    assert [turn.text for turn in said[0].turns] == ["and I like tea", "Gladly."]


async def test_over_the_bound_of_open_requests_memory_is_skipped_and_the_chat_goes_on(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    gate = Gate()
    async with house(
        tmp_path, upstream.base_url, redis, server={"max_open_requests": 1}
    ) as gateway:
        await gateway.know("The user is allergic to peanuts")
        upstream.script(Raw(b"{}", before=[gate]), Say("Fine."))
        first = asyncio.create_task(chat(gateway, user("a snack?")))
        async with asyncio.timeout(2):
            while not upstream.requests:
                await asyncio.sleep(0.005)
        second = await chat(gateway, user("another?"))
        gate.open()
        await first
    assert second.status_code == 200
    assert second.headers["x-memory-status"] == "degraded"
    assert "peanuts" not in sent(upstream, 1)


async def test_a_user_who_was_erased_a_moment_ago_begins_anew(gateway: House) -> None:
    owner = await gateway.owner()
    await gateway.services.state.erase(owner.tenant)  # its fence stands before its key is gone
    real = gateway.services.directory.owner
    asked = 0

    async def first_the_old_one(person: Person, *, create: bool = False) -> Any:
        nonlocal asked
        asked += 1
        if asked == 2:
            await gateway.services.directory.drop(owner)
        return await real(person, create=create)

    gateway.services.directory.owner = first_the_old_one  # type: ignore[method-assign]
    await chat(gateway, user("I live in Rome"))
    assert len(await gateway.handed_over()) == 1


async def test_nothing_is_remembered_of_a_user_who_was_erased_a_moment_ago(
    gateway: House, upstream: ScriptedUpstream
) -> None:
    await gateway.know("The user is allergic to peanuts")
    await chat(gateway, user("Which snack?"))  # what always counts is kept in this process
    await gateway.background.drain(5)
    owner = await gateway.owner()
    await gateway.services.state.erase(owner.tenant)  # through another gateway

    async def away(*_: Any, **__: Any) -> Any:
        raise StoreUnavailable("away")

    gateway.services.store.search = away  # type: ignore[method-assign]
    answer = await chat(gateway, user("Which snack?"), x_memory_mode="readonly")
    assert "peanuts" not in sent(upstream)
    assert answer.headers["x-memory-status"] == "ok"


# --- receipts ------------------------------------------------------------------------------------


async def test_a_receipt_tells_what_was_considered_and_injected(gateway: House) -> None:
    memory = await gateway.know("The user is allergic to peanuts")
    answer = await chat(gateway, user("a peanut snack?"))
    said = await gateway.handed_over()
    id = answer.headers["x-memory-receipt-id"]
    receipt = await gateway.services.receipts.get(await gateway.owner(), id)
    assert receipt is not None
    assert receipt["id"] == id
    assert receipt["injected"] == [memory.id]
    told = await receipts.explained(gateway.services, await gateway.owner(), receipt)
    assert told["block"].startswith(BLOCK_OPEN)
    assert told["block_exact"]
    assert [one["id"] for one in receipt["considered"]] == [memory.id]
    assert receipt["exchange_id"] == said[0].id
    assert receipt["session"] == said[0].session
    assert receipt["tokens"] == int(answer.headers["x-memory-tokens"])
    assert said[0].receipt_id == id


async def test_receipts_can_be_kept_for_a_share_of_requests(
    tmp_path: Path, upstream: ScriptedUpstream, redis: Redis
) -> None:
    async with house(tmp_path, upstream.base_url, redis, receipts={"share": 0.0}) as gateway:
        answer = await chat(gateway, user("hi"))
        assert "x-memory-receipt-id" not in answer.headers


# --- large bodies --------------------------------------------------------------------------------


async def test_a_large_body_is_read_in_threads_while_the_streams_of_others_go_on(
    gateway: House, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.know("The user is allergic to peanuts")
    on_the_loop = []

    def watched(module: Any, name: str) -> None:
        real = getattr(module, name)

        def run(*args: Any, **named: Any) -> Any:
            on_the_loop.append((name, threading.current_thread() is threading.main_thread()))
            return real(*args, **named)

        monkeypatch.setattr(module, name, run)

    watched(answer_page, "read_chat")
    watched(answer_page, "splice")
    for name in ("marks_and_alone", "user_turn_mark", "exchange_of"):
        watched(capture, name)
    watched(handover, "redact_exchange")
    history = [user(f"word {n} " * 500) for n in range(100)]
    answer = await chat(gateway, *history)
    assert answer.status_code == 200
    assert len(await gateway.handed_over()) == 1
    assert len({name for name, _ in on_the_loop}) == 6
    assert not [name for name, main in on_the_loop if main]
