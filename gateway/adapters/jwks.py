"""The public keys that an identity provider publishes, fetched over HTTP and kept for a while.

One entry a URL. Keys are asked for again when they are old, and once when a token names a key
that is not among them (the provider has rotated); both within a throttle, so that forged
tokens cannot make the gateway hammer the provider. While the provider is away the keys that
were had last still count. Ages are measured on the monotonic clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from gateway.core.errors import KeysUnavailable
from gateway.telemetry.logs import Outage, log

if TYPE_CHECKING:
    import httpx

FRESH_S = 600.0
"""How long keys are used without asking again: a withdrawn key is refused after this."""
STALE_S = 86_400.0
"""How long keys are used while the provider cannot be asked."""
THROTTLE_S = 30.0
RETRY_S = 3.0
"""How long between two tries: with keys at hand, and with none."""
MAX_BYTES = 2**20


@dataclass(slots=True)
class _Published:
    keys: tuple[Mapping[str, Any], ...] = ()
    fetched: float = float("-inf")
    tried: float = float("-inf")
    fault: str = "it was not asked yet"
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    outage: Outage = field(default_factory=lambda: Outage(log("identity"), "identity.jwks_url"))

    def serves(self, kid: str | None, now: float) -> bool:
        return now - self.fetched < FRESH_S and (kid is None or self.names(kid))

    def names(self, kid: str | None) -> bool:
        return any(key.get("kid") == kid for key in self.keys)

    def may_ask(self, now: float) -> bool:
        return now - self.tried >= (THROTTLE_S if self.keys else RETRY_S)


class HttpJwks:
    """Implements ports.JwksSource."""

    def __init__(self, *, timeout_s: float = 5.0, clock: Callable[[], float] = time.monotonic):
        self._timeout_s = timeout_s
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._published: dict[str, _Published] = {}

    async def keys(self, url: str, *, kid: str | None) -> Sequence[Mapping[str, Any]]:
        entry = self._published.setdefault(url, _Published())
        if entry.serves(kid, self._clock()):
            return entry.keys
        if not (entry.asking.locked() and entry.names(kid)):  # one asks; who can, goes on
            async with entry.asking:
                if not entry.serves(kid, self._clock()) and entry.may_ask(self._clock()):
                    await self._ask(url, entry)
        if self._clock() - entry.fetched > STALE_S:
            raise KeysUnavailable(
                "the keys that tokens are checked with cannot be had from identity.jwks_url"
                f" ({entry.fault}); check that it is right and reachable, and try again",
                code="jwks_unavailable",
            )
        return entry.keys

    async def _ask(self, url: str, entry: _Published) -> None:
        entry.tried = self._clock()
        try:
            entry.keys = _read(await self._fetch(url))
        except KeysUnavailable as exc:
            # What was had before still counts, for as long as STALE_S: nobody would notice.
            entry.fault = exc.message
            entry.outage.failed(exc.message)
            return
        entry.outage.recovered()
        entry.fetched = self._clock()

    async def _fetch(self, url: str) -> bytes:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False)
        body = bytearray()
        try:
            async with self._client.stream("GET", url) as response:
                if response.status_code != 200:
                    raise KeysUnavailable(f"it answers {response.status_code}")
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_BYTES:
                        raise KeysUnavailable("it answers more than 1 MiB")
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise KeysUnavailable(f"it cannot be reached: {type(exc).__name__}") from exc
        return bytes(body)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


def _read(body: bytes) -> tuple[Mapping[str, Any], ...]:
    try:
        document = orjson.loads(body)
        keys = document["keys"]
        return tuple(key for key in keys if isinstance(key, dict))
    except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
        raise KeysUnavailable("it answers no JSON Web Key Set") from exc
