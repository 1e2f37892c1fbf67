"""The one place that may create tasks.

A bare `asyncio.create_task` can be garbage-collected before it ends and keeps its error to
itself. Here every task is held, has a name, and has its errors logged. Two kinds: work that
outlives the request it came from (`TaskGroupOfBackground`), and work beside a request that
ends with it (`beside`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog

T = TypeVar("T")
log = structlog.get_logger("gateway.tasks")


def beside(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Run `work` beside the caller, who holds the task and must end it."""
    return asyncio.create_task(work, name=name)


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task begun with `beside` and wait until it is over, whatever it raises."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as never retrieved


class TaskGroupOfBackground:
    """Work that outlives a request: hand-overs, receipts. Implements `ports.Background`."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Begin `work`; an error in it is logged under `name`, never lost and never raised."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            log.warning("background work was cut short", work=task.get_name())
        elif (error := task.exception()) is not None:
            # The type and the place say what to mend; the message could quote a user.
            log.error("background work failed", work=task.get_name(), error=type(error).__name__)

    async def drain(self, grace_s: float) -> None:
        """Wait for what is under way, and for what that begins; cut short what is left after
        `grace_s` seconds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace_s
        while self._running and (left := end - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        rest = list(self._running)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest)
