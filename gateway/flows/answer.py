"""The journey of a chat request, as one downward page: `Journeys.answer`.

read, identify → recall → inject → forward → (refused? the original, once) → relay → hand over.
Memory never fails a chat: what is away or late is left out, said in the report, and the
request goes on as it came. Who speaks HTTP is `web/chat`: it brings an `Ask`, and a `Client`
that the answer is given to. What comes after the last byte is in `flows/aftermath`.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import Any, Final

from gateway.core import capture
from gateway.core.chat import ChatRequest, NotForUs, read_chat
from gateway.core.errors import (
    BadRequest,
    UpstreamFailed,
    UpstreamTimedOut,
)
from gateway.core.exchange import Outcome
from gateway.core.injection import blocks, splice
from gateway.core.responses import read_responses
from gateway.flows.aftermath import OFF_THE_LOOP_BYTES, Copy, note_injected, quietly, remember, say
from gateway.flows.groups import held_out
from gateway.flows.handover import Underway
from gateway.flows.limits import (
    ERROR_BYTES,
    REFUSALS,
    SOMEONES,
    is_the_models,
    learned,
    scope_of,
    words_of,
)
from gateway.flows.prepare import Preparation
from gateway.flows.recall import Recalled
from gateway.flows.unnoted import Unnoted
from gateway.flows.visit import Ask, Client, Options, Report, Visit
from gateway.ports import (
    Conversation,
    Deployment,
    Injected,
    UpstreamRequest,
    UpstreamResponse,
)
from gateway.telemetry import tracing
from gateway.telemetry.logs import log

FIRM_S: Final = 5.0
"""How long the end of an answer may wait for what was said to be kept."""
REASON_S: Final = 2.0
"""How long the words of a refusal are waited for; one that stalled held a chat for as long as
`upstream.idle_timeout_s`, five minutes, before the original was sent."""
NOTE_S: Final = 0.05
"""What was injected is noted together with the exchange where the answer ends within this; by
itself where it takes longer, for the requests that come beside it."""

_LAST: Final = re.compile(rb'^data: ?\[DONE\]|"response\.(?:completed|incomplete)"', re.MULTILINE)
"""What the last piece of a stream holds: of chat, and of responses."""
REQUEST_ID_BYTES: Final = 128
LINE_BYTES: Final = 64
"""Of a line that is not whole yet: within them stands what tells the last one."""
_OFF_THE_RECORD: Final = re.compile(r"\boff[ -]the[ -]record\b", re.IGNORECASE)


class Journeys:
    """All chat requests of one process: how many are open, and what is under way behind them."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._metrics = deployment.metrics
        self._underway = Underway(deployment.background)
        self._unnoted = Unnoted()
        self._preparation = Preparation(deployment, self._underway, self._unnoted)
        self._open = 0

    async def answer(self, ask: Ask, client: Client) -> None:
        """Answer one request. Raises RequestRefused, and Unavailable where a credential
        cannot be checked."""
        self._open += 1
        try:
            visit = await self._arrive(ask)
            await self._enrich(visit)
            response = await self._forward(visit, client)
            if response is not None:
                await self._relay_and_hand_over(visit, response, client)
        finally:
            self._open -= 1

    # --- read, identify ----------------------------------------------------------------------

    async def _arrive(self, ask: Ask) -> Visit:
        """Read the request and learn whose it is; who may not ask is told so first."""
        fault: BadRequest | None = None
        request: ChatRequest | None = None
        try:
            request = await _read(ask)
        except NotForUs:
            pass
        except BadRequest as exc:
            fault = exc
        who = await ask.identify(request)
        if fault is not None:
            raise fault
        visit = Visit(
            ask=ask,
            who=who,
            settings=self._deployment.settings_for(who.app),
            services=self._deployment.services_for(who.app),
            request=request,
            now=self._deployment.clock(),
            body=ask.body,
        )
        self._decide(visit)
        return visit

    def _decide(self, visit: Visit) -> None:
        """What of memory this request has. A reason to skip it that the caller did not choose
        is counted, and reported as `degraded`."""
        memory, options, request = visit.settings.memory, visit.who.options, visit.request
        if visit.who.person is None or memory.mode == "off":
            visit.why = "no_user" if visit.who.person is None else "memory.mode"
            return
        if options.mode == "off":
            visit.left_out, visit.why = request is not None, "asked"
            return
        if self._open > self._deployment.settings.server.max_open_requests:
            visit.skipped = "open_requests"
        elif request is None:
            visit.skipped = "unread"
        if visit.skipped is not None or request is None:
            self._metrics.skipped_memory.labels(visit.skipped).inc()
            visit.report, visit.why = Report("degraded"), visit.skipped or ""
            return
        if memory.skip_housekeeping and capture.is_housekeeping(request):
            self._metrics.skipped_memory.labels("housekeeping").inc()
            visit.why = "housekeeping"
            return
        visit.held_out = memory.mode == "holdout" and held_out(
            visit.who.person, memory.holdout_share
        )
        visit.reads = options.mode in ("full", "readonly") and not visit.held_out
        visit.writes = options.mode in ("full", "writeonly") and not (
            memory.off_the_record and _OFF_THE_RECORD.search(capture.query_text(request)[0])
        )
        visit.left_out = not visit.writes
        if not visit.reads:
            visit.why = "held_out" if visit.held_out else "asked"

    # --- recall, inject ----------------------------------------------------------------------

    async def _enrich(self, visit: Visit) -> None:
        """Recall, and put it into the body. What goes wrong in it by a fault of ours costs this
        request its memory and no more: a match that was longer than a passage once failed every
        chat in which it came up."""
        try:
            with tracing.span("recall") as span:
                await self._preparation.recall(visit)
                span.set(_told(visit))
            await self._inject(visit)
        except Exception as exc:  # noqa: BLE001 (memory never fails a chat, whatever is wrong in it)
            log("answer").error("memory_failed", exc_info=exc)
            visit.recalled, visit.body, visit.block = None, visit.ask.body, ""
            visit.why = type(exc).__name__
            if visit.reads:
                visit.report = Report("degraded")
                self._metrics.recalls_by["degraded", "none"].inc()

    async def _inject(self, visit: Visit) -> None:
        """Put the memories into the body: the original bytes with one insertion."""
        recalled, request = visit.recalled, visit.request
        if recalled is None or request is None or not recalled.memories:
            return
        if visit.settings.memory.mode == "shadow":
            visit.why = "shadow"
            return
        began = perf_counter()
        placement, template = visit.room.placement, visit.settings.memory.template
        shown = blocks(recalled.memories, placement, template, recalled.lines)
        if len(request.body) > OFF_THE_LOOP_BYTES:
            visit.body = await asyncio.to_thread(splice, request, shown)
        else:
            visit.body = splice(request, shown)
        if visit.body is request.body:
            return  # no place for it in this body
        visit.block = str(shown)
        visit.report = replace(
            visit.report,
            injected=len(recalled.memories),
            tokens=recalled.tokens,
            latency_ms=visit.report.latency_ms + (perf_counter() - began) * 1000,
        )

    # --- forward -----------------------------------------------------------------------------

    async def _forward(self, visit: Visit, client: Client) -> UpstreamResponse | None:
        """Send it, and once more as it came where the upstream would not take what was added.
        None: there is no answer, and the client was told."""
        began = perf_counter()
        visit.span = _begun(visit)
        try:
            response = await self._send(visit, visit.body)
            if response.status in REFUSALS and visit.body is not visit.ask.body:
                response = await self._original_once(visit, response)
        except UpstreamFailed as error:
            kind = "timeout" if isinstance(error, UpstreamTimedOut) else "unreachable"
            self._metrics.upstream_failures.labels(kind).inc()
            visit.span.failed(kind)
            visit.span.end()
            say(visit, kind)
            # What was recalled for no answer at all is not kept: there is nothing to look up.
            await client.fail(error, replace(visit.report, receipt_id=None))
            return None
        visit.upstream_ms = (perf_counter() - began) * 1000
        visit.upstream_request = _request_id(response)
        self._metrics.upstream_first_byte_seconds.observe(visit.upstream_ms / 1000)
        if visit.who.person is not None and (visit.reads or visit.writes):
            self._metrics.added_seconds.observe(visit.report.latency_ms / 1000)
            self._metrics.injected_memories.observe(visit.report.injected)
            self._metrics.injected_tokens.observe(visit.report.tokens)
        self._note_injected(visit)
        return response

    async def _send(self, visit: Visit, body: bytes) -> UpstreamResponse:
        ask, headers = visit.ask, visit.who.headers
        if (trace := visit.span.traceparent) is not None:
            headers = [(n, v) for n, v in headers if n.lower() != b"traceparent"]
            headers.append((b"traceparent", trace.encode()))
        return await visit.services.upstream.send(
            UpstreamRequest("POST", ask.path, ask.query, headers, body)
        )

    async def _original_once(self, visit: Visit, refused: UpstreamResponse) -> UpstreamResponse:
        assert visit.request is not None  # noqa: S101 (for the type)
        self._metrics.upstream_retries.labels(str(refused.status)).inc()
        reason = words_of(await _beginning(refused, ERROR_BYTES), refused.headers)
        added, tokens = len(visit.body) - len(visit.ask.body), visit.report.tokens
        # Nothing is injected from here on, also where no answer comes.
        visit.body, visit.block = visit.ask.body, ""
        visit.report = replace(visit.report, injected=0, tokens=0)
        response = await self._send(visit, visit.body)
        if response.status < 400:
            limit = learned(
                refused.status,
                reason,
                visit.request,
                added_chars=added,
                tokens=tokens,
                used=visit.room,
            )
            self._deployment.background.spawn(
                quietly(_remembered(visit, visit.request.model, limit)),
                "remember what a model cannot take",
            )
        return response

    def _note_injected(self, visit: Visit) -> None:
        """The conversation's block holds these memories now; a next request of its tool loop
        has the same ones without another recall."""
        recalled, conversation = visit.recalled, visit.conversation
        if recalled is None or conversation is None:
            return
        refs = recalled.refs if visit.report.injected else ()
        if conversation.injected == refs and conversation.recalled_for == visit.turn_mark:
            return
        if _is_apart(visit.who.options, recalled, conversation):
            return
        visit.injected = Injected(refs, visit.turn_mark)
        if visit.writes:
            loop = asyncio.get_running_loop()
            visit.noting = loop.call_later(NOTE_S, self._note_now, visit)
        else:
            self._note_now(visit)

    def _note_now(self, visit: Visit) -> None:
        visit.noting = None
        self._underway.spawn(visit.person, note_injected(visit), "note what was injected")

    # --- relay, hand over --------------------------------------------------------------------

    async def _relay_and_hand_over(
        self, visit: Visit, response: UpstreamResponse, client: Client
    ) -> None:
        """Pass the answer on, chunk by chunk as it comes, and hand over what was said.

        A client that leaves cancels this task: what was said until then counts.
        """
        copy = None
        told = visit.report.receipt_id is not None or visit.who.charge is not None
        if visit.request is not None and (visit.writes or visit.left_out or told):
            copy = Copy(visit.request, response.status, response.headers)

        firm = copy is not None and visit.writes and visit.settings.queue.durable == "always"

        def take(chunk: bytes) -> bool:
            if not client.take(chunk):
                return False
            if copy is not None:
                copy.feed(chunk)
            return True

        outcome: Outcome = "cut_off"
        try:
            await client.start(response.status, response.headers, visit.report)
            if firm and copy is not None:
                await self._relay_firmly(visit, response, client, copy)
            else:
                async for chunk in response.chunks(take):  # those that could not go out at once
                    await client.chunk(chunk)
                    if copy is not None:
                        copy.feed(chunk)
            await client.end()
            outcome = "complete"
        except UpstreamFailed as error:
            outcome = "error"
            self._metrics.upstream_failures.labels("broken").inc()
            await client.broke(error)
        finally:
            # Begun before anything can be waited for: a next request of this person sees it.
            if copy is None:
                visit.span.end()
                say(visit, outcome)
            elif not copy.given:
                self._hand_over(visit, copy, outcome)
            await response.close()

    def _hand_over(self, visit: Visit, copy: Copy, outcome: Outcome) -> None:
        copy.given = True
        if visit.noting is not None:
            visit.noting.cancel()
            visit.noting = None
        work = remember(self._deployment, visit, copy, outcome, self._unnoted)
        if visit.who.person is None:  # whose answer is read for what it cost alone
            self._deployment.background.spawn(work, "count what an answer cost")
        else:
            # Without memory it did not wait for what was said before it, which tells where it is.
            in_turn = visit.left_out and visit.conversation is None
            self._underway.spawn(visit.person, work, "hand over an exchange", in_turn=in_turn)

    async def _relay_firmly(
        self, visit: Visit, response: UpstreamResponse, client: Client, copy: Copy
    ) -> None:
        """`queue.durable = "always"`: who has the whole answer knows that it is kept. Its last
        piece goes out once what was said is handed over, or `FIRM_S` later."""
        streamed = any(
            name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in response.headers
        )
        held = line = b""
        async for chunk in response.chunks():
            if not copy.given:
                copy.feed(chunk)
            if held:
                await client.chunk(held)
                held = b""
            if not streamed:
                held = chunk  # nobody reads half of a JSON object
                continue
            if not copy.given and _LAST.search(line + chunk):
                await self._handed_over(visit, copy)
            line = (line + chunk).rpartition(b"\n")[2][:LINE_BYTES]
            await client.chunk(chunk)
        if not copy.given:
            await self._handed_over(visit, copy)
        if held:
            await client.chunk(held)

    async def _handed_over(self, visit: Visit, copy: Copy) -> None:
        self._hand_over(visit, copy, "complete")
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRM_S):
                await self._underway.settled(visit.person)


