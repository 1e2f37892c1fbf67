"""A process killed at a step of a journey: `python -m tests.faults.dying_worker DIR REDIS STEP`.

STEP is such as "distil: before store.put": the journey, and where the process ends itself with
SIGKILL, just before or just after a part's call.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.qdrant.edge import QdrantEdgeStore
from gateway.core.errors import QueueUnavailable
from gateway.core.identity import Person
from gateway.flows.erase import erase
from gateway.flows.handover import hand_over
from gateway.flows.remember import remember_next
from gateway.flows.sweep import drain_spool, sweep
from tests.flows.workshop import NOW, ScriptedModel, Workshop, fact, workshop

STEPS = ("queue.keep_plan", "store.put", "queue.done")
FACTS = [
    fact("User lives in Berlin", key="home", value="Berlin", quote="I live in Berlin"),
    fact("User likes tea", quote="I like tea"),
]


class Dying:
    """A part during one step of which the process dies."""

    def __init__(self, part: Any, step: str, when: str) -> None:
        self._part, self._step, self._when = part, step, when

    def __getattr__(self, name: str) -> Any:
        if name == self._step:
            return self._die
        return getattr(self._part, name)

    async def _die(self, *args: Any, **kwargs: Any) -> None:
        if self._when == "after":
            await getattr(self._part, self._step)(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)


def store_in(directory: Path) -> QdrantEdgeStore:
    return QdrantEdgeStore(directory / "qdrant", cipher=AesGcmCipher(), lexicon=Bm25Lexicon())


async def distil(shop: Workshop) -> None:
    shop.now = NOW + 100
    await remember_next(shop.services, shop.desk, "dying")


async def hand_over_to_disk(shop: Workshop) -> None:
    """As while Redis is away."""
    shop.put_in(queue=_Away())
    said = shop.exchange("I live in Berlin and I like tea", "Nice!")
    await hand_over(shop.services, shop.settings, await shop.owner(), said, now=shop.now)


class _Away:
    async def put(self, *_: Any, **__: Any) -> bool:
        raise QueueUnavailable("away")


JOURNEYS: dict[str, Callable[[Workshop], Awaitable[Any]]] = {
    "distil": distil,
    "hand over": hand_over_to_disk,
    "drain": lambda shop: drain_spool(shop.services),
    "erase": lambda shop: erase(shop.services, Person("default", "ana"), now=shop.now),
    "sweep": lambda shop: sweep(shop.services, shop.metrics),
}


async def main(directory: Path, redis_url: str, step: str) -> None:
    journey, _, where = step.partition(": ")
    when, _, call = where.partition(" ")
    part, _, name = call.partition(".")
    store = store_in(directory)
    await store.open()
    with ScriptedModel() as model:
        model.answers = [FACTS]
        async with (
            Redis.from_url(redis_url) as redis,
            workshop(directory, redis, model, store=store) as shop,
        ):
            shop.put_in(**{part: Dying(getattr(shop.services, part), name, when)})
            await JOURNEYS[journey](shop)
    raise SystemExit("it lived")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
