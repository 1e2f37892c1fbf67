"""Random faults: processes that are killed, stopped and restarted, and models in bad moods.

Faults of different parts overlap; those of one part come one after the other. In the quiet
end of a run (`killing` is false) processes are still stopped and models still have moods, but
none is killed, so that what grows in a process can be seen to grow.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from bench.soak.house import House
from bench.soak.ledger import DURABLE_S
from bench.soak.models import MOODS, Models, Use

LONGEST_STOP_S: Final = 6.0
USES: Final[tuple[Use, ...]] = ("chat", "embedding", "extraction")


class Faults:
    """`happened` counts faults by name; `story` says when each began."""

    def __init__(self, house: House, models: Models, dice: random.Random, every_s: float) -> None:
        self._house, self._models, self._dice, self._every_s = house, models, dice, every_s
        self.happened: Counter[str] = Counter()
        self.story: list[tuple[float, str]] = []
        self.killing = True
        self._busy: set[str] = set()
        self.began = time.monotonic()

    async def rage(self, stop: asyncio.Event) -> None:
        """Do harm now and then until told to stop; everything is well again at the end."""
        async with asyncio.TaskGroup() as under_way:
            while not stop.is_set():
                await asyncio.sleep(self._dice.expovariate(1 / self._every_s))
                part, kind, harm = self._choose()
                if part in self._busy or stop.is_set():
                    continue
                self._busy.add(part)
                self.happened[f"{part} {kind}"] += 1
                self.story.append((time.monotonic() - self.began, f"{part} {kind}"))
                under_way.create_task(self._do(part, harm))

    async def _do(self, part: str, harm: Callable[[], Awaitable[None]]) -> None:
        try:
            await harm()
        finally:
            self._busy.discard(part)

    def _choose(self) -> tuple[str, str, Callable[[], Awaitable[None]]]:
        dice = self._dice
        if dice.random() < 0.4:
            use, mood = dice.choice(USES), dice.choice(MOODS)
            return use, mood, lambda: self._mood(use, mood)
        part = dice.choice(("gateway", "redis", "qdrant"))
        if not self.killing or dice.random() < 0.5:
            return part, "stopped", lambda: self._stop(part)
        if part != "gateway":
            return part, "killed", lambda: self._kill(part)
        how = dice.choice(("killed", "killed with its redis", "restarted"))
        return part, how, lambda: self._end_gateway(how)

    async def _mood(self, use: Use, mood: str) -> None:
        self._models.moods[use] = mood
        await asyncio.sleep(self._dice.uniform(0.5, LONGEST_STOP_S))
        del self._models.moods[use]

    async def _stop(self, part: str) -> None:
        """SIGSTOP: it holds its connections and answers nothing."""
        pid = self._house.pid if part == "gateway" else self._house.children().get(part)
        if pid is None:
            return
        process = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(process, signal.SIGSTOP)
            longest = 2.0 if part == "gateway" else LONGEST_STOP_S
            await asyncio.sleep(self._dice.uniform(0.2, longest))
            signal.pidfd_send_signal(process, signal.SIGCONT)
            if part == "gateway":
                # The promised second is one in which it runs.
                await asyncio.sleep(DURABLE_S)
        except ProcessLookupError:
            return  # it died stopped, with its gateway
        finally:
            os.close(process)

    async def _kill(self, part: str) -> None:
        if (pid := self._house.children().get(part)) is not None:
            os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.5)

    async def _end_gateway(self, how: str) -> None:
        redis = self._house.children().get("redis")
        if how == "restarted":
            code = await self._house.terminate()
            if code != 0:
                self.happened[f"gateway ended with status {code} at SIGTERM"] += 1
        else:
            if how == "killed with its redis" and redis is not None:
                os.kill(redis, signal.SIGKILL)
            await self._house.kill()
        await asyncio.sleep(self._dice.uniform(0.0, 0.5))
        await self._house.start()
        await asyncio.sleep(DURABLE_S)
