"""Whether what the processes hold of the machine grows: looked at all the time, judged at the end.

Only what one process held over its life can be compared, so the last life of each part counts,
without its first quarter, in which caches fill. A straight line is laid through what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from bench.soak.house import PARTS, House, Usage
from bench.soak.ledger import Ledger

EVERY_S: Final = 2.0
WARM_SHARE: Final = 0.25
KEPT_MB: Final = 16 / 1024
"""What one more exchange may take in the store and in Redis, in memory as on disk: its turns,
facts, vectors and indexes are data and no leak. Measured: some 10 KB in the store."""
LEAST_S: Final = 60.0
"""A shorter life shows nothing: it is told and not judged."""


@dataclass(frozen=True)
class Trend:
    """A figure at the beginning and at the end of the straight line through it, `span_s` apart."""

    name: str
    span_s: float
    first: float
    last: float
    bound: float
    """How much more may be held at the end of a judged span than at its beginning."""

    @property
    def judged(self) -> bool:
        return self.span_s >= LEAST_S

    @property
    def grows(self) -> bool:
        return self.judged and self.last - self.first > self.bound


class Watch:
    """`samples` since the start of the run; beside each how many things had been said."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.samples: list[tuple[Usage, int]] = []

    async def look(self, stop: asyncio.Event, ledger: Ledger) -> None:
        async with httpx.AsyncClient() as client:
            while not stop.is_set():
                if self._house.up.is_set():
                    usage = await self._house.usage(client)
                    if usage is not None:
                        self.samples.append((usage, len(ledger.said)))
                await asyncio.sleep(EVERY_S)

    def trends(self) -> list[Trend]:
        found: list[Trend] = []
        for part in PARTS:
            lives = self._last_life(part)
            if len(lives) < 3:
                continue
            data = 0.0 if part == "gateway" else self._said(lives) * KEPT_MB
            found.append(_trend(f"{part}: memory, MB", lives, _megabytes(part), 24.0 + data))
            found.append(_trend(f"{part}: descriptors", lives, _descriptors(part), 16.0))
            if part == "gateway":
                found.append(_trend("gateway: tasks", lives, lambda u: u.tasks, 40.0))
        every = [usage for usage, _ in self.samples]
        if len(every) >= 3:
            every = every[int(len(every) * 0.5) :]
            for place in sorted(every[-1].disk):
                trend = _trend(
                    f"disk: {place}, MB", every, _disk(place), 64.0 + self._said(every) * KEPT_MB
                )
                found.append(trend)
        return found

    def _said(self, usages: Sequence[Usage]) -> int:
        """How much was said meanwhile."""
        counts = [said for usage, said in self.samples if usages[0].at <= usage.at <= usages[-1].at]
        return counts[-1] - counts[0]

    def _last_life(self, part: str) -> list[Usage]:
        with_it = [usage for usage, _ in self.samples if part in usage.pids]
        if not with_it:
            return []
        last = with_it[-1].pids[part]
        life = [usage for usage in with_it if usage.pids[part] == last]
        return life[int(len(life) * WARM_SHARE) :]


def _megabytes(part: str) -> Callable[[Usage], float]:
    return lambda usage: usage.resident[part] / 2**20


def _descriptors(part: str) -> Callable[[Usage], float]:
    return lambda usage: usage.descriptors[part]


def _disk(place: str) -> Callable[[Usage], float]:
    return lambda usage: usage.disk.get(place, 0) / 2**20


def _trend(
    name: str, usages: Sequence[Usage], figure: Callable[[Usage], float], bound: float
) -> Trend:
    """Least squares."""
    times = [usage.at - usages[0].at for usage in usages]
    values = [figure(usage) for usage in usages]
    mid_t, mid_v = sum(times) / len(times), sum(values) / len(values)
    spread = sum((t - mid_t) ** 2 for t in times) or 1.0
    slope = sum((t - mid_t) * (v - mid_v) for t, v in zip(times, values, strict=True)) / spread
    return Trend(name, times[-1], mid_v - slope * mid_t, mid_v + slope * (times[-1] - mid_t), bound)
