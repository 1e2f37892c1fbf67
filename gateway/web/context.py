"""What a request says of itself in its headers: whose it is, and how its memory is to act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Final, get_args
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.types import Scope

from gateway.config import ServerSettings
from gateway.core.chat import ChatRequest
from gateway.core.errors import BadRequest
from gateway.core.memory import Instant, parse_rfc3339
from gateway.flows.visit import MAX_SESSION_CHARS, Mode, Options, Who
from gateway.ports import Deployment
from gateway.web.body import read_whole
from gateway.web.headers import RawHeaders, text_of, to_upstream
from gateway.web.identity import Identified, charge_tokens, identify

_PREFIX: Final = b"x-memory-"
_NO_OPTIONS: Final = Options()


def whose(
    deployment: Deployment, scope: Scope, *, unpacked: bool = False
) -> Callable[[ChatRequest | None], Awaitable[Who]]:
    """How a chat request's person is found: by its headers, and its body where that counts.

    `unpacked`: the body was compressed, and goes upstream as it is.
    """

    async def find(request: ChatRequest | None) -> Who:
        headers: RawHeaders = scope["headers"]
        found = await identified(deployment, scope, request)
        return Who(
            person=found.person,
            app=found.app,
            options=options(headers),
            headers=to_upstream(
                headers,
                drop=found.drop,
                upstream=deployment.settings_for(found.app).upstream,
                unpacked=unpacked,
            ),
            charge=_charge(deployment, found),
        )

    return find


async def identified(
    deployment: Deployment, scope: Scope, request: ChatRequest | None = None
) -> Identified:
    """Whose request this is. Raises RequestRefused, or Unavailable."""
    client = scope.get("client")
    return await identify(
        scope["headers"],
        body_user=request.user if request is not None else None,
        body_safety_identifier=request.safety_identifier if request is not None else None,
        peer_host=client[0] if client else None,
        deployment=deployment,
        now=deployment.clock(),
    )


def _charge(deployment: Deployment, found: Identified) -> Callable[[int], Awaitable[None]] | None:
    if found.key is None or found.key.tokens_per_minute is None:
        return None

    async def charge(tokens: int) -> None:
        await charge_tokens(found, tokens, deployment, now=deployment.clock())

    return charge


def options(headers: RawHeaders) -> Options:
    """The memory headers of a request (`identify` has refused those that came twice).

    Raises BadRequest, naming the header and what it may be.
    """
    given = {
        name[len(_PREFIX) :]: text_of(value).strip()
        for name, value in headers
        if name.startswith(_PREFIX)
    }
    if not given:
        return _NO_OPTIONS
    return Options(
        mode=_mode(given.get(b"mode")),
        session=_session(given.get(b"session")),
        as_of=_as_of(given.get(b"as-of")),
        timezone=_timezone(given.get(b"timezone")),
        max_tokens=_max_tokens(given.get(b"max-tokens")),
        deadline_ms=_deadline_ms(given.get(b"deadline-ms")),
        receipt=_switch("X-Memory-Receipt", given.get(b"receipt")),
    )


def _mode(text: str | None) -> Mode:
    if not text:
        return "full"
    for mode in get_args(Mode):
        if text.lower() == mode:
            return mode  # type: ignore[no-any-return]
    raise _refused("X-Memory-Mode", text, "full, readonly, writeonly or off")


def _session(text: str | None) -> str | None:
    if not text:
        return None
    if len(text) > MAX_SESSION_CHARS or not text.isprintable():
        raise _refused("X-Memory-Session", text, f"1 to {MAX_SESSION_CHARS} printable characters")
    return text


def _as_of(text: str | None) -> Instant | None:
    if not text:
        return None
    try:
        return parse_rfc3339(text)
    except (ValueError, OverflowError):
        raise _refused(
            "X-Memory-As-Of", text, "an RFC 3339 time such as 2026-05-23T09:00:00Z"
        ) from None


def _timezone(text: str | None) -> str | None:
    if not text:
        return None
    if not is_timezone(text):
        raise _refused("X-Memory-Timezone", text, "an IANA name such as Europe/Berlin")
    return text


@lru_cache(maxsize=1024)
def is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return False  # unknown, a path that leaves the database, or one of its folders
    return True


def _max_tokens(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise _refused("X-Memory-Max-Tokens", text, "a whole number from 0")
    return int(text)


def _switch(header: str, text: str | None) -> bool:
    if not text or text.lower() == "off":
        return False
    if text.lower() == "on":
        return True
    raise _refused(header, text, "on or off")


def _deadline_ms(text: str | None) -> float | None:
    if not text:
        return None
    try:
        deadline_ms = float(text)
    except ValueError:
        deadline_ms = -1.0
    if not 0.0 <= deadline_ms <= 3_600_000.0:
        raise _refused("X-Memory-Deadline-Ms", text, "a number of milliseconds from 0")
    return deadline_ms


def _refused(header: str, given: str, allowed: str) -> BadRequest:
    return BadRequest(
        f"{header}: {given[:80]!r} given; allowed is {allowed}",
        param=header,
        code="invalid_memory_header",
    )


async def read_body(request: Request, server: ServerSettings) -> bytes:
    """The whole body of a request to the gateway's own API, unpacked.

    Raises TooLarge, UnsupportedMedia, BadRequest and ClientLeft.
    """
    body, _ = await read_whole(request.scope["headers"], request.receive, server)
    return body
