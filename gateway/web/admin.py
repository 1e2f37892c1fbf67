"""What operators do, under `/admin/v1` and the admin token: any user's memories, the people
known, identities linked to one person, the queue, gateway keys, the audit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.errors import NotFound
from gateway.core.identity import DEFAULT_APP, Person
from gateway.core.keys import make_key
from gateway.core.memory import rfc3339
from gateway.ports import Deployment, GatewayKey, QueueStatus, Services
from gateway.web import memories, upkeep
from gateway.web.browser_session import (
    LINK_S,
    MAX_LINK_S,
    BrowserSessions,
    require_own_page,
)
from gateway.web.callers import Caller, Handler, peer_of
from gateway.web.checked import check, number_within, read_json, read_json_of
from gateway.web.claims import check_app, check_user
from gateway.web.credentials import require_admin
from gateway.web.schemas import Body, Name
from gateway.web.segments import SegmentRoute

PREFIX = "/admin/v1"
OF_USER = PREFIX + "/apps/{app}/users/{user}"


class NewKey(Body):
    """A gateway key to be made."""

    app: Name = DEFAULT_APP
    label: Annotated[str, Field(max_length=200)] = ""
    requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None


class Retry(Body):
    """Which dead letter is tried again; all without an id."""

    id: Name | None = None


class LinkedIdentity(Body):
    """Another name of the same person, within the same app: as long as any user's may be."""

    user: Annotated[str, Field(min_length=1, max_length=256)]


