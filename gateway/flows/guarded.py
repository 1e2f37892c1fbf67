"""Breakers around the parts that a chat waits for: what failed just now is not asked again yet.

`guard` stands in for a service and passes everything on; the calls named to it go through a
breaker. A call counts as failed where the part is unavailable, and where whoever asked gave it
up for being late. A refused call raises what the part itself would, at once. That a part fails
is said once in the log, and once that it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import wraps
from time import monotonic
from typing import Any, Final, TypeVar, cast

from gateway.core.breaker import LATE_S, Breaker
from gateway.core.errors import Unavailable
from gateway.telemetry.logs import Outage, log
from gateway.telemetry.metrics import Metrics

S = TypeVar("S")

NOT_AWAY: Final = frozenset({"none", "loading"})
"""Codes of an `Unavailable` that say nothing of a failure: there is no such part, or not yet."""


def guard(
    service: S,
    breaker: Breaker,
    *,
    calls: Collection[str],
    error: type[Unavailable],
    part: str,
    metrics: Metrics,
    cached: Collection[str] = (),
    clock: Callable[[], float] = monotonic,
) -> S:
    """`service`, whose `calls` are refused with `error` while `breaker` is open.

    Those of them that are `cached` may be answered without asking the part: that they are proves
    nothing, and none of them is let through to try it.
    """
    of = frozenset(calls), frozenset(cached)
    return cast(S, _Guarded(service, breaker, *of, error, part, metrics, clock))


class _Guarded:
    def __init__(
        self,
        service: Any,
        breaker: Breaker,
        calls: frozenset[str],
        cached: frozenset[str],
        error: type[Unavailable],
        part: str,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._service = service
        self._breaker = breaker
        self._calls = calls
        self._cached = cached
        self._error = error
        self._part = part
        self._open = metrics.breaker_open.labels(part)
        self._clock = clock
        self._open.set(0)
        self._told_open = False
        self._outage = Outage(log("parts"), part, clock=clock)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._service, name)
        if name not in self._calls:
            return attribute
        guarded = self._through_breaker(attribute, proves=name not in self._cached)
        self.__dict__[name] = guarded  # found without this method from now on
        return guarded

    def _through_breaker(self, call: Callable[..., Any], *, proves: bool) -> Callable[..., Any]:
        @wraps(call)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            began = self._clock()
            if not (self._breaker.is_well or self._may_try(began, proves=proves)):
                self._tell()
                raise self._error(
                    f"{self._part} failed a moment ago and is not asked again yet",
                    code="breaker_open",
                )
            try:
                answer = await call(*args, **kwargs)
            except Unavailable as exc:
                if exc.code not in NOT_AWAY:
                    self._failed(exc.message, began)
                raise
            except asyncio.CancelledError:
                if self._clock() - began >= LATE_S:
                    self._failed("no answer in time", began)
                raise
            except Exception:
                # Whatever else it raises (an owner that is gone, a bad question): it answered.
                self._answered()
                raise
            if proves and not self._is_well:
                self._answered()
            return answer

        return guarded

    @property
    def _is_well(self) -> bool:
        """As nearly always: nothing to close, and nothing to say."""
        return self._breaker.is_well and not (self._told_open or self._outage.ongoing)

    def _may_try(self, now: float, *, proves: bool) -> bool:
        return self._breaker.allows(now) if proves else not self._breaker.is_open

    def _failed(self, reason: str, began: float) -> None:
        self._breaker.failed(self._clock(), begun=began)
        self._outage.failed(reason)
        self._tell()

    def _answered(self) -> None:
        self._breaker.succeeded()
        self._outage.recovered()
        self._tell()

    def _tell(self) -> None:
        """The gauge. Parts of one server share a breaker: another's call may have turned it."""
        if self._told_open != self._breaker.is_open:
            self._told_open = self._breaker.is_open
            self._open.set(self._told_open)
