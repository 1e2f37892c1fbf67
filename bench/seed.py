"""Fill an embedded data directory with the memories that are recalled from.

`python -m bench.seed DIR USERS MEMORIES [MODEL]` writes what the worker would have written (one
fact in four, the rest turns with windows), with made-up vectors where a model is given
(`provider:name:dimensions`), as if it had made them.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from bench.data import name, texts
from gateway.config import load
from gateway.core.identity import Person
from gateway.core.memory import Entry, Memory, Source
from gateway.core.windows import windows_of
from gateway.ports import EmbeddingModel
from gateway.wiring import open_deployment

SESSION = 10


def memories_of(user: int, count: int, now: float) -> list[Memory]:
    """A user's memories, spread over four weeks."""
    made = []
    for n, text in enumerate(texts(user, count)):
        at = now - 28 * 86_400 * (count - n) / count
        fact = n % 4 == 0
        made.append(
            Memory(
                id=f"mem_{user}_{n}",
                kind="fact" if fact else "turn",
                type="interaction" if fact else None,
                text=text,
                created_at=at,
                updated_at=at,
                valid_from=at,
                source=Source(session=f"s{n // SESSION}", role="user"),
            )
        )
    return made


async def seed(data_dir: Path, users: int, memories: int, model: EmbeddingModel | None) -> None:
    settings = load(
        None,
        overrides={
            "data_dir": str(data_dir),
            "embedding.provider": "none",
            "extraction.provider": "none",
            "upstream.base_url": "http://127.0.0.1:9/v1",
        },
    )
    deployment = await open_deployment(settings, worker=False)
    try:
        services = deployment.services_for("default")
        if model is not None:
            await services.store.adopt(model)
        drawn, now = random.Random(5), time.time()
        for user in range(users):
            owner = await services.directory.owner(Person("default", name(user)), create=True)
            assert owner is not None
            made = memories_of(user, memories // users, now)
            windows = windows_of(made)
            await services.store.put(
                owner,
                [
                    Entry(
                        m,
                        window=windows.get(m.id),
                        dense=[drawn.uniform(-0.1, 0.1) for _ in range(model.dimensions)]
                        if model
                        else None,
                    )
                    for m in made
                ],
            )
    finally:
        await deployment.close()


def _model(told: str) -> EmbeddingModel:
    provider, name, dimensions = told.split(":")
    return EmbeddingModel(provider, name, int(dimensions))


if __name__ == "__main__":
    directory, users, memories, *model = sys.argv[1:]
    chosen = _model(model[0]) if model else None
    asyncio.run(seed(Path(directory), int(users), int(memories), chosen))
