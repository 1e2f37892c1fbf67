"""What is done once the last byte of an answer is out: remember the exchange, keep the receipt.

None of it may be felt by the client: it runs in the background, and reads large answers in a
thread. What was said stands in the request as the client sent it and in the `Copy` of the
answer; nothing that the gateway injected is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from structlog.contextvars import bind_contextvars

from gateway.core import capture
from gateway.core.answer import Answer
from gateway.core.chat import ChatRequest
from gateway.core.coding import codings, decode
from gateway.core.errors import DirectoryUnavailable, GatewayError, OwnerGone, StateUnavailable
from gateway.core.exchange import Exchange, Outcome
from gateway.core.identity import Owner
from gateway.core.sessions import session_id
from gateway.core.transcript import Transcript
from gateway.flows import groups
from gateway.flows.handover import hand_over, owner_at_last
from gateway.flows.receipts import receipt_of
from gateway.flows.unnoted import Note, Unnoted
from gateway.flows.visit import Visit
from gateway.ports import Conversation, Deployment, Headers, Opening
from gateway.telemetry.logs import Outage, is_said, log

_notes = Outage(log("answer"), "noting what was injected")
_receipts = Outage(log("answer"), "keeping receipts")
_seen = Outage(log("answer"), "noting what was seen")

AT_LAST_S: Final = 0.2
"""With what a queue that hangs takes, and the disk: what was answered is kept within a second."""

OFF_THE_LOOP_BYTES: Final = 128 * 1024
"""Reading this much takes two to four milliseconds; above it, that is a thread's business."""
PACKED_BYTES: Final = 8 * 2**20
UNPACKED_BYTES: Final = 64 * 2**20

_TRANSCRIPT_UNPACKS: Final = frozenset({(), ("gzip",), ("x-gzip",), ("deflate",)})


class Copy:
    """A copy of an answer's bytes as they are relayed, read when it is over. `given`: what was
    said in it is being handed over already."""

    def __init__(self, request: ChatRequest, status: int, headers: Headers) -> None:
        named = {name.lower(): value.decode("latin-1") for name, value in headers}
        encoding = named.get(b"content-encoding", "")
        self._packed = codings(encoding)
        self._parts: list[bytes] | None = None
        if self._packed not in _TRANSCRIPT_UNPACKS:
            self._parts, encoding = [], ""
        self._transcript = Transcript(
            request.api,
            stream=request.stream,
            status=status,
            content_type=named.get(b"content-type", ""),
            content_encoding=encoding,
        )
        self.size = 0
        self.given = False

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Never raises."""
        self.size += len(data)
        if self._parts is None:
            self._transcript.feed(data)
        elif self.size <= PACKED_BYTES:
            self._parts.append(data)

    async def finish(self, outcome: Outcome) -> Answer:
        """What was answered; `outcome` is how the relay ended."""
        if self.size < OFF_THE_LOOP_BYTES:
            return self._finished(outcome)
        return await asyncio.to_thread(self._finished, outcome)

    def _finished(self, outcome: Outcome) -> Answer:
        if self._parts is not None:
            try:
                packed = b"".join(self._parts)
                plain = decode(packed, self._packed, UNPACKED_BYTES, whole=False)
            except GatewayError:
                plain = b""  # a coding that is not read here: nothing is known of the answer
            self._transcript.feed(plain)
        return self._transcript.finish(outcome)


async def remember(
    deployment: Deployment, visit: Visit, copy: Copy, outcome: Outcome, unnoted: Unnoted
) -> None:
    """Hand over the exchange, count what it cost, keep the receipt."""
    assert visit.request is not None  # noqa: S101 (for the type: without one nothing is kept)
    answer = await copy.finish(outcome)
    _end_span(visit, answer)
    if visit.who.charge is not None and answer.usage:
        await visit.who.charge(int(answer.usage.get("total_tokens") or 0))
    exchange = await _handed_over(deployment, visit, visit.request, answer, unnoted)
    if exchange is None and visit.writes:
        await note_injected(visit)  # no note of an exchange goes out that it could go with
    if exchange is not None:
        bind_contextvars(exchange=exchange.id)
    say(visit, answer.outcome)
    if visit.owner is not None:
        session = exchange.session if exchange is not None else session_of_visit(visit)
        await groups.count(visit, visit.owner, session)
    if visit.report.receipt_id is not None and visit.owner is not None:
        receipt = await receipt_of(visit, visit.request, answer, exchange)
        try:
            await visit.services.receipts.keep(visit.owner, receipt)
        except StateUnavailable as exc:
            _receipts.failed(exc.message)
        else:
            _receipts.recovered()


async def note_injected(visit: Visit) -> None:
    """What the conversation's block holds now, where that is another than before."""
    if visit.injected is not None and visit.conversation is not None and visit.owner is not None:
        session, state = visit.conversation.session, visit.services.state
        note = state.note_injected(visit.owner, session, visit.injected, now=visit.now)
        if await quietly(note):
            visit.injected = None


