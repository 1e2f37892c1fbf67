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

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Literal

from gateway.config import AppSettings, IdentitySettings
from gateway.core.errors import (
    BadRequest,
    Forbidden,
    KeysUnavailable,
    RateLimited,
    StateUnavailable,
    Unauthenticated,
)
from gateway.core.identity import DEFAULT_APP, Person
from gateway.core.keys import KEY_PREFIX, GatewayKey, check_key, key_id, verify_signature
from gateway.core.memory import Instant
from gateway.ports import Deployment
from gateway.web.tokens import looks_like_token, verified_claims

How = Literal["none", "header", "alias", "body", "signed", "token"]

MAX_USER_CHARS = 256

_APP = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
# Control characters, line and paragraph separators, writing-direction overrides and lone
# surrogates: they forge log lines and lists, and no identity needs them.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Other clients' ways to send an API key: a gateway key in them must not reach the upstream.
_OTHER_KEY_HEADERS = (b"api-key", b"x-api-key")


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
    given = _Given.read(headers)
    key, key_headers = await _gateway_key(given, deployment)
    app = _app(given, key)
    settings = deployment.settings_for(app)
    identity = settings.identity
    if identity.mode == "key" and key is None:
        raise Unauthenticated(
            "a gateway key is needed: send it as X-Memory-Key or as Authorization: Bearer mg_…",
            param="X-Memory-Key",
            code="missing_key",
        )
    claimed, how = _claimed(given, identity)
    drop = given.memory_headers | key_headers | given.present(_lowered(identity.aliases))
    if identity.mode == "jwt":
        person = await _by_token(given, app, key, claimed, settings, deployment, now)
        found = Identified(
            person,
            app if person is None else person.app,
            "none" if person is None else "token",
            key,
            drop | ({b"authorization"} if given.token is not None else frozenset()),
        )
    else:
        person, how = _by_claim(
            given, app, claimed, how, (body_user, body_safety_identifier), identity, peer_host, now
        )
        found = Identified(person, app, how, key, drop)
    await _within_limits(found, deployment, now)
    return found


# --- what is sent --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Given:
    """The headers by name, and which of them came more than once."""

    values: Mapping[bytes, bytes]
    twice: frozenset[bytes]

    @staticmethod
    def read(headers: Iterable[tuple[bytes, bytes]]) -> _Given:
        values: dict[bytes, bytes] = {}
        twice: set[bytes] = set()
        for name, value in headers:
            if name in values:
                twice.add(name)
            values[name] = value
        given = _Given(values, frozenset(twice))
        for name in twice:
            if name == b"authorization" or name.startswith(b"x-memory-"):
                raise _sent_twice(name)
        return given

    @property
    def memory_headers(self) -> frozenset[bytes]:
        return frozenset(name for name in self.values if name.startswith(b"x-memory-"))

    def present(self, names: Iterable[bytes]) -> frozenset[bytes]:
        return frozenset(name for name in names if name in self.values)

    def one(self, name: bytes) -> str | None:
        """A header's text; None where it is absent or empty. Raises BadRequest if sent twice.

        UTF-8 is read as such; what is not UTF-8 is Latin-1, as HTTP had it.
        """
        if name in self.twice:
            raise _sent_twice(name)
        raw = self.values.get(name, b"").strip(b" \t")
        if not raw:
            return None
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")

    @property
    def bearer(self) -> str | None:
        scheme, _, credential = (self.one(b"authorization") or "").partition(" ")
        return credential.strip() or None if scheme.lower() == "bearer" else None

    @property
    def token(self) -> str | None:
        """A bearer credential that is a user's token by its shape."""
        bearer = self.bearer
        return bearer if bearer and looks_like_token(bearer) else None


def _sent_twice(name: bytes) -> BadRequest:
    shown = name.decode("latin-1")
    return BadRequest(
        f"{shown}: sent more than once, so that it cannot be told which one counts; send it once",
        param=shown,
        code="conflicting_identity",
    )


def _claimed(given: _Given, identity: IdentitySettings) -> tuple[str | None, How]:
    """The user that the headers name, by the contract's own header or one of its aliases."""
    named = given.one(b"x-memory-user")
    aliases = {
        alias: text
        for alias, name in zip(identity.aliases, _lowered(identity.aliases), strict=True)
        if (text := given.one(name)) is not None
    }
    if named is not None:
        return check_user(named, "X-Memory-User"), "header"
    if len(set(aliases.values())) > 1:
        raise BadRequest(
            f"{' and '.join(aliases)} name different users; send one of them, or X-Memory-User",
            param=next(iter(aliases)),
            code="conflicting_identity",
        )
    for alias, text in aliases.items():
        return check_user(text, alias), "alias"
    return None, "none"


