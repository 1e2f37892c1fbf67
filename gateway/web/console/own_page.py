"""A person's own page at `/me`: what they see of themselves, by a link that ends.

The link's token stands behind the `#`, which no browser sends: the page's script hands it in once
and gets a cookie for it that no script can read.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.core.errors import Unauthenticated
from gateway.ports import Deployment
from gateway.web.browser_session import (
    MAX_LINK_S,
    PERSON_COOKIE,
    BrowserSession,
    BrowserSessions,
    clear_cookie,
    cookie,
    require_own_page,
    set_cookie,
)
from gateway.web.console.shell import answered, is_secure, page, same_site, typed


class OwnPage:
    """The page, and its session."""

    def __init__(self, deployment: Deployment, sessions: BrowserSessions) -> None:
        self._deployment = deployment
        self._sessions = sessions

    async def page(self, _: Request) -> Response:
        return page("me")

    async def begin(self, request: Request) -> Response:
        """A link's token for a session. Raises Unauthenticated."""
        same_site(request)
        body = await typed(request, self._deployment.settings.server)
        token = body.decode("ascii", "replace").strip()
        session = await self._sessions.person(token, now=self._deployment.clock())
        answer = self._told(session)
        answer.headers["set-cookie"] = set_cookie(
            PERSON_COOKIE, token, max_age_s=MAX_LINK_S, secure=is_secure(request)
        )
        return answer

    async def present(self, request: Request) -> Response:
        """Who is here. Raises Unauthenticated."""
        return self._told(await self._of(request))

    async def end(self, request: Request) -> Response:
        require_own_page("DELETE", request.scope["headers"], await self._of(request))
        answer = answered(Response(status_code=204))
        answer.headers["set-cookie"] = clear_cookie(PERSON_COOKIE, secure=is_secure(request))
        return answer

    async def _of(self, request: Request) -> BrowserSession:
        token = cookie(request.scope["headers"], PERSON_COOKIE)
        if token is None:
            raise Unauthenticated(
                "open the link that you were sent; it has ended, or this is another browser",
                code="signed_out",
            )
        return await self._sessions.person(token, now=self._deployment.clock())

    def _told(self, session: BrowserSession) -> Response:
        person = session.person
        told = {"csrf": session.csrf, "user": person.user if person else None}
        return answered(JSONResponse(told))
