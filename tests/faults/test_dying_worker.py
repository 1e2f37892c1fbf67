"""A process killed at each step of its journeys, with real Redis and real Edge: what it left is
finished by the next one, once."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.flows.sweep import sweep
from tests.faults.dying_worker import FACTS, STEPS, store_in
from tests.flows.workshop import NOW, ScriptedModel, Workshop, workshop

if TYPE_CHECKING:
    from redis.asyncio import Redis


pytestmark = pytest.mark.faults


@pytest.fixture
def tmp_path(quick_path: Path) -> Path:
    return quick_path


def killed_at(directory: Path, redis_url: str, step: str) -> None:
    """Run a journey in a process of its own, which ends at this step."""
    killed = subprocess.run(
        [sys.executable, "-m", "tests.faults.dying_worker", str(directory), redis_url, step],
        cwd=Path(__file__).parents[2],
        timeout=50,
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]


@asynccontextmanager
async def opened(directory: Path, redis: Redis, model: ScriptedModel) -> AsyncIterator[Workshop]:
    """Everything on disk opened, as by another process."""
    store = store_in(directory)
    await store.open()
    try:
        async with workshop(directory, redis, model, store=store) as shop:
            yield shop
    finally:
        await store.close()


@pytest.mark.parametrize(
    "step", [f"{when} {name}" for name in STEPS for when in ("before", "after")]
)
async def test_each_fact_is_there_once_after_a_kill(
    tmp_path: Path, redis: Redis, redis_server: str, step: str
) -> None:
    with ScriptedModel() as model:
        async with workshop(tmp_path, redis, model) as shop:
            await shop.said("I live in Berlin and I like tea", "Nice!")
        killed_at(tmp_path, redis_server, f"distil: {step}")
        store = store_in(tmp_path)
        await store.open()
        try:
            async with workshop(tmp_path, redis, model, store=store) as shop:
                # As another process that takes over once the lease has run out; were the model
                # asked again, it would word the facts in another way.
                shop.now = NOW + 300
                model.answers = [[{**f, "text": f"{f['text']} (again)"} for f in FACTS]]
                await shop.distilled()
                kept = step != "before queue.keep_plan"
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


async def test_what_was_on_disk_when_the_process_was_killed_takes_effect_once(
    tmp_path: Path, redis: Redis, redis_server: str
) -> None:
    killed_at(tmp_path, redis_server, "hand over: after spool.append")
    # Taken by the queue, and not yet off the disk: it is handed over twice.
    killed_at(tmp_path, redis_server, "drain: after queue.put")
    with ScriptedModel() as model:
        model.answers = [FACTS]
        async with opened(tmp_path, redis, model) as shop:
            await sweep(shop.services, shop.metrics)
            assert await shop.services.spool.count() == 0
            await shop.distilled()
            assert await shop.active() == sorted(str(f["text"]) for f in FACTS)
            assert len(await shop.turns()) == 2


@pytest.mark.parametrize(
    "steps",
    [
        ["erase: after directory.keep_erasure"],
        ["erase: after directory.drop"],
        ["erase: after queue.erase"],
        ["erase: before store.erase", "sweep: before store.erase"],
        ["erase: after store.erase", "sweep: after store.erase"],
    ],
    ids="; ".join,
)
async def test_an_erasure_that_was_killed_on_its_way_is_finished_by_the_sweep(
    tmp_path: Path, redis: Redis, redis_server: str, steps: list[str]
) -> None:
    with ScriptedModel() as model:
        async with opened(tmp_path, redis, model) as shop:
            tenant = (await shop.owner()).tenant
            await shop.learn("I live in Berlin and I like tea", "Nice!", facts=FACTS)
            await shop.said("This waits", "It does")
            await shop.services.spool.append(
                await shop.owner(), shop.exchange("This is on disk", "It is")
            )
            bob = (await shop.owner("bob")).tenant
            await shop.said("I am Bob", "Hello Bob", user="bob")
        for step in steps:
            killed_at(tmp_path, redis_server, step)
        async with opened(tmp_path, redis, model) as shop:
            swept = await sweep(shop.services, shop.metrics)
            assert swept.open_erasures == 0
            services = shop.services
            assert await services.directory.by_tenant(tenant) is None
            assert await services.queue.count(tenant) == 0
            assert await services.spool.count(tenant) == 0
            assert await services.store.count(tenant) == 0
            assert all(record["completed"] for record in await services.directory.erased())
            assert await services.queue.count(bob) == 1