async def quietly(note: Awaitable[None]) -> bool:
    """A note that may be missed: without it the next request costs more, nothing is lost.
    Whether it was noted."""
    try:
        await note
    except OwnerGone:
        return False
    except StateUnavailable as exc:
        _notes.failed(exc.message)
        return False
    _notes.recovered()
    return True


def _end_span(visit: Visit, answer: Answer) -> None:
    usage = answer.usage or {}
    visit.span.set(
        {
            "gen_ai.response.model": answer.model,
            "gen_ai.response.finish_reasons": answer.finish_reason,
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens") or usage.get("input_tokens"),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens")
            or usage.get("output_tokens"),
        }
    )
    if answer.outcome != "complete":
        visit.span.failed(answer.outcome)
    visit.span.end()


def say(visit: Visit, outcome: str) -> None:
    """One line a chat, by which request, receipt and exchange find one another in the log; and
    why a chat had no memory, also where nothing was kept of it to look up."""
    if not is_said("info"):
        return
    report = visit.report
    log("chat").info(
        "answered",
        app=visit.who.app,
        outcome=outcome,
        status=report.status,
        stage=report.stage,
        injected=report.injected,
        tokens=report.tokens,
        memory_ms=round(report.latency_ms, 1),
        upstream_ms=round(visit.upstream_ms, 1),
        **{
            name: value
            for name, value in (("why", visit.why), ("upstream_request", visit.upstream_request))
            if value
        },
    )


async def _handed_over(
    deployment: Deployment, visit: Visit, request: ChatRequest, answer: Answer, unnoted: Unnoted
) -> Exchange | None:
    """Whatever of this exchange is to be kept, on its way to the worker."""
    if visit.left_out:
        await _leave_out(deployment, visit, request, answer, unnoted)
    if not visit.writes:
        return None
    if answer.outcome != "complete" and not capture.answered(answer):
        # Nothing was answered: the client tries again with the same words, and what is then
        # said in full must not be taken for something already known.
        return None
    services, person = visit.services, visit.person
    owner = visit.owner or await owner_at_last(services, person)
    if owner is None:
        deployment.metrics.handovers_by["dropped"].inc()
        log("answer").error("exchange_lost", reason="the directory of owners stayed away")
        return None
    await _conversation_at_last(visit, request, owner, unnoted)
    if len(request.body) > OFF_THE_LOOP_BYTES:
        marks, exchange = await asyncio.to_thread(_exchange, visit, request, answer, owner)
    else:
        marks, exchange = _exchange(visit, request, answer, owner)
    if exchange is None:
        await _note_another(deployment, visit, owner, marks, unnoted)
        return None
    owed = 0
    if answer.outcome != "complete" and visit.conversation is not None:
        owed = visit.conversation.fresh
    note = Note(exchange.session, marks, visit.now, owed, visit.injected)
    # Before it is handed over: a next request, which may come meanwhile, has it noted first.
    unnoted.keep(owner, note)
    try:
        result = await hand_over(
            services, visit.settings, owner, exchange, now=visit.now, note=note, patient=True
        )
    except BaseException:
        unnoted.drop(owner, note)  # nobody has it: sent again, it counts as new
        raise
    deployment.metrics.handovers_by[result].inc()
    if result == "dropped":
        unnoted.drop(owner, note)
        return None
    await _noted(deployment, visit, owner, unnoted)
    return exchange


async def _noted(deployment: Deployment, visit: Visit, owner: Owner, unnoted: Unnoted) -> None:
    """Shared state is told what was seen; later, where it is away."""
    try:
        await unnoted.pay(visit.services.state, owner)
    except StateUnavailable as exc:
        _seen.failed(exc.message)
        unnoted.try_again(deployment)
    else:
        _seen.recovered()


async def _note_another(
    deployment: Deployment, visit: Visit, owner: Owner, marks: tuple[str, ...], unnoted: Unnoted
) -> None:
    """Nothing was new: an answer was wanted anew. It is not kept, but its client goes on from it,
    and where that sends its last messages alone nothing else leads to the conversation."""
    conversation = visit.conversation
    if conversation is None or conversation.fresh > 0:
        return
    unnoted.keep(owner, Note(conversation.session, marks, visit.now))
    await _noted(deployment, visit, owner, unnoted)


