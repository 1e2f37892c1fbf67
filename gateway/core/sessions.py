"""The id of a conversation that no client has named."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gateway.core.identity import Owner
from gateway.core.memory import Instant


def session_id(owner: Owner, marks: Sequence[str], *, now: Instant, idle_gap_s: float) -> str:
    """The id of a conversation that begins with these messages at this time.

    It is derived and not drawn, so that two tries of a first request agree on it without
    having met, also where shared state is away. Time counts in steps of the idle gap: the
    same opening words after a gap (which is always a later step) begin another conversation.
    """
    first = marks[0] if marks else ""
    step = int(now // idle_gap_s)
    seed = f"{owner.tenant}\0{step}\0{first}".encode()
    return "ses_" + hashlib.blake2b(seed, key=owner.key, digest_size=12).hexdigest()
