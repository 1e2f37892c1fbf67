"""The memory API (docs/api.md): one set of handlers for a user's own memories and for operators.

Whose memories are meant and who asks is a `Caller` (`web/callers`); bodies are checked before
anything is done (`web/checked`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.core.errors import BadRequest, NotFound, OverBudget, StateUnavailable
from gateway.core.exchange import Exchange, logged_exchange
from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Where
from gateway.core.records import to_public
from gateway.flows import browse, curate, erase, groups, handover, recall, receipts
from gateway.web import portable, schemas
from gateway.web.callers import Caller, FindCaller, Handler
from gateway.web.checked import check, check_many, number_within, read_json, whole_number
from gateway.web.context import options


def routes(find: FindCaller, prefix: str, kind: type[Route] = Route) -> list[Route]:
    """The memory API below `prefix` (`/v1`, or an operator's path of one user)."""

    def at(path: str, method: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(request, await find(request))

        return kind(prefix + path, endpoint, methods=[method], name=handler.__name__)

    return [
        at("/memories", "POST", create),
        at("/memories", "GET", list_memories),
        at("/memories", "DELETE", erase_user),
        at("/memories/search", "POST", search),
        at("/memories/export", "GET", portable.export),
        at("/memories/import", "POST", portable.import_memories),
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
    drafts = [curate.Draft(**body.model_dump()) for body in bodies]
    key = request.headers.get("idempotency-key")

    async def stored(owner: Owner) -> list[dict[str, Any]]:
        once = None if key is None else await _claim(caller, owner, key, raw)
        memories = await curate.create(
            caller.services,
            caller.settings,
            owner,
            drafts,
            via=caller.via,
            now=caller.now,
            once=once,
        )
        return [to_public(memory, owner) for memory in memories]

    shown = await caller.written(stored)
    await caller.audit("create", count=len(shown))
    # One memory's fields stand at the top as well, where whoever posts one looks for them.
    return JSONResponse({"memories": shown} if many else {**shown[0], "memories": shown}, 201)


async def _claim(caller: Caller, owner: Owner, key: str, raw: Any) -> str:
    """This key means this body from now on; what ids are derived from, so that a repeat finds what
    the first call made (as it stands by now, and not what was forgotten since). Raises BadRequest
    where the key meant another body.

    Only the body's print is kept, and for a day. It is part of what ids are derived from: another
    body that comes once the key is out of mind would find the first one's memories in its place.
    """
    if not 1 <= len(key) <= 255:
        raise BadRequest("Idempotency-Key: 1 to 255 characters are needed", param="Idempotency-Key")
    body = hashlib.sha256(orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)).digest()
    once = f"{key}\0{body.hex()}"
    name = "create:" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
    try:
        kept = await caller.services.state.once(owner, name, body)
    except StateUnavailable:
        return once  # without shared state a repeat is still harmless
    if kept is not None and kept != body:
        raise BadRequest(
            "this Idempotency-Key was used with another body; use a new key for a new request",
            param="Idempotency-Key",
            code="idempotency_key_reused",
        )
    return once


async def accept_exchanges(request: Request, caller: Caller) -> Response:
    """Take existing chat logs; they are distilled as live ones are."""
    body = check(schemas.ExchangesBody, await read_json(request, caller))
    timezone = options(request.scope["headers"]).timezone
    owner = await caller.new_owner()
    ids, results = [], []
    for logged in body.exchanges:
        exchange = logged_exchange(
            [m.model_dump() for m in logged.messages],
            at=logged.at,
            session=logged.session,
            timezone=logged.timezone or timezone,
        )
        if exchange is None:
            continue
        ids.append(exchange.id)
        result = await _handed_over(caller, owner, exchange)
        if result == "dropped" and (present := await caller.new_owner()) != owner:
            owner = present  # erased, through another gateway, a moment ago
            result = await _handed_over(caller, owner, exchange)
        results.append(result)
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


async def _handed_over(caller: Caller, owner: Owner, exchange: Exchange) -> handover.Result:
    services, settings = caller.services, caller.settings
    return await handover.hand_over(services, settings, owner, exchange, now=caller.now)


# --- look ----------------------------------------------------------------------------------


async def list_memories(request: Request, caller: Caller) -> Response:
    """A page of memories, newest first."""
    params: dict[str, Any] = dict(request.query_params)
    if "limit" in params:
        params["limit"] = whole_number(params["limit"], "limit")
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
    await caller.audit_look("list")
    return JSONResponse(
        {
            "memories": [to_public(memory, owner) for memory in page],
            "next_cursor": make_cursor(page[-1]) if more else None,
        }
    )


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
    await caller.audit_look("search")
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
    id = _memory_of(request)
    owner = await caller.owner_of(id)
    memory = await browse.read(caller.services, owner, id, now=caller.now)
    await caller.audit_look("read", memory=id)
    return JSONResponse(to_public(memory, owner))


def _memory_of(request: Request) -> str:
    """The memory that the path names. A call of its own is none that is unknown: who reads
    `/v1/memories/search` is told (405) that it takes a POST."""
    id: str = request.path_params["id"]
    if id in portable.CALLS:
        raise HTTPException(405)
    return id


async def history(request: Request, caller: Caller) -> Response:
    """A memory's versions, oldest first; the present one last."""
    id = request.path_params["id"]
    owner = await caller.owner_of(id)
    versions = await browse.history(caller.services, owner, id, now=caller.now)
    await caller.audit_look("history", memory=id)
    return JSONResponse({"versions": versions})


# --- correct, forget, erase ------------------------------------------------------------------


async def correct(request: Request, caller: Caller) -> Response:
    """Change what is wrong; the old version stays in the history."""
    id = _memory_of(request)
    body = check(schemas.MemoryChange, await read_json(request, caller))
    changes = body.model_dump(exclude_unset=True)
    for name, value in changes.items():
        if value is None and name not in schemas.EMPTIED:
            raise BadRequest(f"{name}: cannot be emptied", param=name)
    if not changes:
        raise BadRequest(
            "nothing to change: name at least one of " + ", ".join(sorted(curate.CORRECTABLE))
        )
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
    id = _memory_of(request)
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


# --- receipts --------------------------------------------------------------------------------


async def receipt(request: Request, caller: Caller) -> Response:
    """What one request considered, injected and left out."""
    id = request.path_params["id"]
    found = await receipts.find(caller.services, caller.owner, id)
    if found is None:
        raise NotFound(f"no receipt {id[:80]!r} of this user", param="id", code="receipt_not_found")
    await caller.audit_look("receipt", receipt=id)
    return JSONResponse(await receipts.explained(caller.services, *found))


async def list_receipts(request: Request, caller: Caller) -> Response:
    """The latest receipts of this user."""
    owner = await caller.owner()
    limit = number_within(request.query_params.get("limit", "50"), "limit", 1, 500)
    found = await caller.services.receipts.recent(owner, limit=limit) if owner else []
    await caller.audit_look("receipts")
    return JSONResponse({"receipts": [receipts.brief(one) for one in found]})


async def feedback(request: Request, caller: Caller) -> Response:
    """Take a thumb up or down for an answer; only counts are kept, and the receipt's own."""
    body = check(schemas.Feedback, await read_json(request, caller))
    owner = await caller.new_owner()
    if body.receipt_id is not None:
        await receipts.find(caller.services, caller.owner, body.receipt_id)  # it may be on its way
    group = await groups.thumb(
        caller.services,
        caller.settings,
        owner,
        body.receipt_id,
        up=body.thumb == "up",
        now=caller.now,
    )
    return JSONResponse({"thumb": body.thumb, "group": group}, 202)
