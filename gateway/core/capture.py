"""What of a request and its answer is worth keeping, read from the client's own words.

Clients send their whole history again with every message, or the last few of it. `marks` are
fingerprints by which shared state tells what it has seen; what is new is at the end, and
`new_turns` takes that alone. It works on the request as it came, before anything is
injected, and takes out blocks of ours that were sent back: memories of memories are junk.

The system prompt is the operator's and never evidence about a user. Images are not looked
at. Tool output is kept short, as turns of role `tool`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gateway.core.answer import Answer
from gateway.core.chat import ChatRequest, Message
from gateway.core.exchange import Exchange, Turn, speaker_of
from gateway.core.housekeeping import is_housekeeping
from gateway.core.injection import strip_blocks
from gateway.core.memory import Instant
from gateway.core.noted import note_on

__all__ = [
    "answer_marks",
    "answered",
    "asked_anew",
    "capped",
    "exchange_of",
    "fresh_by_shape",
    "is_housekeeping",
    "is_over",
    "marks",
    "marks_and_alone",
    "new_turns",
    "query_text",
    "response_mark",
    "settled",
    "user_turn_mark",
]

MAX_TURN_CHARS = 32_000
"""A longer turn keeps its first three quarters and its last quarter of this: a question may
stand before or after what was pasted."""

ALONE_CHARS = 64
"""An answer of so many characters is known by itself, whatever stands before it. Shorter ones
("Hello! How can I help you today?") are given in any conversation."""

MAX_TOOL_CHARS = 2_000
MAX_TURNS = 200
"""Turns of one exchange; of a longer history that is seen for the first time, the newest."""

OMITTED = "\n[…]\n"

_NOT_SAID = frozenset({"system", "developer"})
_ROLES = {"user": "user", "assistant": "assistant", "tool": "tool", "function": "tool"}


# --- what was seen -----------------------------------------------------------------------


def marks(request: ChatRequest, key: bytes = b"") -> tuple[str, ...]:
    """A fingerprint for each message that is not a system one, in order.

    Each covers the message, the one before it, and how often the pair came earlier in this
    request, so that a second "yes" is not taken for the first. A request that builds on the
    upstream's own state (`previous_response_id`) starts with the mark of that response.
    `key` (up to 64 bytes: the owner's) makes them useless for guessing at what was said.
    """
    return marks_and_alone(request, key)[0]


def marks_and_alone(
    request: ChatRequest, key: bytes = b""
) -> tuple[tuple[str, ...], tuple[str, int] | None]:
    """The marks; and that which the last answer has by itself, with how many messages follow it.

    It leads back to where a client was that has since changed what the answer was given to: front
    ends wrap the last message in documents that they found, or show an image with it, and send
    the plain words from then on. None where nothing follows it, where it is short, and where it
    comes first: it is marked so in any case.
    """
    found = []
    if request.previous_response_id:
        found.append(response_mark(request.previous_response_id, key))
    seen: dict[tuple[str, str], int] = {}
    before = found[0] if found else ""  # "yes" to two responses is said twice
    messages = _said_in(request).messages
    answer, at = "", 0
    for n, message in enumerate(messages):
        this = _print(message, key)
        if message.role == "assistant" and not message.tool_calls:
            answer, at = this, n
        times = seen[before, this] = seen.get((before, this), 0) + 1
        found.append(_hash(key, "message", before, this, str(times)))
        before = this
    follow = len(messages) - at - 1
    if at == 0 or follow == 0 or len(messages[at].text) < ALONE_CHARS:
        return tuple(found), None
    return tuple(found), (_hash(key, "message", "", answer, "1"), follow)


def response_mark(response_id: str, key: bytes = b"") -> str:
    """The mark under which a response of the upstream's is known: noted as seen with the
    exchange, it leads a later `previous_response_id` to its conversation."""
    return _hash(key, "response", response_id)


def answer_marks(request: ChatRequest, answer: Answer, key: bytes = b"") -> tuple[str, ...]:
    """The marks that this answer has when the client sends it back unchanged: they lead a client
    whose window holds nothing else that was seen (its last two or three messages) to its
    conversation. After the last message; and as the first of a window, where this request may
    be such a client's, or where the answer is known by itself (each mark costs shared state some
    100 bytes for a month)."""
    words = " ".join(_answered(answer).split())
    if not words or answer.tool_calls:
        return ()
    this = _hash(key, "assistant", words, "", "")
    said = _said_in(request).messages
    before = [_print(said[-1], key)] if said else []
    if len(words) >= ALONE_CHARS or len(said) < 2 or said[0].role == "assistant":
        before.append("")
    return tuple(_hash(key, "message", one, this, "1") for one in before)


def user_turn_mark(
    request: ChatRequest, key: bytes = b"", found: Sequence[str] | None = None
) -> str:
    """The mark of the last user message, the same for every request of a tool loop; "" where
    there is none. `found`: the request's marks, where they are known already."""
    said = _said_in(request)
    if said.last_user is None:
        return ""
    found = marks(request, key) if found is None else found
    return found[len(found) - len(said.messages) + said.last_user]


