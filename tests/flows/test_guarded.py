"""Calls through a breaker: what counts as a failure, and what is refused at once."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from gateway.config import load
from gateway.core.breaker import FAILURES, FIRST_PAUSE_S, LATE_S, Breaker
from gateway.core.errors import EmbedderUnavailable, StoreUnavailable
from gateway.flows.guarded import guard
from gateway.telemetry.logs import STEADY_S
from gateway.telemetry.metrics import Metrics


class Part:
    """Something outside: away, silent or well, as it is told."""

    name = "a part"

    def __init__(self) -> None:
        self.asked = 0
        self.raises: Exception | None = None
        self.silent = False

    async def search(self, word: str) -> str:
        self.asked += 1
        if self.raises is not None:
            raise self.raises
        if self.silent:
            await asyncio.Event().wait()
        return f"found {word}"

    async def put(self) -> str:
        return "kept"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def guarded(part: Part, clock: Clock, metrics: Metrics | None = None) -> Part:
    return guard(
        part,
        Breaker(),
        calls=("search",),
        error=StoreUnavailable,
        part="store",
        metrics=metrics or Metrics(),
        clock=clock,
    )


async def failures(through: Part, times: int) -> None:
    for _ in range(times):
        with pytest.raises(StoreUnavailable):
            await through.search("x")


async def test_a_part_that_is_well_is_asked_each_time() -> None:
    part = Part()
    through = guarded(part, Clock())
    assert [await through.search("a"), await through.search("b")] == ["found a", "found b"]
    assert await through.put() == "kept"
    assert through.name == "a part"


async def test_a_part_that_is_away_is_not_asked_after_a_few_failures() -> None:
    part, metrics = Part(), Metrics()
    part.raises = StoreUnavailable("away")
    through = guarded(part, Clock(), metrics)
    await failures(through, FAILURES + 20)
    assert part.asked == FAILURES
    assert b'breaker_open{part="store"} 1.0' in metrics.render()


async def test_it_is_asked_again_when_it_is_back() -> None:
    part, clock, metrics = Part(), Clock(), Metrics()
    part.raises = StoreUnavailable("away")
    through = guarded(part, clock, metrics)
    await failures(through, FAILURES)
    part.raises = None
    clock.now += FIRST_PAUSE_S
    assert await through.search("a") == "found a"
    assert await through.search("b") == "found b"
    assert b'breaker_open{part="store"} 0.0' in metrics.render()


async def test_calls_that_were_given_up_for_being_late_open_it() -> None:
    part, clock = Part(), Clock()
    part.silent = True
    through = guarded(part, clock)
    for _ in range(FAILURES):
        task = asyncio.ensure_future(through.search("x"))
        await asyncio.sleep(0)
        clock.now += LATE_S * 1.5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await failures(through, 1)
    assert part.asked == FAILURES


async def test_what_is_given_up_in_the_second_half_of_a_deadline_opens_it_too() -> None:
    """The first half may go by in waiting for the same person's last exchange."""
    part, clock = Part(), Clock()
    part.silent = True
    through = guarded(part, clock)
    for _ in range(FAILURES):
        task = asyncio.ensure_future(through.search("x"))
        await asyncio.sleep(0)
        clock.now += load(environ={}).memory.deadline_ms / 1000 / 2 - 0.01
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await failures(through, 1)
    assert part.asked == FAILURES


async def test_many_that_one_standstill_made_late_do_not() -> None:
    part, clock = Part(), Clock()
    part.silent = True
    through = guarded(part, clock)
    tasks = [asyncio.ensure_future(through.search("x")) for _ in range(FAILURES * 3)]
    await asyncio.sleep(0)
    for task in tasks:
        clock.now += LATE_S * 1.5
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    part.silent = False
    assert await through.search("x") == "found x"


async def test_calls_that_ended_with_their_client_do_not() -> None:
    part = Part()
    part.silent = True
    through = guarded(part, Clock())
    for _ in range(FAILURES * 2):
        task = asyncio.ensure_future(through.search("x"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert part.asked == FAILURES * 2


async def test_a_model_that_is_still_loading_is_no_failure() -> None:
    part = Part()
    part.raises = EmbedderUnavailable("loading", code="loading")
    through = guarded(part, Clock())
    for _ in range(FAILURES * 2):
        with pytest.raises(EmbedderUnavailable):
            await through.search("x")
    assert part.asked == FAILURES * 2


async def test_an_answer_that_is_an_error_of_the_caller_is_an_answer() -> None:
    part, clock = Part(), Clock()
    through = guarded(part, clock)
    part.raises = StoreUnavailable("away")
    await failures(through, FAILURES)
    clock.now += FIRST_PAUSE_S
    part.raises = ValueError("bad question")
    for _ in range(FAILURES * 2):
        with pytest.raises(ValueError, match="bad question"):
            await through.search("x")
    assert part.asked == FAILURES * 3


async def test_parts_that_share_a_breaker_each_show_how_it_stands() -> None:
    """Redis is queue and state at once: what one of them finds out holds for the other."""
    metrics, shared, part, clock = Metrics(), Breaker(), Part(), Clock()
    queue, state = (
        guard(
            part,
            shared,
            calls=("search",),
            error=StoreUnavailable,
            part=name,
            metrics=metrics,
            clock=clock,
        )
        for name in ("queue", "state")
    )
    part.raises = StoreUnavailable("away")
    await failures(queue, FAILURES)
    await failures(state, 1)
    assert metrics.breaker_open.labels("state")._value.get() == 1
    part.raises = None
    clock.now += FIRST_PAUSE_S
    await state.search("x")
    await queue.search("x")
    assert metrics.breaker_open.labels("queue")._value.get() == 0


async def test_a_part_that_fails_is_said_once_and_once_that_it_is_back() -> None:
    part, clock = Part(), Clock()
    through = guarded(part, clock)
    part.raises = StoreUnavailable("away")
    with capture_logs() as said:
        await failures(through, 2 * FAILURES)
        part.raises = None
        clock.now += FIRST_PAUSE_S
        await through.search("x")
        clock.now += STEADY_S
        await through.search("x")
        await through.search("x")
    assert [(line["event"], line["part"]) for line in said] == [
        ("part_failing", "store"),
        ("part_back", "store"),
    ]


async def test_an_answer_from_a_cache_does_not_speak_for_the_part() -> None:
    part, clock = Part(), Clock()
    through = guard(
        part,
        Breaker(),
        calls=("search", "put"),
        cached=("put",),
        error=StoreUnavailable,
        part="store",
        metrics=Metrics(),
        clock=clock,
    )
    part.raises = StoreUnavailable("away")
    for _ in range(FAILURES):
        assert await through.put() == "kept"
        await failures(through, 1)
    clock.now += FIRST_PAUSE_S
    with pytest.raises(StoreUnavailable, match="a moment ago"):
        await through.put()
    part.raises = None
    assert await through.search("x") == "found x"
    assert await through.put() == "kept"
