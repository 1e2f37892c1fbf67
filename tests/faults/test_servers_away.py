"""Redis and Qdrant by URL, through a network that refuses, resets, hangs, crawls, babbles and cuts
answers off: chats go on, and what was said meanwhile takes effect once, in its order."""

from __future__ import annotations

import time

import pytest

from gateway.core.breaker import FAILURES
from tests.faults.conftest import SLACK_S, Chat, logged, metric
from tests.faults.servers import House
from tests.gateway_process import until
from tests.tcp_proxy import FAULTS, Fault, TcpProxy

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

WHILE_AWAY = 6
"""Chats: one more than a breaker lets fail before it opens, if none of them fail together."""
MOST_LINES = 8
"""Complaints about one outage: each of the parts that ask Redis says it once."""
STAGES = {"qdrant": {"profile", "none"}, "redis": {"lexical", "profile", "none"}}
"""How far recall may come at best, without the vectors that nobody has here. Who somebody is
stands in Redis, and is known for a second after it was asked."""


@pytest.mark.parametrize("part", ["redis", "qdrant"])
@pytest.mark.parametrize("fault", FAULTS)
def test_chats_go_on_while_a_server_is_away_and_what_was_said_takes_effect_once_in_order(
    servers: House, part: str, fault: Fault
) -> None:
    proxy: TcpProxy = getattr(servers, part)
    user = f"{part} {fault}".replace(" ", "-")
    ana = Chat(servers.b, user)
    ana.say("I'm allergic to peanuts.")
    until(lambda: ana.say("Hello").headers["X-Memory-Status"] == "ok", 30)
    complaints = len(logged(servers.b, "warning")) + len(logged(servers.b, "error"))
    with proxy.that(fault):
        for n in range(WHILE_AWAY):
            began = time.monotonic()
            answer = ana.say(f"My locker number is {100 + n}.")
            assert time.monotonic() - began < SLACK_S
            assert answer.headers["X-Memory-Status"] in {"partial", "degraded"}
            assert answer.headers["X-Memory-Stage"] in STAGES[part]
            time.sleep(0.01)  # no two in the same instant: their order is what is asked
        if (part, fault) != ("redis", "is slow"):
            # A Redis that answers late answers: what is not waited for goes on using it. Else it
            # opens while chats go on: those that failed together count once.
            until(lambda: ana.say("Hello") and metric(servers.b, "breaker_open") >= 1)
        assert metric(servers.b, "recalls_total") > 0
    complaints = len(logged(servers.b, "warning")) + len(logged(servers.b, "error")) - complaints
    assert 1 <= complaints <= MOST_LINES

    def numbers() -> list[str]:
        said = sorted(ana.memories("turn"), key=lambda turn: str(turn["valid_from"]))
        return [turn["text"] for turn in said if "locker" in turn["text"]]

    wanted = [f"My locker number is {100 + n}." for n in range(WHILE_AWAY)]
    until(lambda: len(numbers()) >= WHILE_AWAY and servers.queued() == 0, 60)
    assert numbers() == wanted
    until(lambda: ana.say("Are you back?").headers["X-Memory-Status"] == "ok", 30)
    until(lambda: metric(servers.b, "breaker_open") == 0)
    until(lambda: metric(servers.b, "spool_exchanges") == 0)


def test_who_is_not_known_does_not_wait_for_a_redis_that_hangs(servers: House) -> None:
    """The deadline is 150 ms; of three one may be the probe that has to wait for it."""
    known = Chat(servers.b, "known-while-redis-hangs")
    known.say("Hello")
    with servers.redis.that("hangs"):
        for n in range(FAILURES + 1):
            Chat(servers.b, f"unknown-{n}").say("Hello")
        until(lambda: metric(servers.b, 'breaker_open{part="directory"}') == 1)
        latencies = [
            float(Chat(servers.b, f"new-{n}").say("Hello").headers["X-Memory-Latency-Ms"])
            for n in range(3)
        ]
    assert min(latencies) < 75, latencies
    until(lambda: known.say("Back?") and metric(servers.b, "breaker_open") == 0, 30)
