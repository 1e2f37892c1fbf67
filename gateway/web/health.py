"""Is it alive, can it serve chats, and what do its figures say (`/healthz`, `/readyz`, `/metrics`).

A chat can be served with any part of memory down, and with the upstream down its answer is an
error that says so: neither takes the gateway out of a balancer, where each instance would
vanish at once. Not ready is what is about to end. What is down stands in the body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.core.errors import GatewayError
from gateway.ports import Deployment, Health, Services

PING_S: Final = 1.0
CACHED_S: Final = 1.0

Check = dict[str, Any]

_BY_CODE: Final[Mapping[str, Health]] = {"none": "off", "loading": "loading"}
"""What an embedder's refusal means: there is none by choice, or it is not there yet."""


def routes(
    deployment: Deployment, readiness: Readiness, refresh: Callable[[], Awaitable[None]]
) -> list[Route]:
    """The three routes. `refresh` brings gauges up to date before they are shown."""

    async def healthz(_: Request) -> Response:
        return _json(b'{"status": "ok"}')

    async def readyz(_: Request) -> Response:
        return await readiness.answer()

    async def metrics(_: Request) -> Response:
        # Asked here too: who watches figures alone is to see in them what is down.
        await asyncio.gather(refresh(), readiness.checks())
        shown = deployment.metrics
        return Response(shown.render(), headers={"content-type": shown.content_type})

    return [
        Route("/healthz", healthz, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]


class Readiness:
    """Asks every part, at most once a second however often it is asked itself."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._known: Mapping[str, Check] = {}
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def answer(self) -> Response:
        """200 with a line for each part; 503 once an end was asked for."""
        checks = await self.checks()
        draining = self._deployment.draining
        lines = ",\n".join(
            f"    {orjson.dumps(name).decode()}: {orjson.dumps(check).decode()}"
            for name, check in checks.items()
        )
        status = "draining" if draining else "ready"
        body = f'{{\n  "status": "{status}",\n  "parts": {{\n{lines}\n  }}\n}}\n'
        return _json(body.encode(), 503 if draining else 200)

    async def checks(self) -> Mapping[str, Check]:
        """What every part says of itself."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now >= self._until:
                self._known = await self._ask()
                self._until = now + CACHED_S
            return self._known

    async def _ask(self) -> Mapping[str, Check]:
        asked = dict(_parts(self._deployment))
        answers = await asyncio.gather(*(_check(ping) for ping, _ in asked.values()))
        checks: dict[str, Check] = {}
        for (name, (_, note)), check in zip(asked.items(), answers, strict=True):
            checks[name] = {**check, "note": note} if note else check
            up = check["status"] in ("ok", "off")
            self._deployment.metrics.part_up.labels(name).set(1 if up else 0)
        return checks


Ping = Callable[[], Awaitable[None]]


def _parts(deployment: Deployment) -> Iterator[tuple[str, tuple[Ping, str]]]:
    """Every part of every set of services: name, how to ask it, what was decided about it."""
    for number, services in enumerate(deployment.all_services(), 1):
        suffix = "" if number == 1 else f"_{number}"
        for name, ping, note in _of(services):
            yield name + suffix, (ping, note)


def _of(services: Services) -> Iterator[tuple[str, Ping, str]]:
    notes = services.notes
    yield "upstream", services.upstream.ping, ""
    yield "store", services.store.ping, notes.get("store", "")
    yield "queue", services.queue.ping, notes.get("queue", "")
    yield "state", services.state.ping, ""
    yield "directory", services.directory.ping, ""
    yield "embedder", services.embedder.ping, notes.get("embedding", "")
    if services.extractor is not None:
        yield "extractor", services.extractor.ping, notes.get("extraction", "")


async def _check(ping: Ping) -> Check:
    try:
        async with asyncio.timeout(PING_S):
            await ping()
    except TimeoutError:
        return _state("down", f"no answer within {PING_S:g} s")
    except GatewayError as exc:
        return _state(_BY_CODE.get(exc.code or "", "down"), exc.message)
    except Exception as exc:  # noqa: BLE001 (a ping that fails oddly tells of a part that is down)
        return _state("down", type(exc).__name__)
    return _state("ok")


def _state(status: Health, reason: str = "") -> Check:
    return {"status": status, "reason": reason} if reason else {"status": status}


def _json(body: bytes, status: int = 200) -> Response:
    return Response(
        body, status, headers={"cache-control": "no-store"}, media_type="application/json"
    )
