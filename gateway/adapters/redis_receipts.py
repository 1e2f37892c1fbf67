"""Receipts of recalls in Redis 6.2 or newer: sealed, bounded per user, kept for a set time.

Keys (`n` is the tenant's partition, so that one tenant's keys share one slot):

    {p<n>}:receipts:<tenant>       hash    receipt id -> receipt, sealed
    {p<n>}:receipts:<tenant>:at    zset    receipt id by when it was kept
    {p<n>}:receipts:<tenant>:gone  string  fence: erased, nothing of this tenant is kept again

All end with `retention.receipts`, the fence after 30 days.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from gateway.adapters.redis_script import Script, answered
from gateway.config import AppSettings, seconds_of
from gateway.core.considered import Packed, packed, unpacked
from gateway.core.identity import Owner, partition_of
from gateway.core.scored import Scored
from gateway.ports import Cipher

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

FENCE_S: Final = 30 * 86_400
NEVER_S: Final = 10 * 365 * 86_400
"""`retention.receipts = "never"`: their number bounds them then."""

_KEEP = Script("receipts_keep")
_READ = Script("receipts_read")
_ERASE = Script("receipts_erase")
_REPLACE = Script("receipts_replace")


class RedisReceipts:
    """Implements ports.Receipts on a ready client, which its maker also closes.

    `settings_for` tells an app's `retention.receipts` and `receipts.*`.
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        cipher: Cipher,
        settings_for: Callable[[str], AppSettings],
    ) -> None:
        self._client = client
        self._cipher = cipher
        self._settings_for = settings_for

    async def keep(self, owner: Owner, receipt: Mapping[str, Any]) -> None:
        """Keep it under its `id`; one that is too large loses the ends of its longest lists."""
        settings = self._settings_for(owner.app)
        id = str(receipt["id"])
        sealed = self._cipher.seal(owner, _fitting(receipt, settings.receipts.max_bytes), _at(id))
        most = settings.receipts.max_per_user
        await self._run(_KEEP, _keys(owner.tenant), id, sealed, _kept_s(settings), most)

    async def get(self, owner: Owner, id: str) -> dict[str, Any] | None:
        found = await self._read(owner, 1, id)
        return found[0] if found else None

    async def recent(self, owner: Owner, *, limit: int = 50) -> list[dict[str, Any]]:
        """Newest first."""
        return await self._read(owner, limit)

    async def _read(self, owner: Owner, limit: int, *id: str) -> list[dict[str, Any]]:
        kept_s = _kept_s(self._settings_for(owner.app))
        keys = _keys(owner.tenant)[:2]
        found = await self._run(_READ, keys, kept_s, limit, *(i.encode() for i in id))
        pairs = zip(found[::2], found[1::2], strict=True)
        return [
            _receipt_in(self._cipher.open(owner, sealed, _at(id.decode()))) for id, sealed in pairs
        ]

    async def replace(self, owner: Owner, receipt: Mapping[str, Any]) -> None:
        """Another state of a receipt that is kept; one that has ended stays away."""
        id = str(receipt["id"])
        plain = _fitting(receipt, self._settings_for(owner.app).receipts.max_bytes)
        sealed = self._cipher.seal(owner, plain, _at(id))
        await self._run(_REPLACE, _keys(owner.tenant)[:1], id, sealed)

    async def erase(self, tenant: str) -> int:
        """Remove all of a tenant's and keep none again; how many there were."""
        count: int = await self._run(_ERASE, _keys(tenant), FENCE_S)
        return count

    async def count(self, tenant: str) -> int:
        count: int = await self._ask("HLEN", _keys(tenant)[0])
        return count

    def _run(self, script: Script, keys: Sequence[str], *args: Any) -> Awaitable[Any]:
        return answered(script.run(self._client, keys, *args))

    def _ask(self, *command: Any) -> Awaitable[Any]:
        return answered(self._client.execute_command(*command))


def _keys(tenant: str) -> tuple[str, str, str]:
    name = f"{{p{partition_of(tenant)}}}:receipts:{tenant}"
    return name, f"{name}:at", f"{name}:gone"


def _at(id: str) -> str:
    return f"receipt:{id}"


def _kept_s(settings: AppSettings) -> int:
    seconds = seconds_of(settings.retention.receipts)
    return NEVER_S if seconds is None else int(seconds)


def _receipt_in(plain: bytes) -> dict[str, Any]:
    receipt: dict[str, Any] = orjson.loads(plain)
    if isinstance(considered := receipt.get("considered"), dict):
        receipt["considered"] = unpacked(cast(Packed, considered))
    return receipt


def _fitting(receipt: Mapping[str, Any], most: int) -> bytes:
    """The receipt as JSON of at most so many bytes: what is long in it are lists of what was
    considered, best first, so their ends are what is missed least."""
    body = dict(receipt)
    plain = _json(body)
    while len(plain) > most:
        name = max(body, key=lambda n: len(body[n]) if isinstance(body[n], list | tuple) else 0)
        value = body[name]
        if not isinstance(value, list | tuple) or not value:
            return _json({"id": body["id"], "truncated": True})
        body |= {name: list(value[: len(value) // 2]), "truncated": True}
        plain = _json(body)
    return plain


def _json(body: Mapping[str, Any]) -> bytes:
    considered = body.get("considered")
    if considered and isinstance(considered[0], Scored):
        body = {**body, "considered": packed(considered)}
    return orjson.dumps(body, default=dict)
