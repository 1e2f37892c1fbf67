"""The gateway's own errors as HTTP answers, in the shape that OpenAI clients read (docs/api.md).

One table gives each error its status. What is not in it was not foreseen: it is logged, and
answered as 500 without its words, which could quote a user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import orjson
from starlette.types import Send

from gateway.core.errors import (
    BadRequest,
    Forbidden,
    GatewayError,
    NotFound,
    OverBudget,
    OwnerGone,
    RateLimited,
    RequestRefused,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unprocessable,
    UnsupportedMedia,
    UpstreamFailed,
    UpstreamTimedOut,
)
from gateway.telemetry.logs import log
from gateway.telemetry.metrics import Metrics

STATUS: Final[tuple[tuple[type[GatewayError], int, str], ...]] = (
    (BadRequest, 400, "invalid_request_error"),
    (Unauthenticated, 401, "authentication_error"),
    (Forbidden, 403, "permission_error"),
    (NotFound, 404, "not_found_error"),
    (TooLarge, 413, "invalid_request_error"),
    (UnsupportedMedia, 415, "invalid_request_error"),
    (Unprocessable, 422, "invalid_request_error"),
    (RateLimited, 429, "rate_limit_error"),
    (UpstreamTimedOut, 504, "upstream_error"),
    (UpstreamFailed, 502, "upstream_error"),
    (OwnerGone, 409, "conflict_error"),
    (OverBudget, 503, "unavailable_error"),
    (Unavailable, 503, "unavailable_error"),
)
"""Status and `type` of each error; the first that fits. 503 is for the memory API alone: a
chat goes on without what is unavailable."""

REQUEST_TIMEOUT: Final = "request_timeout"
"""A BadRequest of this code is 408: the body did not come in time."""

UNFORESEEN: Final = GatewayError(
    "The gateway failed on this request. Its log says where; the request may be tried again.",
    code="internal_error",
)

RawHeaders = Sequence[tuple[bytes, bytes]]


def status_of(error: GatewayError) -> tuple[int, str]:
    """HTTP status and error type."""
    if error.code == REQUEST_TIMEOUT:
        return 408, "invalid_request_error"
    for kind, status, name in STATUS:
        if isinstance(error, kind):
            return status, name
    return 500, "server_error"


def error_body(error: GatewayError) -> dict[str, Any]:
    """The error as OpenAI clients know it."""
    shown = {
        "message": error.message,
        "type": status_of(error)[1],
        "param": error.param,
        "code": error.code,
    }
    return {"error": shown}


def error_event(error: GatewayError, *, at_boundary: bool) -> bytes:
    """The last event of a stream that the upstream broke. Not `at_boundary`: the event before
    it was not finished, so that a blank line must come first."""
    return (b"" if at_boundary else b"\n\n") + b"data: " + orjson.dumps(error_body(error)) + b"\n\n"


def error_headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-type", b"application/json")]
    if isinstance(error, RateLimited):
        wait_s = max(error.retry_after_s, 0.0)
        headers.append((b"retry-after", b"%d" % math.ceil(wait_s)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000)))
    if error.code == REQUEST_TIMEOUT:
        headers.append((b"connection", b"close"))
    return headers


async def send_error(
    send: Send, error: GatewayError, extra: RawHeaders = (), status: int | None = None
) -> int:
    """Answer with an error; its status (the table's, unless one is given)."""
    status = status or status_of(error)[0]
    body = orjson.dumps(error_body(error))
    headers = [*error_headers(error), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
    return status


def foreseen(error: Exception, metrics: Metrics) -> GatewayError:
    """The error to answer with, counted where it refuses the request; one that nobody foresaw is
    logged first."""
    if isinstance(error, RequestRefused):
        metrics.refused_requests.labels(error.code or status_of(error)[1]).inc()
    if isinstance(error, GatewayError):
        return error
    log("web").error("request_failed", exc_info=error)
    return UNFORESEEN
