"""A circuit breaker: a part that failed again and again is not asked for a while.

Without it every chat waits its whole deadline for a part that is away (150 ms each, by default).
Closed: all calls pass. After `FAILURES` failures in a row it opens: none pass. When the pause is
over it is half-open: one call passes as a probe; its success closes the breaker, its failure
opens it again for twice as long, up to `MAX_PAUSE_S`.

Calls that were under way together when one failed met the same trouble, and count as one failure:
a store that stood still once, for as long as a recall may take, made sixteen chats late together,
and whoever came in the half second after it, when it answered again, was answered without memories.
"""

from __future__ import annotations

from typing import Final

FAILURES: Final = 5
FIRST_PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 8.0
LATE_S: Final = 0.06
"""A call given up sooner was most likely given up with its request, whose client left.

Less than half of a recall's deadline (150 ms by default): a person's next chat may wait half of it
for their last one's hand-over, and with 80 ms here what it then gave up never counted. While Redis
hung, eleven quick chats of one person each waited the whole deadline; now five do.
"""
PROBE_S: Final = 10.0
"""A probe that was never heard of again does not hold the place of the next one longer."""


class Breaker:
    """One part's breaker. `now` is any clock that only goes forward, in seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._last_counted = float("-inf")
        self._pause_s = FIRST_PAUSE_S
        self._until: float | None = None
        self._probing_since: float | None = None

    @property
    def is_open(self) -> bool:
        """Calls are refused, but for a probe now and then."""
        return self._until is not None

    @property
    def is_well(self) -> bool:
        """Nothing failed since it last answered: calls pass, and an answer tells nothing new."""
        return self._failures == 0 and self._until is None

    def allows(self, now: float) -> bool:
        """May a call pass? If it does while the breaker is open, it is the probe."""
        if self._until is None:
            return True
        if now < self._until:
            return False
        if self._probing_since is not None and now - self._probing_since < PROBE_S:
            return False
        self._probing_since = now
        return True

    def succeeded(self) -> None:
        """The part answered: whatever was before is forgotten."""
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._until = self._probing_since = None

    def failed(self, now: float, *, begun: float) -> None:
        """A call of the time `begun` was not answered, or not in time."""
        if self._until is not None:
            if self._probing_since is None or begun < self._probing_since:
                return  # it was under way before the breaker opened and proves nothing new
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
        else:
            if self._failures and begun < self._last_counted:
                return
            self._failures += 1
            self._last_counted = now
            if self._failures < FAILURES:
                return
        self._until = now + self._pause_s
        self._probing_since = None
