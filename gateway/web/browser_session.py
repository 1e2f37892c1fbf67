"""What lets a page in a browser act: an operator's session, and a person's link to their own page.

A browser sends cookies by itself, so a cookie alone proves nothing about who wrote the request.
Three things hold other sites off: cookies are `HttpOnly` and `SameSite=Strict`; whatever changes
something must repeat a word that stands in the page (`X-CSRF-Token`); and a browser that says
where a request comes from (`Sec-Fetch-Site`, `Origin`) must say: from here. Who sends
`Authorization` needs none of this, for no browser adds that by itself.

A session or link is its own end and a MAC under a key drawn from the admin token, so that every
process with that token knows it, and changing the token ends them all. What is stored is what
was taken back before its end (`ports.Revocations`), which each use asks for. Where that cannot
be asked a link is refused, and an operator is let in: an outage is when the console is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal

from gateway.core.errors import BadRequest, Forbidden, StateUnavailable, Unauthenticated
from gateway.core.identity import Person
from gateway.core.keys import LINK_PREFIX, Link, check_link, ended_link, make_link
from gateway.core.memory import Instant
from gateway.ports import Revocations
from gateway.web.credentials import is_admin_token

OPERATOR_COOKIE: Final = "mg_console"
PERSON_COOKIE: Final = "mg_me"
CSRF_HEADER: Final = "X-CSRF-Token"
SESSION_S: Final = 8 * 3600.0
"""How long an operator stays signed in."""
LINK_S: Final = 3600.0
"""How long a link to one's own page holds where nothing is said."""
MAX_LINK_S: Final = 30 * 86_400.0
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

PAGE_HEADERS: Final[Sequence[tuple[str, str]]] = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Cache-Control", "no-store"),
)
"""On every page and every answer with what a person said: no script but our own files, no
frame around it, nothing kept."""

