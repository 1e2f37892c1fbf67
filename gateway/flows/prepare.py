"""The step of the journey that asks memory: whose it is, which conversation, what it recalls.

One deadline (`memory.deadline_ms`, lowered by the request) bounds all of it. What is away or
late is left out and shows in the visit's report; nothing here fails a chat.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import Final

from structlog.contextvars import bind_contextvars

from gateway.core import capture
from gateway.core.chat import ChatRequest
from gateway.core.errors import DirectoryUnavailable, OwnerGone, StateUnavailable, Unavailable
from gateway.core.identity import Person
from gateway.flows.aftermath import OFF_THE_LOOP_BYTES
from gateway.flows.handover import Underway
from gateway.flows.limits import Room, room
from gateway.flows.recall import Question, recall
from gateway.flows.unnoted import Unnoted
from gateway.flows.visit import Report, Visit
from gateway.ports import Conversation, Deployment, Opening
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
        loop = asyncio.get_running_loop()
        deadline_s = _deadline_ms(visit) / 1000
        end = loop.time() + deadline_s
        away = await self._open_conversation(visit, visit.request, end)
        if not visit.reads:
            return
        known = visit.owner is not None and not isinstance(away, DirectoryUnavailable)
        if known and loop.time() < end:
            await self._ask_memory(visit, visit.request, end)
        elif away is None and visit.owner is None:
            visit.report = Report("ok")  # nobody is known by that name: nothing to remember
        else:
            visit.report = Report("degraded")
        if away is not None and visit.report.status == "ok":
            visit.report = replace(visit.report, status="partial")
        latency_ms = (perf_counter() - began) * 1000
        visit.report = replace(visit.report, latency_ms=latency_ms)
        self._metrics.recalls.labels(visit.report.status, visit.report.stage).inc()
        self._metrics.recall_seconds.observe(latency_ms / 1000)

    async def _open_conversation(
        self, visit: Visit, request: ChatRequest, end: float
    ) -> Exception | None:
        """Whose memory it is, and what this conversation has seen; what was away or late."""
        try:
            async with asyncio.timeout_at(end):
                await self._settle(visit.person, end)
                visit.owner = await visit.services.directory.owner(
                    visit.person, create=visit.writes
                )
                if visit.owner is not None:
                    visit.conversation = await self._conversation(visit, request)
        except (Unavailable, TimeoutError) as exc:
            self._away.failed(exc)
            return exc
        except OwnerGone as exc:
            return exc
        self._away.recovered()
        return None

    async def _conversation(self, visit: Visit, request: ChatRequest) -> Conversation:
        """Opened; once more as a new user where this one was erased a moment ago."""
        for again in (False, True):
            assert visit.owner is not None  # noqa: S101 (for the type)
            key = visit.owner.key
            if len(request.body) > OFF_THE_LOOP_BYTES:
                visit.marks, visit.turn_mark = await asyncio.to_thread(_marks, request, key)
            else:
                visit.marks, visit.turn_mark = _marks(request, key)
            opening = Opening(
                marks=visit.marks,
                session=visit.named_session,
                now=visit.now,
                idle_gap_s=visit.settings.identity.session_idle_gap_s,
            )
            try:
                await self._unnoted.pay(visit.services.state, visit.owner)
                return await visit.services.state.open(visit.owner, opening)
            except OwnerGone:
                if again or not visit.writes:
                    raise
                visit.owner = await visit.services.directory.owner(visit.person, create=True)
        raise AssertionError("unreachable")

    async def _settle(self, person: Person, end: float) -> None:
        if not self._underway.any(person):
            return
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(SETTLE_S, (end - loop.time()) / 2)):
                await self._underway.settled(person)

    async def _ask_memory(self, visit: Visit, request: ChatRequest, end: float) -> None:
        visit.room = await self._room(visit, request, end)
        conversation = visit.conversation
        text, before = capture.query_text(request)
        options = visit.who.options
        question = Question(
            text,
            before,
            conversation=conversation,
            as_of=options.as_of,
            timezone=options.timezone,
            present=tuple(message.text for message in request.messages),
            max_tokens=visit.room.max_tokens,
            deadline_ms=max(0.0, (end - asyncio.get_running_loop().time()) * 1000),
            # A tool loop: the user's turn was recalled for already. A question that is asked
            # again is looked up again, for memories may have come or changed since.
            again=conversation is not None
            and visit.turn_mark != ""
            and conversation.recalled_for == visit.turn_mark
            and request.messages[-1].role != "user"
            and options.as_of is None,
        )
        assert visit.owner is not None  # noqa: S101 (for the type)
        recalled = await recall(
            visit.services, visit.settings, visit.owner, question, now=visit.now
        )
        visit.recalled = recalled
        visit.report = Report(
            recalled.status,
            recalled.stage,
            receipt_id=f"rcp_{secrets.token_hex(12)}" if _keeps_receipt(visit) else None,
        )
        if visit.report.receipt_id is not None:
            bind_contextvars(receipt=visit.report.receipt_id)
        for stage, ms in recalled.stage_ms.items():
            self._metrics.recall_stage_seconds.labels(stage).observe(ms / 1000)
        if recalled.memories:
            self._metrics.recall_hits.inc()
        if recalled.considered:
            self._metrics.recall_score.observe(recalled.considered[0].score)

    async def _room(self, visit: Visit, request: ChatRequest, end: float) -> Room:
        """How much may be injected: by setting, by request, by what the model could not take."""
        placement = visit.settings.memory.placement
        asked = visit.who.options.max_tokens
        limits = {}
        with suppress(StateUnavailable, TimeoutError):
            async with asyncio.timeout_at(end):
                limits = await visit.services.state.limits(visit.who.app, request.model)
        known = room(limits, request, placement)
        tokens = [n for n in (asked, known.max_tokens) if n is not None]
        return replace(known, max_tokens=min(tokens) if tokens else None)


def _keeps_receipt(visit: Visit) -> bool:
    receipts = visit.settings.receipts
    return (receipts.on_demand and visit.who.options.receipt) or random.random() < receipts.share


def _marks(request: ChatRequest, key: bytes) -> tuple[tuple[str, ...], str]:
    marks = capture.marks(request, key)
    return marks, capture.user_turn_mark(request, key, marks)


def _deadline_ms(visit: Visit) -> float:
    asked = visit.who.options.deadline_ms
    most = visit.settings.memory.deadline_ms
    return most if asked is None else min(asked, most)
