"""How many exchanges a second one worker process distils, with an extractor that answers at once.

Real Redis (embedded), real Qdrant Edge, the real queue, plans, guards and writes; no embedding.
`python -m bench.distil [USERS] [EXCHANGES A USER] [BATCH]` prints a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config import Settings
from gateway.core.exchange import Exchange, Turn
from gateway.core.extraction import ExtractionBatch
from gateway.core.identity import Person
from gateway.wiring import GatewayDeployment, open_deployment
from gateway.worker import Worker


class InstantExtractor:
    """One fact for each turn of the user's, at once."""

    name = "instant"

    async def extract(self, batch: ExtractionBatch) -> list[Mapping[str, Any]]:
        return [
            {
                "action": "add",
                "type": "profile",
                "text": f"User keeps {turn.text.rsplit(' ', 1)[-1]} in the cellar",
                "turn": turn.n,
                "quote": turn.text,
                "importance": 0.5,
            }
            for turn in batch.turns
            if turn.role == "user"
        ]

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


async def run(users: int, each: int, batch: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mg-bench-") as directory:
        settings = Settings.model_validate(
            {
                "data_dir": Path(directory),
                "embedding": {"provider": "none"},
                "extraction": {
                    "provider": "rules",
                    "idle_s": 0,
                    "max_wait_s": 0,
                    "max_batch_exchanges": batch,
                },
            }
        )
        deployment = await open_deployment(settings, worker=False)
        try:
            figures = await _measured(deployment, users, each)
        finally:
            await deployment.close()
        # Redis and the engine are children: their share is known once they have ended. It
        # includes the start, and the putting in line.
        children = os.times()
        spent = children.children_user + children.children_system
        return figures | {"children_cpu_ms_per_exchange": round(spent / users / each * 1000, 2)}


async def _measured(deployment: GatewayDeployment, users: int, each: int) -> dict[str, float]:
    services = deployment.services_for("default")
    object.__setattr__(services, "extractor", InstantExtractor())
    now = time.time() - 10
    for u in range(users):
        owner = await services.directory.owner(Person("default", f"user{u}"), create=True)
        assert owner is not None
        for e in range(each):
            said = f"Down there I have the old thing{e} number{u}x{e}"
            turns = (
                Turn(0, "user", said, now + e),
                Turn(1, "assistant", "I see, how nice for you. Shall we go on?", now + e),
            )
            exchange = Exchange(f"exc_{u}_{e}", f"s{u}", now + e * 1e-3, turns)
            await services.queue.put(owner, exchange, now=now)
    total = users * each
    stop = asyncio.Event()
    begun, cpu = time.perf_counter(), time.process_time()
    work = asyncio.create_task(Worker(deployment, 8).run(stop))
    while (await services.queue.status(now=time.time())).pending or (
        await services.queue.status(now=time.time())
    ).leased:
        await asyncio.sleep(0.05)
    took = time.perf_counter() - begun
    spent = time.process_time() - cpu
    stop.set()
    await work
    stored = sum([await services.store.count(t) for t in await services.store.tenants()])
    return {
        "exchanges": total,
        "seconds": round(took, 2),
        "exchanges_per_s": round(total / took),
        "process_cpu_ms_per_exchange": round(spent / total * 1000, 2),
        "memories": stored,
    }


def main() -> None:
    users, each, batch = (
        int(sys.argv[i]) if len(sys.argv) > i else default
        for i, default in ((1, 500), (2, 4), (3, 32))
    )
    print(json.dumps(asyncio.run(run(users, each, batch))))


if __name__ == "__main__":
    main()
