"""A worker killed at each step of a batch, with real Redis and real Edge: one copy of each fact."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.dying_worker import FACTS, STEPS, store_in
from tests.flows.workshop import NOW, ScriptedModel, workshop

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.mark.faults
@pytest.mark.parametrize(
    "step", [f"{when} {name}" for name in STEPS for when in ("before", "after")]
)
async def test_each_fact_is_there_once_after_a_kill(
    tmp_path: Path, redis: Redis, redis_server: str, step: str
) -> None:
    with ScriptedModel() as model:
        async with workshop(tmp_path, redis, model) as shop:
            await shop.said("I live in Berlin and I like tea", "Nice!")
        killed = subprocess.run(
            [sys.executable, "-m", "tests.faults.dying_worker", str(tmp_path), redis_server, step],
            cwd=Path(__file__).parents[2],
            timeout=50,
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]

        store = store_in(tmp_path)
        await store.open()
        try:
            async with workshop(tmp_path, redis, model, store=store) as shop:
                # As another process that takes over once the lease has run out; were the model
                # asked again, it would word the facts in another way.
                shop.now = NOW + 300
                model.answers = [[{**f, "text": f"{f['text']} (again)"} for f in FACTS]]
                await shop.distilled()
                kept = step != "before keep_plan"
                expected = [str(f["text"]) + ("" if kept else " (again)") for f in FACTS]
                assert await shop.active() == sorted(expected)
                assert [t.text for t in await shop.turns()] == [
                    "I live in Berlin and I like tea",
                    "Nice!",
                ]
                tenant = (await shop.owner()).tenant
                assert await shop.services.queue.count(tenant) == 0
                assert await shop.services.store.count(tenant) == 4
        finally:
            await store.close()
