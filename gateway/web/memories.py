"""The memory API (CONTRACT §6): one set of handlers for a user's own memories and for operators.

A `Caller` says whose memories are meant and who asks; where it comes from (identity headers,
the admin token and a path, a signed link) is the business of `caller_of` and `web/admin`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway.config import AppSettings
from gateway.core.errors import (
    BadRequest,
    DirectoryUnavailable,
    Forbidden,
    NotFound,
    OverBudget,
    StateUnavailable,
    UnsupportedMedia,
)
from gateway.core.exchange import logged_exchange
from gateway.core.identity import Owner, Person
from gateway.core.keys import LINK_PREFIX
from gateway.core.memory import Instant, Memory, Via, Where
from gateway.core.records import from_export, to_export, to_public
from gateway.flows import browse, curate, erase, groups, handover, recall, receipts
from gateway.ports import Deployment, Services
from gateway.web import schemas
from gateway.web.browser_session import (
    PERSON_COOKIE,
    BrowserSessions,
    cookie,
    require_own_page,
)
from gateway.web.context import read_body
from gateway.web.identity import identify

_Model = TypeVar("_Model", bound=BaseModel)


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

    async def owner_of(self, id: str) -> Owner:
        """The owner, where memory `id` is asked for. Raises NotFound for an unknown person."""
        owner = await self.owner()
        if owner is None:
            raise browse.not_found(id)
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


RESERVED: Final = frozenset({"search", "export", "import"})
"""Names below `/v1/memories` that are no memory's."""
LINK_PATHS: Final = ("/v1/memories", "/v1/erasures")
"""What a person can reach with a link to their own page."""

Handler = Callable[[Request, Caller], Awaitable[Response]]
FindCaller = Callable[[Request], Awaitable[Caller]]


