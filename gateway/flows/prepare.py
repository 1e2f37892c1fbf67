"""The step of the journey that asks memory: whose it is, which conversation, what it recalls.

One deadline (`memory.deadline_ms`, lowered by the request) bounds all of it. What is away or
late is left out and shows in the visit's report; nothing here fails a chat. The search begins once
the owner is known, beside opening the conversation: what it depends on is seldom another there.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from secrets import token_hex
from time import perf_counter
from typing import Final

from structlog.contextvars import bind_contextvars

from gateway.core import capture
from gateway.core.chat import ChatRequest
from gateway.core.errors import DirectoryUnavailable, OwnerGone, StateUnavailable, Unavailable
from gateway.core.identity import Owner, Person
from gateway.flows.aftermath import opening_of
from gateway.flows.asking import Asking
from gateway.flows.candidates import Stage
from gateway.flows.handover import Underway
from gateway.flows.limits import SOMEONES, Room, room, scope_of
from gateway.flows.question import Question, Status
from gateway.flows.recall import asked
from gateway.flows.unnoted import Unnoted
from gateway.flows.visit import Report, Visit
from gateway.ports import Conversation, Deployment
from gateway.telemetry.logs import Outage, log

SETTLE_S: Final = 0.1
"""How long a request waits, at most, for the same person's last one to be handed over."""


class Preparation:
    """Recall as the chat needs it, for all requests of one process."""

    def __init__(self, deployment: Deployment, underway: Underway, unnoted: Unnoted) -> None:
        self._metrics = deployment.metrics
        self._underway = underway
        self._unnoted = unnoted
        self._away = Outage(log("answer"), "memory")

    async def recall(self, visit: Visit) -> None:
        """What this user's memory has for the request, within the deadline as a whole."""
        if visit.request is None or not (visit.reads or visit.writes):
            return
        began = perf_counter()
        way = _Way(visit, visit.request, self._underway, self._unnoted)
        try:
            away = await way.to_conversation()
            self._say(visit, away)
            if not visit.reads:
                return
            # An owner who is not known, for nothing is away, has nothing to be remembered.
            status: Status = "ok" if away is None and visit.owner is None else "degraded"
            stage: Stage = "none"
            if not isinstance(away, DirectoryUnavailable):
                await way.to_memory()
            if visit.recalled is not None:
                status, stage = visit.recalled.status, visit.recalled.stage
            if away is not None:
                visit.why = "late" if isinstance(away, TimeoutError) else type(away).__name__
                status = "partial" if status == "ok" else status
        finally:
            way.end()
        latency_ms = (perf_counter() - began) * 1000
        receipt_id = None
        if visit.recalled is not None and _keeps_receipt(visit):
            receipt_id = f"rcp_{token_hex(12)}"
            bind_contextvars(receipt=receipt_id)
        visit.report = Report(status, stage, latency_ms=latency_ms, receipt_id=receipt_id)
        self._count(visit)

    def _say(self, visit: Visit, away: Exception | None) -> None:
        if away is None:
            self._away.recovered()
        elif not isinstance(away, TimeoutError):
            self._away.failed(away)
        elif _deadline_ms(visit) == visit.settings.memory.deadline_ms:
            # A shorter one is the client's own: that it ran out is no outage.
            self._away.failed("no answer within memory.deadline_ms")

    def _count(self, visit: Visit) -> None:
        report, recalled = visit.report, visit.recalled
        self._metrics.recalls_by[report.status, report.stage].inc()
        self._metrics.recall_seconds.observe(report.latency_ms / 1000)
        if recalled is None:
            return
        for stage, ms in recalled.stage_ms.items():
            self._metrics.recall_stage_seconds_by[stage].observe(ms / 1000)
        if recalled.memories:
            self._metrics.recall_hits.inc()
        if recalled.considered:
            self._metrics.recall_score.observe(recalled.considered[0].score)