def routes(deployment: Deployment, token: str, sessions: BrowserSessions) -> list[Route]:
    """Every operator's route; each asks for the admin token first, or for the session that one
    who knows it began in the console."""

    async def operator(request: Request) -> None:
        headers = request.scope["headers"]
        if "authorization" not in request.headers:
            session = await sessions.operator(headers, now=deployment.clock())
            if session is not None:
                require_own_page(request.method, headers, session)
                return
        require_admin(headers, token, deployment, peer_host=peer_of(request))

    async def caller(request: Request) -> Caller:
        await operator(request)
        return Caller(_person(request), deployment, operator=True)

    def at(path: str, method: str, handler: Callable[..., Awaitable[Response]]) -> Route:
        async def endpoint(request: Request) -> Response:
            await operator(request)
            return await handler(request, deployment)

        return Route(PREFIX + path, endpoint, methods=[method], name=handler.__name__)

    def of_user(path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(request, await caller(request))

        return SegmentRoute(OF_USER + path, endpoint, methods=[method], name=handler.__name__)

    return [
        *memories.routes(caller, OF_USER, SegmentRoute),
        of_user("/identities", "GET", list_identities),
        of_user("/identities", "POST", link_identity),
        of_user("/identities/{identity}", "DELETE", unlink_identity),
        *(of_user(*route) for route in _link_routes(sessions)),
        at("/users", "GET", list_users),
        at("/queue", "GET", queue_status),
        at("/queue/dead", "GET", queue_dead),
        at("/queue/retry", "POST", queue_retry),
        at("/keys", "GET", list_keys),
        at("/keys", "POST", create_key),
        at("/keys/{id}", "DELETE", revoke_key),
        at("/audit", "GET", list_audit),
        *upkeep.routes(at),
    ]


def _person(request: Request) -> Person:
    return Person(check_app(request.path_params["app"]), check_user(request.path_params["user"]))


# --- people --------------------------------------------------------------------------------


async def list_users(request: Request, deployment: Deployment) -> Response:
    """People known, a page at a time."""
    app, limit = request.query_params.get("app"), _limit(request, 100, 1000)
    found: set[Person] = set()
    for services in _of_apps(deployment, app):
        found.update(
            await services.directory.people(
                app,
                prefix=request.query_params.get("prefix", ""),
                after=request.query_params.get("after", ""),
                limit=limit,
            )
        )
    people = sorted(found, key=lambda person: (person.app, person.user))[:limit]
    return JSONResponse({"users": [{"app": p.app, "user": p.user} for p in people]})


def _of_apps(deployment: Deployment, app: str | None) -> Sequence[Services]:
    """Where an app's people and audit are kept; without an app, everywhere: an app with stores
    of its own has a directory of its own."""
    return deployment.all_services() if app is None else [deployment.services_for(app)]


async def list_identities(_: Request, caller: Caller) -> Response:
    """The other names of this person."""
    linked = await caller.services.directory.links(caller.person)
    return JSONResponse({"user": caller.person.user, "identities": linked})


async def link_identity(request: Request, caller: Caller) -> Response:
    """From now on another name means this person."""
    body = check(LinkedIdentity, await read_json(request, caller))
    identity = Person(caller.person.app, check_user(body.user))
    await caller.services.directory.link(identity, caller.person)
    await caller.audit("link", identity=body.user)
    return await list_identities(request, caller)


async def unlink_identity(request: Request, caller: Caller) -> Response:
    """The other name means itself again."""
    identity = check_user(request.path_params["identity"])
    await caller.services.directory.unlink(Person(caller.person.app, identity))
    await caller.audit("unlink", identity=identity)
    return Response(status_code=204)


class NewLink(Body):
    """How long a link to a user's own page holds, in seconds."""

    ttl_s: Annotated[float, Field(ge=60, le=MAX_LINK_S)] = LINK_S


def _link_routes(sessions: BrowserSessions) -> Sequence[tuple[str, str, Handler]]:
    async def make_link(request: Request, caller: Caller) -> Response:
        """A link to this person's own page, which ends."""
        raw = await read_json_of(request, caller.deployment)
        body = check(NewLink, {} if raw is None else raw)
        now = caller.now
        until = now + body.ttl_s
        token, id = sessions.link(caller.person, now=now, until=until)
        ends = rfc3339(int(until))
        await caller.audit("link.create", link=id, until=ends)
        # After the #, so that no server on the way and no log of one sees the token.
        return JSONResponse(
            {"id": id, "url": f"/me#{token}", "token": token, "expires_at": ends}, 201
        )

    async def take_back_link(request: Request, caller: Caller) -> Response:
        """From now on this link is refused."""
        id = request.path_params["id"]
        await sessions.take_back(caller.person, id, now=caller.now)
        await caller.audit("link.revoke", link=id[:80])
        return Response(status_code=204)

    async def take_back_links(_: Request, caller: Caller) -> Response:
        """From now on every link that was made for this person is refused."""
        await sessions.take_back(caller.person, now=caller.now)
        await caller.audit("link.revoke")
        return Response(status_code=204)

    return (
        ("/link", "POST", make_link),
        ("/link", "DELETE", take_back_links),
        ("/link/{id}", "DELETE", take_back_link),
    )


# --- queue ---------------------------------------------------------------------------------


async def queue_status(_: Request, deployment: Deployment) -> Response:
    """Pending, leased and dead exchanges, over all queues."""
    states = [await s.queue.status(now=deployment.clock()) for s in deployment.all_services()]
    status = QueueStatus.of_all(states)
    return JSONResponse(
        {
            "pending": status.pending,
            "leased": status.leased,
            "dead": status.dead,
            "oldest_s": status.oldest_s,
            "bytes": status.bytes,
        }
    )


async def queue_dead(request: Request, deployment: Deployment) -> Response:
    """Dead letters, and whose they are."""
    limit = _limit(request, 100, 1000)
    shown: list[dict[str, Any]] = []
    for services in deployment.all_services():
        for letter in await services.queue.dead(limit=limit):
            owner = await services.directory.by_tenant(letter.tenant)
            shown.append(
                {
                    "id": letter.id,
                    "app": owner.app if owner else None,
                    "user": owner.user if owner else None,
                    "at": rfc3339(letter.at),
                    "reason": letter.reason,
                    "tries": letter.tries,
                    "exchanges": len(letter.exchange_ids),
                }
            )
    return JSONResponse({"dead": shown[:limit]})


async def queue_retry(request: Request, deployment: Deployment) -> Response:
    """Put one dead letter, or all, back in line."""
    raw = await read_json_of(request, deployment)
    body = check(Retry, raw if raw is not None else {})
    count = 0
    for services in deployment.all_services():
        count += await services.queue.retry(body.id, now=deployment.clock())
    if body.id is not None and count == 0:
        raise NotFound(
            f"no dead letter {body.id[:80]!r}; `memory-gateway queue dead` lists them"
            f" (GET {PREFIX}/queue/dead)"
        )
    return JSONResponse({"retried": count})


# --- keys and audit ----------------------------------------------------------------------------


def _public_key(key: GatewayKey) -> Mapping[str, Any]:
    return {
        "id": key.id,
        "app": key.app,
        "label": key.label,
        "created_at": rfc3339(key.created_at),
        "revoked_at": rfc3339(key.revoked_at) if key.revoked_at is not None else None,
        "requests_per_minute": key.requests_per_minute,
        "tokens_per_minute": key.tokens_per_minute,
    }


async def list_keys(_: Request, deployment: Deployment) -> Response:
    """Gateway keys, without their secrets."""
    keys = await deployment.services_for(DEFAULT_APP).keys.all()
    return JSONResponse({"keys": [_public_key(key) for key in keys]})


async def create_key(request: Request, deployment: Deployment) -> Response:
    """Make a gateway key; it is shown this once."""
    body = check(NewKey, await read_json_of(request, deployment))
    shown, key = make_key(
        check_app(body.app),
        now=deployment.clock(),
        label=body.label,
        requests_per_minute=body.requests_per_minute,
        tokens_per_minute=body.tokens_per_minute,
    )
    keys = deployment.services_for(DEFAULT_APP).keys
    await keys.add(key)
    await keys.audit(
        {"at": deployment.clock(), "by": "operator", "action": "key.create", "key": key.id}
    )
    return JSONResponse({"key": shown, **_public_key(key)}, 201)


async def revoke_key(request: Request, deployment: Deployment) -> Response:
    """From now on this key is refused."""
    keys = deployment.services_for(DEFAULT_APP).keys
    id = request.path_params["id"]
    if not await keys.revoke(id, deployment.clock()):
        raise NotFound(
            f"no gateway key {id[:80]!r}; `memory-gateway keys list` lists them"
            f" (GET {PREFIX}/keys)",
            param="id",
        )
    await keys.audit(
        {"at": deployment.clock(), "by": "operator", "action": "key.revoke", "key": id}
    )
    return Response(status_code=204)


async def list_audit(request: Request, deployment: Deployment) -> Response:
    """Who did what to whose memory, newest first."""
    app, limit = request.query_params.get("app"), _limit(request, 100, 1000)
    user = request.query_params.get("user")
    entries: list[dict[str, Any]] = []
    for services in _of_apps(deployment, app):
        entries += await services.keys.audited(limit=limit, app=app, user=user)
    entries = sorted(entries, key=lambda entry: -float(entry["at"]))[:limit]
    return JSONResponse({"entries": [{**entry, "at": rfc3339(entry["at"])} for entry in entries]})


def _limit(request: Request, default: int, most: int) -> int:
    return number_within(request.query_params.get("limit", str(default)), "limit", 1, most)
