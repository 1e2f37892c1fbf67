"""The one place that may create tasks.

A bare `asyncio.create_task` can be garbage-collected before it ends and keeps its error to
itself. Here every task is held, has a name, and has its errors logged. Two kinds: work that
outlives the request it came from (`TaskGroupOfBackground`), and work beside a request that
ends with it (`beside`). And what would hold the loop is done in a thread (`aside`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

import structlog

T = TypeVar("T")
SAID_AGAIN_S: Final = 2.0
LONG_CHARS: Final = 16_000
log = structlog.get_logger("gateway.tasks")


async def aside(chars: int, step: Callable[[], T]) -> T:
    """Do what reads so many characters closely: in a thread where that takes longer than a request
    should wait."""
    return await asyncio.to_thread(step) if chars > LONG_CHARS else step()


def beside(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Run `work` beside the caller, who holds the task and must end it."""
    return asyncio.create_task(work, name=name)


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task begun with `beside` and wait until it is over, whatever it raises."""
    await _cancelled([task])
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as never retrieved


async def _cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they are over.

    A cancellation can be lost: before Python 3.12 `asyncio.wait_for`, which redis-py writes with,
    answers instead of raising it where its work ended in the same instant (a loop of ours went on
    for ever in one end of fifty on a busy machine). So it is said again.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=SAID_AGAIN_S)


class TaskGroupOfBackground:
    """Work that outlives a request: hand-overs, receipts. Implements `ports.Background`."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin `work`; an error in it is logged under `name`, never lost and never raised."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            log.warning("work_cut_short", work=task.get_name())
        elif (error := task.exception()) is not None:
            # The type and the place say what to mend; the message could quote a user.
            log.error("work_failed", work=task.get_name(), error=type(error).__name__)

    async def drain(self, grace_s: float) -> None:
        """Wait for what is under way, and for what that begins; cut short what is left after
        `grace_s` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        while self._running and (left := end - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        await _cancelled(self._running)