class _Way:
    """One request's way to its memory, under one deadline. `end` comes last in any case."""

    def __init__(
        self, visit: Visit, request: ChatRequest, underway: Underway, unnoted: Unnoted
    ) -> None:
        self._visit = visit
        self._request = request
        self._underway = underway
        self._unnoted = unnoted
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + _deadline_ms(visit) / 1000
        self._asking: Asking | None = None

    def end(self) -> None:
        """Nothing that was begun goes on."""
        if self._asking is not None:
            self._asking.parts.end()
            self._asking = None

    # --- whose, and which conversation ---------------------------------------------------------

    async def to_conversation(self) -> Exception | None:
        """Whose memory it is, and what this conversation has seen; what was away or late."""
        visit = self._visit
        try:
            async with asyncio.timeout_at(self._end):
                await self._settle(visit.person)
                owners = visit.services.directory
                visit.owner = await owners.owner(visit.person, create=visit.writes)
                if visit.owner is not None:
                    self._begin(visit.owner)
                    visit.room = await self._room()
                    visit.conversation = await self._conversation(visit.owner)
        except OwnerGone:
            # Erased a moment ago: nobody is known, whatever this process still holds.
            self.end()
            visit.owner, visit.marks, visit.turn_mark = None, (), ""
        except (Unavailable, TimeoutError) as exc:
            return exc
        return None

    async def _settle(self, person: Person) -> None:
        if not self._underway.any(person):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(SETTLE_S, (self._end - self._loop.time()) / 2)):
                await self._underway.settled(person)

    def _begin(self, owner: Owner) -> None:
        """What is asked is looked for while the conversation is opened: it takes longer. A tool
        loop may turn out to need nothing new; a response may go on from another one without a
        message of its own."""
        messages = self._request.messages
        if self._visit.reads and messages and messages[-1].role == "user":
            self._ask(owner).begin()

    async def _room(self) -> Room:
        """How much may be injected: by setting, by request, by what the model could not take."""
        visit, limits = self._visit, {}
        if visit.reads:
            state, model = visit.services.state, self._request.model
            with suppress(StateUnavailable):
                limits = await state.limits(visit.who.app, model)
                if SOMEONES in limits and visit.owner is not None:
                    limits |= await state.limits(scope_of(visit.owner), model)
        return room(
            limits,
            self._request,
            visit.settings.memory.placement,
            most_tokens=visit.who.options.max_tokens,
        )

    async def _conversation(self, owner: Owner) -> Conversation:
        """Opened; once more as a new user where this one was erased a moment ago."""
        try:
            return await self._opened(owner)
        except OwnerGone:
            # Through another gateway, of which the directory here may not know for a second.
            self._visit.services.directory.let_go(owner.tenant)
            if not self._visit.writes:
                raise
        self.end()
        visit = self._visit
        anew = visit.owner = await visit.services.directory.owner(visit.person, create=True)
        assert anew is not None  # noqa: S101 (for the type: it is created)
        return await self._opened(anew)

    async def _opened(self, owner: Owner) -> Conversation:
        visit, request = self._visit, self._request
        opening = await opening_of(visit, request, owner)
        visit.marks, visit.turn_mark = opening.marks, opening.turn
        await self._unnoted.pay(visit.services.state, owner)
        return await visit.services.state.open(owner, opening)

    # --- what it remembers ---------------------------------------------------------------------

    async def to_memory(self) -> None:
        """What is recalled for it; nothing where nobody is known or no time is left."""
        visit = self._visit
        if visit.owner is None:
            return
        if self._loop.time() >= self._end:
            visit.why = visit.why or "late"
            return
        asking = self._asking or self._ask(visit.owner)
        visit.recalled = await asking.recall(self._question())
        if visit.recalled.status != "ok":
            failure = asking.parts.failure
            visit.why = "part_missing" if failure is None else type(failure).__name__

    def _ask(self, owner: Owner) -> Asking:
        visit = self._visit
        self._asking = asked(visit.services, visit.settings, owner, self._question(), now=visit.now)
        return self._asking

    def _question(self) -> Question:
        """What is asked, with what is known by now."""
        visit, request = self._visit, self._request
        conversation, options = visit.conversation, visit.who.options
        text, before = capture.query_text(request)
        exchange = ""
        if conversation is not None and visit.owner is not None:
            key = visit.owner.key
            exchange = capture.asked_anew(request, conversation.session, key, visit.marks)
        return Question(
            text,
            before,
            conversation=conversation,
            as_of=options.as_of,
            timezone=options.timezone,
            present=tuple(message.text for message in request.messages),
            exchange=exchange,
            placement=visit.room.placement,
            max_tokens=visit.room.max_tokens,
            deadline_ms=max(0.0, (self._end - self._loop.time()) * 1000),
            # A tool loop: the user's turn was recalled for already. A question that is asked
            # again is looked up again, for memories may have come or changed since.
            again=conversation is not None
            and visit.turn_mark != ""
            and conversation.recalled_for == visit.turn_mark
            and request.messages[-1].role != "user"
            and options.as_of is None,
        )


def _keeps_receipt(visit: Visit) -> bool:
    receipts = visit.settings.receipts
    return (receipts.on_demand and visit.who.options.receipt) or random.random() < receipts.share


def _deadline_ms(visit: Visit) -> float:
    asked = visit.who.options.deadline_ms
    most = visit.settings.memory.deadline_ms
    return most if asked is None else min(asked, most)
