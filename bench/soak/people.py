"""The load: many people at once, each doing one thing after another, as chatbots' users do.

They chat (streamed and whole, with tools, in sessions that the client names or does not),
leave in the middle, write, correct and forget memories, and have themselves erased. What they
saw of each answer goes into the ledger. A call whose answer did not come is made again until
it does: a chat as its user would press "try again", a write under its idempotency key.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from typing import Any, Final

import httpx

from bench.soak.house import House
from bench.soak.ledger import Ledger, Outcome, Said, Written
from bench.soak.models import SLOT_WORDS, Models

CALL_S: Final = 60.0
"""Longer than any wait of the gateway's: a call that takes it is a failure."""
REMEMBERED: Final = 12
TOOLS: Final = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]


class People:
    """`count` people who talk to one gateway until told to stop. `odd` counts answers of the
    gateway that nothing explains, with an example each."""

    def __init__(
        self, house: House, models: Models, ledger: Ledger, dice: random.Random, count: int
    ) -> None:
        self.ledger, self.house, self.models = ledger, house, models
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=100)
        self.client = httpx.AsyncClient(
            base_url=f"{house.url}/v1", timeout=CALL_S, limits=limits, trust_env=False
        )
        self.odd: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.refused = 0
        self.people = [Person(f"p{n:02}", self, random.Random(dice.random())) for n in range(count)]

    async def talk(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as all_at_once:
            for person in self.people:
                all_at_once.create_task(person.live(stop))

    async def answered(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """The answer to a call that is made again until the gateway is there and says yes or no."""
        while True:
            await self.house.up.wait()
            began = time.monotonic()
            try:
                answer = await self.client.request(method, path, **sent)
            except httpx.TransportError as exc:
                if not self.house.was_down(began - 0.5, time.monotonic()):
                    self.odd[f"{method} {path.partition('/mem_')[0]}: {type(exc).__name__}"] += 1
            else:
                if answer.status_code < 500:
                    return answer
                self.statuses[f"{method} memories {answer.status_code}"] += 1
                if answer.status_code != 503:
                    self.odd[f"{method} {answer.status_code} {answer.text[:200]}"] += 1
            await asyncio.sleep(0.2)


class Person:
    """One person: what they said last is their client's history."""

    def __init__(self, name: str, people: People, dice: random.Random) -> None:
        self.name, self._people, self._dice = name, people, dice
        self._numbers = itertools.count(1)
        self._sessions = itertools.count(1)
        self._names_sessions = dice.random() < 0.6
        self._window = dice.choice((None, None, 4))
        """How many messages its client sends again; None: all of them."""
        self._begin_session()

    def _begin_session(self) -> None:
        self._history: list[dict[str, Any]] = [
            {
                "role": "user",
                "content": f"Hello, this is talk {next(self._sessions)} of {self.name}.",
            },
            {"role": "assistant", "content": "Hello!"},
        ]
        self._session = f"{self.name}.{next(self._sessions)}" if self._names_sessions else None

    async def live(self, stop: asyncio.Event) -> None:
        ways = {
            self._chat: 80,
            self._write: 6,
            self._correct: 4,
            self._forget: 4,
            self._look: 4,
            self._be_erased: 1.2,
        }
        while not stop.is_set():
            await self._dice.choices(list(ways), list(ways.values()))[0]()
            await asyncio.sleep(self._dice.expovariate(2.0))

    @property
    def _who(self) -> dict[str, str]:
        return {"X-Memory-User": self.name}

    def _token(self) -> str:
        return f"{self.name}-{next(self._numbers):06}"

    # --- chats -------------------------------------------------------------------------------

    async def _chat(self) -> None:
        if len(self._history) > REMEMBERED * 2:
            self._begin_session()
        said = Said(self._token(), self.name, time.monotonic(), slot=self._dice.random() < 0.2)
        self._people.ledger.said[said.token] = said
        words = f"Note {said.token}, please."
        if said.slot:
            words += f" {SLOT_WORDS} {said.token}."
        message = {"role": "user", "content": words}
        leaves = self._dice.random() < 0.06
        tools = self._dice.random() < 0.15
        while True:
            answer, outcome = await self._try(said, [*self._history, message], leaves, tools)
            if outcome is None:
                continue  # nothing was sent: the gateway was not there
            said.tries.append(outcome)
            if outcome == "answered":
                said.answered_at = time.monotonic()
                self._history += [message, {"role": "assistant", "content": answer}]
                return
            if outcome == "left" or self._dice.random() < 0.4:
                return  # its client forgets that it was said
            await asyncio.sleep(0.3)

    async def _try(
        self, said: Said, messages: list[dict[str, Any]], leaves: bool, tools: bool
    ) -> tuple[str, Outcome | None]:
        """The answer's words, and how it ended; None where nothing could be sent."""
        await self._people.house.up.wait()
        harmed, models = said.token in self._people.models.harmed, self._people.models
        models.harmed.discard(said.token)
        began = time.monotonic()
        try:
            text, calls = await self._asked(messages, leaves=leaves, tools=tools)
            if calls:
                messages = [*messages, *self._tool_messages(calls, said.token)]
                text, _ = await self._asked(messages, leaves=leaves, tools=True)
            return text, "answered"
        except _Left:
            return "", "left"
        except httpx.ConnectError:
            if self._people.house.was_down(began - 0.5, time.monotonic()):
                self._people.refused += 1
                await asyncio.sleep(0.1)
                return "", None
            self._people.odd["chat: cannot connect"] += 1
            return "", "failed"
        except (_Broken, httpx.TransportError) as exc:
            if said.token in models.harmed or harmed:
                return "", "upstream"
            if self._people.house.was_down(began, time.monotonic()):
                return "", "dead"
            self._people.odd[f"chat: {type(exc).__name__} {exc}"[:300]] += 1
            return "", "failed"

    def _tool_messages(self, calls: list[Any], token: str) -> list[dict[str, Any]]:
        return [
            {"role": "assistant", "content": None, "tool_calls": calls},
            *(
                {"role": "tool", "tool_call_id": call["id"], "content": f"Looked up {token}."}
                for call in calls
            ),
        ]

    async def _asked(
        self, messages: list[dict[str, Any]], *, leaves: bool, tools: bool
    ) -> tuple[str, list[Any]]:
        """The words and tool calls of a whole answer. Raises _Broken where it is none."""
        streamed = self._dice.random() < 0.6
        body: dict[str, Any] = {
            "model": "m",
            "messages": messages[-self._window :] if self._window else messages,
            "stream": streamed,
        }
        if messages[-1]["role"] == "tool":
            body["messages"] = messages
        if tools:
            body["tools"] = TOOLS
        headers = self._who | ({"X-Memory-Session": self._session} if self._session else {})
        async with self._people.client.stream(
            "POST", "/chat/completions", json=body, headers=headers
        ) as answer:
            self._people.statuses[answer.headers.get("x-memory-status", "none")] += 1
            data = b""
            async for chunk in answer.aiter_raw():
                data += chunk
                if leaves:
                    raise _Left
        if answer.status_code != 200:
            raise _Broken(f"{answer.status_code} {data[:200]!r}")
        return _read_stream(data) if streamed else _read_whole(data)

    # --- the memory API ----------------------------------------------------------------------

    async def _write(self) -> None:
        written = Written(self._token(), self.name)
        self._people.ledger.written[written.token] = written
        answer = await self._people.answered(
            "POST",
            "/memories",
            headers={**self._who, "Idempotency-Key": written.token},
            json={"text": f"Wrote the note {written.token}", "type": "interaction"},
        )
        if self._expected(answer, 201):
            written.id, written.present = answer.json()["memories"][0]["id"], True
            self._people.done["written"] += 1

    async def _correct(self) -> None:
        if (former := self._some()) is None:
            return
        written = Written(self._token(), self.name, former.id)
        self._people.ledger.written[written.token] = written
        former.present = None
        answer = await self._people.answered(
            "PATCH",
            f"/memories/{former.id}",
            headers=self._who,
            json={"text": f"Wrote the note {written.token}"},
        )
        if self._expected(answer, 200):
            former.present, written.present = False, True
            self._people.done["corrected"] += 1

    async def _forget(self) -> None:
        if (former := self._some()) is None:
            return
        former.present = None
        answer = await self._people.answered("DELETE", f"/memories/{former.id}", headers=self._who)
        # 404: it was forgotten by a call whose answer was lost.
        if self._expected(answer, 204, 404):
            former.present = False
            self._people.done["forgotten"] += 1

    async def _look(self) -> None:
        answer = await self._people.answered(
            "POST", "/memories/search", headers=self._who, json={"query": "notes and colours"}
        )
        if self._expected(answer, 200):
            self._people.done["searched"] += 1

    async def _be_erased(self) -> None:
        answer = await self._people.answered("DELETE", "/memories", headers=self._who)
        # 202: a part was away; the key is gone already, and the rest follows by itself.
        if self._expected(answer, 200, 202):
            self._people.ledger.erased(self.name, answer.json()["id"])
            self._people.done["erased"] += 1
            self._begin_session()

    def _some(self) -> Written | None:
        mine = [
            w
            for w in self._people.ledger.written.values()
            if w.person == self.name and w.present and w.id is not None
        ]
        return self._dice.choice(mine) if mine else None

    def _expected(self, answer: httpx.Response, *statuses: int) -> bool:
        if answer.status_code in statuses:
            return True
        self._people.odd[f"{answer.request.method} {answer.status_code} {answer.text[:200]}"] += 1
        return False


class _Left(Exception):
    """The client gave the answer up."""


class _Broken(Exception):
    """The answer is not a whole one."""


def _read_whole(data: bytes) -> tuple[str, list[Any]]:
    try:
        message = json.loads(data)["choices"][0]["message"]
    except (ValueError, LookupError, TypeError):
        raise _Broken(f"no completion: {data[:200]!r}") from None
    return message["content"] or "", message.get("tool_calls") or []


def _read_stream(data: bytes) -> tuple[str, list[Any]]:
    if not data.endswith(b"data: [DONE]\n\n"):
        raise _Broken(f"no whole stream: {data[-200:]!r}")
    text, calls = "", []
    for line in data.split(b"\n\n"):
        if not line.startswith(b"data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            for call in delta.get("tool_calls") or ():
                if "id" in call:
                    calls.append({k: v for k, v in call.items() if k != "index"})
                else:
                    calls[-1]["function"]["arguments"] += call["function"]["arguments"]
    return text, calls
