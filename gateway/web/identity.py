"""Whose request it is: headers, keys, signatures and tokens become a `Person`, or none.

Only identity is decided here, for every mode of `identity.mode`; nothing is looked up but
gateway keys and published signing keys, and nothing is remembered. The order is the order of
trust: what a header claims is weighed after what a credential proves.

 1. No identity header may come twice: two proxies would read two users out of it.
 2. A gateway key, wherever it is sent, must be good; it fixes the app.
 3. The app's own settings say what proves the user: the header itself from a trusted peer
    (`header`, `key`), a signature over it (`signed`), or a token (`jwt`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from gateway.config import AppSettings, IdentitySettings
from gateway.core.errors import Forbidden, KeysUnavailable, Unauthenticated
from gateway.core.identity import DEFAULT_APP, Person
from gateway.core.keys import LINK_PREFIX, GatewayKey, verify_signature
from gateway.core.memory import Instant
from gateway.ports import Deployment
from gateway.web.claims import (
    APP,
    STEPS,
    Given,
    How,
    check_app,
    check_user,
    lowered,
    named_in_body,
)
from gateway.web.claims import claimed as claims_of
from gateway.web.credentials import charge, gateway_key, within_limits
from gateway.web.tokens import verified_claims


@dataclass(frozen=True, slots=True)
class Identified:
    """Who asks. Without a `person` the request has no memory.

    `drop` are the names (lower case, as in an ASGI scope) of the headers that the upstream
    must not see: identity, memory headers, and credentials that were meant for the gateway.
    """

    person: Person | None
    app: str
    how: How = "none"
    key: GatewayKey | None = None
    drop: frozenset[bytes] = frozenset()

    @property
    def key_id(self) -> str | None:
        return self.key.id if self.key is not None else None


async def identify(
    headers: Iterable[tuple[bytes, bytes]],
    *,
    body_user: str | None = None,
    body_safety_identifier: str | None = None,
    peer_host: str | None,
    deployment: Deployment,
    now: Instant,
) -> Identified:
    """Whose request this is, by its headers and, where the setting allows, its body.

    `peer_host` is the address at the other end of the connection, not one that a header
    tells of. Raises BadRequest, Unauthenticated, Forbidden, RateLimited; DirectoryUnavailable
    or KeysUnavailable where a credential cannot be checked now.
    """
    given = Given.read(headers)
    if (given.bearer or "").startswith(LINK_PREFIX):
        # It speaks for a person, but not to a model, and no upstream may learn it.
        raise Unauthenticated(
            "a link to a user's own page is good for /v1/memories alone",
            param="Authorization",
            code="invalid_link",
        )
    key, key_headers = await gateway_key(given, deployment, peer_host=peer_host, now=now)
    app = _app_of(given, key)
    settings = deployment.settings_for(app)
    identity = settings.identity
    if identity.mode == "key" and key is None:
        raise Unauthenticated(
            "a gateway key is needed: send it as X-Memory-Key or as Authorization: Bearer mg_…",
            param="X-Memory-Key",
            code="missing_key",
        )
    claimed, how = claims_of(given, identity)
    drop = given.memory_headers | key_headers | given.present(lowered(identity.aliases))
    if identity.mode == "jwt":
        person = await _by_token(given, app, key, claimed, settings, deployment, now)
        if person is not None:
            app, how, drop = person.app, "token", drop | {b"authorization"}
    else:
        person, how = _by_claim(
            given, app, claimed, how, (body_user, body_safety_identifier), identity, peer_host, now
        )
    await within_limits(key, app, deployment, now)
    return Identified(person, app, how, key, drop)


def _app_of(given: Given, key: GatewayKey | None) -> str:
    named = given.one(b"x-memory-app")
    if named is not None:
        check_app(named, "X-Memory-App")
    if key is None:
        return named or DEFAULT_APP
    if named not in (None, key.app):
        raise _other_app(f"the gateway key is for app {key.app!r}")
    return key.app


def _other_app(why: str) -> Forbidden:
    return Forbidden(
        f"X-Memory-App: {why}; leave the header out or name that app",
        param="X-Memory-App",
        code="wrong_app",
    )


async def charge_tokens(
    found: Identified, tokens: int, deployment: Deployment, *, now: Instant
) -> None:
    """Count the tokens that an answered request has used against its key's limit."""
    if found.key is not None:
        await charge(found.key, found.app, tokens, deployment, now=now)


