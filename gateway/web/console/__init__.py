"""The console at `/console` and a person's own page at `/me`: pages, their files, their session.

A page is a small template and a script of its own; scripts are plain modules that ask the same
API as everybody else (`/admin/v1`, `/v1/memories`), as the session of a browser
(`web/browser_session`). Nothing is built and nothing is loaded from elsewhere. What only the
console needs (figures, settings in force, receipts by id alone, groups) stands here.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import parse_qs

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.config import every_setting
from gateway.core.errors import NotFound, RateLimited, Unauthenticated
from gateway.core.identity import DEFAULT_APP, Person
from gateway.flows import receipts
from gateway.ports import Deployment
from gateway.telemetry.logs import without_secrets
from gateway.web.browser_session import (
    OPERATOR_COOKIE,
    SESSION_S,
    BrowserSession,
    BrowserSessions,
    clear_cookie,
    require_own_page,
    set_cookie,
)
from gateway.web.callers import peer_of
from gateway.web.checked import number_within
from gateway.web.claims import check_app
from gateway.web.console.again import again
from gateway.web.console.own_page import OwnPage
from gateway.web.console.shell import answered, is_secure, page, same_site, static, typed
from gateway.web.credentials import admin_attempt
from gateway.web.errors import foreseen
from gateway.web.figures import Figures

PAGES: Final = {
    "overview": "Overview",
    "users": "Users",
    "receipts": "Receipts",
    "queue": "Queue",
    "groups": "Groups",
    "settings": "Settings",
}
MAX_PEOPLE: Final = 2000
"""People among whom a receipt is looked for by its id alone."""
MAX_LATEST: Final = 200
"""People of whom the latest receipts are shown where nobody is named."""

Handler = Callable[[Request], Awaitable[Response]]


def routes(deployment: Deployment, sessions: BrowserSessions, figures: Figures) -> list[Route]:
    """Every route of the console and of a person's own page."""
    console = Console(deployment, sessions, figures)
    me = OwnPage(deployment, sessions)
    return [
        Route("/console/static/{name}", static, methods=["GET"]),
        Route("/console/login", console.sign_in, methods=["POST"]),
        Route("/console/logout", console.sign_out, methods=["POST"]),
        Route("/console/api/overview", console.asked(console.overview), methods=["GET"]),
        Route("/console/api/settings", console.asked(console.settings), methods=["GET"]),
        Route("/console/api/groups", console.asked(console.groups), methods=["GET"]),
        Route("/console/api/receipts", console.asked(console.latest), methods=["GET"]),
        Route("/console/api/receipts/{id}", console.asked(console.whose), methods=["GET"]),
        Route("/console/api/receipts/{id}/again", console.asked(console.again), methods=["GET"]),
        Route("/console", console.page, methods=["GET"]),
        Route("/console/{page}", console.page, methods=["GET"]),
        Route("/me", me.page, methods=["GET"]),
        Route("/me/session", me.begin, methods=["POST"]),
        Route("/me/session", me.present, methods=["GET"]),
        Route("/me/session", me.end, methods=["DELETE"]),
    ]


# --- operators -------------------------------------------------------------------------------


