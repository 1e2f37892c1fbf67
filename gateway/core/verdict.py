"""What becomes of work that failed: tried again, and when, or buried.

Strategy: what failed for reasons of its own (an answer that cannot be read, a bug that it
meets) is tried a few times, ever further apart. Then a batch is halved, until what cannot be
distilled stands alone and is dead-lettered, and the others are distilled. What failed because a
part is away waits for the part, however long that takes.
"""

from __future__ import annotations

from gateway.core.delivery import Verdict
from gateway.core.errors import ExtractorUnavailable, Unavailable, Unreadable
from gateway.core.memory import Instant

FIRST_S = 2.0
LONGEST_S = 600.0
"""Between tries that count: 2, 4, 8, … seconds, at most ten minutes."""
AWAY_S = (2.0, 60.0)
"""Between tries while a part is away: a quarter of the time waited, within these bounds."""
TRIES_OF_A_PART = 2
"""Tries of each half of a batch that failed at every try. `queue.lua` gives as many."""


def verdict(
    error: Exception,
    *,
    tries: int,
    max_tries: int,
    waited_s: float,
    now: Instant,
    dice: float,
    exchanges: int = 1,
) -> Verdict:
    """What to do after `error` in a batch that has failed `tries` times before.

    `exchanges` is in how many parts the batch could be taken: 1 where it is one, or decided.

    `dice` (0 to 1) spreads retries, so that users who failed together do not come back
    together. What an upstream asked to wait is waited at least.
    """
    reason = (
        f"{type(error).__name__}: {error}" if isinstance(error, KNOWN) else type(error).__name__
    )
    counts = (
        error.counts_as_try
        if isinstance(error, ExtractorUnavailable)
        else not isinstance(error, Unavailable)
    )
    last = counts and tries + 1 >= max_tries
    if last and exchanges == 1:
        return Verdict("bury", reason=reason)
    if last:
        delay = FIRST_S
    elif counts:
        delay = min(LONGEST_S, FIRST_S * 2.0**tries)
    else:
        least, most = AWAY_S
        delay = min(most, max(least, waited_s / 4))
    delay *= 0.75 + dice / 2
    if isinstance(error, ExtractorUnavailable) and error.retry_after_s is not None:
        # The jitter goes on top: sooner than asked would be refused again.
        delay = max(delay, error.retry_after_s * (1 + dice / 4))
    if last:
        return Verdict(
            "split",
            reason=reason,
            retry_at=now + delay,
            keep=(exchanges + 1) // 2,
            tries=max(0, max_tries - TRIES_OF_A_PART),
        )
    return Verdict("retry", reason=reason, retry_at=now + delay, counts_as_try=counts)


KNOWN = (Unavailable, Unreadable)
"""Errors of ours, whose messages hold no content; of any other only the name is kept."""