def _request_id(response: UpstreamResponse) -> str:
    """What the upstream calls this request, as its client is told."""
    named = (value for name, value in response.headers if name.lower() == b"x-request-id")
    return next(named, b"")[:REQUEST_ID_BYTES].decode("latin-1")


async def _remembered(visit: Visit, model: str, limit: dict[str, Any]) -> None:
    state, owner = visit.services.state, visit.owner
    if limit and owner is not None and not is_the_models(limit):
        await state.remember_limit(scope_of(owner), model, limit)
        limit = {SOMEONES: True}
    await state.remember_limit(visit.who.app, model, limit)


def _is_apart(options: Options, recalled: Recalled, conversation: Conversation) -> bool:
    """Whether a request's block is not the conversation's from here on: it looks into the past,
    asks for less room than what was there takes, or lacks some of that because it came too late.
    The next request has what was there before, which the upstream's cache holds."""
    if options.as_of is not None:
        return True
    if options.max_tokens is not None and (recalled.cut or not recalled.refs):
        return True
    return recalled.status != "ok" and not set(conversation.injected).issubset(recalled.refs)


def _told(visit: Visit) -> dict[str, tracing.Value]:
    report = visit.report
    return {
        "memory.status": report.status,
        "memory.stage": report.stage,
        "memory.recalled": len(visit.recalled.memories) if visit.recalled is not None else 0,
        "memory.receipt_id": report.receipt_id,
    }


