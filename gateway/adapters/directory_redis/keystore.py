"""Gateway keys and the audit, as `ports.KeyStore` has them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import orjson

from gateway.adapters.directory_redis.wire import (
    CACHED,
    FORMERLY_S,
    PAGE,
    PATIENCE_S,
    Wire,
    fields_of,
)
from gateway.config import seconds_of
from gateway.core.errors import DirectoryUnavailable
from gateway.core.keys import GatewayKey
from gateway.core.memory import Instant


class KeyStore(Wire):
    """`_keys` are those that were read, each with the time when it was."""

    _keys: dict[str, tuple[float, GatewayKey]]

    async def add(self, key: GatewayKey) -> None:
        await self._ask("HSET", "dir:keys", key.id, orjson.dumps(asdict(key)))

    async def find(self, id: str) -> GatewayKey | None:
        read, key = self._keys.get(id, (0.0, None))
        age = time.monotonic() - read
        if key is not None and age < self._cached_s:
            return key
        if key is None or age > FORMERLY_S:
            return await self._for_a_chat(partial(self._read, id), None)
        # Redis away must not end the chats of all who come with a key.
        try:
            return await self._for_a_chat(partial(self._read, id), PATIENCE_S)
        except DirectoryUnavailable:
            return key

    async def _read(self, id: str) -> GatewayKey | None:
        text = await self._ask("HGET", "dir:keys", id)
        if text is None:
            self._keys.pop(id, None)
            return None
        key = GatewayKey(**orjson.loads(text))
        if len(self._keys) >= CACHED:
            self._keys.clear()
        self._keys[id] = (time.monotonic(), key)
        return key

    async def all(self) -> list[GatewayKey]:
        keys = [GatewayKey(**orjson.loads(text)) for text in await self._ask("HVALS", "dir:keys")]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    async def revoke(self, id: str, at: Instant) -> bool:
        """Whether there is such a key; one revoked before keeps its time."""
        text = await self._ask("HGET", "dir:keys", id)
        if text is None:
            return False
        key = GatewayKey(**orjson.loads(text))
        if key.revoked_at is None:
            await self.add(replace(key, revoked_at=at))
        self._keys.pop(id, None)
        return True

    async def audit(self, entry: Mapping[str, Any]) -> None:
        """Kept for `retention.audit`; `at` is now where the entry does not say."""
        now = self._clock()
        kept_s = seconds_of(self._settings.retention.audit)
        trim = () if kept_s is None else ("MINID", "~", max(int((now - kept_s) * 1000), 0))
        whole = orjson.dumps({"at": now, **entry})
        await self._ask("XADD", "dir:audit", *trim, "*", "entry", whole)

    async def audited(
        self, *, limit: int = 100, app: str | None = None, user: str | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before: bytes | str = "+"
        while len(found) < limit:
            page = await self._ask("XREVRANGE", "dir:audit", before, "-", "COUNT", PAGE)
            for _, values in page:
                entry = orjson.loads(fields_of(values)[b"entry"])
                if app in (None, entry.get("app")) and user in (None, entry.get("user")):
                    found.append(entry)
            if len(page) < PAGE:
                break
            before = b"(" + page[-1][0]
        return found[:limit]
