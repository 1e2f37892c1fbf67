"""When Python looks for objects that only hold each other: a little at a time, and never in just
any thread.

What is there when serving begins stays, and is not looked through again. What a request leaves
behind is nearly all freed without the collector: by its defaults it ran for a tenth of the CPU
time, and looked through a hundred thousand cached memories while streams waited.

By itself it runs in whichever thread happens to make one object too many. A thread that steps back
before all others (niceness 10) kept the interpreter for 70 ms over what is a matter of 2, since who
collects holds Python's lock and waits for a core as well: every chat waited with it. So the event
loop's own thread does it.

And it goes by how many more objects were made than freed. Where caches are full that is none: new
memories come, others go, and when their turn came the new ones were half a million, for 70 ms. So
they are looked through by the clock, and what lived on more or less often, by how long it takes.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time
from typing import Final

from gateway.flows.tasks import beside

EVERY_S: Final = 0.1
"""How often what was made since the last time is looked through: 2 ms at 150 chats a second."""
SINCE_S: Final = 10.0
"""How often, at most, all that was made since the last such look is: failures leave circles that
hold bodies, and live on until then."""
LOOK_S: Final = 0.005
"""What such a look may take: ten seconds of full load were a look of 80 ms, and everybody waits."""
ALL_S, ALL_AT_LAST_S = 600.0, 3600.0
"""How often everything is, in a moment in which no answer is open, and where there is no such
moment: 50 to 300 ms."""


@contextmanager
def collected_by_the_loop(busy: Callable[[], bool]) -> Iterator[None]:
    """Within it garbage is collected by the running loop; `busy` tells whether somebody waits."""
    gc.collect()
    gc.freeze()
    gc.disable()
    collecting = beside(_collect(busy), "collect garbage")
    try:
        yield
    finally:
        collecting.cancel()
        gc.enable()
        gc.unfreeze()


async def _collect(busy: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    since = everything = loop.time()
    pause = EVERY_S
    while True:
        await asyncio.sleep(EVERY_S)
        now, began = loop.time(), thread_time()
        generation = due(now - since, now - everything, pause_s=pause, busy=busy())
        gc.collect(generation)
        if generation == 1:
            pause = next_pause(pause, thread_time() - began)
        if generation > 0:
            since = now
        if generation == 2:
            everything = now


def due(since_s: float, everything_s: float, *, pause_s: float, busy: bool) -> int:
    """The oldest generation to look through, so long after the last looks at the middle one and at
    everything."""
    if everything_s >= (ALL_AT_LAST_S if busy else ALL_S):
        return 2
    return 1 if since_s >= pause_s else 0


def next_pause(pause_s: float, took_s: float) -> float:
    """How long what lives on is left alone after a look at it: what there is to look through grows
    with the time between."""
    aimed = pause_s * LOOK_S / max(took_s, LOOK_S / 2)
    return min(max(EVERY_S, aimed), SINCE_S)
