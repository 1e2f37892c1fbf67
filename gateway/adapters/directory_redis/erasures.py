"""Receipts of erasures: of all the newest ten thousand, of one person the newest hundred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.adapters.directory_redis.wire import PAGE, Wire, hashed
from gateway.core.identity import Person

ERASURES_KEPT: Final = 10_000
ERASURES_OF_ONE: Final = 100
"""One who erases again and again takes the place of their own receipts, not of everyone's: a
restored backup goes by them."""


class Erasures(Wire):
    """`dir:erased:order` decides what there is; of what it does not name, the rest is removed."""

    async def keep_erasure(self, record: Mapping[str, Any]) -> None:
        id, of = str(record["id"]), _of(record)
        await self._ask("HSET", "dir:erased", id, orjson.dumps(dict(record)))
        for order, most in ((of, ERASURES_OF_ONE), ("dir:erased:order", ERASURES_KEPT)):
            await self._ask("ZADD", order, "NX", self._clock(), id)
            excess = await self._ask("ZRANGE", order, 0, -most - 1)
            if excess:
                await self._remove(order, excess)

    async def _remove(self, order: str, ids: Sequence[bytes]) -> None:
        for id, record in zip(ids, await self._records(ids), strict=True):
            if record is not None:
                await self._ask("ZREM", _of(record), id)
        for each in (order, "dir:erased:order"):
            await self._ask("ZREM", each, *ids)
        await self._ask("HDEL", "dir:erased", *ids)

    async def erasure(self, id: str) -> dict[str, Any] | None:
        [record] = await self._records([id])
        return record

    async def erased(self, *, unfinished: bool = False) -> list[dict[str, Any]]:
        ids = await self._ask("ZREVRANGE", "dir:erased:order", 0, -1)
        found: list[dict[str, Any]] = []
        for start in range(0, len(ids), PAGE):  # page by page: others are served between two
            page = [r for r in await self._records(ids[start : start + PAGE]) if r is not None]
            found += [r for r in page if not (unfinished and r["completed"])]
        return found

    async def _records(self, ids: Iterable[Any]) -> list[dict[str, Any] | None]:
        texts = await self._ask("HMGET", "dir:erased", *ids)
        return [None if text is None else orjson.loads(text) for text in texts]


def _of(record: Mapping[str, Any]) -> str:
    person = Person(str(record.get("app", "")), str(record.get("user", "")))
    return f"dir:erased:of:{hashed(person)}"
