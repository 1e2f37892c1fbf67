"""What is pending of one user, as recall reads it: asked of Redis as far as it has changed.

Redis keeps a stamp beside a user's pending exchanges, another after every change. What this
process holds is good while Redis names the stamp that it was read at. A put of this process
tells the stamps of before and after, so that it extends what is held; after any other change (a
worker's, another gateway's) it is read again, and what is held open need not be sent.
"""

from __future__ import annotations

from gateway.adapters.redis_queue.held import PENDING_BYTES, Held, Line, Placed
from gateway.adapters.redis_queue.opening import HEADER, opened
from gateway.adapters.redis_queue.steps import Steps
from gateway.core.errors import Unreadable
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.ports import Cipher


class Pending:
    """One process's view. `drops` counts what was dropped: what was asked before a tenant was
    erased and answered after it is not held."""

    def __init__(self, steps: Steps, cipher: Cipher) -> None:
        self._steps = steps
        self._cipher = cipher
        self._held = Held()
        self.drops = 0

    async def newest(self, owner: Owner, limit: int) -> list[Exchange]:
        """The newest that are pending, within `limit` and `PENDING_BYTES`, newest last."""
        tenant, drops = owner.tenant, self.drops
        stamp = await self._steps.stamp(tenant)
        if stamp is None:
            self._held.drop(tenant)
            return []
        line = self._held.of(tenant)
        if line is not None and line.stamp == stamp and (known := line.newest(limit)) is not None:
            return known
        line = await self._read(owner, limit, line)
        if line is None:  # something that is not held any more was taken to be
            line = await self._read(owner, limit, None) or Line(b"", (), whole=False)
        if line.stamp and drops == self.drops:
            self._held.keep(tenant, line)
        return line.newest(len(line.placed)) or []

    def added(
        self, tenant: str, one: Placed, *, before: bytes | None, stamp: bytes, drops: int
    ) -> None:
        """Redis took one more, and changed the stamp from `before` to `stamp`. `drops`: as it was
        when Redis was asked to."""
        if drops != self.drops:
            return
        line = self._held.of(tenant)
        if before is None:
            self._held.keep(tenant, Line(stamp, [one], whole=True))
        elif line is not None and line.stamp == before:
            self._held.add(tenant, one, stamp)

    def drop(self, tenant: str) -> None:
        """Hold nothing of a tenant, which was erased."""
        self.drops += 1
        self._held.drop(tenant)

    async def _read(self, owner: Owner, limit: int, held: Line | None) -> Line | None:
        """As Redis has it. What is complete, and so final, comes as its id alone where it is
        numbered no higher than what is held; None where it is not held after all."""
        final = [one for one in held.placed if one.exchange.outcome == "complete"] if held else []
        known = {one.id: one for one in final}
        upto = max((one.number for one in final), default=0)
        answer = await self._steps.of(owner.tenant, "pending", limit, PENDING_BYTES, upto)
        stamp, whole, *pairs = answer
        placed: list[Placed] = []
        for name, record in zip(pairs[::2], pairs[1::2], strict=True):
            id = name.decode()
            if not record and id not in known:
                return None
            one = self._opened(owner, id, record) if record else known[id]
            if one is not None:
                placed.append(one)
        placed.reverse()
        return Line(stamp or b"", placed, whole=bool(whole))

    def _opened(self, owner: Owner, id: str, record: bytes) -> Placed | None:
        try:
            exchange = opened(self._cipher, owner, id, record)
        except Unreadable:
            return None  # a worker will come upon it and say so; recall has no use for it
        at, _, number, *_ = HEADER.unpack_from(record)
        return Placed.of(at, number, id, len(record), exchange)
