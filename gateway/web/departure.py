"""A client that leaves ends the work done for it, wherever that stands.

When the client is gone while its answer is made, the work is cancelled, which ends the upstream's
too. The cancellation stops at this block: it was ours, and nobody's else.

Our own server tells of a leaving client at once (`protocol.Connection`). Any other tells only
whoever asks (ASGI's `receive`), so that a task has to ask beside the work: 20 µs a request.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from starlette.types import Receive

from gateway.flows.tasks import beside
from gateway.web.protocol import Connection


class Departure:
    """`async with Departure(receive)`: the block is cancelled when the client leaves.

    `left` says so afterwards. With `after`, watching begins once that event is set: until
    then somebody else reads the request's body from `receive`. A `connection` is watched instead
    of asking `receive`.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        after: asyncio.Event | None = None,
        connection: Connection | None = None,
    ) -> None:
        self._receive = receive
        self._after = after
        self._connection = connection
        self._working: asyncio.Task[object] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.left = False

    async def __aenter__(self) -> Self:
        self._working = asyncio.current_task()
        if self._connection is not None:
            self._connection.watch(self.leave)
        else:
            self._watching = beside(self._watch(), "watch for a leaving client")
        return self

    async def _watch(self) -> None:
        if self._after is not None:
            await self._after.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.leave()

    def leave(self) -> None:
        """The client is gone: end the work."""
        if self._working is not None and not self.left:
            self.left = True
            self._working.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        _exc: BaseException | None,
        _trace: TracebackType | None,
    ) -> bool:
        working, self._working = self._working, None
        if self._connection is not None:
            self._connection.unwatch()
        # Let go: a cancelled task's traceback holds this, and both would wait for the collector.
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        if not self.left or working is None:
            return False
        # As asyncio.timeout does it: take back our own cancellation, and swallow it only
        # where nobody else asked for one (a server that shuts down does).
        return working.uncancel() <= 0 and kind is asyncio.CancelledError
