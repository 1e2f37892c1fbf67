"""The port `ExchangeQueue` over real Redis: the embedded one, and the one that
GATEWAY_TEST_REDIS_URL names; and over a real cluster of one node, which refuses what crosses
slots. Time is passed in, so that nothing here waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from gateway.adapters.redis_queue import SEEN_S, RedisQueue
from gateway.adapters.redis_queue.steps import Steps
from gateway.config import ExtractionSettings, QueueSettings
from gateway.core.delivery import Forget, Plan
from gateway.core.errors import (
    DirectoryUnavailable,
    LeaseLost,
    OverBudget,
    OwnerGone,
    QueueUnavailable,
    Unreadable,
)
from gateway.core.identity import Owner, partition_of
from gateway.core.verdict import TRIES_OF_A_PART
from gateway.core.wire import NEWER
from gateway.ports import Lease, QueueStatus
from tests.contract.queue_house import BATCHING, BOUNDS, House, exchange, house_at

PLAN = Plan(("x1",), (Forget("m1", 1001.0),))


SERVER = os.environ.get("GATEWAY_TEST_REDIS_URL")


@pytest.fixture(params=["embedded", "cluster", *(["server"] if SERVER else [])])
def where(request: pytest.FixtureRequest) -> Any:
    """A URL, or the cluster's port."""
    if request.param == "cluster":
        return request.getfixturevalue("cluster_port")
    return SERVER if request.param == "server" else request.getfixturevalue("redis_server")


@pytest.fixture
async def house(where: str | int) -> AsyncIterator[House]:
    if isinstance(where, str):
        async with house_at(where) as made:
            yield made
        return
    async with RedisCluster(host="127.0.0.1", port=where) as cluster:
        made = House(cluster)
        yield made
        await made.clean()


@pytest.fixture
def queue(house: House) -> RedisQueue:
    return house.queue()


@pytest.fixture
def ann(house: House) -> Owner:
    return house.owner("ann")


@pytest.fixture
def bob(house: House) -> Owner:
    return house.owner("bob")


async def leased(queue: RedisQueue, now: float) -> Lease:
    lease = await queue.lease("w", now=now)
    assert lease is not None
    return lease


def ids(lease: Lease | None) -> list[str]:
    return [] if lease is None else [each.id for each in lease.exchanges]


# --- what is put comes out ----------------------------------------------------------------


async def test_an_exchange_comes_out_as_it_went_in(queue: RedisQueue, ann: Owner) -> None:
    said = exchange(text="Größe 中 \ud800")
    assert await queue.put(ann, said, now=1000.0)
    lease = await leased(queue, 1010.0)
    assert (lease.tenant, lease.exchanges, lease.tries, lease.plan) == (
        ann.tenant,
        (said,),
        0,
        None,
    )


async def test_an_empty_queue_has_nothing_to_lease(queue: RedisQueue) -> None:
    assert await queue.lease("w", now=1000.0) is None
    assert await queue.next_due() is None
    assert await queue.status(now=1000.0) == QueueStatus(0, 0, 0, 0.0, 0)


async def test_exchanges_come_in_the_order_of_their_own_times(
    queue: RedisQueue, ann: Owner
) -> None:
    for id, at in (("late", 1003.0), ("early", 1001.0), ("middle", 1002.0)):
        await queue.put(ann, exchange(id, at), now=1005.0)
    assert ids(await leased(queue, 1015.0)) == ["early", "middle", "late"]


async def test_exchanges_of_one_time_come_in_the_order_of_their_arrival(
    queue: RedisQueue, ann: Owner
) -> None:
    for id in ("c", "a", "b"):
        await queue.put(ann, exchange(id, 1000.0), now=1000.0)
    assert ids(await leased(queue, 1010.0)) == ["c", "a", "b"]


async def test_a_batch_holds_no_more_exchanges_than_are_set(queue: RedisQueue, ann: Owner) -> None:
    for n in range(6):
        await queue.put(ann, exchange(f"x{n}", 1000.0 + n), now=1000.0)
    first = await leased(queue, 1010.0)
    assert ids(first) == ["x0", "x1", "x2", "x3"]
    await queue.done(first, now=1010.0)
    assert ids(await queue.lease("w", now=1010.0)) == ["x4", "x5"]


async def test_a_batch_holds_no_more_text_than_is_set_and_always_one_exchange(
    queue: RedisQueue, ann: Owner
) -> None:
    for n, size in enumerate((300, 200, 5000, 10)):
        await queue.put(ann, exchange(f"x{n}", 1000.0 + n, "t" * size), now=1000.0)
    sizes = []
    for _ in range(4):
        lease = await leased(queue, 1010.0)
        sizes.append(ids(lease))
        await queue.done(lease, now=1010.0)
    assert sizes == [["x0"], ["x1"], ["x2"], ["x3"]]


