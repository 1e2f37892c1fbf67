"""`/openapi.json`: the gateway's own API, described from the models that check it.

A row an operation; a test holds the rows and the routes together. What is answered is described
in `answers`. The proxied paths are the upstream's to describe.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway import __version__
from gateway.web import admin, schemas, upkeep
from gateway.web.answers import ANSWERS, ref


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: what it takes and what it answers.

    `lines`: a row of JSON each is taken; `once`: an Idempotency-Key is honoured; `later`: 202
    where a part was away and the rest is done when it is back.
    """

    method: str
    path: str
    summary: str
    answer: str
    status: int = 200
    body: type[BaseModel] | None = None
    many: bool = False
    optional: bool = False
    query: tuple[str, ...] = ()
    media: str = "application/json"
    lines: bool = False
    once: bool = False
    later: bool = False


_OWN = (
    Operation(
        "post",
        "/memories",
        "Store one memory, or a list of up to 1,000",
        "Stored",
        201,
        schemas.MemoryDraft,
        many=True,
        once=True,
    ),
    Operation(
        "get",
        "/memories",
        "List memories, newest first",
        "MemoryPage",
        query=("type", "kind", "status", "limit", "cursor"),
    ),
    Operation(
        "delete", "/memories", "Erase this user, at once and for good", "Erasure", later=True
    ),
    Operation(
        "post",
        "/memories/search",
        "Search with the recall that chat uses",
        "SearchResults",
        body=schemas.SearchBody,
    ),
    Operation(
        "get",
        "/memories/export",
        "Everything remembered, a line each",
        "Lines",
        media="application/x-ndjson",
    ),
    Operation("post", "/memories/import", "Take exported lines back", "Imported", lines=True),
    Operation("get", "/memories/{id}", "One memory", "Memory"),
    Operation("patch", "/memories/{id}", "Correct a memory", "Memory", body=schemas.MemoryChange),
    Operation("delete", "/memories/{id}", "Forget a memory", "Nothing", 204),
    Operation("get", "/memories/{id}/history", "A memory's versions, oldest first", "History"),
    Operation(
        "post",
        "/exchanges",
        "Take existing chat logs",
        "Accepted",
        202,
        schemas.ExchangesBody,
    ),
    Operation("get", "/receipts", "The latest receipts", "Receipts", query=("limit",)),
    Operation("get", "/receipts/{id}", "Why it said that", "Receipt"),
    Operation(
        "post",
        "/feedback",
        "A thumb up or down for an answer",
        "Object",
        202,
        schemas.Feedback,
    ),
    Operation("get", "/erasures/{id}", "An erasure, looked at again", "Erasure", query=("verify",)),
)

_OPERATORS = (
    Operation("get", "/users", "People known", "Object", query=("app", "prefix", "after", "limit")),
    Operation("get", "/queue", "Pending, leased and dead exchanges", "Object"),
    Operation("get", "/queue/dead", "Dead letters", "Object", query=("limit",)),
    Operation(
        "post",
        "/queue/retry",
        "Put dead letters back in line",
        "Object",
        body=admin.Retry,
        optional=True,
    ),
    Operation("get", "/keys", "Gateway keys, without their secrets", "Object"),
    Operation("post", "/keys", "Make a gateway key", "Object", 201, admin.NewKey),
    Operation("delete", "/keys/{id}", "Revoke a gateway key", "Nothing", 204),
    Operation("get", "/erasures", "Every erasure known, for a restore", "Object"),
    Operation("get", "/reembed", "How many memories wait for their vector", "Object"),
    Operation(
        "post",
        "/reembed",
        "Change the embedder, and embed all that waits",
        "Object",
        body=upkeep.NewEmbedder,
        optional=True,
    ),
    Operation("post", "/backup", "Write a backup", "Object", 201, upkeep.Backup),
    Operation("get", "/audit", "Who did what, and when", "Object", query=("limit", "app", "user")),
)

_OF_USER = (
    Operation("get", "/identities", "Other names of this person", "Object"),
    Operation("post", "/identities", "Link another name", "Object", body=admin.LinkedIdentity),
    Operation("delete", "/identities/{identity}", "Unlink a name", "Nothing", 204),
    Operation(
        "post",
        "/link",
        "A link to this person's own page",
        "Object",
        201,
        admin.NewLink,
        optional=True,
    ),
    Operation("delete", "/link", "Take back every link of this person", "Nothing", 204),
    Operation("delete", "/link/{id}", "Take back a link", "Nothing", 204),
)

