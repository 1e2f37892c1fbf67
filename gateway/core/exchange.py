"""An exchange: what was newly said in one request and its answer, on its way to be distilled.

It is made from the client's own request, before anything is injected, and from the
transcript of the answer. Its id is derived from what was said and where, so that a client's
retry of the same request is the same exchange.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gateway.core.injection import strip_blocks
from gateway.core.memory import Instant, Via
from gateway.core.noted import Noted

Outcome = Literal["complete", "error", "cut_off"]
"""How the answer ended: in full, with an error, or before its end."""

MAX_SPEAKER_CHARS: Final = 200
"""Of a name that a client gives with a message; an import takes no longer one back."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing said. `n` numbers turns within their exchange from 0; `speaker` is a name
    where the client gave one."""

    n: int
    role: str
    text: str
    at: Instant
    speaker: str | None = None


@dataclass(frozen=True, slots=True)
class Exchange(Noted):
    """New turns of one request and its answer. `at` is when the user said it; `trace` names the
    request in traces (W3C `traceparent`). `completes` is the id of the one whose answer broke off
    and was distilled already, where this is its retry with the whole answer.

    `seen` and `owed` are what shared state could not be told (`ConversationState.note_seen`), and
    is to be told before anything else; only an exchange that waits on disk has them.
    Noted on it: what recall asks of its turns while it waits (`core/waiting`).
    """

    id: str
    session: str
    at: Instant
    turns: tuple[Turn, ...]
    outcome: Outcome = "complete"
    via: Via = "chat"
    timezone: str | None = None
    model: str | None = None
    finish_reason: str | None = None
    receipt_id: str | None = None
    trace: str | None = None
    completes: str | None = None
    seen: tuple[str, ...] = ()
    owed: int = 0

    @property
    def origin(self) -> str:
        """The id that its turns go by: the same for a broken answer and the whole one."""
        return self.completes or self.id

    @property
    def size(self) -> int:
        """Characters of all turns: what batching by size counts."""
        return sum(len(turn.text) for turn in self.turns)


def completing(exchange: Exchange) -> Exchange:
    """As an exchange of its own, after the one of this id whose answer was not complete."""
    return replace(exchange, id=f"{exchange.id}.whole", completes=exchange.id)


def speaker_of(name: str | None) -> str | None:
    """Who says a turn, by the name that came with the message."""
    return name[:MAX_SPEAKER_CHARS] if name is not None else None


def turn_memory_id(exchange_id: str, n: int) -> str:
    """The id of the memory that keeps turn `n` of an exchange; the same at each redelivery."""
    digest = hashlib.blake2b(f"{exchange_id}\0{n}".encode(), digest_size=12).hexdigest()
    return f"turn_{digest}"


def logged_exchange(
    messages: Sequence[Mapping[str, Any]],
    *,
    at: Instant,
    session: str | None,
    timezone: str | None,
) -> Exchange | None:
    """An exchange of an existing chat log; None where nobody said anything in it.

    Its id is derived from what was said and when, so that a log sent twice is taken once.
    Without a session of its own it is a conversation by itself.
    """
    said = [
        # A log may have been written behind a gateway: what it injected is nobody's word.
        (str(m["role"]), strip_blocks(_spoken(m.get("content"))).strip(), speaker_of(m.get("name")))
        for m in messages
    ]
    said = [(role, text, name) for role, text, name in said if text and role not in _INSTRUCTIONS]
    if not said:
        return None
    print_ = hashlib.blake2b(digest_size=12)
    for part in (repr(at), session or "", *(f"{role}\0{text}" for role, text, _ in said)):
        print_.update(part.encode("utf-8", "surrogatepass") + b"\0\0")
    return Exchange(
        id="exc_" + print_.hexdigest(),
        session=session or "ses_" + print_.hexdigest(),
        at=at,
        turns=tuple(
            Turn(n, "tool" if role == "function" else role, text, at + n * 1e-3, name)
            for n, (role, text, name) in enumerate(said)
        ),
        timezone=timezone,
    )


_INSTRUCTIONS = frozenset({"system", "developer"})


def _spoken(content: Any) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "\n".join(
        part["text"]
        for part in content
        if isinstance(part, Mapping) and isinstance(part.get("text"), str)
    )
