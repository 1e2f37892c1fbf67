"""Garbage is collected by the event loop's thread, a little at a time, and by nobody else."""

from __future__ import annotations

import argparse
import asyncio
import gc
import socket
import threading
import weakref
from pathlib import Path

import pytest

from gateway import config
from gateway.cli import serving
from gateway.cli.garbage import (
    ALL_AT_LAST_S,
    ALL_S,
    EVERY_S,
    LOOK_S,
    SINCE_S,
    collected_by_the_loop,
    due,
)


class Node:
    """One that holds itself: only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def idle() -> bool:
    return False


def leave(count: int) -> weakref.ref[Node]:
    nodes = [Node() for _ in range(count)]
    return weakref.ref(nodes[0])


async def test_what_a_thread_leaves_behind_is_collected_by_the_loop_and_not_by_the_thread() -> None:
    looked: list[int] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            looked.append(threading.get_ident())

    with collected_by_the_loop(idle):
        gc.callbacks.append(note)
        try:
            left = await asyncio.to_thread(leave, 40_000)
            for _ in range(40):
                if left() is None:
                    break
                await asyncio.sleep(EVERY_S)
        finally:
            gc.callbacks.remove(note)
    assert left() is None
    assert set(looked) == {threading.get_ident()}


async def test_serve_has_the_loop_collect_for_as_long_as_it_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = config.load(
        environ={"GATEWAY_DATA_DIR": str(tmp_path), "GATEWAY_EMBEDDING__PROVIDER": "none"}
    )
    seen: list[tuple[bool, int, bool]] = []

    async def served(*_: object, **__: object) -> None:
        collecting = any(task.get_name() == "collect garbage" for task in asyncio.all_tasks())
        seen.append((gc.isenabled(), gc.get_freeze_count() > 0, collecting))

    monkeypatch.setattr(serving._Server, "serve", served)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked = argparse.Namespace(no_worker=True)
        assert await serving._serve(settings, listener, asked, child=False) == 0
    assert seen == [(False, True, True)]
    assert gc.isenabled()


async def test_what_is_new_is_looked_through_also_where_hardly_more_is_made_than_freed() -> None:
    """As where caches are full; Python would wait until it is some hundreds or thousands more."""
    with collected_by_the_loop(idle):
        left = leave(1)
        for _ in range(40):
            if left() is None:
                break
            await asyncio.sleep(EVERY_S)
    assert left() is None


async def test_afterwards_python_collects_by_itself_again() -> None:
    with collected_by_the_loop(idle):
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("lived_on_s", "since_s", "everything_s", "busy", "generation"),
    [
        (0.0, SINCE_S - 1, ALL_S - 1, False, 0),
        (0.0, SINCE_S, ALL_S - 1, False, 1),
        (0.9 * LOOK_S, EVERY_S, ALL_S - 1, True, 0),
        (LOOK_S, EVERY_S, ALL_S - 1, True, 1),
        (LOOK_S, EVERY_S, ALL_S, True, 1),
        (0.0, EVERY_S, ALL_S, False, 2),
        (0.0, EVERY_S, ALL_AT_LAST_S, True, 2),
    ],
)
def test_what_lived_on_is_looked_through_before_that_takes_long_and_everything_seldom(
    lived_on_s: float, since_s: float, everything_s: float, busy: bool, generation: int
) -> None:
    assert due(lived_on_s, since_s, everything_s, busy=busy) == generation
