"""Whose memories a call is about, and in what capacity it is made.

A `Caller` comes from identity headers, as a chat's person does, or from a link to somebody's
own page. Operators' callers come from their path (`web/admin`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from gateway.config import AppSettings
from gateway.core.errors import BadRequest, DirectoryUnavailable, Forbidden, OwnerGone
from gateway.core.identity import Owner, Person
from gateway.core.keys import LINK_PREFIX
from gateway.core.memory import Instant, Via
from gateway.flows.browse import not_found
from gateway.ports import Deployment, Services
from gateway.web.browser_session import (
    PERSON_COOKIE,
    BrowserSessions,
    cookie,
    require_own_page,
)
from gateway.web.identity import identify

T = TypeVar("T")

LINK_PATHS: Final = ("/v1/memories", "/v1/erasures")
"""What a person can reach with a link to their own page."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose memories are meant, and in what capacity they are asked for."""

    person: Person
    deployment: Deployment
    via: Via = "api"
    operator: bool = False
    key_id: str | None = None

    @property
    def services(self) -> Services:
        return self.deployment.services_for(self.person.app)

    @property
    def settings(self) -> AppSettings:
        return self.deployment.settings_for(self.person.app)

    @property
    def now(self) -> Instant:
        return round(self.deployment.clock(), 6)

    async def owner(self) -> Owner | None:
        """The person's present incarnation; None where nothing was ever kept of them."""
        return await self.services.directory.owner(self.person)

    async def new_owner(self) -> Owner:
        """The person's incarnation, begun with this call where there is none."""
        owner = await self.services.directory.owner(self.person, create=True)
        if owner is None:
            raise DirectoryUnavailable("the directory would not begin this user; try again")
        return owner

    async def written(self, work: Callable[[Owner], Awaitable[T]]) -> T:
        """What `work` does for the person's incarnation; for the next one where this turns out to
        have been erased, through another gateway, a moment ago."""
        try:
            return await work(await self.new_owner())
        except OwnerGone:
            return await work(await self.new_owner())

    async def owner_of(self, id: str) -> Owner:
        """The owner, where memory `id` is asked for. Raises NotFound for an unknown person."""
        owner = await self.owner()
        if owner is None:
            raise not_found(id)
        return owner

    async def audit(self, action: str, **what: Any) -> None:
        """Say who did what to whose memory; never content."""
        await self.services.keys.audit(
            {
                "at": self.now,
                "by": "operator" if self.operator else self.via,
                "action": action,
                "app": self.person.app,
                "user": self.person.user,
                **({"key": self.key_id} if self.key_id is not None else {}),
                **what,
            }
        )

    async def audit_look(self, action: str, **what: Any) -> None:
        """Looking is recorded where it is somebody else who looks."""
        if self.operator:
            await self.audit(action, **what)


Handler = Callable[[Request, Caller], Awaitable[Response]]
FindCaller = Callable[[Request], Awaitable[Caller]]


def peer_of(request: Request) -> str | None:
    """The address at the other end of the connection, not one that a header tells of."""
    return request.client.host if request.client else None


def caller_from_headers(deployment: Deployment, sessions: BrowserSessions) -> FindCaller:
    """Callers that name themselves as chat requests do, and people on their own page."""

    async def find(request: Request) -> Caller:
        own = await _on_own_page(request, deployment, sessions)
        if own is not None:
            return own
        who = await identify(
            request.scope["headers"],
            body_user=None,
            peer_host=peer_of(request),
            deployment=deployment,
            now=deployment.clock(),
        )
        if who.person is None:
            raise BadRequest(
                "whose memories? Name the user in the X-Memory-User header",
                param="X-Memory-User",
                code="identity_required",
            )
        return Caller(who.person, deployment, key_id=who.key_id)

    return find


async def _on_own_page(
    request: Request, deployment: Deployment, sessions: BrowserSessions
) -> Caller | None:
    """The person whose link (or the cookie made of it) this request carries, on the paths that
    a link opens. Raises Unauthenticated, Forbidden, and BadRequest where it names someone else
    besides; StateUnavailable where it cannot be told whether the link was taken back."""
    headers = request.scope["headers"]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    by_cookie = False
    if scheme.lower() != "bearer" or not token.strip().startswith(LINK_PREFIX):
        token = cookie(headers, PERSON_COOKIE) or ""
        by_cookie = True
        if not token or "authorization" in request.headers or "x-memory-user" in request.headers:
            return None  # who says who they are is not a page of ours
    session = await sessions.person(token.strip(), now=deployment.clock())
    if session.person is None:
        return None
    if by_cookie:
        require_own_page(request.method, headers, session)
    if not request.url.path.startswith(LINK_PATHS):
        raise Forbidden(
            f"a link to a user's own page is good for {' and '.join(LINK_PATHS)} alone",
            param="Authorization",
            code="invalid_link",
        )
    if _names_another(request, session.person):
        raise BadRequest(
            "the link is for another user or app than the headers name; leave them out",
            param="X-Memory-User",
            code="conflicting_identity",
        )
    return Caller(session.person, deployment, via="user")


def _names_another(request: Request, person: Person) -> bool:
    users = {*request.headers.getlist("x-memory-user"), person.user}
    apps = {*request.headers.getlist("x-memory-app"), person.app}
    credentials = request.headers.getlist("authorization")
    return (
        len(users) > 1
        or len(apps) > 1
        or len(credentials) > 1
        or ("x-memory-key" in request.headers)
    )
