"""`POST /v1/chat/completions` and `POST /v1/responses`: HTTP's side of the journey.

The request's body is read whole; the answer's bytes go to the client as they come. What
memory did stands in the answer's head, so it is known before the upstream is asked.
"""

from __future__ import annotations

from secrets import token_hex
from typing import Final

from starlette.types import Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from gateway.core.chat import Api
from gateway.flows.answer import Journeys
from gateway.flows.visit import Ask, ClientGone
from gateway.ports import Deployment
from gateway.telemetry.tracing import is_on, span
from gateway.web.body import ClientLeft, read_whole
from gateway.web.context import whose
from gateway.web.departure import Departure
from gateway.web.errors import foreseen
from gateway.web.headers import value_of
from gateway.web.protocol import connection_of
from gateway.web.relay import LEFT, HttpClient

APIS: Final[dict[str, Api]] = {"/chat/completions": "chat", "/responses": "responses"}
"""The paths below `/v1` that have memory."""


class ChatEndpoint:
    """Answers one request after the other; returns the status that each was answered with."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._journeys = Journeys(deployment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        # Every line that is logged on the way, and after it, names the request.
        with (
            bound_contextvars(request=f"req_{token_hex(8)}"),
            span(
                f"POST {scope['path']}",
                "server",
                parent=_traceparent(scope) if is_on() else None,
            ) as opened,
        ):
            status = await self._answered(scope, receive, send)
            opened.set({"http.response.status_code": status})
            return status

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> int:
        connection = connection_of(scope)
        client = HttpClient(send, scope)
        server = self._deployment.settings.server
        try:
            is_here = connection is not None and connection.body_is_here
            body, unpacked = await read_whole(scope["headers"], receive, server, is_here=is_here)
            path = scope["path"].removeprefix("/v1")
            ask = Ask(
                api=APIS[path],
                path=path,
                query=scope["query_string"],
                body=body,
                identify=whose(self._deployment, scope, unpacked=unpacked),
            )
            async with Departure(receive, connection=connection) as departure:
                await self._journeys.answer(ask, client)
            return LEFT if departure.left else client.status
        except (ClientLeft, ClientGone):
            return LEFT
        except Exception as exc:  # noqa: BLE001 (the edge: whatever it was, the client is told)
            error = foreseen(exc, self._deployment.metrics)
            if client.status == 0:
                await client.fail(error)
            return client.status  # where the head is out, the server closes the connection


def _traceparent(scope: Scope) -> str | None:
    value = value_of(scope["headers"], b"traceparent")
    return value.decode("latin-1") if value else None
