"""Any interleaving of producers, workers that die at any step, leases that run out, and erasure,
over real Redis, beside a model of what docs/reliability.md promises: nothing is lost, nothing takes
effect twice, a user's exchanges come in the order of their times, one worker at a time holds
them, a plan once kept is the plan, and who was erased stays gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from gateway.core.delivery import Forget, Plan
from gateway.core.errors import LeaseLost, OwnerGone
from gateway.core.exchange import Exchange, completing
from gateway.core.identity import Owner, Person
from gateway.core.memory import Instant
from gateway.core.verdict import TRIES_OF_A_PART
from gateway.ports import Lease
from tests.contract.queue_house import BATCHING, BOUNDS, House, exchange

T = TypeVar("T")
USERS = ("ann", "bob")
WORKERS = (0, 1)
users = st.sampled_from(USERS)
workers = st.sampled_from(WORKERS)


@dataclass
class Batch:
    """What a worker holds, or held, or will be handed again."""

    ids: tuple[str, ...]
    tries: int = 0
    plan: str | None = None
    token: int = 0
    until: Instant | None = None  # None: nobody holds it

    @property
    def held(self) -> bool:
        return self.until is not None


@dataclass(eq=False)
class Tenant:
    """One incarnation, as the contract has it."""

    owner: Owner
    seen: dict[str, Exchange] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)  # in the order of arrival
    batch: Batch | None = None
    returned: list[Batch] = field(default_factory=list)
    dead: dict[str, Batch] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    effects: dict[str, str] = field(default_factory=dict)  # exchange → the plan that wrote it
    last_token: int = 0

    def in_order(self) -> list[str]:
        return sorted(self.waiting, key=lambda each: self.seen[each].at)  # stable: arrival


@dataclass
class Worker:
    lease: Lease
    tenant: Tenant
    plan: str | None
    applied: int = 0


class Machine(RuleBasedStateMachine):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.house = self.run(self.connect(url))
        self.queues = [self.house.queue() for _ in WORKERS]  # each a process of its own
        self.now: Instant = 1000.0
        self.plans = self.steps = self.incarnations = 0
        self.tenants = {user: self.arrive(user) for user in USERS}
        self.erased: list[Tenant] = []
        self.at_work: dict[int, Worker] = {}

    def arrive(self, user: str) -> Tenant:
        """A new incarnation. Its name is no random one, or the same steps would not be the same
        run: of two users who fall due together the name decides."""
        self.incarnations += 1
        owner = Owner(Person("default", user), f"{self.incarnations:032x}", b"k" * 32)
        self.house.owners[owner.tenant] = owner
        return Tenant(owner)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @staticmethod
    async def connect(url: str) -> House:
        return House(Redis.from_url(url))

    # --- producers ---------------------------------------------------------------------------

    @initialize(n=st.integers(1, 4))
    def begin(self, n: int) -> None:
        for user in USERS:
            for each in range(n):
                self.put(user, 100 + each, each, 10, "complete", 0)

    @rule(
        user=users,
        n=st.integers(0, 20),
        late=st.integers(0, 50),
        size=st.sampled_from([1, 150, 500]),
        outcome=st.sampled_from(["complete", "complete", "cut_off"]),
        queue=workers,
    )
    def put(self, user: str, n: int, late: int, size: int, outcome: Any, queue: int) -> None:
        tenant, id = self.tenants[user], f"x{n}"
        said = exchange(id, self.now - late, "t" * size, outcome)
        known = tenant.seen.get(id)
        better = known is not None and known.outcome != "complete" and outcome == "complete"
        if better and self.decided(tenant, id):  # then it comes after it, and once
            said = completing(said)
            known = tenant.seen.get(said.id)
            better = False
        accepted = self.run(
            self.queues[queue].put(tenant.owner, replace(said, id=id, completes=None), now=self.now)
        )
        assert accepted == (known is None or better)
        if accepted:
            tenant.seen[said.id] = said
        if known is None:
            tenant.waiting.append(said.id)
        batch = tenant.batch
        if better and batch is not None and id in batch.ids:
            batch.until = None  # who holds it has read less than there is now

    @staticmethod
    def decided(tenant: Tenant, id: str) -> bool:
        batches = (tenant.batch, *tenant.returned, *tenant.dead.values())
        planned = any(b is not None and b.plan is not None and id in b.ids for b in batches)
        return planned or id in tenant.finished

    @rule(seconds=st.sampled_from([0.1, 5.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # --- workers -----------------------------------------------------------------------------

    @precondition(lambda self: len(self.at_work) < len(WORKERS))
    @rule(skip=st.sampled_from([0.0, 10.0, 10.0, BOUNDS.lease_s]), plans=st.booleans())
    def lease(self, skip: float = 0.0, plans: bool = False) -> None:
        """An idle worker asks, often when the lease of the other one has just run out, and may
        keep its plan at once."""
        worker = next(n for n in WORKERS if n not in self.at_work)
        self.now += skip
        lease = self.run(self.queues[worker].lease(f"w{worker}", now=self.now))
        self.note_buried()
        if lease is None:
            next_due = self.run(self.queues[worker].next_due())
            assert next_due is None or next_due > self.now, "somebody is due and was not served"
            return
        tenant = next(t for t in self.tenants.values() if t.owner.tenant == lease.tenant)
        self.check_lease(tenant, lease)
        plan = lease.plan.writes[0].id if lease.plan else None  # type: ignore[union-attr]
        self.at_work[worker] = Worker(lease, tenant, plan)
        if plans and plan is None:
            self.plan(worker)

    def check_lease(self, tenant: Tenant, lease: Lease) -> None:
        ids = tuple(each.id for each in lease.exchanges)
        batch = tenant.batch
        if batch is not None:  # the same work again, as it was
            assert batch.until is None or batch.until <= self.now, "two workers hold one user"
            batch.tries += batch.held
            if batch.held and batch.tries >= BOUNDS.max_tries:
                assert batch.plan is None
                assert len(batch.ids) > 1, "its last try was over"
                self.halve(tenant, (len(batch.ids) + 1) // 2, BOUNDS.max_tries - TRIES_OF_A_PART)
        elif tenant.returned:
            batch = tenant.returned.pop(0)
        else:
            order = tenant.in_order()
            assert ids == tuple(order[: len(ids)])
            assert 1 <= len(ids) <= BATCHING.max_batch_exchanges
            sizes = sum(tenant.seen[id].size for id in ids)
            assert len(ids) == 1 or sizes <= BATCHING.max_batch_tokens * 4
            tenant.waiting = [id for id in tenant.waiting if id not in ids]
            batch = Batch(ids)
        assert ids == batch.ids
        assert lease.exchanges == tuple(tenant.seen[id] for id in ids)
        assert lease.tries == batch.tries
        assert (lease.plan and lease.plan.exchange_ids) == (batch.ids if batch.plan else None)
        assert lease.token > tenant.last_token
        tenant.last_token = batch.token = lease.token
        batch.until = lease.until
        tenant.batch = batch

    @staticmethod
    def halve(tenant: Tenant, keep: int, tries: int) -> None:
        batch = tenant.batch
        assert batch is not None
        tenant.returned.insert(0, Batch(batch.ids[keep:], tries))
        batch.ids, batch.tries = batch.ids[:keep], tries

    def note_buried(self) -> None:
        """What the queue itself buried: work whose holders were lost at every try."""
        known = {id for tenant in self.tenants.values() for id in tenant.dead}
        for letter in self.run(self.queues[0].dead(limit=1000)):
            if letter.id in known:
                continue
            tenant = next(t for t in self.tenants.values() if t.owner.tenant == letter.tenant)
            batch = tenant.batch
            assert batch is not None
            assert batch.until is not None
            assert batch.until <= self.now
            assert batch.tries + 1 >= BOUNDS.max_tries
            assert letter.exchange_ids == batch.ids
            tenant.dead[letter.id], tenant.batch = replace(batch, until=None), None

    def holds(self, worker: Worker) -> bool:
        batch = worker.tenant.batch
        return batch is not None and batch.held and batch.token == worker.lease.token

    def held_call(self, worker: Worker, call: Coroutine[Any, Any, Any]) -> bool:
        """A holder's call succeeds exactly while it holds."""
        try:
            self.run(call)
        except LeaseLost:
            assert not self.holds(worker)
            return False
        assert self.holds(worker)
        return True

    @precondition(lambda self: any(not worker.plan for worker in self.at_work.values()))
    @rule(data=st.data())
    def keep_plan(self, data: st.DataObject) -> None:
        self.plan(self.pick(data, planned=False)[0])

    def plan(self, n: int) -> None:
        worker = self.at_work[n]
        self.plans += 1
        name = f"plan{self.plans}"  # a model words it differently each time
        plan = Plan(tuple(each.id for each in worker.lease.exchanges), (Forget(name, 1.0),))
        if self.held_call(worker, self.queues[n].keep_plan(worker.lease, plan)):
            worker.plan = name
            assert worker.tenant.batch is not None
            worker.tenant.batch.plan = name
        else:
            del self.at_work[n]

    @precondition(lambda self: any(worker.plan for worker in self.at_work.values()))
    @rule(data=st.data(), writes=st.integers(1, 4), repeated=st.booleans())
    def write(self, data: st.DataObject, writes: int, repeated: bool) -> None:
        """Apply the next of a kept plan (one who lost the lease cannot know), then be done."""
        n, worker = self.pick(data, planned=True)
        ids = [each.id for each in worker.lease.exchanges]
        for id in ids[worker.applied : worker.applied + writes]:
            worker.applied += 1
            if worker.tenant not in self.erased:
                self.take_effect(worker.tenant, id, str(worker.plan))
        if worker.applied < len(ids):
            return
        del self.at_work[n]
        if self.held_call(worker, self.queues[n].done(worker.lease, now=self.now)):
            self.finish(worker.tenant)
            if repeated:
                self.run(self.queues[n].done(worker.lease, now=self.now))

    @staticmethod
    def take_effect(tenant: Tenant, id: str, plan: str) -> None:
        assert tenant.effects.setdefault(id, plan) == plan, "it took effect twice"

    @staticmethod
    def finish(tenant: Tenant) -> None:
        assert tenant.batch is not None
        tenant.finished.update(tenant.batch.ids)
        tenant.batch = None

    @precondition(lambda self: self.at_work)
    @rule(data=st.data(), wait=st.sampled_from([0.0, 5.0, 40.0]), counts=st.booleans())
    def give_back(self, data: st.DataObject, wait: float, counts: bool) -> None:
        n, worker = self.pick(data)
        del self.at_work[n]
        call = self.queues[n].give_back(
            worker.lease, retry_at=self.now + wait, reason="429", counts_as_try=counts
        )
        if self.held_call(worker, call):
            batch = worker.tenant.batch
            assert batch is not None
            batch.until = None
            batch.tries += counts

    @precondition(lambda self: any(len(w.lease.exchanges) > 1 for w in self.at_work.values()))
    @rule(data=st.data(), wait=st.sampled_from([0.0, 5.0]))
    def split(self, data: st.DataObject, wait: float) -> None:
        fit = [n for n, w in self.at_work.items() if len(w.lease.exchanges) > 1]
        n = data.draw(st.sampled_from(sorted(fit)))
        worker = self.at_work.pop(n)
        keep = data.draw(st.integers(1, len(worker.lease.exchanges) - 1))
        call = self.queues[n].split(
            worker.lease, keep, retry_at=self.now + wait, reason="prose", tries=1
        )
        if worker.plan is not None:  # one for all of them: it stays whole, with its holder
            with pytest.raises(LeaseLost):
                self.run(call)
        elif self.held_call(worker, call):
            self.halve(worker.tenant, keep, 1)
            assert worker.tenant.batch is not None
            worker.tenant.batch.until = None

    @precondition(lambda self: self.at_work)
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        n, worker = self.pick(data)
        del self.at_work[n]
        known = set(worker.tenant.dead)
        call = self.queues[n].bury(worker.lease, reason="prose", now=self.now)
        if self.held_call(worker, call):
            tenant = worker.tenant
            letters = [
                letter
                for letter in self.run(self.queues[n].dead(limit=1000))
                if letter.tenant == tenant.owner.tenant and letter.id not in known
            ]
            assert tenant.batch is not None
            assert [letter.exchange_ids for letter in letters] == [tenant.batch.ids]
            tenant.dead[letters[0].id] = replace(tenant.batch, until=None)
            tenant.batch = None

    @precondition(lambda self: self.at_work)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        n, worker = self.pick(data)
        call = self.queues[n].extend(worker.lease, now=self.now)
        if self.held_call(worker, call):
            assert worker.tenant.batch is not None
            worker.tenant.batch.until = self.now + BOUNDS.lease_s
        else:
            del self.at_work[n]

    @precondition(lambda self: self.at_work)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        n, _ = self.pick(data)
        del self.at_work[n]
        self.queues[n] = self.house.queue()

    def pick(self, data: st.DataObject, planned: bool | None = None) -> tuple[int, Worker]:
        fit = [n for n, w in self.at_work.items() if planned in (None, w.plan is not None)]
        n = data.draw(st.sampled_from(sorted(fit)))
        return n, self.at_work[n]

    # --- operators and users -----------------------------------------------------------------

    @precondition(lambda self: any(tenant.dead for tenant in self.tenants.values()))
    @rule()
    def retry(self) -> None:
        order = [letter.id for letter in self.run(self.queues[0].dead(limit=1000))]
        count = self.run(self.queues[0].retry(now=self.now))
        assert count == sum(len(b.ids) for t in self.tenants.values() for b in t.dead.values())
        for tenant in self.tenants.values():
            for id in reversed(order):
                if id in tenant.dead:
                    tenant.returned.append(replace(tenant.dead.pop(id), tries=0))

    @precondition(lambda self: self.steps % 5 == 0)
    @rule(user=users)
    def erase(self, user: str) -> None:
        gone = self.tenants[user]
        states = self.states(gone)
        plans = sum(
            batch is not None and batch.plan is not None
            for batch in (gone.batch, *gone.returned, *gone.dead.values())
        )
        counts = self.run(self.queues[0].erase(gone.owner.tenant))
        assert counts == {**states, "plans": plans}
        del self.house.owners[gone.owner.tenant]
        self.erased.append(gone)
        gone.batch = None
        self.tenants[user] = self.arrive(user)
        with pytest.raises(OwnerGone):
            self.run(self.queues[1].put(gone.owner, exchange("late"), now=self.now))

    # --- what always holds -------------------------------------------------------------------

    @staticmethod
    def states(tenant: Tenant) -> dict[str, int]:
        batch = tenant.batch
        held = len(batch.ids) if batch and batch.held else 0
        back = len(batch.ids) if batch and not batch.held else 0
        returned = sum(len(each.ids) for each in tenant.returned)
        dead = sum(len(each.ids) for each in tenant.dead.values())
        return {"pending": len(tenant.waiting) + back + returned, "leased": held, "dead": dead}

    @invariant()
    def every_exchange_is_in_one_place(self) -> None:
        for tenant in self.tenants.values():
            places = [*tenant.waiting, *tenant.finished]
            for batch in (tenant.batch, *tenant.returned, *tenant.dead.values()):
                places += batch.ids if batch else ()
            assert sorted(places) == sorted(tenant.seen)
            assert self.run(self.queues[0].count(tenant.owner.tenant)) == len(places) - len(
                tenant.finished
            )
            dead = {id for batch in tenant.dead.values() for id in batch.ids}
            pending = [each for id, each in tenant.seen.items() if id not in tenant.finished | dead]
            for queue in self.queues:
                shown = self.run(queue.pending(tenant.owner))
                assert sorted(shown, key=lambda e: e.id) == sorted(pending, key=lambda e: e.id)
                assert [e.at for e in shown] == sorted(e.at for e in pending)
        for tenant in self.erased:
            assert self.run(self.queues[0].count(tenant.owner.tenant)) == 0

    @invariant()
    def the_counts_are_what_there_is(self) -> None:
        self.steps += 1
        if self.steps % 4:
            return  # it reads all there is: a drift is still there three steps later
        status = self.run(self.queues[0].status(now=self.now))
        counted = [self.states(tenant) for tenant in self.tenants.values()]
        for state in ("pending", "leased", "dead"):
            assert getattr(status, state) == sum(each[state] for each in counted)
        assert status.bytes == self.run(self.bytes_in_redis())

    async def bytes_in_redis(self) -> int:
        size = 0
        for key in await self.house.keys():
            kind = key.split(b":")[2]
            if kind == b"exchange":
                size += sum(map(len, await self.house.client.hvals(key)))
            elif kind == b"batch":
                size += len(await self.house.client.hget(key, "plan") or b"")
            elif kind == b"letters":
                letters = await self.house.client.hgetall(key)
                size += sum(len(v) for name, v in letters.items() if name.endswith(b":plan"))
        return size

    def teardown(self) -> None:
        """Let everything come to its end, and account for it."""
        try:
            self.at_work.clear()
            for _ in range(400):
                self.now += 100.0
                self.retry()
                self.lease()
                if 0 not in self.at_work:
                    # That very call may have buried the last of it, which is then still to come.
                    dead = any(tenant.dead for tenant in self.tenants.values())
                    if not dead and self.run(self.queues[0].next_due()) is None:
                        break
                    continue
                worker = self.at_work.pop(0)
                name = worker.plan or "the end"
                if worker.plan is None:
                    ids = tuple(each.id for each in worker.lease.exchanges)
                    plan = Plan(ids, (Forget(name, 1.0),))
                    self.run(self.queues[0].keep_plan(worker.lease, plan))
                for each in worker.lease.exchanges:
                    self.take_effect(worker.tenant, each.id, name)
                self.run(self.queues[0].done(worker.lease, now=self.now))
                self.finish(worker.tenant)
            for tenant in self.tenants.values():
                assert set(tenant.effects) == set(tenant.seen), "something was lost"
                assert tenant.finished == set(tenant.seen)
            status = self.run(self.queues[0].status(now=self.now))
            assert (status.pending, status.leased, status.dead, status.bytes) == (0, 0, 0, 0)
        finally:
            self.run(self.house.clean())
            self.run(self.house.client.aclose())
            self.runner.close()


@pytest.mark.timeout(240)
def test_whatever_happens_the_contract_holds(redis_server: str) -> None:
    run_state_machine_as_test(
        lambda: Machine(redis_server),
        settings=settings(
            max_examples=35,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            phases=(Phase.generate,),  # shrinking takes minutes; add it to look into a failure
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_the_last_lease_of_the_account_buries_is_accounted_for_too(redis_server: str) -> None:
    machine = Machine(redis_server)
    machine.begin(1)
    machine.erase("bob")
    for skip in (10.0, *[BOUNDS.lease_s] * (BOUNDS.max_tries - 1)):
        machine.lease(skip)
        machine.at_work.clear()  # each holder dies
    machine.teardown()
    [known] = machine.tenants["ann"].seen
    assert machine.tenants["ann"].finished == {known}
