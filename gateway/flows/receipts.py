"""Receipts: why it said that. What one request considered, injected and left out, and what
came of it afterwards.

A receipt holds ids, scores and times, and of words only the question that was asked (what was
injected is looked up again, as it read then). So whatever a person corrects, forgets or erases
is gone from it too; `without` takes the question out where it is what was forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson

from gateway import __version__
from gateway.config import AppSettings, extraction_prompt
from gateway.core import capture
from gateway.core.answer import Answer
from gateway.core.chat import ChatRequest
from gateway.core.errors import StateUnavailable, Unavailable
from gateway.core.excerpt import as_injected, read_ref
from gateway.core.exchange import Exchange, turn_memory_id
from gateway.core.extraction import PROMPT
from gateway.core.identity import Owner
from gateway.core.injection import blocks
from gateway.core.memory import Instant, Memory, Where, parse_rfc3339, rfc3339
from gateway.core.redaction import redact
from gateway.flows.browse import pages
from gateway.flows.keeping import closely
from gateway.flows.visit import Visit
from gateway.ports import Services
from gateway.telemetry.logs import log

CONSIDERED: Final = 100
"""Candidates that a receipt names."""
MAX_PRINTS: Final = 64
QUESTION_CHARS: Final = 8_000
"""Of a longer question its beginning and its end, which hold all that is searched with
(`core/question`). A pasted megabyte left no room for anything else in its receipt, and nobody was
answered for the seconds that looking through it for secrets took."""
RECORDED_CHARS: Final = 16_000
"""Of what a request still contained; only where recalls are recorded to be run again."""
MAX_TURNS: Final = 40
"""Turns of one exchange that are looked for."""
MAX_DRAWN: Final = 100
MAX_COVERED: Final = 5
SCANNED: Final = 5_000
"""Facts that are looked through for those of one exchange, newest first."""

AWAITED_S: Final = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
"""A receipt is kept once the last byte of its answer is out, so that who asks for it at once may
be there first. These are the pauses before each look at one that is not there yet."""
_AN_ID: Final = re.compile(r"rcp_[0-9a-f]{24}")


async def find(
    services: Services, owner_now: Callable[[], Awaitable[Owner | None]], id: str
) -> tuple[Owner, dict[str, Any]] | None:
    """A receipt and whose it is; None for one that is not there, nor comes in a moment.

    The owner is asked for with each look, for a user's first exchange begins them. Raises
    StateUnavailable.
    """
    for pause_s in AWAITED_S if _AN_ID.fullmatch(id) else AWAITED_S[:1]:
        await asyncio.sleep(pause_s)
        owner = await owner_now()
        found = await services.receipts.get(owner, id) if owner is not None else None
        if owner is not None and found is not None:
            return owner, found
    return None


async def receipt_of(
    visit: Visit, request: ChatRequest, answer: Answer, exchange: Exchange | None
) -> dict[str, Any]:
    """The receipt of a request that was answered."""
    recalled, report, options = visit.recalled, visit.report, visit.who.options
    shown = recalled.memories if recalled is not None and report.injected else ()
    refs = recalled.refs if recalled is not None and report.injected else ()
    text, before = await _asked(visit, request)
    receipt = {
        "id": report.receipt_id,
        "at": rfc3339(visit.now),
        "app": visit.person.app,
        "user": visit.person.user,
        "session": visit.conversation.session if visit.conversation is not None else None,
        "exchange_id": exchange.id if exchange is not None else None,
        "api": request.api,
        "model": answer.model or request.model or None,
        "mode": visit.settings.memory.mode,
        "versions": versions(visit.settings),
        "query": text,
        "before": before,
        "as_of": rfc3339(options.as_of) if options.as_of is not None else None,
        "timezone": recalled.timezone if recalled is not None else options.timezone,
        "status": report.status,
        "stage": report.stage,
        "considered": recalled.considered[:CONSIDERED] if recalled is not None else (),
        "injected": [memory.id for memory in shown],
        "refs": list(refs),
        "template": visit.settings.memory.template,
        "block_print": _print(visit.block),
        "placement": visit.room.placement,
        "tokens": report.tokens,
        "stage_ms": {
            name: round(ms, 3)
            for name, ms in (recalled.stage_ms.items() if recalled is not None else ())
        },
        "latency_ms": round(report.latency_ms, 3),
        "upstream_ms": round(visit.upstream_ms, 3),
        "outcome": answer.outcome,
    }
    if visit.settings.receipts.record and visit.writes and recalled is not None:
        receipt["recorded"] = _recorded(visit, request)
    return receipt


async def _asked(visit: Visit, request: ChatRequest) -> tuple[str, str]:
    """The question and the turn before it, without what must never be stored; neither where
    nothing of the request may be written down."""
    if not visit.writes:
        return "", ""
    text, before = (capture.capped(t, QUESTION_CHARS) for t in capture.query_text(request))
    hidden = visit.settings.privacy.redact
    return await closely(
        lambda: (redact(text, hidden), redact(before, hidden)), len(text) + len(before)
    )


def _recorded(visit: Visit, request: ChatRequest) -> dict[str, Any]:
    """What a recall rests on beside the question and the memories, for `replay`."""
    present, left = [], RECORDED_CHARS
    for message in reversed(request.messages):
        if left <= 0:
            break
        present.append(redact(message.text[:left], visit.settings.privacy.redact))
        left -= len(message.text)
    recalled = visit.recalled
    return {
        "present": present[::-1],
        "held": list(visit.conversation.injected) if visit.conversation is not None else [],
        "session": visit.conversation.session if visit.conversation is not None else None,
        "max_tokens": visit.room.max_tokens,
        "would_inject": [m.id for m in recalled.memories] if recalled is not None else [],
        "tokens": recalled.tokens if recalled is not None else 0,
    }


def _print(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


def versions(settings: AppSettings) -> dict[str, str]:
    """What recalled and would distil: two receipts with the same ones ran under the same rules.

    `settings` is a print of the app's settings, secrets left out; `template` of the block's
    own words.
    """
    return {
        "gateway": __version__,
        "settings": _settings_print(settings),
        "template": _print(settings.memory.template or "")[:12],
        "extraction_prompt": _prompt_version(settings),
    }


def _prompt_version(settings: AppSettings) -> str:
    own = settings.extraction.prompt
    return PROMPT if own is None else f"{own.name} {_print(extraction_prompt(own))[:12]}"


_prints: dict[int, tuple[AppSettings, str]] = {}


def _settings_print(settings: AppSettings) -> str:
    """Made once for each settings object: there is one an app."""
    held = _prints.get(id(settings))
    if held is not None and held[0] is settings:
        return held[1]
    sections = set(AppSettings.model_fields)
    told = orjson.dumps(
        settings.model_dump(mode="json", include=sections), option=orjson.OPT_SORT_KEYS
    )
    made = _print(told.decode())[:12]
    if len(_prints) > MAX_PRINTS:
        _prints.clear()
    _prints[id(settings)] = (settings, made)
    return made


# --- reading one ---------------------------------------------------------------------------

_INNER: Final = frozenset({"refs", "template", "block_print"})


def brief(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """A receipt as a list shows it: nothing of it is looked up."""
    return {k: v for k, v in receipt.items() if k not in _INNER}


async def explained(services: Services, owner: Owner, receipt: Mapping[str, Any]) -> dict[str, Any]:
    """A receipt with what its ids stand for: the block as sent, the texts that the user still
    has, the exchange it led to and the facts drawn from that. Raises StoreUnavailable."""
    told = brief(receipt)
    at = parse_rfc3339(receipt["at"])
    refs = [read_ref(ref) for ref in receipt.get("refs", ())]
    ids = [one["id"] for one in receipt.get("considered", ())]
    exchange_id = receipt.get("exchange_id")
    waiting = await _waiting(services, owner)
    wanted = dict.fromkeys([*(ref.id for ref in refs), *ids])
    known = {m.id: m for m in await services.store.get(owner, list(wanted)) if m.text}
    known = {**{id: m for id, m in waiting.items() if id in wanted}, **known}
    then = {id: _as_it_was(memory, at) for id, memory in known.items()}
    shown = [as_injected(then[ref.id], ref) for ref in refs if ref.id in then]
    placement, zone = receipt.get("placement", "system"), receipt.get("timezone")
    block = str(blocks(shown, placement, receipt.get("template"), timezone=zone))
    told["block"] = block
    told["block_exact"] = _print(block) == receipt.get("block_print")
    told["considered"] = [
        {**one, "text": then[one["id"]].text if one["id"] in then else None}
        for one in receipt.get("considered", ())
    ]
    turns = await _turns_below(services, owner, [known[r.id] for r in refs if r.id in known])
    told["memories"] = [
        _injected(ref.id, then.get(ref.id), known.get(ref.id), turns) for ref in refs
    ]
    told["exchange"], told["drawn"] = None, []
    if exchange_id is not None:
        told["exchange"] = await _exchange(services, owner, exchange_id, waiting)
        told["drawn"] = await _drawn(services, owner, exchange_id, since=at)
    return told


async def _turns_below(
    services: Services, owner: Owner, facts: Sequence[Memory]
) -> Mapping[str, str]:
    """The turns that facts were drawn from, as far as they are kept: text by id."""
    ids = dict.fromkeys(id for fact in facts for id in fact.covers[:MAX_COVERED])
    return {m.id: m.text for m in await services.store.get(owner, list(ids)) if m.text}


def _injected(
    id: str, then: Memory | None, present: Memory | None, turns: Mapping[str, str]
) -> dict[str, Any]:
    if then is None or present is None:
        return {"id": id, "text": None, "status": "forgotten"}
    told = {
        "id": id,
        "kind": then.kind,
        "type": then.type,
        "text": then.text,
        "status": present.status,
        "rests_on": [turns[id] for id in present.covers[:MAX_COVERED] if id in turns],
        "source": {"exchange_id": present.source.exchange_id, "quote": present.source.quote},
    }
    if present.text != then.text:
        told["text_now"] = present.text
    return told


def _as_it_was(memory: Memory, at: Instant) -> Memory:
    """A memory as it read at a time, by its history."""
    if memory.superseded_at is not None and memory.superseded_at > at:
        memory = replace(memory, valid_to=None)
    if not memory.history or memory.updated_at <= at:
        return memory
    held = [version for version in memory.history if version.at <= at]
    version = held[-1] if held else memory.history[0]
    return replace(memory, text=version.text, key=version.key, value=version.value)


async def _waiting(services: Services, owner: Owner) -> dict[str, Memory]:
    """Turns that are not distilled yet, as the memories that they will be."""
    found: dict[str, Memory] = {}
    with suppress(Unavailable):
        for exchange in await services.queue.pending(owner):
            for turn in exchange.turns:
                id = turn_memory_id(exchange.origin, turn.n)
                found[id] = Memory(
                    id=id,
                    kind="turn",
                    text=turn.text,
                    created_at=turn.at,
                    updated_at=turn.at,
                    valid_from=turn.at,
                    speaker=turn.speaker or (turn.role if turn.role != "user" else None),
                )
    return found


async def _exchange(
    services: Services, owner: Owner, id: str, waiting: Mapping[str, Memory]
) -> dict[str, Any]:
    """What was said, as far as it is kept."""
    ids = [turn_memory_id(id, n) for n in range(MAX_TURNS)]
    kept = {m.id: m for m in await services.store.get(owner, ids)}
    turns = [
        {"id": turn_id, "speaker": said.speaker or said.source.role, "text": said.text or None}
        for turn_id in ids
        if (said := kept.get(turn_id) or waiting.get(turn_id)) is not None
    ]
    return {"id": id, "distilled": not any(i in waiting for i in ids), "turns": turns}


async def _drawn(
    services: Services, owner: Owner, exchange_id: str, *, since: Instant
) -> list[dict[str, Any]]:
    """The facts that rest on this exchange; they are no older than what was said."""
    found: list[dict[str, Any]] = []
    where = Where(kinds=("fact",), statuses=("active", "superseded", "quarantined"))
    turns = {turn_memory_id(exchange_id, n) for n in range(MAX_TURNS)}
    scanned = 0
    async for page in pages(services, owner, where):
        found += [
            {
                "id": memory.id,
                "type": memory.type,
                "text": memory.text,
                "status": memory.status,
                "quote": memory.source.quote,
            }
            for memory in page
            if memory.source.exchange_id == exchange_id or turns.intersection(memory.covers)
        ]
        scanned += len(page)
        if len(found) >= MAX_DRAWN or scanned >= SCANNED or page[-1].created_at < since - 1.0:
            break
    return found[:MAX_DRAWN]


# --- what was forgotten ------------------------------------------------------------------------


async def given_with(services: Services, owner: Owner, ids: Collection[str]) -> set[str]:
    """The exchanges whose answers were given with one of these memories in the prompt, as far as
    receipts tell."""
    with suppress(StateUnavailable):
        return {
            receipt["exchange_id"]
            for receipt in await services.receipts.recent(owner, limit=10_000)
            if receipt.get("exchange_id") and not set(ids).isdisjoint(receipt.get("injected", ()))
        }
    return set()


async def of(services: Services, owner: Owner, id: str) -> Mapping[str, Any]:
    """One receipt; empty where there is none, or receipts are away."""
    with suppress(StateUnavailable):
        return await services.receipts.get(owner, id) or {}
    return {}


async def without(services: Services, owner: Owner, forgotten: Collection[Memory]) -> int:
    """Take out of this owner's receipts the questions that say what was forgotten; of how many.

    `forgotten` are the memories as they were. Where the receipts are away, that is said in the
    log and their own end takes them.
    """
    exchanges = {m.source.exchange_id for m in forgotten if m.source.exchange_id is not None}
    words = {w for m in forgotten for w in (m.text, m.source.quote, m.value) if w and len(w) > 3}
    ids = {m.id for m in forgotten}
    changed = 0
    try:
        for receipt in await services.receipts.recent(owner, limit=10_000):
            if _speaks_of(receipt, exchanges, words, ids):
                blank = {k: v for k, v in receipt.items() if k != "recorded"}
                await services.receipts.replace(owner, {**blank, "query": "", "before": ""})
                changed += 1
    except StateUnavailable as exc:
        log("receipts").warning("receipts_not_cleaned", reason=exc.message)
    return changed


def _speaks_of(
    receipt: Mapping[str, Any],
    exchanges: Collection[str],
    words: Collection[str],
    ids: set[str],
) -> bool:
    if receipt.get("exchange_id") in exchanges:
        return True
    recorded = receipt.get("recorded") or {}
    said = [receipt.get("query") or "", receipt.get("before") or "", *recorded.get("present", ())]
    turn_ids = ids.intersection(
        turn_memory_id(str(receipt.get("exchange_id")), n) for n in range(4)
    )
    return bool(turn_ids) or any(word in text for text in said for word in words)