async def _leave_out(
    deployment: Deployment, visit: Visit, request: ChatRequest, answer: Answer, unnoted: Unnoted
) -> None:
    """What was said is not kept, and does not count as new either when the client sends it again as
    history with the next message: a `readonly` message was remembered then, word for word. Sent
    once more where it may be kept, it is new (`owed`); and what stands before it is as it was."""
    if answer.status >= 400:
        return
    try:
        # Nobody becomes known by it.
        owner = visit.owner or await visit.services.directory.owner(visit.person, create=False)
    except (OwnerGone, DirectoryUnavailable):
        return
    if owner is None:
        return
    await _conversation_at_last(visit, request, owner, unnoted)
    conversation = visit.conversation
    if conversation is None:
        # Noted when shared state is back: only then may its client send it with the next message.
        new = capture.fresh_by_shape(request)
        conversation = Conversation(session_of(visit, owner, visit.marks), new)
    seen = _seen_from_now(request, answer, visit.marks[-1:], owner)
    unnoted.keep(owner, Note(conversation.session, seen, visit.now, conversation.fresh))
    await _noted(deployment, visit, owner, unnoted)


async def _conversation_at_last(
    visit: Visit, request: ChatRequest, owner: Owner, unnoted: Unnoted
) -> None:
    """Asked for where the request had no time to wait for it. Guessed from the request, the
    conversation of a client that sends its last messages alone is another each time, and what it
    sends again after a broken answer is kept twice."""
    if visit.conversation is not None:
        return
    opening = await opening_of(visit, request, owner)
    visit.marks = opening.marks
    with suppress(StateUnavailable, OwnerGone, TimeoutError):
        async with asyncio.timeout(AT_LAST_S):
            await unnoted.pay(visit.services.state, owner)
            found = await visit.services.state.open(owner, opening)
            visit.conversation = replace(found, injected=())  # nothing of it was recalled with


async def opening_of(visit: Visit, request: ChatRequest, owner: Owner) -> Opening:
    """What shared state is asked of this request's conversation."""
    if len(request.body) > OFF_THE_LOOP_BYTES:
        marks, turn, alone = await asyncio.to_thread(_marks, request, owner.key)
    else:
        marks, turn, alone = _marks(request, owner.key)
    return Opening(
        marks=marks,
        session=visit.named_session,
        now=visit.now,
        idle_gap_s=visit.settings.identity.session_idle_gap_s,
        alone=alone,
        turn=turn,
    )


def _marks(request: ChatRequest, key: bytes) -> tuple[tuple[str, ...], str, tuple[str, int] | None]:
    marks, alone = capture.marks_and_alone(request, key)
    return marks, capture.user_turn_mark(request, key, marks), alone


def _seen_from_now(
    request: ChatRequest, answer: Answer, marks: tuple[str, ...], owner: Owner
) -> tuple[str, ...]:
    """The marks of a request and its answer, that of the request's last message at the end."""
    seen = capture.answer_marks(request, answer, owner.key)
    if answer.response_id is not None and request.api == "responses":
        seen = (*seen, capture.response_mark(answer.response_id, owner.key))
    return (*marks[:-1], *seen, *marks[-1:])


def _exchange(
    visit: Visit, request: ChatRequest, answer: Answer, owner: Owner
) -> tuple[tuple[str, ...], Exchange | None]:
    """What is seen from now on, the request's last message at its end; and the exchange."""
    marks = visit.marks or capture.marks(request, owner.key)
    conversation = visit.conversation
    session = session_of(visit, owner, marks)
    fresh = capture.fresh_by_shape(request) if conversation is None else conversation.fresh
    if not capture.is_over(request, answer) and answer.outcome == "complete":
        request, marks, fresh = capture.settled(request, marks, fresh)
        answer = replace(answer, text="", refusal=None, tool_calls=(), finish_reason=None)
    exchange = capture.exchange_of(
        request,
        answer,
        session=session,
        fresh=fresh,
        now=visit.now,
        timezone=visit.who.options.timezone,
        receipt_id=visit.report.receipt_id,
        key=owner.key,
        found=marks,
    )
    if exchange is not None and (trace := visit.span.traceparent) is not None:
        exchange = replace(exchange, trace=trace)
    return _seen_from_now(request, answer, marks, owner), exchange


def session_of_visit(visit: Visit) -> str:
    return visit.conversation.session if visit.conversation is not None else ""


def session_of(visit: Visit, owner: Owner, marks: tuple[str, ...]) -> str:
    """The conversation's id, also where shared state could not be asked."""
    if visit.conversation is not None:
        return visit.conversation.session
    gap_s = visit.settings.identity.session_idle_gap_s
    return visit.named_session or session_id(owner, marks, now=visit.now, idle_gap_s=gap_s)