def fresh_by_shape(request: ChatRequest) -> int:
    """How many messages are new, guessed from the request alone, where shared state is away:
    what follows the assistant's last words before the last user message."""
    said = _said_in(request)
    messages = said.messages
    if said.last_user is None:
        return len(messages)
    first = said.last_user
    while first > 0 and messages[first - 1].role == "user":
        first -= 1
    return len(messages) - first


# --- what is asked -----------------------------------------------------------------------


def query_text(request: ChatRequest) -> tuple[str, str]:
    """The last user message, and what was said before it ("" where nothing was)."""
    said = _said_in(request)
    return said.asked, said.before


# --- what is kept ------------------------------------------------------------------------


def new_turns(request: ChatRequest, fresh: int, now: Instant) -> tuple[Turn, ...]:
    """The turns among the last `fresh` messages (system ones not counted).

    Where something seen stands before them, assistant messages that come first among them are
    left out: they are answers that went through here, sent back. Clients trim and re-render
    answers, so that their words are no sign. At most MAX_TURNS, the newest.
    """
    said = _said_in(request).messages
    messages = list(said[len(said) - min(max(fresh, 0), len(said)) :])
    if len(messages) < len(said) or request.previous_response_id or request.conversation:
        while messages and messages[0].role == "assistant":
            messages.pop(0)
    kept = [(role, text, m.name) for m in messages for role, text in _turn(m)][-MAX_TURNS:]
    return tuple(
        Turn(n=n, role=role, text=text, at=now, speaker=speaker_of(name))
        for n, (role, text, name) in enumerate(kept)
    )


def exchange_of(
    request: ChatRequest,
    answer: Answer,
    *,
    session: str,
    fresh: int,
    now: Instant,
    timezone: str | None,
    receipt_id: str | None,
    key: bytes = b"",
    found: Sequence[str] | None = None,
) -> Exchange | None:
    """What was newly said and answered, or None where nothing is to be kept yet.

    None: nothing is new (a retry, a regeneration), the request was refused (the client was
    told, and its words will come again), or the answer ends in tool calls (the exchange is
    kept once, at the loop's final answer). Where the request itself forced the call, nothing may
    follow it, and where the upstream keeps the request, its words may not come again: what the user
    said is kept at once.

    The id comes from the session and the marks up to the user's turn, so that a retry is the
    same exchange, and a tool loop is one. Where the user's turn was kept before (a forced call
    whose loop went on), all marks count. `found`: the marks, where they are known already.
    """
    if answer.status >= 400 or not is_over(request, answer):
        return None
    turns = new_turns(request, fresh, now)
    if not (answer.final or request.kept or any(turn.role == "user" for turn in turns)):
        return None  # results of forced calls: they are kept with what comes of them
    said = answered(answer)
    if not turns and not (said and fresh and _ends_in_result(request)):
        return None
    if said:
        turns += (Turn(n=len(turns), role="assistant", text=said, at=now),)
    return Exchange(
        id=_exchange_id(request, session, fresh, key, found),
        session=session,
        at=now,
        turns=turns,
        outcome=answer.outcome,
        timezone=timezone,
        model=answer.model or request.model or None,
        finish_reason=answer.finish_reason,
        receipt_id=receipt_id,
    )


def asked_anew(
    request: ChatRequest, session: str, key: bytes = b"", found: Sequence[str] | None = None
) -> str:
    """The exchange that the user's words at the end of this request are, or were when they were
    sent before; "" where the request ends otherwise."""
    said = _said_in(request).messages
    if not said or said[-1].role != "user":
        return ""
    return _exchange_id(request, session, len(said), key, found)


def is_over(request: ChatRequest, answer: Answer) -> bool:
    """Whether this answer ends what is kept as one exchange: not where a call leads on."""
    return answer.final or request.forced_tool or request.kept