def caller_from_headers(deployment: Deployment, sessions: BrowserSessions) -> FindCaller:
    """Callers that name themselves as chat requests do, and people on their own page."""

    async def find(request: Request) -> Caller:
        own = _on_own_page(request, deployment, sessions)
        if own is not None:
            return own
        who = await identify(
            request.scope["headers"],
            body_user=None,
            peer_host=request.client.host if request.client else None,
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


def _on_own_page(
    request: Request, deployment: Deployment, sessions: BrowserSessions
) -> Caller | None:
    """The person whose link (or the cookie made of it) this request carries, on the paths that
    a link opens. Raises Unauthenticated, Forbidden, and BadRequest where it names someone else
    besides."""
    headers = request.scope["headers"]
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    by_cookie = False
    if scheme.lower() != "bearer" or not token.strip().startswith(LINK_PREFIX):
        token = cookie(headers, PERSON_COOKIE) or ""
        by_cookie = True
        if not token or "authorization" in request.headers or "x-memory-user" in request.headers:
            return None  # who says who they are is not a page of ours
    session = sessions.person(token.strip(), now=deployment.clock())
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


def routes(find: FindCaller, prefix: str) -> list[Route]:
    """The memory API below `prefix` (`/v1`, or an operator's path of one user)."""

    def at(path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(request, await find(request))

        return Route(prefix + path, endpoint, methods=[method], name=handler.__name__)

    return [
        at("/memories", "POST", create),
        at("/memories", "GET", list_memories),
        at("/memories", "DELETE", erase_user),
        at("/memories/search", "POST", search),
        at("/memories/export", "GET", export),
        at("/memories/import", "POST", import_memories),
        at("/memories/{id}", "GET", read),
        at("/memories/{id}", "PATCH", correct),
        at("/memories/{id}", "DELETE", forget),
        at("/memories/{id}/history", "GET", history),
        at("/exchanges", "POST", accept_exchanges),
        at("/receipts", "GET", list_receipts),
        at("/receipts/{id}", "GET", receipt),
        at("/feedback", "POST", feedback),
        at("/erasures/{id}", "GET", erasure),
    ]


# --- write ---------------------------------------------------------------------------------


async def create(request: Request, caller: Caller) -> Response:
    """Store one memory, or a list of up to 1,000."""
    raw = await read_json(request, caller)
    many = isinstance(raw, list)
    if many and not 1 <= len(raw) <= schemas.MAX_MANY:
        raise BadRequest(f"a list of 1 to {schemas.MAX_MANY} memories is needed, not {len(raw)}")
    draft = schemas.MemoryDraft
    bodies = check_many(draft, raw) if many else [check(draft, raw)]
    owner = await caller.new_owner()
    key = request.headers.get("idempotency-key")
    if key is not None:
        await _claim(caller, owner, key, raw)
    memories = await curate.create(
        caller.services,
        caller.settings,
        owner,
        [curate.Draft(**body.model_dump()) for body in bodies],
        via=caller.via,
        now=caller.now,
        once=key,
    )
    await caller.audit("create", count=len(memories))
    shown = [to_public(memory, owner) for memory in memories]
    return JSONResponse(shown if many else shown[0], 201)


async def _claim(caller: Caller, owner: Owner, key: str, raw: Any) -> None:
    """This key means this body from now on. Raises BadRequest where it meant another.

    Only the body's print is kept: ids are derived from the key, so that a repeat finds what the
    first call made (as it stands by now, and not what was forgotten since).
    """
    if not 1 <= len(key) <= 255:
        raise BadRequest("Idempotency-Key: 1 to 255 characters are needed", param="Idempotency-Key")
    body = hashlib.sha256(orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)).digest()
    name = "create:" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
    try:
        kept = await caller.services.state.once(owner, name, body)
    except StateUnavailable:
        return  # without shared state a repeat is still harmless
    if kept is not None and kept != body:
        raise BadRequest(
            "this Idempotency-Key was used with another body; use a new key for a new request",
            param="Idempotency-Key",
            code="idempotency_key_reused",
        )


async def accept_exchanges(request: Request, caller: Caller) -> Response:
    """Take existing chat logs; they are distilled as live ones are."""
    body = check(schemas.ExchangesBody, await read_json(request, caller))
    owner = await caller.new_owner()
    ids, results = [], []
    for logged in body.exchanges:
        exchange = logged_exchange(
            [m.model_dump() for m in logged.messages],
            at=logged.at,
            session=logged.session,
            timezone=logged.timezone,
        )
        if exchange is None:
            continue
        ids.append(exchange.id)
        results.append(
            await handover.hand_over(
                caller.services, caller.settings, owner, exchange, now=caller.now
            )
        )
    if results and set(results) == {"dropped"}:
        raise OverBudget(
            "the queue takes no more of this user now; send these exchanges again later, those"
            " that were taken before are taken once",
            code="queue_full",
        )
    await caller.audit("exchanges", count=len(ids))
    return JSONResponse(
        {
            "accepted": sum(r in {"queued", "spooled"} for r in results),
            "duplicates": results.count("duplicate"),
            "dropped": [id for id, r in zip(ids, results, strict=True) if r == "dropped"],
            "exchange_ids": ids,
        },
        202,
    )


# --- look ----------------------------------------------------------------------------------


async def list_memories(request: Request, caller: Caller) -> Response:
    """A page of memories, newest first."""
    params = dict(request.query_params)
    if "limit" in params:
        params["limit"] = _whole_number(params["limit"], "limit")  # type: ignore[assignment]
    query = check(schemas.ListQuery, params)
    after = read_cursor(query.cursor) if query.cursor else None
    owner = await caller.owner()
    if owner is None:
        return JSONResponse({"memories": [], "next_cursor": None})
    where = Where(
        kinds=(query.kind,) if query.kind else (),
        types=(query.type,) if query.type else (),
        statuses=(query.status or "active",),
        expired_before=caller.now,
    )
    page = await caller.services.store.page(owner, where, limit=query.limit + 1, after=after)
    more = len(page) > query.limit
    page = page[: query.limit]
    await _audit_look(caller, "list")
    return JSONResponse(
        {
            "memories": [to_public(memory, owner) for memory in page],
            "next_cursor": make_cursor(page[-1]) if more else None,
        }
    )


def _whole_number(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"{name}: a whole number is needed", param=name) from None


def make_cursor(memory: Memory) -> str:
    """Where a list stopped, as an opaque word."""
    return base64.urlsafe_b64encode(orjson.dumps([memory.created_at, memory.id])).decode()


def read_cursor(cursor: str) -> tuple[Instant, str]:
    """Raises BadRequest for anything but what `make_cursor` made."""
    try:
        match orjson.loads(base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)):
            case [int() | float() as at, str() as id]:
                return float(at), id
    except (ValueError, binascii.Error):
        pass
    raise BadRequest("cursor: use next_cursor of the page before, as it is", param="cursor")


