"""Dead letters: work that could not be distilled, as operators see it and have it tried again."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.adapters.redis_queue.opening import opened
from gateway.adapters.redis_queue.steps import Steps, pairs
from gateway.core.errors import Unreadable
from gateway.core.identity import Owner, partition_of
from gateway.core.memory import Instant
from gateway.ports import Cipher, DeadLetter

EVERY: Final = 2**31


class Letters:
    def __init__(
        self,
        steps: Steps,
        cipher: Cipher,
        by_tenant: Callable[[str], Awaitable[Owner | None]],
    ) -> None:
        self._steps = steps
        self._cipher = cipher
        self._by_tenant = by_tenant

    async def dead(self, *, limit: int = 100) -> list[DeadLetter]:
        """Dead letters, newest first."""
        found = []
        for id in await self._letters(limit):
            tenant = _tenant_of(id)
            told = await self._steps.at(partition_of(tenant), "letter", id)
            if told is None:
                continue  # retried or erased since it was listed
            letter = json.loads(told)
            found.append(
                DeadLetter(
                    id=id,
                    tenant=tenant,
                    at=float(letter["at"]),
                    reason=letter["reason"],
                    tries=int(letter["tries"]),
                    exchange_ids=await self._ids_in(tenant, letter["ids"].split()),
                )
            )
        return found

    async def retry(self, id: str | None = None, *, now: Instant) -> int:
        """Put one dead letter, or all, back in line with all their tries; how many exchanges.

        Each comes back as the batch that it was, with the plan that it had.
        """
        ids = [id] if id is not None else await self._letters(EVERY)
        count = 0
        for each in reversed(ids):  # in the order in which they were buried
            count += int(await self._steps.at(_partition_of(each), "retry", each, repr(now)))
        return count

    async def _letters(self, limit: int) -> list[str]:
        rows = await self._steps.of_each("ZREVRANGE", "dead", 0, limit - 1, "WITHSCORES")
        letters = sorted(
            ((float(at), name) for row in rows for name, at in pairs(row)), reverse=True
        )
        return [name.decode() for _, name in letters[:limit]]

    async def _ids_in(self, tenant: str, hidden: Sequence[str]) -> tuple[str, ...]:
        """The ids as their makers know them; none where nobody can read them any more."""
        owner = await self._by_tenant(tenant)
        if owner is None:
            return ()
        ids = []
        for id, record in zip(
            hidden, await self._steps.of(tenant, "records", *hidden), strict=True
        ):
            try:
                ids.append(opened(self._cipher, owner, id, record or b"").id)
            except Unreadable:
                continue  # it is listed all the same, without its id
        return tuple(ids)


def _tenant_of(letter: str) -> str:
    return letter.rpartition("-")[0]


def _partition_of(letter: str) -> int:
    return partition_of(_tenant_of(letter))