def settled(
    request: ChatRequest, found: tuple[str, ...], fresh: int
) -> tuple[ChatRequest, tuple[str, ...], int]:
    """The request without what the user said last, its marks, and how much of it is new.

    What follows the user's words makes them final, whatever answered them: agents that answer by a
    call (n8n's give the answer's shape as a tool) keep its words alone, and would end no exchange.
    """
    said = _said_in(request).messages
    left = fresh_by_shape(request)
    before = replace(request, messages=said[: len(said) - left])
    return before, found[: len(found) - left], max(0, fresh - left)


def answered(answer: Answer) -> str:
    """The words of an answer that are kept: without thoughts and without blocks of ours."""
    return capped(_answered(answer))


def _answered(answer: Answer) -> str:
    return _without_thoughts(strip_blocks(answer.text or answer.refusal or "")).strip()


def _ends_in_result(request: ChatRequest) -> bool:
    """The answer is to a call's result, which may say nothing ("")."""
    said = _said_in(request).messages
    return bool(said) and _ROLES.get(said[-1].role) == "tool"


def _exchange_id(
    request: ChatRequest, session: str, fresh: int, key: bytes, found: Sequence[str] | None
) -> str:
    found = marks(request, key) if found is None else found
    said = _said_in(request)
    last, count = said.last_user, len(said.messages)
    if last is not None and last >= count - fresh:
        found = found[: len(found) - count + last + 1]
    return "exc_" + _hash(key, "exchange", session, *found)


def _turn(message: Message) -> Iterator[tuple[str, str]]:
    role = _ROLES.get(message.role)
    text = _words(message)
    if role is None or not text:
        return
    if role == "assistant":
        text = _without_thoughts(text).strip()
    limit = MAX_TOOL_CHARS if role == "tool" else MAX_TURN_CHARS
    if text:
        yield role, capped(text, limit)


def capped(text: str, limit: int = MAX_TURN_CHARS) -> str:
    """The first three quarters and the last quarter of so many characters."""
    if len(text) <= limit:
        return text
    return text[: limit * 3 // 4] + OMITTED + text[-(limit // 4) :]


_THOUGHTS = re.compile(r"\s*<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL)
_THOUGHTS_END = "\n</think>\n"


def _without_thoughts(text: str) -> str:
    """Some models write their reasoning before the answer, in tags. Where the prompt holds the
    opening tag already (DeepSeek-R1's template ends in it) the closing one alone comes."""
    match = _THOUGHTS.match(text)
    if match:
        return text[match.end() :]
    before, end, after = text.partition(_THOUGHTS_END)
    return after if end and "<think>" not in before else text


# --- messages ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Said:
    """The messages that are not system ones, which of them is the user's last, what it asks, and
    what was said before that."""

    messages: tuple[Message, ...]
    last_user: int | None = None
    asked: str = ""
    before: str = ""


def _said_in(request: ChatRequest) -> _Said:
    """Who said what; read once a request, and asked for some ten times on its way."""
    said: _Said | None = getattr(request, "note", None)
    if said is None:
        said = _read(tuple([m for m in request.messages if m.role not in _NOT_SAID]))
        note_on(request, said)
    return said


def _read(messages: tuple[Message, ...]) -> _Said:
    last = len(messages) - 1
    while last >= 0 and messages[last].role != "user":
        last -= 1
    if last < 0:
        return _Said(messages)
    for message in reversed(messages[:last]):
        if message.role in ("user", "assistant") and (before := _words(message)):
            return _Said(messages, last, _words(messages[last]), before)
    return _Said(messages, last, _words(messages[last]))


def _words(message: Message) -> str:
    return strip_blocks(message.text).strip()


def _print(message: Message, key: bytes) -> str:
    """What a message is, apart from white space and how it is written down. Of an answer without
    its thoughts, which many clients do not send back."""
    words = _words(message)
    if message.role == "assistant":
        words = _without_thoughts(words)
    words = " ".join(words.split())
    calls = "calls" if message.tool_calls else ""
    return _hash(key, message.role, words, calls, message.tool_call_id or "", *message.attachments)


def _hash(key: bytes, *parts: str) -> str:
    data = "".join([f"{len(part)}:{part}" for part in parts])
    return hashlib.blake2b(
        data.encode("utf-8", "replace"), key=key[:64], digest_size=16
    ).hexdigest()
