"""Credentials that this gateway made: gateway keys with their limits, and the admin token."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

from gateway.core.errors import (
    BadRequest,
    GatewayError,
    RateLimited,
    StateUnavailable,
    Unauthenticated,
)
from gateway.core.identity import DEFAULT_APP
from gateway.core.keys import KEY_PREFIX, GatewayKey, check_key, holds_key, key_id
from gateway.core.memory import Instant
from gateway.ports import Deployment
from gateway.web.claims import Given

# Where clients put API keys: a gateway key in any of them must not reach the upstream.
_KEY_HEADERS: Final = (b"authorization", b"api-key", b"x-api-key")


class Attempt:
    """One credential from one address, about to be looked at. Raises RateLimited where it is
    not: too many wrong ones came from there, and this one is not known to be right."""

    def __init__(
        self, deployment: Deployment, peer_host: str | None, credential: str, now: Instant
    ) -> None:
        self._attempts, self._host = deployment.attempts, peer_host
        self._credential, self._now = credential, now
        wait_s = self._attempts.wait_s(peer_host, credential, now=now)
        if wait_s > 0:
            raise _too_many(wait_s)

    def failed(self, refused: Unauthenticated) -> GatewayError:
        """It was wrong: what to raise."""
        wait_s = self._attempts.wait_s(self._host, "", now=self._now)
        self._attempts.failed(self._host, now=self._now)
        return _too_many(wait_s) if wait_s > 0 else refused

    def succeeded(self) -> None:
        """It was right."""
        self._attempts.succeeded(self._host, self._credential, now=self._now)


def _too_many(wait_s: float) -> RateLimited:
    return RateLimited(
        f"too many wrong keys or tokens came from this address; try again in {wait_s:.0f} s",
        retry_after_s=wait_s,
        code="too_many_failures",
    )


# --- gateway keys ----------------------------------------------------------------------------


async def gateway_key(
    given: Given, deployment: Deployment, *, peer_host: str | None, now: Instant
) -> tuple[GatewayKey | None, frozenset[bytes]]:
    """The gateway key that was sent, checked, and the headers that held one.

    Raises Unauthenticated, BadRequest, and RateLimited where too many wrong ones came from there.
    """
    held_by = {name for name in _KEY_HEADERS if holds_key(given.values.get(name, b""))}
    bearer = given.bearer
    if bearer is not None and not bearer.startswith(KEY_PREFIX):
        bearer = None  # the upstream's, or a user's token
    own = given.one(b"x-memory-key")
    if own is not None and bearer is not None and own != bearer:
        raise BadRequest(
            "X-Memory-Key and Authorization hold different gateway keys; send one",
            param="X-Memory-Key",
            code="conflicting_identity",
        )
    shown = own or bearer
    if shown is None:
        return None, frozenset(held_by)
    id = key_id(shown)
    attempt = Attempt(deployment, peer_host, id or "", now)
    # Keys are the whole deployment's: an app is what a key leads to, so it cannot lead to keys.
    kept = await deployment.services_for(DEFAULT_APP).keys.find(id) if id is not None else None
    if not check_key(shown, kept) or kept is None:
        raise attempt.failed(
            Unauthenticated(
                "this gateway key is unknown or revoked; make one with: memory-gateway keys create",
                param="X-Memory-Key",
                code="invalid_key",
            )
        )
    attempt.succeeded()
    return kept, frozenset(held_by)


async def within_limits(
    key: GatewayKey | None, app: str, deployment: Deployment, now: Instant
) -> None:
    """Count this request against its key's limits. Raises RateLimited.

    A chat is worth more than its count: with Redis away, limits are not held.
    """
    if key is None or (key.requests_per_minute is None and key.tokens_per_minute is None):
        return
    state = deployment.services_for(app).state
    wait = 0.0
    try:
        if key.tokens_per_minute is not None:
            wait = await state.allow(_tokens_bucket(key), 0, key.tokens_per_minute, now=now)
        if wait <= 0 and key.requests_per_minute is not None:
            wait = await state.allow(f"key:{key.id}:requests", 1, key.requests_per_minute, now=now)
    except StateUnavailable:
        return
    if wait > 0:
        raise RateLimited(
            f"this gateway key has reached its limit; try again in {wait:.0f} s",
            retry_after_s=wait,
            code="key_limit_reached",
        )


async def charge(
    key: GatewayKey, app: str, tokens: int, deployment: Deployment, *, now: Instant
) -> None:
    """Count tokens that were used against the key's limit, into debt if need be."""
    if key.tokens_per_minute is None or tokens <= 0:
        return
    state = deployment.services_for(app).state
    try:
        await state.charge(_tokens_bucket(key), tokens, key.tokens_per_minute, now=now)
    except StateUnavailable:
        return


def _tokens_bucket(key: GatewayKey) -> str:
    return f"key:{key.id}:tokens"


# --- operators ---------------------------------------------------------------------------------


def require_admin(
    headers: Iterable[tuple[bytes, bytes]],
    token: str,
    deployment: Deployment,
    *,
    peer_host: str | None,
) -> None:
    """Let an operator's request through: `Authorization: Bearer <admin token>`.

    Raises Unauthenticated, and RateLimited where too many wrong ones came from there.
    """
    refused = Unauthenticated(
        "the admin token is needed: send it as Authorization: Bearer <token>; it is"
        " admin.token, or the one kept in the data directory",
        param="Authorization",
        code="invalid_admin_token",
    )
    given = Given.read(headers).bearer
    if given is None:
        raise refused
    attempt = admin_attempt(deployment, peer_host)
    if not is_admin_token(given, token):
        raise attempt.failed(refused)
    attempt.succeeded()


def admin_attempt(deployment: Deployment, peer_host: str | None) -> Attempt:
    """A try of the admin token, in a header or in the console's form. Raises RateLimited."""
    return Attempt(deployment, peer_host, "admin", deployment.clock())


def is_admin_token(given: str, token: str) -> bool:
    """Constant time, whatever the lengths; an empty token lets nobody in."""
    same = hmac.compare_digest(_digest(given), _digest(token))
    return same and bool(token)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
