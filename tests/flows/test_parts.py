"""Parts of a recall: together within one deadline, and over when it is."""

from __future__ import annotations

import asyncio
import gc
import time

from gateway.core.errors import EmbedderUnavailable, StoreUnavailable
from gateway.flows.parts import Parts


async def answer(value: int) -> int:
    return value


async def fail(error: Exception) -> int:
    raise error


async def test_an_answer_in_time_is_handed_on_with_how_long_it_took() -> None:
    parts = Parts(5.0)
    assert await parts.within(parts.begin(answer(7), "a"), "a") == 7
    assert parts.took_ms["a"] >= 0.0
    assert not parts.missing


async def test_parts_share_one_deadline() -> None:
    parts = Parts(0.05)
    never = asyncio.Event()
    tasks = [parts.begin(never.wait(), f"t{i}") for i in range(5)]
    began = time.perf_counter()
    assert [await parts.within(task, "late") for task in tasks] == [None] * 5
    assert time.perf_counter() - began < 1.0
    assert parts.missing
    parts.end()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)


async def test_a_part_that_is_away_says_why() -> None:
    parts = Parts(5.0)
    assert await parts.within(parts.begin(fail(StoreUnavailable("down")), "s"), "s") is None
    assert parts.missing
    assert isinstance(parts.failure, StoreUnavailable)


async def test_a_bug_in_an_adapter_is_a_missing_part() -> None:
    parts = Parts(5.0)
    assert await parts.within(parts.begin(fail(KeyError("x")), "s"), "s") is None
    assert parts.missing


async def test_what_is_absent_by_choice_or_not_needed_is_not_missing() -> None:
    parts = Parts(5.0)
    by_choice = EmbedderUnavailable("none is set", code="none")
    assert await parts.within(parts.begin(fail(by_choice), "e"), "e") is None
    extra = parts.begin(fail(StoreUnavailable("down")), "x")
    assert await parts.within(extra, "x", needed=False) is None
    assert await parts.within(None, "nothing") is None
    assert not parts.missing


async def test_an_error_that_nobody_waited_for_is_not_reported_as_lost() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: reported.append(about))
    parts = Parts(5.0)
    await asyncio.wait((parts.begin(fail(StoreUnavailable("down")), "s"),))
    parts.end()
    del parts
    gc.collect()
    assert not reported