async def test_two_users_of_the_same_words_stay_two(
    queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await queue.put(bob, exchange(), now=1001.0)
    assert (await leased(queue, 1020.0)).tenant == ann.tenant
    assert (await leased(queue, 1020.0)).tenant == bob.tenant
    assert await queue.lease("w", now=1020.0) is None


async def test_nothing_said_and_no_exchange_id_stands_in_redis_in_clear(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("id-of-porto"), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, replace(PLAN, writes=(Forget("m-porto", 1.0),)))
    await queue.bury(lease, reason="tried enough", now=1011.0)
    held = b"".join([await house.client.dump(key) or b"" for key in await house.keys()])
    for word in (b"Porto", b"porto", b"session", ann.user.encode()):
        assert word not in held


async def test_users_are_due_from_when_they_fall_due_until_a_worker_has_them(
    queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    async def due(now: float) -> int:
        return (await queue.status(now=now)).due_users

    for owner in (ann, bob):
        for name in ("x0", "x1"):
            await queue.put(owner, exchange(name), now=1000.0)
    assert await due(1009.0) == 0  # pending, and on purpose: they may say more
    assert await due(1010.0) == 2
    lease = await leased(queue, 1010.0)
    assert await due(1010.0) == 1
    await queue.done(await leased(queue, 1010.0), now=1011.0)
    await queue.give_back(lease, retry_at=1020.0, reason="429", counts_as_try=True)
    assert [await due(at) for at in (1011.0, 1020.0)] == [0, 1]


async def test_a_user_whose_worker_was_lost_is_due_again(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await leased(queue, 1010.0)  # for `lease_s`, 30
    assert [(await queue.status(now=at)).due_users for at in (1039.0, 1040.0)] == [0, 1]


# --- a retry of the client's ---------------------------------------------------------------


async def test_the_same_exchange_again_is_refused_while_it_waits_is_leased_and_is_done(
    queue: RedisQueue, ann: Owner
) -> None:
    assert await queue.put(ann, exchange(), now=1000.0)
    assert not await queue.put(ann, exchange(), now=1001.0)
    lease = await leased(queue, 1010.0)
    assert not await queue.put(ann, exchange(), now=1011.0)
    await queue.done(lease, now=1012.0)
    assert not await queue.put(ann, exchange(), now=1013.0)
    assert await queue.status(now=1013.0) == QueueStatus(0, 0, 0, 0.0, 0)


async def test_another_users_exchange_of_the_same_id_is_another(
    queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    assert await queue.put(ann, exchange(), now=1000.0)
    assert await queue.put(bob, exchange(), now=1000.0)


async def test_an_id_is_forgotten_after_a_week(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await queue.done(await leased(queue, 1010.0), now=1010.0)
    later = 1000.0 + SEEN_S + 1
    await queue.put(ann, exchange("other"), now=later)
    assert await queue.put(ann, exchange(), now=later)


@pytest.mark.parametrize("outcome", ["cut_off", "error"])
async def test_a_complete_answer_takes_the_place_of_a_broken_one_that_waits(
    queue: RedisQueue, ann: Owner, outcome: str
) -> None:
    await queue.put(ann, exchange(text="half", outcome=outcome), now=1000.0)  # type: ignore[arg-type]
    whole = exchange(at=1002.0, text="the whole answer")
    assert await queue.put(ann, whole, now=1002.0)
    assert (await queue.status(now=1002.0)).pending == 1
    lease = await leased(queue, 1012.0)
    assert lease.exchanges == (whole,)
    await queue.done(lease, now=1012.0)
    assert await queue.status(now=1012.0) == QueueStatus(0, 0, 0, 0.0, 0)


async def test_a_broken_answer_never_takes_the_place_of_a_complete_one(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(text="whole"), now=1000.0)
    assert not await queue.put(ann, exchange(text="half", outcome="cut_off"), now=1001.0)
    assert (await leased(queue, 1011.0)).exchanges[0].turns[0].text == "whole"


async def test_a_complete_answer_takes_leased_work_out_of_its_holders_hands(
    queue: RedisQueue, ann: Owner
) -> None:
    for name in ("x0", "x1"):
        await queue.put(ann, exchange(name, text="half", outcome="cut_off"), now=1000.0)
    lease = await leased(queue, 1010.0)
    whole = exchange("x1", text="whole")
    assert await queue.put(ann, whole, now=1011.0)
    with pytest.raises(LeaseLost):
        await queue.keep_plan(lease, PLAN)
    with pytest.raises(LeaseLost):
        await queue.done(lease, now=1011.0)
    again = await leased(queue, 1011.0)
    assert (ids(again), again.exchanges[1], again.tries) == (["x0", "x1"], whole, 0)
    assert not await queue.put(ann, whole, now=1012.0)
    await queue.done(again, now=1012.0)
    assert await queue.status(now=1012.0) == QueueStatus(0, 0, 0, 0.0, 0)


@pytest.mark.parametrize("state", ["given back", "dead", "retried"])
async def test_a_complete_answer_takes_the_place_of_a_broken_one_that_nobody_holds(
    queue: RedisQueue, ann: Owner, state: str
) -> None:
    await queue.put(ann, exchange(text="half", outcome="cut_off"), now=1000.0)
    lease = await leased(queue, 1010.0)
    if state == "given back":
        await queue.give_back(lease, retry_at=1020.0, reason="429", counts_as_try=True)
    else:
        await queue.bury(lease, reason="prose", now=1011.0)
    if state == "retried":
        await queue.retry(now=1012.0)
    whole = exchange(text="whole")
    assert await queue.put(ann, whole, now=1013.0)
    assert not await queue.put(ann, whole, now=1013.0)
    if state == "dead":
        assert await queue.lease("w", now=1020.0) is None
        await queue.retry(now=1020.0)
    again = await leased(queue, 1020.0)
    assert again.exchanges == (whole,)
    await queue.done(again, now=1021.0)
    assert await queue.status(now=1021.0) == QueueStatus(0, 0, 0, 0.0, 0)


@pytest.mark.parametrize("state", ["planned", "dead with its plan", "done"])
async def test_a_complete_answer_to_what_is_decided_comes_after_it_and_once(
    queue: RedisQueue, ann: Owner, state: str
) -> None:
    await queue.put(ann, exchange(text="half", outcome="cut_off"), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    if state == "dead with its plan":
        await queue.bury(lease, reason="r", now=1010.0)
    elif state == "done":
        await queue.done(lease, now=1010.0)
    whole = exchange(text="whole")
    assert await queue.put(ann, whole, now=1011.0)
    assert not await queue.put(ann, whole, now=1011.0)
    assert not await queue.put(ann, exchange(text="half", outcome="cut_off"), now=1011.0)
    if state == "planned":
        await queue.done(lease, now=1012.0)
    after = await leased(queue, 1030.0)
    assert [(e.id, e.completes, e.origin) for e in after.exchanges] == [("x1.whole", "x1", "x1")]
    assert after.exchanges[0].turns == whole.turns
    await queue.done(after, now=1031.0)
    assert not await queue.put(ann, whole, now=1032.0)


async def test_pending_shows_the_whole_answer_once_it_is_there(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(text="half", outcome="cut_off"), now=1000.0)
    await queue.put(ann, exchange("x2", at=1001.0), now=1001.0)
    assert [e.turns[0].text for e in await queue.pending(ann)] == ["half", "I moved to Porto"]
    await queue.put(ann, exchange(text="whole"), now=1002.0)
    assert [e.turns[0].text for e in await queue.pending(ann)] == ["whole", "I moved to Porto"]


# --- when a user falls due ------------------------------------------------------------------


async def test_a_user_falls_due_when_nothing_more_was_said_for_the_idle_time(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("x1"), now=1000.0)
    await queue.put(ann, exchange("x2"), now=1008.0)
    assert await queue.next_due() == 1018.0
    assert await queue.lease("w", now=1017.9) is None
    assert ids(await queue.lease("w", now=1018.0)) == ["x1", "x2"]


async def test_a_user_who_never_stops_talking_falls_due_by_age(
    queue: RedisQueue, ann: Owner
) -> None:
    for n in range(4):
        await queue.put(ann, exchange(f"x{n}", text="a"), now=1000.0 + n * 9)
    house_rule = await queue.next_due()
    assert house_rule == 1027.0  # four exchanges fill a batch: due at once
    lease = await leased(queue, 1027.0)
    await queue.done(lease, now=1027.0)
    for n in range(3):
        await queue.put(ann, exchange(f"y{n}", text="a"), now=1100.0 + n * 25)
    assert await queue.next_due() == 1160.0


async def test_a_user_falls_due_at_once_when_a_batch_is_full_of_text(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("x1", text="t" * 399), now=1000.0)
    assert await queue.lease("w", now=1000.0) is None
    await queue.put(ann, exchange("x2", text="t"), now=1001.0)
    assert ids(await queue.lease("w", now=1001.0)) == ["x1", "x2"]


async def test_the_longest_overdue_user_comes_first(house: House, queue: RedisQueue) -> None:
    owners = [house.owner(f"u{n}") for n in range(20)]
    for n, owner in enumerate(owners):
        await queue.put(owner, exchange(), now=1000.0 + (n * 7) % 20)
    order = [(await leased(queue, 2000.0)).tenant for _ in owners]
    due = sorted(range(20), key=lambda n: (n * 7) % 20)
    assert order == [owners[n].tenant for n in due]


async def test_each_app_has_its_own_rule(house: House) -> None:
    at_once = ExtractionSettings(idle_s=0)
    queue = house.queue(eager=at_once)
    await queue.put(house.owner(app="default"), exchange(), now=1000.0)
    eager = house.owner(app="eager")
    await queue.put(eager, exchange(), now=1000.0)
    assert (await leased(queue, 1000.0)).tenant == eager.tenant
    assert await queue.lease("w", now=1000.0) is None


async def test_times_keep_their_microseconds(house: House) -> None:
    queue = house.queue(batching=ExtractionSettings(idle_s=0))
    now = 1795254000.123457
    await queue.put(house.owner(), exchange(at=now), now=now)
    assert await queue.next_due() == now
    assert (await leased(queue, now)).exchanges[0].at == now


# --- one worker at a time -------------------------------------------------------------------


async def test_a_second_worker_cannot_take_a_leased_user(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("x1"), now=1000.0)
    await leased(queue, 1010.0)
    await queue.put(ann, exchange("x2"), now=1011.0)
    assert await house.queue().lease("other", now=1030.0) is None


async def test_what_comes_during_a_lease_waits_for_the_next(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange("x1"), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.put(ann, exchange("x2", at=900.0), now=1011.0)
    await queue.done(lease, now=1015.0)
    assert await queue.next_due() == 1021.0
    assert ids(await queue.lease("w", now=1021.0)) == ["x2"]


async def test_many_workers_share_the_users_without_a_double(house: House) -> None:
    owners = [house.owner(f"u{n}") for n in range(40)]
    for owner in owners:
        await house.queue().put(owner, exchange(), now=1000.0)
    taken: list[str] = []

    async def work(queue: RedisQueue) -> None:
        while lease := await queue.lease("w", now=1010.0):
            taken.append(lease.tenant)
            await queue.done(lease, now=1010.0)

    await asyncio.gather(*(work(house.queue()) for _ in range(6)))
    assert sorted(taken) == sorted(owner.tenant for owner in owners)


async def test_a_heartbeat_holds_the_work_longer(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    assert lease.until == 1040.0
    longer = await queue.extend(lease, now=1035.0)
    assert longer.until == 1065.0
    assert await queue.lease("w", now=1064.0) is None
    await queue.done(longer, now=1064.0)


async def test_a_lease_that_ran_out_passes_on_and_the_old_holder_is_fenced(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    old = await leased(queue, 1010.0)
    new = await leased(queue, 1040.0)
    assert new.token > old.token
    assert (new.exchanges, new.tries) == (old.exchanges, 1)
    for late in (
        queue.extend(old, now=1041.0),
        queue.keep_plan(old, PLAN),
        queue.done(old, now=1041.0),
        queue.give_back(old, retry_at=1041.0, reason="late", counts_as_try=True),
        queue.bury(old, reason="late", now=1041.0),
    ):
        with pytest.raises(LeaseLost):
            await late
    await queue.done(new, now=1042.0)


async def test_tokens_grow_over_all_leases_of_a_user(queue: RedisQueue, ann: Owner) -> None:
    tokens = []
    for n in range(3):
        await queue.put(ann, exchange(f"x{n}"), now=1000.0)
        lease = await leased(queue, 1010.0)
        tokens.append(lease.token)
        await queue.done(lease, now=1010.0)
    assert tokens == sorted(set(tokens))


async def test_a_late_holder_may_still_finish_while_nobody_else_has_the_work(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.done(lease, now=1100.0)
    assert await queue.lease("w", now=1200.0) is None


async def test_a_call_that_is_repeated_since_its_answer_was_lost_is_no_error(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    for _ in range(2):
        await queue.give_back(lease, retry_at=1011.0, reason="429", counts_as_try=True)
    lease = await leased(queue, 1011.0)
    assert lease.tries == 1
    for _ in range(2):
        await queue.bury(lease, reason="enough", now=1012.0)
    assert (await queue.status(now=1012.0)).dead == 1
    await queue.retry(now=1013.0)
    lease = await leased(queue, 1013.0)
    for _ in range(2):
        await queue.done(lease, now=1014.0)
    assert await queue.status(now=1014.0) == QueueStatus(0, 0, 0, 0.0, 0)


async def test_a_repeated_claim_gets_the_same_lease(house: House, ann: Owner) -> None:
    queue = house.queue()
    await queue.put(ann, exchange(), now=1000.0)
    args = ("lease", "w:claim", "1010.0", "1040.0", 3, "lost")
    first = await queue._steps.at(partition_of(ann.tenant), *args)
    assert await queue._steps.at(partition_of(ann.tenant), *args) == first


# --- plans --------------------------------------------------------------------------------------


async def test_the_next_holder_is_given_the_plan(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await queue.keep_plan(await leased(queue, 1010.0), PLAN)
    assert (await leased(queue, 1040.0)).plan == PLAN


async def test_the_first_plan_stands(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    with pytest.raises(LeaseLost):
        await queue.keep_plan(lease, replace(PLAN, writes=()))
    assert (await leased(queue, 1040.0)).plan == PLAN


async def test_a_plan_goes_with_its_work(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange("x1"), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    await queue.done(lease, now=1011.0)
    await queue.put(ann, exchange("x2"), now=1012.0)
    assert (await leased(queue, 1022.0)).plan is None


async def test_a_plan_survives_give_back_and_dead_letters(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    await queue.give_back(lease, retry_at=1011.0, reason="Qdrant is away", counts_as_try=False)
    lease = await leased(queue, 1011.0)
    assert lease.plan == PLAN
    await queue.bury(lease, reason="enough", now=1012.0)
    assert await queue.retry(now=1013.0) == 1
    lease = await leased(queue, 1013.0)
    assert (lease.plan, lease.tries) == (PLAN, 0)


# --- giving back, trying again, dead letters ----------------------------------------------------


async def test_work_given_back_falls_due_when_it_was_said(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.give_back(lease, retry_at=1100.0, reason="429", counts_as_try=False)
    assert await queue.status(now=1050.0) == replace(
        await queue.status(now=1050.0), pending=1, leased=0, oldest_s=50.0
    )
    with pytest.raises(LeaseLost):
        await queue.done(lease, now=1020.0)
    assert await queue.lease("w", now=1099.0) is None
    assert (await leased(queue, 1100.0)).tries == 0


async def test_a_try_that_counts_is_counted(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    for tries in range(5):
        lease = await leased(queue, 1010.0)
        assert lease.tries == tries
        await queue.give_back(lease, retry_at=1010.0, reason="no facts", counts_as_try=True)


async def test_work_given_back_stays_the_same_batch(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange("x1"), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.give_back(lease, retry_at=1020.0, reason="429", counts_as_try=False)
    await queue.put(ann, exchange("x2", at=999.0), now=1015.0)
    again = await leased(queue, 1030.0)
    assert ids(again) == ["x1"]
    await queue.done(again, now=1030.0)
    assert ids(await leased(queue, 1030.0)) == ["x2"]


async def test_what_kills_its_workers_ends_in_the_dead_letters_and_the_others_are_distilled(
    queue: RedisQueue, ann: Owner
) -> None:
    for n, name in enumerate(("fine", "poison", "other")):
        await queue.put(ann, exchange(name, at=1000.0 + n), now=1000.0)
    now, finished = 1010.0, []
    for _ in range(12):
        lease = await queue.lease("w", now=now)
        if lease is None:
            break
        if "poison" not in ids(lease):
            finished += ids(lease)
            await queue.done(lease, now=now)
        now += BOUNDS.lease_s
    assert finished == ["fine", "other"]
    [letter] = await queue.dead()
    assert (letter.tenant, letter.tries) == (ann.tenant, BOUNDS.max_tries)
    assert letter.exchange_ids == ("poison",)
    assert "lost" in letter.reason
    assert (await queue.status(now=now)).dead == 1


async def test_each_half_of_what_kills_its_workers_has_two_tries_however_many_were_behind_it(
    queue: RedisQueue, ann: Owner
) -> None:
    for name in ("x1", "x2"):
        await queue.put(ann, exchange(name), now=1000.0)
    for _ in range(2 * BOUNDS.max_tries):  # as where fewer tries are allowed than before
        lease = await leased(queue, 1010.0)
        await queue.give_back(lease, retry_at=1010.0, reason="429", counts_as_try=True)
    held = await leased(queue, 1010.0)
    part = await leased(queue, 1010.0 + BOUNDS.lease_s)
    assert (ids(held), held.tries) == (["x1", "x2"], 2 * BOUNDS.max_tries)
    assert (ids(part), part.tries) == (["x1"], BOUNDS.max_tries - TRIES_OF_A_PART)
    await queue.done(part, now=1040.0)
    other = await leased(queue, 1040.0)
    assert (ids(other), other.tries) == (["x2"], BOUNDS.max_tries - TRIES_OF_A_PART)


async def test_what_is_buried_since_its_holders_were_lost_is_all_there_for_a_retry(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    for n in range(BOUNDS.max_tries):
        await leased(queue, 1010.0 + n * BOUNDS.lease_s)
    now = 1010.0 + BOUNDS.max_tries * BOUNDS.lease_s
    assert await queue.lease("w", now=now) is None  # this very call buries it
    assert await queue.next_due() is None
    status = await queue.status(now=now)
    assert (status.pending, status.leased, status.dead) == (0, 0, 1)
    assert await queue.retry(now=now) == 1
    again = await leased(queue, now)
    assert (again.exchanges, again.tries) == ((exchange(),), 0)


async def test_a_batch_that_was_decided_is_buried_whole_where_it_kills_its_workers(
    queue: RedisQueue, ann: Owner
) -> None:
    for name in ("x1", "x2"):
        await queue.put(ann, exchange(name), now=1000.0)
    await queue.keep_plan(await leased(queue, 1010.0), PLAN)
    now = 1010.0
    for _ in range(BOUNDS.max_tries):
        now += BOUNDS.lease_s
        await queue.lease("w", now=now)
    [letter] = await queue.dead()
    assert letter.exchange_ids == ("x1", "x2")


async def test_a_batch_in_two_parts_keeps_its_order_and_goes_before_what_waits(
    queue: RedisQueue, ann: Owner
) -> None:
    for n in range(4):
        await queue.put(ann, exchange(f"x{n}", at=1000.0 + n), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.put(ann, exchange("earlier", at=900.0), now=1010.0)
    await queue.split(lease, 1, retry_at=1012.0, reason="prose", tries=1)
    await queue.split(lease, 1, retry_at=1012.0, reason="prose", tries=1)  # its answer was lost
    assert (await queue.status(now=1011.0)).pending == 5
    assert [e.id for e in await queue.pending(ann)] == ["earlier", "x0", "x1", "x2", "x3"]
    assert await queue.lease("w", now=1011.0) is None
    seen = []
    for _ in range(3):
        part = await leased(queue, 1030.0)
        seen.append((ids(part), part.tries))
        await queue.done(part, now=1030.0)
    assert seen == [(["x0"], 1), (["x1", "x2", "x3"], 1), (["earlier"], 0)]
    assert await queue.status(now=1031.0) == QueueStatus(0, 0, 0, 0.0, 0)


@pytest.mark.parametrize("keep", [0, 2, 3])
async def test_a_batch_is_not_cut_where_there_is_nothing_to_part(
    queue: RedisQueue, ann: Owner, keep: int
) -> None:
    for name in ("x1", "x2"):
        await queue.put(ann, exchange(name), now=1000.0)
    lease = await leased(queue, 1010.0)
    with pytest.raises(LeaseLost):
        await queue.split(lease, keep, retry_at=1012.0, reason="r", tries=1)
    await queue.keep_plan(lease, PLAN)
    with pytest.raises(LeaseLost):
        await queue.split(lease, 1, retry_at=1012.0, reason="a plan is one for all", tries=1)


async def test_a_dead_letter_is_whole_and_says_why(queue: RedisQueue, ann: Owner) -> None:
    for n in range(3):
        await queue.put(ann, exchange(f"x{n}", 1000.0 + n), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.bury(lease, reason="the model answers prose “…”", now=1011.5)
    [letter] = await queue.dead()
    assert (letter.at, letter.reason, letter.tries) == (1011.5, "the model answers prose “…”", 1)
    assert letter.exchange_ids == ("x0", "x1", "x2")
    assert await queue.pending(ann) == []
    status = await queue.status(now=1012.0)
    assert (status.pending, status.leased, status.dead) == (0, 0, 3)
    assert status.bytes > 0


async def test_a_dead_letter_is_retried_by_its_id(
    queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    for owner in (ann, bob):
        await queue.put(owner, exchange(), now=1000.0)
        await queue.bury(await leased(queue, 1010.0), reason="r", now=1011.0)
    [letter] = [each for each in await queue.dead() if each.tenant == ann.tenant]
    assert await queue.retry(letter.id, now=1012.0) == 1
    assert await queue.retry(letter.id, now=1012.0) == 0
    assert [each.tenant for each in await queue.dead()] == [bob.tenant]
    lease = await leased(queue, 1012.0)
    assert (lease.tenant, lease.tries, ids(lease)) == (ann.tenant, 0, ["x1"])
    await queue.done(lease, now=1012.0)
    assert await queue.lease("w", now=1012.0) is None


async def test_all_dead_letters_are_retried_at_once(
    queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    for owner in (ann, bob):
        for n in range(2):
            await queue.put(owner, exchange(f"x{n}"), now=1000.0)
        await queue.bury(await leased(queue, 1010.0), reason="r", now=1011.0)
    assert await queue.retry(now=1012.0) == 4
    assert await queue.dead() == []
    assert (await queue.status(now=1012.0)).pending == 4


@pytest.mark.parametrize("id", ["", "nobody-1", "ä", "a" * 32 + "-7", "x-y-z"])
async def test_an_unknown_dead_letter_is_no_exchanges(queue: RedisQueue, id: str) -> None:
    assert await queue.retry(id, now=1000.0) == 0


async def test_dead_letters_are_listed_newest_first_and_bounded(
    house: House, queue: RedisQueue
) -> None:
    for n in range(5):
        await queue.put(house.owner(f"u{n}"), exchange(f"x{n}"), now=1000.0)
        await queue.bury(await leased(queue, 1010.0), reason="r", now=1011.0 + n)
    assert [each.at for each in await queue.dead(limit=3)] == [1015.0, 1014.0, 1013.0]


async def test_a_damaged_exchange_is_set_aside_and_the_others_go_on(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    for n in range(3):
        await queue.put(ann, exchange(f"x{n}", 1000.0 + n), now=1000.0)
    base = f"{house.namespace}:{{p{ann.partition}}}:"
    [first, *_] = await house.client.zrange(f"{base}waiting:{ann.tenant}", 0, -1)
    record = await house.client.hget(f"{base}exchange:{ann.tenant}", first[15:])
    damaged = record[:-1] + bytes([record[-1] ^ 1])
    await house.client.hset(f"{base}exchange:{ann.tenant}", first[15:], damaged)
    lease = await leased(queue, 1010.0)
    assert ids(lease) == ["x1", "x2"]
    await queue.done(lease, now=1011.0)
    [letter] = await queue.dead()
    assert "cannot be read" in letter.reason
    status = await queue.status(now=1011.0)
    assert (status.pending, status.leased, status.dead) == (0, 0, 1)


async def test_what_only_a_newer_program_can_read_is_left_for_it(
    queue: RedisQueue, ann: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    with monkeypatch.context() as older:
        older.setattr("gateway.core.wire.VERSION", 0)
        with pytest.raises(Unreadable, match="newer memory-gateway") as caught:
            await queue.lease("w", now=1010.0)
    assert caught.value.code == NEWER
    assert (await leased(queue, 1040.0)).tries == 0


# --- recall of what waits -----------------------------------------------------------------------


async def test_pending_shows_what_waits_what_is_leased_and_what_is_retried(
    queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    await queue.put(ann, exchange("x1", 1001.0), now=1000.0)
    await queue.bury(await leased(queue, 1010.0), reason="r", now=1010.0)
    assert await queue.pending(ann) == []
    await queue.retry(now=1011.0)
    await queue.put(ann, exchange("x3", 1003.0), now=1011.0)
    await queue.put(ann, exchange("x2", 1002.0), now=1011.0)
    await queue.put(bob, exchange("x4", 1004.0), now=1011.0)
    assert [each.id for each in await queue.pending(ann)] == ["x1", "x2", "x3"]
    lease = await leased(queue, 1011.0)
    assert [each.id for each in await queue.pending(ann)] == ["x1", "x2", "x3"]
    await queue.done(lease, now=1012.0)
    assert [each.id for each in await queue.pending(ann)] == ["x2", "x3"]


async def test_pending_is_the_newest_of_it_bounded_in_number_and_bytes(
    house: House, ann: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, other = house.queue(), house.queue()
    for n in range(9):
        await queue.put(ann, exchange(f"x{n}", 1000.0 + n, "t" * 100), now=1000.0)
    for each in (queue, other):
        assert [e.id for e in await each.pending(ann, limit=3)] == ["x6", "x7", "x8"]
        each.let_go(ann.tenant)
    for module in ("held", "pending"):
        monkeypatch.setattr(f"gateway.adapters.redis_queue.{module}.PENDING_BYTES", 700)
    assert [e.id for e in await queue.pending(ann)] == ["x7", "x8"]
    await queue.put(ann, exchange("x9", 1009.0, "t" * 100), now=1000.0)
    for each in (queue, other):
        assert [e.id for e in await each.pending(ann)] == ["x8", "x9"]


@pytest.mark.parametrize("apart_s", [1.0, 0.0])
async def test_of_a_batch_in_two_parts_the_newer_one_is_pending_first(
    queue: RedisQueue, ann: Owner, apart_s: float
) -> None:
    for n in range(4):
        await queue.put(ann, exchange(f"x{n}", at=1000.0 + n * apart_s), now=1000.0)
    await queue.split(await leased(queue, 1010.0), 2, retry_at=1012.0, reason="prose", tries=1)
    assert [e.id for e in await queue.pending(ann, limit=3)] == ["x1", "x2", "x3"]


async def test_who_asked_for_a_few_that_are_pending_sees_the_others_when_asking_for_more(
    house: House, ann: Owner
) -> None:
    queue, other = house.queue(), house.queue()
    for n in range(4):
        await other.put(ann, exchange(f"x{n}", at=1000.0 + n), now=1000.0)
    for limit in (2, 3, 4):
        found = await queue.pending(ann, limit=limit)
        assert [e.id for e in found] == ["x0", "x1", "x2", "x3"][-limit:]


async def test_what_was_said_last_is_pending_first_in_whatever_state_and_order_it_came(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("dead", at=1000.0), now=1000.0)
    await queue.bury(await leased(queue, 1010.0), reason="r", now=1010.0)
    await queue.put(ann, exchange("leased", at=1020.0), now=1020.0)
    await leased(queue, 1030.0)
    await queue.retry(now=1031.0)
    for at in (700.0, 800.0, 900.0):  # an older log is imported
        await queue.put(ann, exchange(f"log-{at:.0f}", at=at), now=1032.0)
    shown = [[e.id for e in await queue.pending(ann, limit=n)] for n in (1, 2, 3)]
    assert shown == [["leased"], ["dead", "leased"], ["log-900", "dead", "leased"]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that Redis is asked for."""
    steps: list[str] = []
    of = Steps.of

    async def noted(self: Steps, tenant: str, step: str, *args: Any) -> Any:
        steps.append(step)
        return await of(self, tenant, step, *args)

    monkeypatch.setattr(Steps, "of", noted)
    return steps


async def test_what_this_process_put_there_is_pending_without_being_read_again(
    queue: RedisQueue, ann: Owner, asked: list[str]
) -> None:
    said = [exchange(f"x{n}", 1000.0 + n) for n in range(3)]
    for each in said:
        await queue.put(ann, each, now=1000.0)
    assert await queue.pending(ann) == said
    assert "pending" not in asked
    lease = await leased(queue, 1020.0)
    assert await queue.pending(ann) == said
    await queue.done(lease, now=1021.0)
    assert await queue.pending(ann) == []


async def test_what_another_process_changed_is_pending_at_once(house: House, ann: Owner) -> None:
    one, other = house.queue(), house.queue()
    await one.put(ann, exchange("x1", 1001.0), now=1001.0)
    assert len(await one.pending(ann)) == 1
    await other.put(ann, exchange("x2", 1002.0, "half", outcome="cut_off"), now=1002.0)
    await one.put(ann, exchange("x3", 1003.0), now=1003.0)
    assert [each.id for each in await one.pending(ann)] == ["x1", "x2", "x3"]
    await other.put(ann, exchange("x2", 1002.0, "whole"), now=1003.0)
    assert [each.turns[0].text for each in await one.pending(ann)][1] == "whole"
    await other.done(await leased(other, 1020.0), now=1021.0)
    assert await one.pending(ann) == []


async def test_pending_of_a_program_that_knew_no_stamps_is_read_each_time(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    rule = f"{house.namespace}:{{p{ann.partition}}}:rule:{ann.tenant}"
    for n in range(2):
        await house.queue().put(ann, exchange(f"x{n}", 1000.0 + n), now=1000.0)
        await house.client.hdel(rule, "stamp")
        assert [each.id for each in await queue.pending(ann)] == ["x0", "x1"][: n + 1]
    await queue.put(ann, exchange("x2", 1002.0), now=1002.0)
    assert [each.id for each in await queue.pending(ann)] == ["x0", "x1", "x2"]


@pytest.mark.parametrize("step", ["put", "pending"])
async def test_what_was_asked_before_an_erasure_is_not_held_after_it(
    house: House, ann: Owner, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await house.queue().put(ann, exchange("x0"), now=1000.0)
    queue = house.queue()
    await queue.pending(ann)
    if step == "pending":
        await house.queue().put(ann, exchange("x1", 1001.0), now=1001.0)
    of = Steps.of

    async def slow(self: Steps, tenant: str, name: str, *args: Any) -> Any:
        answer = await of(self, tenant, name, *args)
        if name == step:
            queue.let_go(ann.tenant)  # while the answer is on its way
        return answer

    monkeypatch.setattr(Steps, "of", slow)
    if step == "put":
        await queue.put(ann, exchange("x2", 1002.0), now=1002.0)
    else:
        await queue.pending(ann)
    assert queue._pending._held.of(ann.tenant) is None


# --- bounds -------------------------------------------------------------------------------------


async def test_one_user_cannot_fill_the_queue(house: House, ann: Owner, bob: Owner) -> None:
    queue = house.queue(QueueSettings(max_user_pending=2))
    await queue.put(ann, exchange("x1"), now=1000.0)
    await queue.put(ann, exchange("x2"), now=1000.0)
    with pytest.raises(OverBudget, match=r"queue\.max_user_pending: 2"):
        await queue.put(ann, exchange("x3"), now=1000.0)
    await queue.put(bob, exchange("x1"), now=1001.0)
    await queue.done(await leased(queue, 1010.0), now=1010.0)
    assert await queue.put(ann, exchange("x3"), now=1010.0)


async def test_one_user_cannot_take_everyones_bytes(house: House, ann: Owner, bob: Owner) -> None:
    queue = house.queue(QueueSettings(max_user_bytes=2**20))
    long = "t" * 600_000
    await queue.put(ann, exchange("x1", text=long), now=1000.0)
    with pytest.raises(OverBudget, match=r"queue\.max_user_bytes: 1048576"):
        await queue.put(ann, exchange("x2", text=long), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    await queue.bury(lease, reason="refused each time", now=1010.0)
    with pytest.raises(OverBudget, match=r"queue\.max_user_bytes"):  # a dead letter is kept, too
        await queue.put(ann, exchange("x2", text=long), now=1010.0)
    assert await queue.put(bob, exchange("x2", text=long), now=1020.0)
    await queue.retry(now=1010.0)
    await queue.done(await leased(queue, 1010.0), now=1010.0)
    assert await queue.put(ann, exchange("x2", text=long), now=1010.0)


async def test_an_exchange_longer_than_a_users_share_is_taken_where_nothing_waits(
    house: House, ann: Owner
) -> None:
    queue = house.queue(QueueSettings(max_user_bytes=2**20))
    assert await queue.put(ann, exchange("x1", text="t" * 2_000_000), now=1000.0)
    await queue.erase(ann.tenant)
    assert await queue.count(ann.tenant) == 0


async def test_the_queue_holds_no_more_exchanges_than_are_set(house: House) -> None:
    queue, other = house.queue(QueueSettings(max_pending=3)), house.queue()
    for n in range(3):
        await queue.put(house.owner(f"u{n}"), exchange(), now=1000.0)
    with pytest.raises(OverBudget, match=r"queue\.max_pending"):
        await queue.put(house.owner("u4"), exchange(), now=1000.0)
    await other.done(await leased(other, 1010.0), now=1010.0)
    assert await queue.put(house.owner("u4"), exchange(), now=1010.0)


async def test_the_queue_holds_no_more_bytes_than_are_set(house: House) -> None:
    queue = house.queue(QueueSettings(max_bytes=2**20))
    await queue.put(house.owner("u1"), exchange(text="t" * 600_000), now=1000.0)
    with pytest.raises(OverBudget, match=r"queue\.max_bytes"):
        await queue.put(house.owner("u2"), exchange(text="t" * 600_000), now=1000.0)
    assert await queue.put(house.owner("u3"), exchange(), now=1000.0)


# --- erasure ------------------------------------------------------------------------------------


async def test_erasure_removes_every_state_and_counts_it(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("dead"), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    await queue.bury(lease, reason="r", now=1010.0)
    await queue.put(ann, exchange("leased"), now=1011.0)
    lease = await leased(queue, 1021.0)
    await queue.keep_plan(lease, PLAN)
    await queue.put(ann, exchange("waits"), now=1022.0)
    assert await queue.count(ann.tenant) == 3
    counts = await queue.erase(ann.tenant)
    assert counts == {"pending": 1, "leased": 1, "dead": 1, "plans": 2}
    assert await queue.count(ann.tenant) == 0
    assert await queue.status(now=1023.0) == QueueStatus(0, 0, 0, 0.0, 0)
    assert await queue.dead() == []
    left = [key for key in await house.keys() if ann.tenant.encode() in key]
    assert [key.split(b":")[2] for key in left] == [b"gone"]


async def test_an_erased_user_takes_nothing_more(queue: RedisQueue, ann: Owner, bob: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await queue.erase(ann.tenant)
    with pytest.raises(OwnerGone):
        await queue.put(ann, exchange("x2"), now=1001.0)
    assert await queue.put(bob, exchange(), now=1001.0)


async def test_work_in_flight_cannot_write_an_erased_user_back(
    queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.erase(ann.tenant)
    for late in (
        queue.extend(lease, now=1011.0),
        queue.keep_plan(lease, PLAN),
        queue.done(lease, now=1011.0),
        queue.give_back(lease, retry_at=1011.0, reason="r", counts_as_try=True),
        queue.bury(lease, reason="r", now=1011.0),
    ):
        with pytest.raises(LeaseLost):
            await late
    assert await queue.count(ann.tenant) == 0


async def test_erasing_again_finds_nothing(queue: RedisQueue, ann: Owner) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await queue.erase(ann.tenant)
    assert set((await queue.erase(ann.tenant)).values()) == {0}


async def test_work_whose_owner_is_gone_is_dropped_and_the_next_user_served(
    house: House, queue: RedisQueue, ann: Owner, bob: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    await queue.put(bob, exchange(), now=1001.0)
    del house.owners[ann.tenant]
    assert (await leased(queue, 1011.0)).tenant == bob.tenant
    assert await queue.count(ann.tenant) == 0


async def test_a_plan_for_an_owner_who_is_gone_is_not_kept(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    del house.owners[ann.tenant]
    with pytest.raises(LeaseLost):
        await queue.keep_plan(lease, PLAN)


async def test_a_directory_that_is_away_costs_no_try(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    away = house.queue()

    async def refuse(tenant: str) -> Owner | None:
        raise DirectoryUnavailable("away")

    away._by_tenant = refuse
    with pytest.raises(DirectoryUnavailable):
        await away.lease("w", now=1010.0)
    assert (await leased(queue, 1010.0)).tries == 0


# --- figures and faults -------------------------------------------------------------------------


async def test_status_counts_each_state_once(house: House, queue: RedisQueue) -> None:
    for n in range(6):
        await queue.put(house.owner(f"u{n}"), exchange(), now=1000.0 + n)
    await queue.bury(await leased(queue, 1020.0), reason="r", now=1020.0)
    await leased(queue, 1020.0)
    back = await leased(queue, 1020.0)
    await queue.give_back(back, retry_at=2000.0, reason="429", counts_as_try=False)
    status = await queue.status(now=1100.0)
    assert (status.pending, status.leased, status.dead) == (4, 1, 1)
    assert status.oldest_s == 98.0  # the one that was given back


async def test_nothing_but_counters_and_tombstones_of_time_are_left_when_all_is_done(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange(), now=1000.0)
    lease = await leased(queue, 1010.0)
    await queue.keep_plan(lease, PLAN)
    await queue.done(lease, now=1010.0)
    kinds = {key.split(b":")[2] for key in await house.keys()}
    assert kinds == {b"counts", b"seen", b"claim", b"end"}
    for key in await house.keys():
        if key.split(b":")[2] != b"counts":
            assert await house.client.ttl(key) > 0


async def test_a_flushed_server_is_taught_the_scripts_again(
    house: House, queue: RedisQueue, ann: Owner
) -> None:
    await queue.put(ann, exchange("x1"), now=1000.0)
    await house.client.script_flush()
    assert await queue.put(ann, exchange("x2"), now=1001.0)
    await house.client.script_flush()
    assert len((await leased(queue, 1012.0)).exchanges) == 2


async def test_a_redis_that_is_away_is_unavailable_and_never_empty(ann: Owner) -> None:
    away = RedisQueue(
        Redis(unix_socket_path="/nowhere/redis.sock", retry=None),
        cipher=House(None).queue()._cipher,
        by_tenant=House(None).by_tenant,
        settings=BOUNDS,
        extraction_for=lambda _: BATCHING,
    )
    for call in (
        away.put(ann, exchange(), now=1.0),
        away.lease("w", now=1.0),
        away.next_due(),
        away.pending(ann),
        away.status(now=1.0),
        away.dead(),
        away.retry(now=1.0),
        away.erase(ann.tenant),
        away.count(ann.tenant),
        away.ping(),
    ):
        with pytest.raises(QueueUnavailable, match=r"redis\.url"):
            await call


async def test_a_redis_that_refuses_is_unavailable(house: House, ann: Owner) -> None:
    queue = house.queue()
    key = f"{house.namespace}:{{p{ann.partition}}}:waiting:{ann.tenant}"
    await house.client.set(key, "not a sorted set")
    with pytest.raises(QueueUnavailable, match="ResponseError"):
        await queue.put(ann, exchange(), now=1000.0)


async def test_ping_answers(queue: RedisQueue) -> None:
    await queue.ping()
    await queue.close()