@lru_cache(maxsize=256)
def _lowered(aliases: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(alias.lower().encode("latin-1", "replace") for alias in aliases)


def check_user(user: str, param: str = "user") -> str:
    """The user's id itself, where it can be one: 1 to 256 characters, none that controls.

    Raises BadRequest.
    """
    if not 1 <= len(user) <= MAX_USER_CHARS or _UNFIT.search(user):
        raise BadRequest(
            f"{param}: a user's id has 1 to {MAX_USER_CHARS} characters and no control characters",
            param=param,
            code="invalid_user",
        )
    return user


def check_app(app: str, param: str = "app") -> str:
    """The app's name itself, where it can be one. Raises BadRequest."""
    if not _APP.fullmatch(app):
        raise BadRequest(
            f"{param}: an app's name has 1 to 64 of the characters A-Z a-z 0-9 _ . -",
            param=param,
            code="invalid_app",
        )
    return app


# --- gateway keys ----------------------------------------------------------------------------


async def _gateway_key(
    given: _Given, deployment: Deployment
) -> tuple[GatewayKey | None, frozenset[bytes]]:
    """The gateway key that was sent, checked, and the headers that held one."""
    held_by = {
        name
        for name in _OTHER_KEY_HEADERS
        if given.values.get(name, b"").strip().startswith(KEY_PREFIX.encode())
    }
    bearer = given.bearer
    if bearer is not None and bearer.startswith(KEY_PREFIX):
        held_by.add(b"authorization")
    else:
        bearer = None
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
    # Keys are the whole deployment's: an app is what a key leads to, so it cannot lead to keys.
    kept = await deployment.services_for(DEFAULT_APP).keys.find(id) if id is not None else None
    if not check_key(shown, kept) or kept is None:
        raise Unauthenticated(
            "this gateway key is unknown or revoked; make one with: memory-gateway keys create",
            param="X-Memory-Key",
            code="invalid_key",
        )
    return kept, frozenset(held_by)


def _app(given: _Given, key: GatewayKey | None) -> str:
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


async def _within_limits(found: Identified, deployment: Deployment, now: Instant) -> None:
    """Count this request against its key's limits. Raises RateLimited.

    A chat is worth more than its count: with Redis away, limits are not held.
    """
    key = found.key
    if key is None or (key.requests_per_minute is None and key.tokens_per_minute is None):
        return
    state = deployment.services_for(found.app).state
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


async def charge_tokens(
    found: Identified, tokens: int, deployment: Deployment, *, now: Instant
) -> None:
    """Count the tokens that an answered request has used against its key's limit."""
    if found.key is None or found.key.tokens_per_minute is None or tokens <= 0:
        return
    state = deployment.services_for(found.app).state
    try:
        await state.charge(_tokens_bucket(found.key), tokens, found.key.tokens_per_minute, now=now)
    except StateUnavailable:
        return


def _tokens_bucket(key: GatewayKey) -> str:
    return f"key:{key.id}:tokens"


# --- what proves the user ----------------------------------------------------------------------


def _by_claim(
    given: _Given,
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
        claimed, how = _in_body(in_body)
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


def _in_body(values: tuple[str | None, str | None]) -> tuple[str | None, How]:
    """The body's `user`, else its `safety_identifier`. They are the API's own fields, with
    uses of their own: one that cannot be a user's id here is left alone, not refused."""
    for value in values:
        if value and len(value) <= MAX_USER_CHARS and not _UNFIT.search(value):
            return value, "body"
    return None, "none"


async def _by_token(
    given: _Given,
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
    if not isinstance(fixed, str) or not _APP.fullmatch(fixed):
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


# --- operators ---------------------------------------------------------------------------------


def require_admin(headers: Iterable[tuple[bytes, bytes]], token: str) -> None:
    """Let an operator's request through: `Authorization: Bearer <admin token>`.

    Raises Unauthenticated.
    """
    given = _Given.read(headers).bearer
    if given is None or not is_admin_token(given, token):
        raise Unauthenticated(
            "the admin token is needed: send it as Authorization: Bearer <token>; it is"
            " admin.token, or the one kept in the data directory",
            param="Authorization",
            code="invalid_admin_token",
        )


def is_admin_token(given: str, token: str) -> bool:
    """Constant time, whatever the lengths; an empty token lets nobody in."""
    same = hmac.compare_digest(_digest(given), _digest(token))
    return same and bool(token)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()
