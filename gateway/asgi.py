"""The ASGI application: opens the deployment when the server starts, ends it when it stops.

`uvicorn gateway.asgi:app` serves it; `memory-gateway serve` does so with the right options.
Requests that come before everything is open are answered by `/readyz` with 503 and otherwise
wait for nothing: the server accepts only after the lifespan's start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, TypeAlias

from gateway import config

if TYPE_CHECKING:
    from gateway.wiring import GatewayDeployment

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

STORES_START_S = 0.05
"""Within it the stores' processes are started; where it takes longer, nothing is lost but time."""


class GatewayApp:
    """One process's application. Without settings it reads them when the server starts."""

    def __init__(
        self,
        settings: config.Settings | None = None,
        *,
        worker: bool | None = None,
        replaces_model: bool = False,
    ):
        self._settings = settings
        self._worker = worker
        self._replaces_model = replaces_model
        self._app: Asgi | None = None
        self.deployment: GatewayDeployment | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        else:
            raise RuntimeError("the server did not run the lifespan: turn it on")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.open()
        except Exception as exc:
            # Whatever stops the start is the server's to report: it must be told, or it hangs.
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def open(self) -> None:
        """Open every part and begin to serve. Raises SettingsError."""
        from gateway.flows.tasks import beside, ended
        from gateway.wiring import open_deployment

        settings = self._settings or config.load()
        opening = beside(
            open_deployment(settings, worker=self._worker, replaces_model=self._replaces_model),
            "open the deployment",
        )
        try:
            # A third of the code to import is the web's: it is read while the stores' processes,
            # which are started by then, load. (Imports in a thread beside others can deadlock.)
            await asyncio.wait([opening], timeout=STORES_START_S)
            from gateway.web.app import build_app

            self.deployment = await opening
        finally:
            await ended(opening)
        self._app = build_app(self.deployment, admin_token=self.deployment.admin_token)

    async def close(self) -> None:
        """Hand over what was said, then end every part."""
        if self.deployment is not None:
            await self.deployment.close()


app = GatewayApp()
