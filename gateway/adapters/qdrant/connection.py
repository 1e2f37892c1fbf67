"""How a Qdrant server is reached: by the official client, and plainly where a chat waits.

Reading is what every chat does, once or twice. Through the client's models a search that found 59
memories took 0.93 ms of CPU here, of which the gateway's own work was a third; asked by `post`, in
the API's own words, it takes 0.33. Whatever goes wrong on either way is StoreUnavailable.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from gateway.config import QdrantSettings
from gateway.core.errors import StoreUnavailable
from gateway.telemetry.logs import without_secrets

if TYPE_CHECKING:
    import aiohttp
    from qdrant_client import AsyncQdrantClient

T = TypeVar("T")

CONNECTIONS: Final = 100
KEEP_ALIVE_S: Final = 3.0
"""Less than the 5 s after which the server's side (actix, by default) lets go of one."""
REASON_BYTES: Final = 300
"""How much of a refusal's words is told."""


class Connection:
    """The two ways to one server, from `open` to `close`."""

    def __init__(self, settings: QdrantSettings) -> None:
        self._settings = settings
        self._place = without_secrets(settings.url or "")  # what callers are told of it
        self._made: AsyncQdrantClient | None = None
        self._session: aiohttp.ClientSession | None = None
        self._base = ""
        self._why = ""

    @property
    def client(self) -> AsyncQdrantClient:
        if self._made is None:
            raise self._not_open()
        return self._made

    @property
    def models(self) -> Any:
        """What the client's calls are made of."""
        from qdrant_client import models

        return models

    def open(self) -> None:
        """Nothing is asked of the server yet."""
        # Imported where they are used: 0.4 s of CPU.
        import aiohttp
        from httpx import Limits, create_ssl_context
        from httpx_aiohttp import AiohttpTransport
        from qdrant_client import AsyncQdrantClient

        # By itself the client opens a connection for each call to a server on this machine, and
        # speaks through httpcore: 1.4 ms of CPU for the search above.
        limits = Limits(
            max_connections=CONNECTIONS,
            max_keepalive_connections=CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_S,
        )
        key = self._settings.api_key.get_secret_value() if self._settings.api_key else None
        self._made = AsyncQdrantClient(
            url=self._settings.url,
            api_key=key,
            timeout=math.ceil(self._settings.timeout_s),
            check_compatibility=False,  # it asks in the way of `open`, and only warns
            limits=limits,
            transport=AiohttpTransport(limits=limits),
        )
        # As the client understands the address: a port that is not named is Qdrant's own.
        self._base = str(self._made.http.client.host).rstrip("/")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS,
                keepalive_timeout=KEEP_ALIVE_S,
                ssl=create_ssl_context() if self._base.startswith("https:") else False,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"content-type": "application/json"} | ({"api-key": key} if key else {}),
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout_s),
        )

    async def post(self, path: str, body: Any) -> Any:
        """The `result` of a call that reads. Raises StoreUnavailable."""
        status, answer = await self._posted(self._base + path, orjson.dumps(body))
        if status != 200:
            raise self._refused(status, answer)
        try:
            return orjson.loads(answer)["result"]
        except (ValueError, KeyError, TypeError) as exc:
            raise self.unusable(exc) from exc

    async def _posted(self, url: str, body: bytes) -> tuple[int, bytes]:
        """Once, and once more where a kept connection turned out to be closed: it only reads."""
        import aiohttp

        session = self._session  # closed between two tries, it says so itself
        if session is None:
            raise self._not_open()
        for last in (False, True):
            try:
                async with session.post(url, data=body, allow_redirects=False) as response:
                    return response.status, await response.read()
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
                if last or isinstance(exc, aiohttp.ClientConnectorError):
                    raise self._silent(exc) from exc
            except (aiohttp.ClientError, OSError, ValueError, RuntimeError) as exc:
                # A session that was closed meanwhile raises RuntimeError.
                raise self._silent(exc) from exc
        raise AssertionError("the second try returns or raises")

    async def asked(self, call: Awaitable[T]) -> T:
        """What a call of the client gives. Raises StoreUnavailable for its many failures."""
        from httpx import HTTPError
        from pydantic import ValidationError
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

        try:
            return await call
        except UnexpectedResponse as exc:
            raise self._refused(exc.status_code, exc.content) from exc
        except (ApiException, QdrantException, HTTPError, OSError) as exc:
            raise self._silent(exc) from exc
        except (ValidationError, ValueError, RuntimeError) as exc:
            # An answer that is none of Qdrant's; the client's local mode refuses by ValueError.
            raise self.unusable(exc) from exc

    async def close(self, why: str = "") -> None:
        """Whoever asks from now on is told that it is not open, and why; it can be opened again."""
        self._why = why
        client, session = self._made, self._session
        self._made = self._session = None
        try:
            if client is not None:
                await client.close()
        finally:
            if session is not None:
                await session.close()

    # --- what went wrong -----------------------------------------------------------------------

    def _not_open(self) -> StoreUnavailable:
        why = f": {self._why}" if self._why else ""
        return StoreUnavailable(f"the memory store is not open{why}")

    def _refused(self, status: int | None, content: bytes) -> StoreUnavailable:
        reason = content[:REASON_BYTES].decode("utf-8", "replace")
        vectors = status == 400 and "vector" in reason.lower()
        return StoreUnavailable(
            f"Qdrant at {self._place} answered {status}: {reason}",
            code="vectors" if vectors else None,
        )

    def _silent(self, exc: Exception) -> StoreUnavailable:
        what = str(exc) or type(exc).__name__
        return StoreUnavailable(f"Qdrant at {self._place} does not answer: {what}")

    def unusable(self, exc: Exception) -> StoreUnavailable:
        return StoreUnavailable(f"Qdrant at {self._place} gave no usable answer: {exc}")