RawHeaders = Iterable[tuple[bytes, bytes]]
_SESSION = re.compile(r"([0-9]{1,11})\.([A-Za-z0-9_-]{22})\.([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class BrowserSession:
    """Who acts through a browser. `csrf` is the word that its page must repeat.

    `person` is there for a person's own page; an operator's session has none.
    """

    kind: Literal["operator", "person"]
    csrf: str
    person: Person | None = None


class BrowserSessions:
    """Makes and reads sessions and links, under one secret: the admin token. An empty one lets
    nobody in."""

    def __init__(self, admin_token: str, shared: Revocations | None = None) -> None:
        self._token = admin_token
        self._key = hmac.new(admin_token.encode(), b"browser sessions 1", hashlib.sha256).digest()
        self._here = _OfThisProcess()
        self._shared = self._here if shared is None else shared

    # --- operators ---------------------------------------------------------------------------

    def sign_in(self, token: str, *, now: Instant) -> str:
        """The value of `OPERATOR_COOKIE` for one who knows the admin token.

        Raises Unauthenticated.
        """
        if not is_admin_token(token, self._token):
            raise Unauthenticated(
                "this is not the admin token; it is admin.token, or the one kept in the data"
                " directory",
                param="token",
                code="invalid_admin_token",
            )
        claims = f"{int(now + SESSION_S)}.{secrets.token_urlsafe(16)}"
        return f"{claims}.{self._mac('session', claims).hex()}"

    async def operator(self, headers: RawHeaders, *, now: Instant) -> BrowserSession | None:
        """The operator's session that these headers carry, if there is a good one."""
        value = cookie(headers, OPERATOR_COOKIE)
        claims = self._claims_of(value)
        if value is None or claims is None or now >= _end_of(claims):
            return None
        if await self._here.revoked_at(f"session {claims}") is not None:
            return None
        with suppress(StateUnavailable):
            if await self._shared.revoked_at(f"session {claims}") is not None:
                return None
        return BrowserSession("operator", self.csrf_of(value))

    def _claims_of(self, value: str | None) -> str | None:
        """What a session's cookie says, where we made it."""
        parts = _SESSION.fullmatch(value) if value is not None else None
        if parts is None or not self._token:
            return None
        claims = f"{parts[1]}.{parts[2]}"
        same = hmac.compare_digest(self._mac("session", claims).hex(), parts[3])
        return claims if same else None

    async def sign_out(self, headers: RawHeaders, *, now: Instant) -> None:
        """From now on the operator's session in these headers is none, in any process; in this
        one alone while shared state is away."""
        claims = self._claims_of(cookie(headers, OPERATOR_COOKIE))
        if claims is not None:
            for place in (self._here, self._shared):
                with suppress(StateUnavailable):
                    await place.revoke(f"session {claims}", now=now, until=_end_of(claims))

    # --- a person's own page -------------------------------------------------------------------

    def link(self, person: Person, *, now: Instant, until: Instant) -> tuple[str, str]:
        """A token that stands for this person on their own page until then, and the link's id."""
        link = Link(person, secrets.token_hex(8), now, until)
        return LINK_PREFIX + make_link(self._link_secret(), link), link.id

    async def person(self, token: str, *, now: Instant) -> BrowserSession:
        """Whom a link's token stands for. Raises Unauthenticated: forged, damaged, ended or
        taken back; StateUnavailable where the last cannot be told."""
        if not self._token or not token.startswith(LINK_PREFIX):
            raise ended_link()
        link = check_link(self._link_secret(), token.removeprefix(LINK_PREFIX), now=now)
        if await self._shared.revoked_at(f"link {link.id}") is not None:
            raise ended_link()
        all_at = await self._shared.revoked_at(_links_of(link.person))
        if all_at is not None and link.made_at <= all_at:
            raise ended_link()
        return BrowserSession("person", self.csrf_of(token), link.person)

    async def take_back(self, person: Person, id: str | None = None, *, now: Instant) -> None:
        """From now on a link, or every link that was made for this person, is none. Raises
        StateUnavailable."""
        name = _links_of(person) if id is None else f"link {id}"
        await self._shared.revoke(name, now=now, until=now + MAX_LINK_S)

    # --- csrf ----------------------------------------------------------------------------------

    def csrf_of(self, value: str) -> str:
        """The word that a page of the session with this cookie value repeats."""
        return self._mac("csrf", value).hex()

    def _link_secret(self) -> str:
        return self._mac("links", "").hex()

    def _mac(self, purpose: str, text: str) -> bytes:
        return hmac.new(self._key, f"{purpose}\0{text}".encode(), hashlib.sha256).digest()


class _OfThisProcess:
    """Implements `ports.Revocations` for one process."""

    def __init__(self) -> None:
        self._ended: dict[str, tuple[Instant, Instant]] = {}

    async def revoke(self, name: str, *, now: Instant, until: Instant) -> None:
        self._ended = {n: ends for n, ends in self._ended.items() if ends[1] > now}
        self._ended[name] = (now, until)

    async def revoked_at(self, name: str) -> Instant | None:
        ends = self._ended.get(name)
        return None if ends is None else ends[0]


def _end_of(claims: str) -> Instant:
    return float(claims.partition(".")[0])


def _links_of(person: Person) -> str:
    return f"links {person.app} {person.user}"


def require_own_page(
    method: str, headers: RawHeaders, session: BrowserSession, *, form_token: str | None = None
) -> None:
    """Let a request pass that a cookie speaks for, where a page of ours wrote it.

    `form_token` is a form's `csrf_token`, where there is no script to set the header. Raises
    Forbidden.
    """
    given = {name: value.decode("latin-1").strip() for name, value in headers}
    if method in SAFE_METHODS:
        return
    if given.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _not_ours("it comes from another site")
    origin, host = given.get(b"origin"), given.get(b"host", "")
    # A form's Origin is "null" under `Referrer-Policy: no-referrer`; Sec-Fetch-Site spoke above.
    if origin == "null" and b"sec-fetch-site" in given:
        origin = None
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        raise _not_ours("its Origin is another site")
    word = given.get(CSRF_HEADER.lower().encode()) or form_token or ""
    if not hmac.compare_digest(word.encode("utf-8", "replace"), session.csrf.encode()):
        raise _not_ours(f"it lacks the page's {CSRF_HEADER}; reload the page")


def _not_ours(why: str) -> Forbidden:
    return Forbidden(f"this request was not made by a page of the gateway: {why}", code="csrf")


# --- cookies ---------------------------------------------------------------------------------


def cookie(headers: RawHeaders, name: str) -> str | None:
    """A cookie's value. Raises BadRequest where it came twice with different values: another
    site's page on a sibling host may have set one of them."""
    values = set()
    for header, value in headers:
        if header != b"cookie":
            continue
        for part in value.decode("latin-1").split(";"):
            key, _, text = part.strip().partition("=")
            if key == name:
                values.add(text.strip('"'))
    if len(values) > 1:
        raise BadRequest(
            f"the cookie {name} came twice; sign out, clear it and sign in again",
            param="Cookie",
            code="conflicting_identity",
        )
    return values.pop() if values else None


def set_cookie(name: str, value: str, *, max_age_s: float, secure: bool) -> str:
    """A `Set-Cookie` for one of ours. `secure`: the page came over HTTPS."""
    made: SimpleCookie = SimpleCookie()
    try:
        made[name] = value
    except CookieError as exc:
        raise ValueError("no value for a cookie") from exc
    morsel = made[name]
    morsel["path"] = "/"
    morsel["max-age"] = str(int(max_age_s))
    morsel["httponly"] = True
    morsel["samesite"] = "Strict"
    if secure:
        morsel["secure"] = True
    return morsel.OutputString()


def clear_cookie(name: str, *, secure: bool) -> str:
    return set_cookie(name, "", max_age_s=0, secure=secure)
