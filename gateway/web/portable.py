"""A user's memories taken along and brought back: a line of JSON each (docs/api.md)."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from hashlib import blake2b
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.core.errors import BadRequest
from gateway.core.identity import Owner
from gateway.core.memory import Instant, Memory, Where, rfc3339
from gateway.core.records import ROLES, from_export, to_export
from gateway.flows import browse, curate
from gateway.web import schemas
from gateway.web.body import OFF_THE_LOOP_BYTES
from gateway.web.callers import Caller
from gateway.web.claims import STEPS
from gateway.web.context import read_body

CALLS: Final = frozenset({"search", "export", "import"})
"""Calls of their own below `/v1/memories`."""
RESERVED: Final = CALLS | STEPS
"""Names below `/v1/memories` that are no memory's."""


async def export(_: Request, caller: Caller) -> Response:
    """Everything remembered of this user, a line each."""
    owner = await caller.owner()
    where = Where(statuses=("active", "superseded", "quarantined"), expired_before=caller.now)
    pages = browse.pages(caller.services, owner, where) if owner is not None else None
    # Read before anything is answered: a store that is away is a 503, not a file that breaks off.
    first = await anext(pages, None) if pages is not None else None
    await caller.audit("export")

    async def lines() -> AsyncIterator[bytes]:
        page = first
        while owner is not None and pages is not None and page is not None:
            yield b"".join(orjson.dumps(to_export(memory, owner)) + b"\n" for memory in page)
            page = await anext(pages, None)

    return StreamingResponse(
        lines(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="memories.ndjson"'},
    )


async def import_memories(request: Request, caller: Caller) -> Response:
    """Take exported lines back: all of them, or none and the first that is wrong."""
    raw = await read_body(request, caller.deployment.settings.server)
    long, now = len(raw) > OFF_THE_LOOP_BYTES, caller.now
    memories = await asyncio.to_thread(_lines_of, raw, now) if long else _lines_of(raw, now)

    async def brought_back(owner: Owner) -> int:
        services, settings = caller.services, caller.settings
        return await curate.bring_back(services, settings, owner, memories, now=now)

    imported = await caller.written(brought_back)
    await caller.audit("import", count=imported)
    return JSONResponse({"imported": imported, "left_out": len(memories) - imported})


def _lines_of(raw: bytes, now: Instant) -> list[Memory]:
    memories = []
    # Editors on Windows put a mark before what they save.
    for number, line in enumerate(raw.removeprefix(BOM_UTF8).splitlines(), 1):
        if not line.strip():
            continue
        try:
            # What says no time of its own was written in the order of its lines.
            at = round(now + number * 1e-6, 6)
            memories.append(_imported(orjson.loads(line), line, at))
        except orjson.JSONDecodeError as exc:
            raise BadRequest(f"line {number} is not JSON: {exc}", param=f"line {number}") from exc
        except BadRequest as exc:
            raise BadRequest(f"line {number}: {exc.message}", param=exc.param) from exc
    return memories


def _imported(row: Any, line: bytes, now: Instant) -> Memory:
    """A row of an import, as exported or written by hand. Raises BadRequest also for what the
    API could not address or store."""
    if isinstance(row, dict):
        row = _whole(row, line, now)
    memory = from_export(row)
    if "/" in memory.id or memory.id in RESERVED:
        raise BadRequest("id: cannot stand in a path", param="id")
    schemas.check_sizes(memory)
    return memory


def _whole(row: dict[str, Any], line: bytes, now: Instant) -> dict[str, Any]:
    """A row with what an export would say and a hand leaves out. The id is drawn from the line,
    so that the same file imported again makes nothing twice."""
    given = {name: value for name, value in row.items() if value is not None}
    if isinstance(source := given.get("source", {}), dict):
        given["source"] = _origin(given) | source
    kind = given.get("kind", "fact")
    id = ("turn_" if kind == "turn" else "mem_") + blake2b(line, digest_size=12).hexdigest()
    return {"id": id, "kind": kind, "created_at": rfc3339(now), **given}


def _origin(given: dict[str, Any]) -> dict[str, Any]:
    """What an export has in a line's source, and a hand writes as where it stores a memory."""
    named = {"session": given["session"]} if "session" in given else {}
    return named | ({"role": given["speaker"]} if given.get("speaker") in ROLES else {})