class Console:
    """Pages for operators; each asks for the session that `sign_in` begins."""

    def __init__(self, deployment: Deployment, sessions: BrowserSessions, figures: Figures) -> None:
        self._deployment = deployment
        self._sessions = sessions
        self._figures = figures

    async def _session(self, request: Request) -> BrowserSession | None:
        return await self._sessions.operator(request.scope["headers"], now=self._deployment.clock())

    async def page(self, request: Request) -> Response:
        """The shell of a page, or the form that asks for the admin token."""
        name = request.path_params.get("page", "overview")
        known = {**PAGES, "user": "User", "receipt": "Receipt"}
        if name not in known:
            raise NotFound("there is no such page of the console", code="unknown_path")
        session = await self._session(request)
        if session is None:
            return page("login", to=_back(request), wrong=False)
        return page(
            "console",
            page=name,
            title=known[name],
            pages=PAGES,
            open={"user": "users", "receipt": "receipts"}.get(name, name),
            csrf=session.csrf,
        )

    async def sign_in(self, request: Request) -> Response:
        """Take the admin token from the form, and go on to the page that was asked for."""
        same_site(request)
        body = await typed(request, self._deployment.settings.server)
        form = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
        to = _safe(form.get("to", [""])[0])
        token = form.get("token", [""])[0].strip()
        try:
            attempt = admin_attempt(self._deployment, peer_of(request))
            try:
                value = self._sessions.sign_in(token, now=self._deployment.clock())
            except Unauthenticated as exc:
                raise attempt.failed(exc) from None
        except (Unauthenticated, RateLimited) as exc:
            foreseen(exc, self._deployment.metrics)  # counts it
            return _refused(to, exc)
        attempt.succeeded()
        answer = answered(RedirectResponse(to, 303))
        answer.headers["set-cookie"] = set_cookie(
            OPERATOR_COOKIE, value, max_age_s=SESSION_S, secure=is_secure(request)
        )
        return answer

    async def sign_out(self, request: Request) -> Response:
        headers = request.scope["headers"]
        session = await self._session(request)
        if session is not None:
            body = await typed(request, self._deployment.settings.server)
            word = parse_qs(body.decode("utf-8", "replace")).get("csrf_token", [""])[0]
            require_own_page("POST", headers, session, form_token=word)
            await self._sessions.sign_out(headers, now=self._deployment.clock())
        answer = answered(RedirectResponse("/console", 303))
        answer.headers["set-cookie"] = clear_cookie(OPERATOR_COOKIE, secure=is_secure(request))
        return answer

    def asked(self, handler: Callable[[Request], Awaitable[Any]]) -> Handler:
        """A question of a page: answered as JSON, to an operator's session alone."""

        async def endpoint(request: Request) -> Response:
            if await self._session(request) is None:
                raise Unauthenticated("sign in at /console first", code="signed_out")
            return answered(JSONResponse(await handler(request)))

        return endpoint

    # --- what pages ask --------------------------------------------------------------------

    async def overview(self, _: Request) -> Any:
        return await self._figures.overview()

    async def settings(self, _: Request) -> Any:
        """Every setting in force, and what each app has otherwise; no secret is told."""
        settings = self._deployment.settings
        rows = []
        for name, field in every_setting():
            value = _shown(settings, name)
            default = field.get_default(call_default_factory=True)
            rows.append({"name": name, "value": value, "changed": value != _plain(default)})
        apps = {
            app: [
                {"name": row["name"], "value": own}
                for row in rows
                if _has(scope, str(row["name"]))
                and (own := _shown(scope, str(row["name"]))) != row["value"]
            ]
            for app, scope in settings.apps.items()
        }
        notes = self._deployment.services_for(DEFAULT_APP).notes
        versions = receipts.versions(settings)
        return {"settings": rows, "apps": apps, "notes": dict(notes), "versions": versions}

    async def groups(self, request: Request) -> Any:
        """What was seen of those with memory, in its shadow, and without."""
        days = number_within(request.query_params.get("days", "14"), "days", 1, 90)
        named = request.query_params.get("app")
        apps = [check_app(named)] if named else [DEFAULT_APP, *self._deployment.settings.apps]
        shown = []
        for app in dict.fromkeys(apps):
            tally = self._deployment.services_for(app).tally
            memory = self._deployment.settings_for(app).memory
            counts = {}
            if tally is not None:
                counts = await tally.groups(app, days=days, now=self._deployment.clock())
            shown.append(
                {
                    "app": app,
                    "mode": memory.mode,
                    "holdout_share": memory.holdout_share,
                    "groups": {group: asdict(count) for group, count in counts.items()},
                }
            )
        return {"days": days, "apps": shown}

    async def latest(self, request: Request) -> Any:
        """The latest receipts, of one user or of the first people known."""
        app = request.query_params.get("app") or None
        user = request.query_params.get("user") or ""
        found: list[dict[str, Any]] = []
        people = (
            [Person(check_app(app or DEFAULT_APP), user)]
            if user
            else await self._people(MAX_LATEST, app)
        )
        for person in people:
            services = self._deployment.services_for(person.app)
            owner = await services.directory.owner(person)
            if owner is not None:
                recent = await services.receipts.recent(owner, limit=100 if user else 10)
                found += [receipts.brief(one) for one in recent]
        found.sort(key=lambda one: str(one.get("at")), reverse=True)
        return {"receipts": found[:100], "people": len(people)}

    async def whose(self, request: Request) -> Any:
        """Whose receipt this is: an answer's head names it, and not its user."""
        id = request.path_params["id"]
        for person in await self._people(MAX_PEOPLE, None):
            services = self._deployment.services_for(person.app)
            owner = await services.directory.owner(person)
            if owner is not None and await services.receipts.get(owner, id) is not None:
                return {"app": person.app, "user": person.user}
        raise NotFound(
            f"no receipt {id[:80]!r} is kept; receipts end after retention.receipts, and with"
            " their user",
            code="receipt_not_found",
        )

    async def again(self, request: Request) -> Any:
        return await again(request, self._deployment)

    async def _people(self, limit: int, app: str | None) -> list[Person]:
        found: list[Person] = []
        for services in self._deployment.all_services():
            found += await services.directory.people(app, limit=limit)
        return found[:limit]


def _refused(to: str, why: Unauthenticated | RateLimited) -> Response:
    """The form again, and why its token was not taken."""
    if isinstance(why, RateLimited):
        answer = page("login", 429, to=to, wrong=False, wait_s=math.ceil(why.retry_after_s))
        answer.headers["retry-after"] = str(math.ceil(why.retry_after_s))
        return answer
    return page("login", 401, to=to, wrong=True)


def _back(request: Request) -> str:
    query = f"?{request.url.query}" if request.url.query else ""
    return _safe(request.url.path + query)


def _safe(to: str) -> str:
    """A page of the console, whatever was asked for."""
    inside = to == "/console" or to.startswith(("/console/", "/console?"))
    return to if inside and to.isprintable() and "\\" not in to else "/console"


def _has(scope: Any, name: str) -> bool:
    return hasattr(scope, name.partition(".")[0])


def _shown(settings: Any, name: str) -> Any:
    value = settings
    for part in name.split("."):
        value = getattr(value, part)
    return _plain(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it; of a secret only that there is one, of a URL no password."""
    if isinstance(value, SecretStr):
        return "(set)"
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return _without_password(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value)


def _without_password(text: str) -> str:
    scheme, parted, rest = text.partition("://")
    credentials, at, host = rest.rpartition("@")
    return without_secrets(f"{scheme}://***@{host}" if parted and at and credentials else text)
