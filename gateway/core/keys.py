"""Proofs of who is asking: gateway keys, signatures over an identity, and links that end.

Everything is a pure function of its arguments; whoever calls brings the secret and the time.
All secrets are compared in constant time (`hmac.compare_digest`). What is wrong with a proof
is said in words that help its maker and tell a forger nothing of the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass

from gateway.core.errors import Unauthenticated
from gateway.core.identity import Person
from gateway.core.memory import Instant

KEY_PREFIX = "mg_"
LINK_PREFIX = "mgl_"
"""Begins the token of a link to a user's own page, so that it is never taken for another key."""
SIGNATURE_TOLERANCE_S = 300
"""How far a signature's time may lie from ours, in either direction."""
MAX_SIGNATURES = 4
"""`v1` values of one header that are tried: two secrets in rotation, with room to spare."""

_KEY = re.compile(r"mg_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_KEY_IN_BYTES = re.compile(_KEY.pattern.encode())
_LINK_DOMAIN = b"memory-gateway user link 2\0"


# --- gateway keys ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A gateway API key as it is kept: hashed. `id` may be shown, the key itself never again."""

    id: str
    hash: str
    app: str
    created_at: Instant
    label: str = ""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    revoked_at: Instant | None = None


def make_key(
    app: str,
    *,
    now: Instant,
    label: str = "",
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> tuple[str, GatewayKey]:
    """A new key: its text, `mg_<id>_<secret>`, to be shown once, and the record to keep.

    The secret is 256 random bits, so a plain SHA-256 keeps it: slow password hashes make
    guessing among likely passwords dear, and among 2**256 keys nothing is likely.
    """
    shown = f"{KEY_PREFIX}{secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"
    key = GatewayKey(
        id=key_id(shown) or "",
        hash=_hash(shown),
        app=app,
        created_at=now,
        label=label,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    return shown, key


def key_id(shown: str) -> str | None:
    """The id within a key's text, by which its record is found; None if it is no key."""
    parts = _KEY.fullmatch(shown)
    return parts.group(1) if parts else None


def holds_key(text: bytes) -> bool:
    """Whether a gateway key stands anywhere in a header's value."""
    return _KEY_IN_BYTES.search(text) is not None


def check_key(shown: str, key: GatewayKey | None) -> bool:
    """Whether `shown` is the key of this record and not revoked. Constant time.

    Without a record the same work is done, so that time does not tell which ids exist.
    """
    expected = key.hash if key is not None else _NOBODY
    same = hmac.compare_digest(_hash(shown), expected)
    return same and key is not None and key.revoked_at is None


def _hash(shown: str) -> str:
    return hashlib.sha256(shown.encode()).hexdigest()


_NOBODY = "0" * 64


# --- signatures over an identity -----------------------------------------------------------


def sign(secret: str, app: str, user: str, at: Instant) -> str:
    """The `X-Memory-Signature` that a chatbot's back end sends for one of its users."""
    stamp = str(int(at))
    return f"t={stamp},v1={_signature(secret, stamp, app, user)}"


def verify_signature(header: str, secret: str, app: str, user: str, now: Instant) -> None:
    """Accept `t=<unix seconds>,v1=<hex>`: a dated HMAC-SHA256 of `t.app.user`.

    Several `v1` may stand there while a secret is being changed; one that fits is enough.
    Elements of other names are left for later versions. An app's name with a dot in it is
    refused: `t.a.b.c` would be user `b.c` of app `a` and user `c` of app `a.b` alike.

    Raises Unauthenticated.
    """
    if "." in app:
        raise _unsigned(
            f"app {app!r} cannot be signed for: a signature covers 't.app.user', where a dot in"
            " the app's name would be ambiguous; use a name without dots"
        )
    stamps: list[str] = []
    given: list[str] = []
    for element in header.split(","):
        name, _, value = element.strip().partition("=")
        if name == "t":
            stamps.append(value)
        elif name == "v1":
            given.append(value.lower())
    if len(stamps) != 1 or not re.fullmatch(r"[0-9]{1,11}", stamps[0], re.ASCII) or not given:
        raise _unsigned("it must read t=<unix seconds>,v1=<hex HMAC-SHA256 of t.app.user>")
    if abs(now - int(stamps[0])) > SIGNATURE_TOLERANCE_S:
        raise _unsigned(
            f"its time is more than {SIGNATURE_TOLERANCE_S // 60} minutes from this clock; sign"
            " each request anew and check both clocks"
        )
    expected = _signature(secret, stamps[0], app, user).encode()
    fits = [
        hmac.compare_digest(expected, one.encode("utf-8", "replace"))
        for one in given[:MAX_SIGNATURES]
    ]
    if not any(fits):
        raise _unsigned("it does not fit this app and user; sign t.app.user with the shared secret")


def _signature(secret: str, stamp: str, app: str, user: str) -> str:
    message = f"{stamp}.{app}.{user}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _unsigned(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"X-Memory-Signature: {why}", param="X-Memory-Signature", code="invalid_signature"
    )


# --- links to a user's own page -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """What a link says: whom it stands for, from when until when, and a name to take it back by."""

    person: Person
    id: str
    made_at: Instant
    until: Instant


def make_link(secret: str, link: Link) -> str:
    """A token, fit for a URL, that stands for this link's person until its end."""
    said = [link.person.app, link.person.user, int(link.until), link.id, link.made_at]
    claims = json.dumps(said, separators=(",", ":")).encode()
    return f"{_base64(claims)}.{_base64(_link_mac(secret, claims))}"


def check_link(secret: str, token: str, *, now: Instant) -> Link:
    """What a link's token says. Raises Unauthenticated: forged, damaged or ended."""
    body, _, mac = token.partition(".")
    try:
        claims, given = _unbase64(body), _unbase64(mac)
    except ValueError:
        raise ended_link() from None
    if not hmac.compare_digest(_link_mac(secret, claims), given):
        raise ended_link()
    app, user, until, id, made_at = json.loads(claims)
    if now >= until:
        raise ended_link()
    return Link(Person(app, user), id, made_at, until)


def ended_link() -> Unauthenticated:
    """Forged, ended or taken back: one answer for all."""
    return Unauthenticated(
        "this link is not valid or has ended; ask for a new one", code="invalid_link"
    )


def _link_mac(secret: str, claims: bytes) -> bytes:
    # The prefix keeps these apart from every other HMAC that may be made with the secret.
    return hmac.new(secret.encode(), _LINK_DOMAIN + claims, hashlib.sha256).digest()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    if len(text) > 8192:
        raise ValueError("too long for a link")
    data = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _base64(data) != text:
        raise ValueError("not the one way to write these bytes")
    return data
