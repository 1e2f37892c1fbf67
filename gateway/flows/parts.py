"""The parts of a recall: begun side by side, waited for until one common deadline.

A part that is late or away is noted and left out. Nothing that was begun here outlives the
recall, and nobody waits for what is late. In traces each part is a span of its own, below the
recall's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from time import perf_counter
from typing import Any, Final, TypeVar

from gateway.core.errors import EmbedderUnavailable, Unavailable
from gateway.flows.tasks import beside
from gateway.telemetry import tracing
from gateway.telemetry.logs import log

T = TypeVar("T")

DONE_HERE: Final = ("scoring", "choice")
"""Parts that are computed between the others; those that are waited for were begun as tasks."""

_log = log("recall")


class Parts:
    """What was begun, how long each part took, and whether one that was needed is missing.

    `failure` is the last one's reason, where it gave one.
    """

    def __init__(self, seconds: float) -> None:
        self.began = perf_counter()
        self._until = self.began + seconds
        self._tasks: list[asyncio.Task[Any]] = []
        self.took_ms: dict[str, float] = {}
        self.failure: Unavailable | None = None
        self.missing = False

    def begin(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = beside(_traced(work, name) if tracing.is_on() else work, name)
        self._tasks.append(task)
        return task

    async def within(
        self, task: asyncio.Task[T] | None, part: str, *, needed: bool = True
    ) -> T | None:
        """The part's answer; None where it is late or away, which is noted if it was `needed`."""
        if task is None:
            return None
        began = perf_counter()
        if not task.done():
            await asyncio.wait((task,), timeout=max(0.0, self._until - began))
        self.took(part, began)
        if not task.done():
            self.missing |= needed
            return None
        try:
            return task.result()
        except EmbedderUnavailable as exc:
            # No embedder by choice is not a part that is missing.
            self.missing |= needed and exc.code != "none"
        except Unavailable as exc:
            self.missing |= needed
            self.failure = exc
        except Exception as exc:  # noqa: BLE001 (memory never fails a chat, whatever an adapter does)
            self.missing |= needed
            _log.error("recall_part_failed", part=part, error=type(exc).__name__)
        return None

    def took(self, part: str, began: float) -> None:
        seconds = perf_counter() - began
        self.took_ms[part] = seconds * 1000.0
        if part in DONE_HERE and tracing.is_on():
            tracing.past(f"recall-{part}", seconds)

    def end(self) -> None:
        """Nothing that was begun outlives the recall; nobody waits for what is late."""
        for task in self._tasks:
            if task.done():
                _looked_at(task)
            else:
                task.cancel()
                task.add_done_callback(_looked_at)


async def _traced(work: Coroutine[Any, Any, T], name: str) -> T:
    with tracing.span(name):
        return await work


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
