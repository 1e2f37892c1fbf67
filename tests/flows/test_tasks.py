"""Work in the background: nothing is lost, and an end is waited for."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from gateway.flows import tasks
from gateway.flows.tasks import TaskGroupOfBackground, beside, ended


async def test_draining_waits_for_what_is_under_way_and_for_what_that_begins() -> None:
    background = TaskGroupOfBackground()
    done = []

    async def second() -> None:
        await asyncio.sleep(0)
        done.append(2)

    async def first() -> None:
        await asyncio.sleep(0)
        background.spawn(second(), "second")
        done.append(1)

    background.spawn(first(), "first")
    await background.drain(1)
    assert done == [1, 2]
    assert len(background) == 0


async def test_what_takes_too_long_is_cut_short_and_said() -> None:
    background = TaskGroupOfBackground()
    background.spawn(asyncio.sleep(60), "sleep")
    with capture_logs() as logged:
        await background.drain(0.01)
        await asyncio.sleep(0)
    assert [line["work"] for line in logged] == ["sleep"]


async def test_an_error_is_logged_without_its_words() -> None:
    async def fail() -> None:
        raise ValueError("a user's words")

    background = TaskGroupOfBackground()
    with capture_logs() as logged:
        background.spawn(fail(), "hand over")
        await background.drain(1)
        await asyncio.sleep(0)
    assert (logged[0]["work"], logged[0]["error"]) == ("hand over", "ValueError")
    assert "words" not in str(logged)


async def test_an_end_that_was_lost_on_the_way_is_said_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "SAID_AGAIN_S", 0.01)

    async def loses_the_first() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(60)

    one, background = beside(loses_the_first(), "one"), TaskGroupOfBackground()
    background.spawn(loses_the_first(), "another")
    await asyncio.sleep(0)
    await ended(one)
    assert one.cancelled()
    await background.drain(0.01)
    assert len(background) == 0


async def test_a_task_beside_a_request_ends_with_it() -> None:
    task = beside(asyncio.sleep(60), "beside")
    await ended(task)
    assert task.cancelled()