async def search(request: Request, caller: Caller) -> Response:
    """The recall that chat uses, with its reasons."""
    body = check(schemas.SearchBody, await read_json(request, caller))
    owner = await caller.owner()
    if owner is None:
        return JSONResponse({"results": []})
    where = Where(
        kinds=body.kinds,
        types=body.types,
        metadata=body.metadata,
        as_of=body.as_of,
        expired_before=caller.now,
    )
    found = await recall.search(
        caller.services,
        caller.settings,
        owner,
        body.query,
        where=where,
        limit=body.limit,
        now=caller.now,
    )
    await _audit_look(caller, "search")
    return JSONResponse(
        {
            "results": [
                {
                    "memory": to_public(scored.memory, owner),
                    "score": scored.score,
                    "why": dict(scored.why),
                }
                for scored in found
            ]
        }
    )


async def read(request: Request, caller: Caller) -> Response:
    """One memory."""
    id = request.path_params["id"]
    owner = await caller.owner_of(id)
    memory = await browse.read(caller.services, owner, id, now=caller.now)
    await _audit_look(caller, "read", memory=id)
    return JSONResponse(to_public(memory, owner))


async def history(request: Request, caller: Caller) -> Response:
    """A memory's versions, oldest first; the present one last."""
    id = request.path_params["id"]
    owner = await caller.owner_of(id)
    versions = await browse.history(caller.services, owner, id, now=caller.now)
    await _audit_look(caller, "history", memory=id)
    return JSONResponse({"versions": versions})


async def _audit_look(caller: Caller, action: str, **what: Any) -> None:
    """Looking is recorded where it is somebody else who looks."""
    if caller.operator:
        await caller.audit(action, **what)


# --- correct, forget, erase ------------------------------------------------------------------


async def correct(request: Request, caller: Caller) -> Response:
    """Change what is wrong; the old version stays in the history."""
    body = check(schemas.MemoryChange, await read_json(request, caller))
    changes = body.model_dump(exclude_unset=True)
    for name in ("text", "importance", "pinned", "status", "valid_from", "metadata", "type"):
        if name in changes and changes[name] is None:
            raise BadRequest(f"{name}: cannot be emptied", param=name)
    if not changes:
        raise BadRequest(
            "nothing to change: name at least one of " + ", ".join(sorted(curate.CORRECTABLE))
        )
    id = request.path_params["id"]
    owner = await caller.owner_of(id)
    memory = await curate.correct(
        caller.services,
        caller.settings,
        owner,
        id,
        changes,
        via=caller.via,
        now=caller.now,
    )
    await caller.audit("correct", memory=id)
    return JSONResponse(to_public(memory, owner))


async def forget(request: Request, caller: Caller) -> Response:
    """Forget one memory."""
    id = request.path_params["id"]
    await curate.forget(caller.services, await caller.owner_of(id), id, now=caller.now)
    await caller.audit("forget", memory=id)
    return Response(status_code=204)


async def erase_user(_: Request, caller: Caller) -> Response:
    """Erase this user, at once and for good."""
    receipt = await erase.erase(caller.services, caller.person, now=caller.now)
    await caller.audit("erase", erasure=receipt["id"])
    return JSONResponse(receipt, 200 if receipt["completed"] else 202)


async def erasure(request: Request, caller: Caller) -> Response:
    """An erasure's receipt; with `verify=true`, what is left now."""
    id = request.path_params["id"]
    if request.query_params.get("verify", "false").lower() in {"true", "1", "yes"}:
        return JSONResponse(await erase.verify(caller.services, caller.person, id))
    return JSONResponse(erase.public(await erase.find(caller.services, caller.person, id)))


# --- out and in ------------------------------------------------------------------------------


