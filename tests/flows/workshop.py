"""A worker's surroundings for tests: real Redis, a real directory, a scripted language model.

`Workshop` implements `ports.Deployment`. A test says things (`said`), scripts what the model
answers about them (`model.answers`), lets time pass and has it all distilled (`distilled`).
The model is a real HTTP server, asked by the real extractor; so is the embedder.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.embed_openai import OpenAIEmbedder
from gateway.adapters.extract_openai import OpenAIExtractor
from gateway.adapters.extract_rules import RulesExtractor
from gateway.adapters.inmemory import InMemoryStore
from gateway.adapters.redis_budget import RedisBudget
from gateway.config import Settings
from gateway.core.exchange import Exchange, Turn
from gateway.core.memory import Instant, Memory, Where, parse_rfc3339
from gateway.flows.remember import Desk, remember_next
from gateway.lab.scripted_upstream import Raw, Recorded, Say, Scripted, ScriptedUpstream
from gateway.ports import EmbeddingModel, MemoryStore, Services
from tests.parts import Premises, opened

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = parse_rfc3339("2026-05-23T09:00:00+02:00")
"""A Saturday."""
DAY = 86_400.0
BERLIN = "Europe/Berlin"

Facts = Sequence[Mapping[str, Any]]


class ScriptedModel(ScriptedUpstream):
    """Answers extraction requests from `answers`, in order; without any, `facts` of them all.

    An answer is a list of facts, text as it is, or a scripted HTTP answer.
    """

    def __init__(self) -> None:
        super().__init__(dimensions=64)
        self.answers: list[Facts | str | Scripted | Callable[[Mapping[str, Any]], Facts]] = []
        self.asked: list[Mapping[str, Any]] = []
        self.bodies: list[Mapping[str, Any]] = []

    def as_new(self) -> ScriptedModel:
        self.renewed()
        self.answers, self.asked, self.bodies = [], [], []
        return self

    def _choose(self, request: Recorded) -> Scripted:
        # Told by the shape of what is asked: the plainest form of it names no schema.
        if request.path.endswith("/chat/completions"):
            return self._extraction(request.json())
        return super()._choose(request)

    def _extraction(self, body: Mapping[str, Any]) -> Any:
        batch = json.loads(body["messages"][-1]["content"])
        # Taken first: a test that sees the question may script the next answer at once.
        answer = self.answers.pop(0) if self.answers else []
        self.asked.append(batch)
        self.bodies.append(body)
        if callable(answer):
            answer = answer(batch)
        if isinstance(answer, Say | Raw):
            return answer
        if isinstance(answer, str):
            return Say(answer)
        return Say(json.dumps({"facts": list(answer)}))


def fact(text: str, **fields: Any) -> dict[str, Any]:
    """A fact as a model proposes it; the quote is the whole first turn unless it is given."""
    return {
        "action": "add",
        "target": None,
        "type": "profile",
        "key": None,
        "value": None,
        "text": text,
        "turn": 1,
        "quote": "",
        "importance": 0.5,
        "event_start": None,
        "event_end": None,
        "ttl_days": None,
        **fields,
    }


class Workshop(Premises):
    """Premises with a model, and with somebody at work."""

    def __init__(self, settings: Settings, services: Services, model: ScriptedModel) -> None:
        super().__init__(settings, services, now=NOW)
        self.model = model
        self.desk = self.new_desk()
        self._said = 0

    # --- what a test does ---

    def new_desk(self) -> Desk:
        """As a process that has just started has it."""
        return Desk(
            self.settings_for,
            lambda app: self.services_for(app).extractor,
            metrics=self.metrics,
            dice=lambda: 0.5,
        )

    def exchange(self, *texts: str | Turn, at: Instant | None = None, **fields: Any) -> Exchange:
        """An exchange; plain texts are the user's and the assistant's in turn."""
        said_at = self.now if at is None else at
        self._said += 1
        turns = [
            replace(text, n=n, at=said_at)
            if isinstance(text, Turn)
            else Turn(n, "assistant" if n % 2 else "user", text, said_at)
            for n, text in enumerate(texts)
        ]
        fields = {"id": f"exc_{self._said}", "session": "monday", "timezone": BERLIN, **fields}
        return Exchange(at=said_at, turns=tuple(turns), **fields)

    async def said(
        self, *texts: str | Turn, user: str = "ana", at: Instant | None = None, **fields: Any
    ) -> Exchange:
        """Have an exchange accepted; it falls due a minute later."""
        exchange = self.exchange(*texts, at=at, **fields)
        await self.services.queue.put(await self.owner(user), exchange, now=self.now)
        return exchange

    async def distilled(self) -> int:
        """Let a minute pass and everything due be remembered; how many batches."""
        self.now += 61
        batches = 0
        while await remember_next(self.services, self.desk, "hand"):
            batches += 1
            assert batches < 100, "the queue hands out the same work again and again"
        return batches

    async def learn(self, *texts: str | Turn, facts: Any = (), **fields: Any) -> Exchange:
        """Say something and have it distilled with this answer of the model."""
        answers = facts if isinstance(facts, str | Say | Raw) or callable(facts) else list(facts)
        self.model.answers.append(quoted(answers, *texts) if isinstance(answers, list) else answers)
        exchange = await self.said(*texts, **fields)
        await self.distilled()
        return exchange

    async def memories(self, user: str = "ana", **where: Any) -> list[Memory]:
        """What is stored, oldest first; facts of any status unless told otherwise."""
        conditions = {"kinds": ("fact",), "statuses": (), **where}
        page = await self.services.store.page(
            await self.owner(user), Where(**conditions), limit=1000
        )
        return sorted(page, key=lambda m: (m.created_at, m.id))

    async def active(self, user: str = "ana") -> list[str]:
        return sorted(m.text for m in await self.memories(user, statuses=("active",)))

    async def turns(self, user: str = "ana") -> list[Memory]:
        return await self.memories(user, kinds=("turn",), statuses=("active", "quarantined"))

    async def know(self, text: str, **fields: Any) -> Memory:
        """Have something known that a person wrote through the API."""
        return await self.keep(text, **{"user": "ana", "at": self.now - DAY, **fields})

    def count(self, metric: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(f"memory_gateway_{metric}_total", labels)
        return value or 0.0


def quoted(facts: Facts, *texts: str | Turn) -> list[Any]:
    """Facts with the whole of their turn for a quote, where they have none."""
    said = [text.text if isinstance(text, Turn) else text for text in texts]
    return [
        {**f, "quote": said[f["turn"] - 1]}
        if isinstance(f, Mapping)
        and f.get("quote") == ""
        and isinstance(f.get("turn"), int)
        and 0 < f["turn"] <= len(said)
        else f
        for f in facts
    ]


def settings_of(tmp_path: Path, base_url: str, **sections: Any) -> Settings:
    values: dict[str, Any] = {
        "data_dir": str(tmp_path / "data"),
        "upstream": {"base_url": base_url},
        "extraction": {"idle_s": 10, "max_wait_s": 60},
    }
    for name, section in sections.items():
        values.setdefault(name, {}).update(section)
    return Settings.model_validate(values)


@asynccontextmanager
async def workshop(
    tmp_path: Path,
    redis: Redis,
    model: ScriptedModel,
    *,
    store: MemoryStore | None = None,
    embeds: bool = False,
    rules: bool = False,
    **sections: Any,
) -> AsyncIterator[Workshop]:
    """All parts open; `embeds` has texts embedded by the scripted model, `rules` has facts drawn by
    the rules instead of it."""
    settings = settings_of(tmp_path, model.base_url, **sections)
    extractor = OpenAIExtractor(model.base_url, api_key=None, model="test", timeout_s=5)
    others: dict[str, Any] = {
        "store": store or InMemoryStore(Bm25Lexicon(), model=EmbeddingModel("openai", "test", 64)),
        "extractor": RulesExtractor() if rules else extractor,
        "budget": RedisBudget(redis),
    }
    async with AsyncExitStack() as stack:
        stack.push_async_callback(extractor.close)
        if embeds:
            embedder = OpenAIEmbedder(model.base_url, api_key=None, model="test", dimensions=64)
            stack.push_async_callback(embedder.close)
            others["embedder"] = embedder
        services = await stack.enter_async_context(
            opened(settings, redis, lambda: running.now, **others)
        )
        running = Workshop(settings, services, model)
        yield running
        await running.background.drain(5)
