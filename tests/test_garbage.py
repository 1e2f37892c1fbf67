"""Garbage is collected by the event loop's thread, seldom, and by nobody else."""

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
from gateway.cli.garbage import EVERY_S, MIDDLE, OLD, YOUNG, collected_by_the_loop, due


class Node:
    """One that holds itself: only the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def leave(count: int) -> weakref.ref[Node]:
    nodes = [Node() for _ in range(count)]
    return weakref.ref(nodes[0])


async def test_what_a_thread_leaves_behind_is_collected_by_the_loop_and_not_by_the_thread() -> None:
    looked: list[int] = []

    def note(phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            looked.append(threading.get_ident())

    with collected_by_the_loop():
        gc.callbacks.append(note)
        try:
            left = await asyncio.to_thread(leave, 2 * YOUNG)
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


async def test_afterwards_python_collects_by_itself_again() -> None:
    with collected_by_the_loop():
        assert not gc.isenabled()
        assert gc.get_freeze_count() > 0
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize(
    ("counts", "generation"),
    [
        ((YOUNG, 0, 0), None),
        ((YOUNG, MIDDLE + 1, OLD + 1), None),
        ((YOUNG + 1, 0, 0), 0),
        ((YOUNG + 1, MIDDLE, OLD + 1), 2),
        ((YOUNG + 1, MIDDLE + 1, 0), 1),
        ((YOUNG + 1, MIDDLE + 1, OLD + 1), 2),
    ],
)
def test_the_young_are_looked_through_often_and_the_old_seldom(
    counts: tuple[int, int, int], generation: int | None
) -> None:
    assert due(*counts) == generation