async def export(_: Request, caller: Caller) -> Response:
    """Everything remembered of this user, a line each."""
    owner = await caller.owner()
    await caller.audit("export")

    async def lines() -> AsyncIterator[bytes]:
        if owner is None:
            return
        where = Where(statuses=("active", "superseded", "quarantined"), expired_before=caller.now)
        async for page in browse.pages(caller.services, owner, where):
            yield b"".join(orjson.dumps(to_export(memory, owner)) + b"\n" for memory in page)

    return StreamingResponse(
        lines(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="memories.ndjson"'},
    )


async def import_memories(request: Request, caller: Caller) -> Response:
    """Take exported lines back: all of them, or none and the first that is wrong."""
    raw = await read_body(request, caller.deployment.settings.server)
    memories = []
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            memories.append(_imported(orjson.loads(line)))
        except orjson.JSONDecodeError as exc:
            raise BadRequest(f"line {number} is not JSON: {exc}", param=f"line {number}") from exc
        except BadRequest as exc:
            raise BadRequest(f"line {number}: {exc.message}", param=exc.param) from exc
    owner = await caller.new_owner()
    imported = await curate.bring_back(
        caller.services, caller.settings, owner, memories, now=caller.now
    )
    await caller.audit("import", count=imported)
    return JSONResponse({"imported": imported, "left_out": len(memories) - imported})


def _imported(row: Any) -> Memory:
    """A row of an import. Raises BadRequest also for what the API could not address or store."""
    memory = from_export(row)
    if "/" in memory.id or memory.id in RESERVED:
        raise BadRequest("id: cannot stand in a path", param="id")
    schemas.check_sizes(memory)
    return memory


# --- receipts --------------------------------------------------------------------------------


async def receipt(request: Request, caller: Caller) -> Response:
    """What one request considered, injected and left out."""
    owner = await caller.owner()
    id = request.path_params["id"]
    found = await caller.services.receipts.get(owner, id) if owner else None
    if owner is None or found is None:
        raise NotFound(f"no receipt {id[:80]!r} of this user", param="id", code="receipt_not_found")
    await _audit_look(caller, "receipt", receipt=id)
    return JSONResponse(await receipts.explained(caller.services, owner, found))


async def list_receipts(request: Request, caller: Caller) -> Response:
    """The latest receipts of this user."""
    owner = await caller.owner()
    limit = _whole_number(request.query_params.get("limit", "50"), "limit")
    if not 1 <= limit <= 500:
        raise BadRequest("limit: 1 to 500", param="limit")
    found = await caller.services.receipts.recent(owner, limit=limit) if owner else []
    await _audit_look(caller, "receipts")
    return JSONResponse({"receipts": [receipts.brief(one) for one in found]})


async def feedback(request: Request, caller: Caller) -> Response:
    """Take a thumb up or down for an answer; only counts are kept, and the receipt's own."""
    body = check(schemas.Feedback, await read_json(request, caller))
    owner = await caller.new_owner()
    group = await groups.thumb(
        caller.services,
        caller.settings,
        owner,
        body.receipt_id,
        up=body.thumb == "up",
        now=caller.now,
    )
    return JSONResponse({"thumb": body.thumb, "group": group}, 202)


# --- bodies ----------------------------------------------------------------------------------


async def read_json(request: Request, caller: Caller) -> Any:
    """The JSON of a request. Raises BadRequest, TooLarge, UnsupportedMedia."""
    raw = await read_json_of(request, caller.deployment)
    if raw is None:
        raise BadRequest("a JSON body is needed", code="invalid_json")
    return raw


async def read_json_of(request: Request, deployment: Deployment) -> Any:
    """As `read_json`, for a request that is about no user; None for an empty body."""
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if kind not in {"application/json", ""}:
        raise UnsupportedMedia(f"send application/json, not {kind[:60]!r}", param="Content-Type")
    raw = await read_body(request, deployment.settings.server)
    if not raw.strip():
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        raise BadRequest(f"the body is not JSON: {exc}", code="invalid_json") from exc


def check(model: type[_Model], raw: Any) -> _Model:
    """A body of this model. Raises BadRequest, naming the first field that is wrong."""
    try:
        return model.model_validate(raw)
    except ValidationError as exc:
        raise explained(exc) from None


def check_many(model: type[_Model], raw: list[Any]) -> list[_Model]:
    """As `check`, for each of a list."""
    try:
        return TypeAdapter(list[model]).validate_python(raw)  # type: ignore[valid-type]
    except ValidationError as exc:
        raise explained(exc) from None


def explained(exc: ValidationError) -> BadRequest:
    """The first fault in words; what was given is not repeated, as it may be private."""
    fault = exc.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    return BadRequest(f"{name}: {message}" if name else message, param=name or None)