def _begun(visit: Visit) -> tracing.Span:
    """The upstream's call as the GenAI semantic conventions have it."""
    model = visit.request.model if visit.request is not None else ""
    about = tracing.model_call("chat", model, visit.settings.upstream.base_url)
    if about is None:
        return tracing.NO_SPAN
    memory: dict[str, tracing.Value] = {
        "memory.injected": visit.report.injected,
        "memory.tokens": visit.report.tokens,
        "memory.receipt_id": visit.report.receipt_id,
    }
    return tracing.begin(f"chat {model}".strip(), "client", about | memory)


async def _read(ask: Ask) -> ChatRequest:
    reader = read_chat if ask.api == "chat" else read_responses
    if len(ask.body) > OFF_THE_LOOP_BYTES:
        return await asyncio.to_thread(reader, ask.body)
    return reader(ask.body)


async def _beginning(response: UpstreamResponse, limit: int) -> bytes:
    """The first bytes of a body that is not relayed; the rest is not waited for, and nothing for
    longer than `REASON_S`: a client waits for its answer meanwhile, which it does not know of."""
    body = b""
    with suppress(UpstreamFailed, TimeoutError):
        async with asyncio.timeout(REASON_S):
            async for chunk in response.chunks():
                body += chunk
                if len(body) >= limit:
                    break
    await response.close()
    return body[:limit]
