"""What operators do to the whole house while it serves, under `/admin/v1`: another embedder,
a backup.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.config.settings import EmbeddingSettings
from gateway.core.errors import BadRequest, SettingsError
from gateway.core.identity import DEFAULT_APP
from gateway.flows.reembed import Reembedding
from gateway.ports import Deployment
from gateway.web.checked import check, explained, read_json_of
from gateway.web.schemas import Body

At = Callable[[str, str, Callable[[Request, Deployment], Awaitable[Response]]], Route]


class NewEmbedder(Body):
    """The `[embedding]` settings of the new embedder; those in force without them."""

    embedding: dict[str, Any] | None = None


class Backup(Body):
    """Where a backup is written: a directory of this machine that does not exist yet."""

    directory: Annotated[str, Field(min_length=1, max_length=4096)]


def routes(at: At) -> list[Route]:
    """`at` makes a route that asks for the admin token first."""
    reembedding = Reembedding()

    async def reembed(request: Request, deployment: Deployment) -> Response:
        """Change the embedder over, and begin to embed all that waits for a vector."""
        raw = await read_json_of(request, deployment)
        asked = check(NewEmbedder, {} if raw is None else raw).embedding
        embedding = deployment.settings.embedding if asked is None else _embedding(asked)
        try:
            await deployment.change_embedder(embedding)
        except SettingsError as exc:
            raise BadRequest(exc.message, param=exc.param) from exc
        await reembedding.begin(deployment)
        return await reembed_status(request, deployment)

    async def reembed_status(_: Request, deployment: Deployment) -> Response:
        """How many memories wait for their vector."""
        return JSONResponse(await reembedding.status(deployment.all_services()))

    async def back_up(request: Request, deployment: Deployment) -> Response:
        """Write a backup of all that is kept here."""
        body = check(Backup, await read_json_of(request, deployment))
        done = await deployment.back_up(Path(body.directory))
        await deployment.services_for(DEFAULT_APP).keys.audit(
            {"at": deployment.clock(), "by": "operator", "action": "backup"}
        )
        return JSONResponse(done, 201)

    async def list_erasures(_: Request, deployment: Deployment) -> Response:
        """Every erasure known, newest first, with the incarnations that it ended."""
        known = [await s.directory.erased() for s in deployment.all_services()]
        unique = {record["id"]: record for records in known for record in records}
        return JSONResponse({"erasures": list(unique.values())})

    return [
        at("/erasures", "GET", list_erasures),
        at("/reembed", "POST", reembed),
        at("/reembed", "GET", reembed_status),
        at("/backup", "POST", back_up),
    ]


def _embedding(asked: dict[str, Any]) -> EmbeddingSettings:
    try:
        return EmbeddingSettings.model_validate(asked)
    except ValidationError as exc:
        raise explained(exc) from None
