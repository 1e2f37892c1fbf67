"""When Python looks for objects that only hold each other: rarely, and never in just any thread.

What is there when serving begins stays, and is not looked through again. What a request leaves
behind is nearly all freed without the collector: by its defaults it ran for a tenth of the CPU
time, and looked through a hundred thousand cached memories while streams waited.

By itself it runs in whichever thread happens to make one object too many. The thread that embeds
documents steps back before all others (niceness 10), and it kept the interpreter for 70 ms over
what is a matter of 2, since who collects holds Python's lock and waits for a core as well: every
chat waited with it. So the event loop's own thread does it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from gateway.flows.tasks import beside

EVERY_S: Final = 0.05
YOUNG: Final = 20_000
"""Objects made since the last look, those freed since taken off: the young are looked through."""
MIDDLE, OLD = 20, 100
"""So many looks at the young, and at those in between, bring a look at the next older ones."""


@contextmanager
def collected_by_the_loop() -> Iterator[None]:
    """Within it garbage is collected by the running loop."""
    gc.collect()
    gc.freeze()
    gc.disable()
    collecting = beside(_collect(), "collect garbage")
    try:
        yield
    finally:
        collecting.cancel()
        gc.enable()
        gc.unfreeze()


async def _collect() -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        if (generation := due(*gc.get_count())) is not None:
            gc.collect(generation)


def due(young: int, middle: int, old: int) -> int | None:
    """The oldest generation whose turn it is by the counts of Python's own collector (which puts
    the old ones off where few are new among them); None: none."""
    if young <= YOUNG:
        return None
    if old > OLD:
        return 2
    return 1 if middle > MIDDLE else 0
