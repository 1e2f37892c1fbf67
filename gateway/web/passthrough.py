"""Every other path under `/v1/`: passed through untouched, both ways, as it comes.

Nothing of a body is read here. Whoever may not use the gateway is refused all the same (an
upstream key of the gateway's own must not serve anybody), and what was meant for the gateway
does not go upstream.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Receive, Scope, Send

from gateway.core.errors import BadRequest, NotFound, UpstreamFailed, UpstreamTimedOut
from gateway.flows.visit import ClientGone
from gateway.ports import Deployment, Upstream, UpstreamRequest, UpstreamResponse
from gateway.web.body import ClientLeft, Upload, has_body
from gateway.web.context import identified
from gateway.web.departure import Departure
from gateway.web.errors import foreseen
from gateway.web.headers import to_upstream, value_of
from gateway.web.relay import LEFT, HttpClient

ROOT: Final = b"/v1/"
NO_METHODS: Final = frozenset({"TRACE", "CONNECT"})


class PassThrough:
    """Relays one request after the other; returns the status that each was answered with."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._failures = deployment.metrics.upstream_failures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> int:
        client = HttpClient(send, scope)
        try:
            upstream, request, upload = await self._prepared(scope, receive)
            # While a body passes through, reading it is what tells of a client that leaves.
            after = upload.finished if upload is not None else None
            async with Departure(receive, after=after) as departure:
                response = await self._sent(upstream, request, upload)
                await self._relay(response, client)
            return LEFT if departure.left else client.status
        except (ClientLeft, ClientGone):
            return LEFT
        except Exception as exc:  # noqa: BLE001 (the edge: whatever it was, the client is told)
            error = foreseen(exc, self._deployment.metrics)
            if client.status == 0:
                await client.fail(error)
            return client.status

    async def _prepared(
        self, scope: Scope, receive: Receive
    ) -> tuple[Upstream, UpstreamRequest, Upload | None]:
        """Where it goes, and what. Raises RequestRefused, and Unavailable where a credential
        cannot be checked."""
        headers = scope["headers"]
        refuse_websocket(scope)
        refuse_method(scope)
        path = below_root(scope)
        found = await identified(self._deployment, scope)
        upload = None
        if has_body(headers):
            upload = Upload(headers, receive, self._deployment.settings.server)
        request = UpstreamRequest(
            method=scope["method"],
            path=path,
            query=scope["query_string"],
            headers=to_upstream(
                headers,
                drop=found.drop,
                upstream=self._deployment.settings_for(found.app).upstream,
                upload=upload is not None,
            ),
            body=upload.chunks() if upload is not None else b"",
        )
        return self._deployment.services_for(found.app).upstream, request, upload

    async def _sent(
        self, upstream: Upstream, request: UpstreamRequest, upload: Upload | None
    ) -> UpstreamResponse:
        try:
            return await upstream.send(request)
        except UpstreamFailed as error:
            if upload is not None and upload.left:
                raise ClientLeft from error
            if upload is not None and upload.failure is not None:
                raise upload.failure from error  # it broke because the body did
            kind = "timeout" if isinstance(error, UpstreamTimedOut) else "unreachable"
            self._failures.labels(kind).inc()
            raise

    async def _relay(self, response: UpstreamResponse, client: HttpClient) -> None:
        try:
            await client.start(response.status, response.headers, None)
            async for chunk in response.chunks(client.take):
                await client.chunk(chunk)
            await client.end()
        except UpstreamFailed as error:
            self._failures.labels("broken").inc()
            await client.broke(error)
        finally:
            await response.close()


def refuse_websocket(scope: Scope) -> None:
    """Raises BadRequest for a handshake, which no relay of requests can serve."""
    if (value_of(scope["headers"], b"upgrade") or b"").lower() == b"websocket":
        raise BadRequest(
            "WebSockets are not relayed here. Connect to the upstream itself for the realtime"
            " API, or use /v1/chat/completions or /v1/responses with stream.",
            code="websocket_unsupported",
        )


def refuse_method(scope: Scope) -> None:
    """Raises BadRequest for what is asked of a proxy rather than of an API. A `TRACE` is answered
    with its own head (RFC 9110, 9.3.8), in which our upstream key would stand."""
    if scope["method"] in NO_METHODS:
        raise BadRequest(
            f"{scope['method']} is not relayed here. Use the methods of the upstream's API.",
            code="method_unsupported",
        )


def below_root(scope: Scope) -> str:
    """The path below `/v1`, as it was sent. Raises NotFound where it could lead out of it."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    segments = scope["path"].replace("\\", "/").split("/")
    if not raw.startswith(ROOT) or not {".", ".."}.isdisjoint(segments):
        raise NotFound(
            "The path holds a dot segment or is written so that it could lead out of the API."
            " Send the path that is meant.",
            code="unknown_path",
        )
    return raw[len(ROOT) - 1 :].decode("latin-1")
