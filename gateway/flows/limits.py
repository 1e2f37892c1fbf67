"""What an upstream's model could not take, and what is done about it next time.

An upstream may refuse a request only because of what was added to it: no room left in the
context, or no system role. The original goes through then; what was refused is remembered for a
day (`ConversationState.remember_limit`), for the person or all of an app (`is_the_models`), so that
the next request is sent once. Pure decisions; `flows/answer` and `flows/prepare` act on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.chat import ChatRequest
from gateway.core.coding import codings, decode
from gateway.core.errors import GatewayError
from gateway.core.identity import Owner
from gateway.core.injection import Placement
from gateway.ports import Headers

REFUSALS: Final = frozenset({400, 413, 422})
"""What an upstream answers where it will not take a request as it is."""

ERROR_BYTES: Final = 64 * 1024
"""Of an error's body, what is read to learn its reason."""
UNPACKED_BYTES: Final = 16 * ERROR_BYTES
"""What such a beginning may unpack to."""

CHARS_PER_TOKEN: Final = 4
BLOCK_FRAME_CHARS: Final = 400
"""The block without its memories: markers and header."""

_NO_SYSTEM: Final = re.compile(rb"system|developer|\broles?\b|alternat|instruction", re.IGNORECASE)
_TOO_LONG: Final = re.compile(
    rb"context|too (?:long|large|many)|maximum|exceed|length|tokens", re.IGNORECASE
)
_OF_CONTENT: Final = re.compile(
    rb"content[ _-]?(?:filter|management|policy)|responsible ?ai|moderat|flagged|guardrail",
    re.IGNORECASE,
)
"""What was said is refused, not how much of it or where: it says nothing of the model, and one
user's memory that trips a filter with each chat took the memory of a whole app, half by half."""


@dataclass(frozen=True, slots=True)
class Room:
    """What memory may take of a request. `max_tokens` None: what the settings say."""

    max_tokens: int | None
    placement: Placement


AS_SET: Final = Room(None, "system")

SOMEONES: Final = "someones"
"""Among what is known of an app's model: that some person has limits of their own with it."""


def scope_of(owner: Owner) -> str:
    """Under which a person's own limits are kept. No app's name has a slash in it."""
    return f"{owner.app}/{owner.tenant}"


def is_the_models(limit: Mapping[str, Any]) -> bool:
    """Whether what was learned holds for everybody. That there is no system role does; how much
    there is room for depends on what else a request holds (the length that it asks of its answer,
    tools, scripts with many tokens a character), and one person's odd request must not take
    everybody's memory for a day."""
    return "no_system" in limit


def room(
    limits: Mapping[str, Any],
    request: ChatRequest,
    placement: Placement,
    *,
    most_tokens: int | None = None,
) -> Room:
    """How much may be injected, `most_tokens` if any, and where, under what is known of this
    model."""
    if limits.get("no_system") and not has_system(request):
        placement = "tail"
    most: list[int] = [] if most_tokens is None else [most_tokens]
    if "max_tokens" in limits:
        most.append(int(limits["max_tokens"]))
    if "max_chars" in limits:
        left = int(limits["max_chars"]) - chars_of(request) - BLOCK_FRAME_CHARS
        most.append(max(0, left // CHARS_PER_TOKEN))
    return Room(min(most) if most else None, placement)


def learned(
    status: int, error: bytes, request: ChatRequest, *, added_chars: int, tokens: int, used: Room
) -> dict[str, Any]:
    """What to remember of a refusal that the original did not meet; nothing where a filter took
    offence at what was remembered.

    Where the reason cannot be told, half as much is tried next time, down to nothing.
    """
    if _OF_CONTENT.search(error):
        return {}
    if not has_system(request) and used.placement != "tail" and _NO_SYSTEM.search(error):
        return {"no_system": True}
    if status == 413 or _TOO_LONG.search(error):
        return {"max_chars": chars_of(request) + added_chars}
    return {"max_tokens": tokens // 2}


def words_of(error: bytes, headers: Headers) -> bytes:
    """A refusal's body as it reads: clients accept packed answers, so that errors come packed
    too. Nothing where it cannot be unpacked."""
    named = (value for name, value in headers if name.lower() == b"content-encoding")
    try:
        names = codings(b",".join(named).decode("latin-1"))
        return decode(error, names, UNPACKED_BYTES, whole=False)
    except GatewayError:
        return b""


def has_system(request: ChatRequest) -> bool:
    return any(message.role in ("system", "developer") for message in request.messages)


def chars_of(request: ChatRequest) -> int:
    """Characters of all that is said in a request; images and tools do not count."""
    return sum(len(message.text) for message in request.messages)