# --- what proves the user ----------------------------------------------------------------------


def _by_claim(
    given: Given,
    app: str,
    claimed: str | None,
    how: How,
    in_body: tuple[str | None, str | None],
    identity: IdentitySettings,
    peer_host: str | None,
    now: Instant,
) -> tuple[Person | None, How]:
    """The user that a header or the body names, where this peer may say so."""
    trusted = not identity.trusted_peers or _is_among(peer_host, identity.trusted_peers)
    if not trusted and (claimed is not None or b"x-memory-app" in given.values):
        raise Forbidden(
            "identity headers are not accepted from this address; add it to"
            " identity.trusted_peers if it is your chatbot's back end",
            param="X-Memory-User" if claimed is not None else "X-Memory-App",
            code="untrusted_peer",
        )
    if claimed is None and identity.body_user and trusted:
        claimed, how = named_in_body(in_body)
    if claimed is None:
        return None, "none"
    if identity.mode == "signed":
        signature = given.one(b"x-memory-signature")
        if signature is None or identity.signing_secret is None:
            raise Unauthenticated(
                "X-Memory-Signature is needed with a user:"
                " t=<unix seconds>,v1=<hex HMAC-SHA256 of t.app.user>",
                param="X-Memory-Signature",
                code="missing_signature",
            )
        secret = identity.signing_secret.get_secret_value()
        verify_signature(signature, secret, app, claimed, now)
        how = "signed"
    return Person(app, claimed), how


async def _by_token(
    given: Given,
    app: str,
    key: GatewayKey | None,
    claimed: str | None,
    settings: AppSettings,
    deployment: Deployment,
    now: Instant,
) -> Person | None:
    """The user and app that a token speaks for; headers may repeat it, never say otherwise."""
    if given.token is None:
        if claimed is not None or settings.upstream.api_key is not None:
            # Without this, anyone could spend the operator's upstream key.
            raise Unauthenticated(
                "a token is needed: send it as Authorization: Bearer <token>",
                param="Authorization",
                code="missing_token",
            )
        return None
    source = deployment.services_for(app).jwks
    if source is None:
        raise KeysUnavailable("no source of published keys is set up; set identity.jwks_url")
    identity = settings.identity
    claims = await verified_claims(given.token, identity, source, now=now)
    user, told_app = claims.get(identity.jwt_user_claim), claims.get(identity.jwt_app_claim)
    if not isinstance(user, str):
        raise Unauthenticated(
            f"the token has no text in its claim {identity.jwt_user_claim!r}", code="invalid_token"
        )
    # A token that tells no app is for the default one, unless the app was fixed otherwise: by
    # a gateway key, or by rules of its own that this token has to meet.
    told_otherwise = key is not None or "identity" in deployment.settings.own(app)
    fixed = told_app if told_app is not None else (app if told_otherwise else DEFAULT_APP)
    if not isinstance(fixed, str) or not APP.fullmatch(fixed) or fixed in STEPS:
        raise Unauthenticated(
            f"the token's claim {identity.jwt_app_claim!r} is no app's name", code="invalid_token"
        )
    if (given.one(b"x-memory-app") is not None or key is not None) and app != fixed:
        raise _other_app(f"the token is for app {fixed!r}")
    if deployment.settings_for(fixed).identity != identity:
        # Its app trusts other keys than those that this token was checked with.
        raise Forbidden(
            f"app {fixed!r} has identity settings of its own; name it in X-Memory-App",
            param="X-Memory-App",
            code="wrong_app",
        )
    if claimed is not None and claimed != user:
        raise Forbidden(
            "a header names another user than the token; leave the header out",
            param="X-Memory-User",
            code="conflicting_identity",
        )
    return Person(fixed, check_user(user, identity.jwt_user_claim))


# --- peers -------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _is_among(host: str | None, networks: tuple[str, ...]) -> bool:
    try:
        address = ip_address(host or "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in ip_network(network, strict=False) for network in networks)
