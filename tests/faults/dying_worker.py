"""A worker that is killed at a step: `python -m tests.faults.dying_worker DIR REDIS MODEL STEP`.

It distils what is due, and ends itself with SIGKILL just before or just after the step.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.qdrant.edge import QdrantEdgeStore
from gateway.flows.remember import remember_next
from tests.flows.workshop import NOW, ScriptedModel, fact, workshop

STEPS = ("keep_plan", "put", "done")
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


async def main(directory: Path, redis_url: str, step: str) -> None:
    when, _, name = step.partition(" ")
    store = store_in(directory)
    await store.open()
    with ScriptedModel() as model:
        model.answers = [FACTS]
        async with (
            Redis.from_url(redis_url) as redis,
            workshop(directory, redis, model, store=store) as shop,
        ):
            part = "store" if name == "put" else "queue"
            shop.put_in(**{part: Dying(getattr(shop.services, part), name, when)})
            shop.now = NOW + 100
            await remember_next(shop.services, shop.desk, "dying")
    raise SystemExit("it lived")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
