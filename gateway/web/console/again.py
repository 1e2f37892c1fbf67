"""`/console/api/receipts/{id}/again`: a receipt's question under the settings of now, or under
others that a person tries."""

from __future__ import annotations

from typing import Any, Final

from pydantic import ValidationError
from starlette.requests import Request

from gateway.config import AppSettings, MemorySettings
from gateway.core.errors import BadRequest, NotFound
from gateway.core.identity import DEFAULT_APP, Person
from gateway.core.memory import Memory
from gateway.flows.rerun import rerun
from gateway.ports import Deployment
from gateway.web.callers import Caller
from gateway.web.checked import explained
from gateway.web.claims import check_app, check_user

TRIED: Final = ("max_tokens", "max_memories", "floor", "turns")
"""Settings of memory that a person can try."""


async def again(request: Request, deployment: Deployment) -> dict[str, Any]:
    """What would be injected now, beside what was then. Raises BadRequest, NotFound."""
    asked = request.query_params
    person = Person(check_app(asked.get("app", DEFAULT_APP)), check_user(asked.get("user", "")))
    caller = Caller(person, deployment, operator=True)
    owner = await caller.owner()
    id = request.path_params["id"]
    receipt = await caller.services.receipts.get(owner, id) if owner is not None else None
    if owner is None or receipt is None:
        raise NotFound(f"no receipt {id[:80]!r} of this user is kept", code="receipt_not_found")
    if not receipt.get("query"):
        raise BadRequest("the words of the question are not kept, so it cannot be asked again")
    tried = {name: asked[name] for name in TRIED if asked.get(name)}
    settings = _with(caller.settings, tried)
    await caller.audit("search", receipt=id)
    run = await rerun(caller.services, settings, owner, receipt, now=caller.now)
    recalled = run.recalled
    return {
        "status": recalled.status,
        "stage": recalled.stage,
        "block": run.block,
        "tokens": {"then": receipt.get("tokens", 0), "now": recalled.tokens},
        "ms": {"then": receipt.get("latency_ms"), "now": recalled.stage_ms.get("total")},
        "now": [{**_named(m), "new": m.id not in run.then} for m in recalled.memories],
        "gone": [_named(memory) for memory in run.gone.values()],
        "settings": {name: getattr(settings.memory, name) for name in TRIED},
    }


def _named(memory: Memory) -> dict[str, Any]:
    return {"id": memory.id, "type": memory.type or memory.kind, "text": memory.text}


def _with(settings: AppSettings, tried: dict[str, str]) -> AppSettings:
    try:
        memory = MemorySettings.model_validate({**settings.memory.model_dump(), **tried})
    except ValidationError as exc:
        raise explained(exc) from None
    return settings.model_copy(update={"memory": memory})
