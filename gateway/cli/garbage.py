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
they are looked through by the clock, and what lived on before that would take longer than a few
milliseconds: it takes no longer than it took to look through the same objects when they were new.
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
LOOK_S: Final = 0.005
"""What a look at all that was made since the last such look may take, for everybody waits."""
SINCE_S: Final = 10.0
"""How often there is one at least: failures leave circles that hold bodies until then."""
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
    lived_on = 0.0
    while True:
        await asyncio.sleep(EVERY_S)
        now, began = loop.time(), thread_time()
        generation = due(lived_on, now - since, now - everything, busy=busy())
        gc.collect(generation)
        if generation == 0:
            lived_on += thread_time() - began
            continue
        lived_on, since = 0.0, now
        if generation == 2:
            everything = now


def due(lived_on_s: float, since_s: float, everything_s: float, *, busy: bool) -> int:
    """The oldest generation to look through. `lived_on_s`: what looking through the new took since
    the last look at what lived on; the others are the times since that, and since the last look at
    everything."""
    if everything_s >= (ALL_AT_LAST_S if busy else ALL_S):
        return 2
    return 1 if lived_on_s >= LOOK_S or since_s >= SINCE_S else 0
