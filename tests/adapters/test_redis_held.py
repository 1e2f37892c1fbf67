"""Pending exchanges that were opened are held up to a number of bytes, not of exchanges."""

from __future__ import annotations

from gateway.adapters.redis_queue.held import EXCHANGE_BYTES, TIMES, Held, Placed
from gateway.core.exchange import Exchange, Turn

WORDS = 500


def placed(id: str) -> dict[str, Placed]:
    turn = Turn(n=0, role="user", at=1.0, text="w" * WORDS)
    exchange = Exchange(id=id, at=1.0, session="s", turns=(turn,), outcome="complete")
    return {id: (1.0, 1, exchange)}


def test_whoever_was_in_conversation_longest_ago_gives_way_to_long_words() -> None:
    held = Held(2 * (EXCHANGE_BYTES + TIMES * WORDS))
    held.keep("ann", placed("a"))
    held.keep("bob", placed("b"))
    assert held.of("ann")
    held.keep("cid", placed("c"))
    assert [bool(held.of(tenant)) for tenant in ("ann", "bob", "cid")] == [True, False, True]
    held.keep("cid", placed("c") | placed("d") | placed("e"))
    assert not held.of("cid"), "what alone is too much is not held"
    held.keep("ann", placed("a"))
    held.drop("ann")
    held.keep("bob", placed("b") | placed("c"))
    assert held.of("bob"), "what was dropped takes no room"
