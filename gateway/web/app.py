"""The route table: which path is whose. Plain ASGI; nothing wraps the relay.

Chats and what passes through are dispatched here by hand, as that is the hot path; the
gateway's own paths go to a router of Starlette's, whose errors are answered in one place.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.core.errors import BadRequest, NotFound, Unauthenticated
from gateway.core.identity import DEFAULT_APP
from gateway.ports import Deployment
from gateway.telemetry.metrics import Metrics
from gateway.web import admin, console, health, memories, openapi
from gateway.web.body import ClientLeft
from gateway.web.browser_session import BrowserSessions
from gateway.web.callers import caller_from_headers
from gateway.web.chat import APIS, ChatEndpoint
from gateway.web.errors import foreseen, send_error
from gateway.web.figures import Figures
from gateway.web.health import Readiness
from gateway.web.passthrough import PassThrough
from gateway.web.relay import LEFT

ROOT: Final = "/v1"
OWN: Final = (
    "/v1/memories",
    "/v1/exchanges",
    "/v1/receipts",
    "/v1/erasures",
    "/v1/feedback",
    "/admin/v1",
    "/console",
)
"""Where the gateway's own paths begin; everything else under `/v1/` is the upstream's."""

_BESIDE_A_TOKEN: Final = range(len("Bearer ") + 2)

Endpoint = Callable[[Scope, Receive, Send], Awaitable[int]]


def build_app(deployment: Deployment, *, admin_token: str = "") -> ASGIApp:
    """The ASGI application of an open deployment."""
    sessions = BrowserSessions(admin_token, deployment.services_for(DEFAULT_APP).revocations)
    readiness = Readiness(deployment)
    figures = Figures(deployment, readiness)
    own = [
        *memories.routes(caller_from_headers(deployment, sessions), ROOT),
        *admin.routes(deployment, admin_token, sessions),
        Route("/openapi.json", openapi.openapi, methods=["GET"]),
        *health.routes(deployment, readiness, figures.refresh),
        *console.routes(deployment, sessions, figures),
    ]
    return GatewayWeb(deployment, own, admin_token=admin_token)


class GatewayWeb:
    """Finds each request's endpoint, and counts what became of it."""

    def __init__(
        self, deployment: Deployment, own: Sequence[BaseRoute], *, admin_token: str = ""
    ) -> None:
        self._metrics = deployment.metrics
        self._chats = frozenset(ROOT + path for path in APIS)
        self._chat = ChatEndpoint(deployment)
        self._pass = PassThrough(deployment)
        self._own = OwnRoutes(own, deployment.metrics)
        self._admin_token = admin_token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await _refuse_websocket(receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, endpoint = self._route(scope["method"], scope["path"])
        if endpoint is not self._own and self._holds_admin_token(scope):
            endpoint = _refuse_admin_token
        began = perf_counter()
        status = 500
        self._metrics.open_requests.inc()
        try:
            status = await endpoint(scope, receive, send)
        finally:
            self._metrics.open_requests.dec()
            self._metrics.requests_by[name, f"{status // 100}xx"].inc()
            self._metrics.request_seconds_by[name].observe(perf_counter() - began)

    def _holds_admin_token(self, scope: Scope) -> bool:
        """Sent where an upstream's key is expected, it would go upstream."""
        token = self._admin_token
        return bool(token) and any(
            len(value) - len(token) in _BESIDE_A_TOKEN
            and hmac.compare_digest(value[-len(token) :], token)
            for _, value in scope["headers"]
        )

    def _route(self, method: str, path: str) -> tuple[str, Endpoint]:
        if method == "POST" and path in self._chats:
            return path[len(ROOT) + 1 :], self._chat
        if path.startswith(ROOT + "/") and not _is_own(path):
            return "passthrough", self._pass
        return "own", self._own


def _is_own(path: str) -> bool:
    return any(path == own or path.startswith(own + "/") for own in OWN)


class OwnRoutes:
    """The gateway's own paths; every error of theirs is answered here, OpenAI-shaped."""

    def __init__(self, routes: Sequence[BaseRoute], metrics: Metrics) -> None:
        self._metrics = metrics
        self._router = Router(routes=routes, redirect_slashes=False, default=_unknown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        status = 0

        async def out(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        scope["app"] = self  # has Starlette raise what it would else answer as plain text
        try:
            await self._router(scope, receive, out)
        except (ClientLeft, ClientDisconnect):
            return LEFT
        except HTTPException as exc:
            if exc.status_code == 405:
                return await self._not_allowed(scope, out)
            headers = [(k.lower().encode(), v.encode()) for k, v in (exc.headers or {}).items()]
            await send_error(
                out, BadRequest(exc.detail, code="http_error"), headers, exc.status_code
            )
        except Exception as exc:
            error = foreseen(exc, self._metrics)
            if status:
                raise  # half an answer is out: the server closes the connection
            await send_error(out, error)
        return status

    async def _not_allowed(self, scope: Scope, send: Send) -> int:
        """405 with every method of the path: the router names those of one route alone."""
        matching = [
            route
            for route in self._router.routes
            if isinstance(route, Route) and route.matches(scope)[0] is Match.PARTIAL
        ]
        allowed = ", ".join(
            sorted({m for r in matching if r.path == matching[0].path for m in r.methods or ()})
        )
        error = BadRequest(
            f"{scope['method']} is not for this path; it takes {allowed}", code="http_error"
        )
        return await send_error(send, error, [(b"allow", allowed.encode())], 405)


async def _unknown(scope: Scope, _receive: Receive, _send: Send) -> None:
    raise NotFound(
        f"There is nothing at {scope['path'][:200]}. The API begins with /v1; base_url should end"
        " in it.",
        code="unknown_path",
    )


async def _refuse_admin_token(_scope: Scope, _receive: Receive, send: Send) -> int:
    return await send_error(
        send,
        Unauthenticated(
            "this is the gateway's admin token: it is for /admin/v1 alone, and is not sent to the"
            " upstream. Send the upstream's key, or a gateway key",
            param="Authorization",
            code="admin_token_misused",
        ),
    )


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": "WebSockets are not relayed"})


async def _lifespan(receive: Receive, send: Send) -> None:
    """Whoever built the app has opened the deployment, and ends it."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