_IDENTITY = (
    {
        "name": "X-Memory-User",
        "in": "header",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    },
    {"name": "X-Memory-App", "in": "header", "schema": {"type": "string"}},
)

_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "a repeat within a day stores nothing twice",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def operations() -> list[tuple[str, Operation]]:
    """Every operation of the gateway's own, with its whole path."""
    of_user = admin.OF_USER.replace("{user:path}", "{user}")
    return [
        *((f"/v1{op.path}", op) for op in _OWN),
        *((f"{of_user}{op.path}", op) for op in (*_OWN, *_OF_USER)),
        *((f"{admin.PREFIX}{op.path}", op) for op in _OPERATORS),
    ]


@cache
def document() -> dict[str, Any]:
    """The whole description."""
    models = {op.body for _, op in operations() if op.body is not None}
    _, definitions = models_json_schema(
        [(model, "validation") for model in sorted(models, key=lambda m: m.__name__)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for path, operation in operations():
        paths.setdefault(path, {})[operation.method] = _described(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Memory Gateway",
            "version": __version__,
            "description": "What is remembered of a user: look, correct, take along, erase.",
        },
        "paths": paths,
        "components": {
            "schemas": {**ANSWERS, **definitions.get("$defs", {})},
            "securitySchemes": {"admin": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(path: str, operation: Operation) -> dict[str, Any]:
    operators = path.startswith(admin.PREFIX)
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    parameters += [
        {"name": name, "in": "query", "schema": _query(operation, name)} for name in operation.query
    ]
    if operation.once:
        parameters.append(_IDEMPOTENCY)
    if not operators:
        parameters += _IDENTITY
    described: dict[str, Any] = {
        "operationId": f"{operation.method}{path}".replace("{", "").replace("}", ""),
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {
            str(operation.status): _answer(operation),
            "4XX": {
                "description": "refused; the message says what to do",
                "content": {"application/json": {"schema": ref("Error")}},
            },
            "5XX": {
                "description": "a part is away; try again",
                "content": {"application/json": {"schema": ref("Error")}},
            },
        },
    }
    if operators:
        described["security"] = [{"admin": []}]
    if operation.body is not None:
        described["requestBody"] = {
            "required": not operation.optional,
            "content": {"application/json": {"schema": _body(operation)}},
        }
    if operation.later:
        described["responses"]["202"] = _answer(operation)
    if operation.lines:
        described["requestBody"] = {
            "required": False,  # of someone without memories the export is empty
            "content": {"application/x-ndjson": {"schema": ref("Lines")}},
        }
    return described


def _query(operation: Operation, name: str) -> dict[str, Any]:
    """What a query parameter may be: memories are listed as their model says."""
    if operation.answer == "MemoryPage":
        described = schemas.ListQuery.model_json_schema()["properties"][name]
        kinds = [kind for kind in described.get("anyOf", [described]) if kind != {"type": "null"}]
        return {k: v for k, v in kinds[0].items() if k not in {"title", "default"}}
    if name == "limit":
        return {
            "type": "integer",
            "minimum": 1,
            "maximum": 500 if operation.answer == "Receipts" else 1000,
        }
    return {"type": "string"}


def _answer(operation: Operation) -> dict[str, Any]:
    if operation.answer == "Nothing":
        return {"description": "done"}
    schema = ref(operation.answer)
    return {"description": operation.summary, "content": {operation.media: {"schema": schema}}}


def _body(operation: Operation) -> dict[str, Any]:
    one = ref(operation.body.__name__) if operation.body is not None else {}
    if operation.optional:
        return {"oneOf": [one, {"type": "null"}]}
    if not operation.many:
        return dict(one)
    return {
        "oneOf": [
            one,
            {"type": "array", "items": one, "minItems": 1, "maxItems": schemas.MAX_MANY},
        ]
    }


async def openapi(_: Request) -> Response:
    """`GET /openapi.json`."""
    return JSONResponse(document())
