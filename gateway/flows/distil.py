"""From a user's pending exchanges to a plan of what to write. Nothing is written here.

The journey: what is known of this user, what was said, what an extractor makes of it, what of
that is believed, how near it lies to what is known, and so what is to be written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

from gateway.config import AppSettings, extraction_prompt, seconds_of
from gateway.core.batch import (
    holds_nothing,
    in_order,
    kept_turns,
    numbered_turns,
    timezone_of,
    with_windows,
    worth_showing,
)
from gateway.core.book import Rules
from gateway.core.delivery import Forget, Plan, Put
from gateway.core.errors import EmbedderUnavailable
from gateway.core.exchange import Exchange
from gateway.core.extraction import (
    ExtractionBatch,
    ExtractionTurn,
    KnownMemory,
    shown_texts,
)
from gateway.core.guards import Example, Fact, House, examples_in, judge
from gateway.core.identity import Owner
from gateway.core.memory import TYPES, Instant, Memory, Probe, Vector, Where
from gateway.core.reconcile import reconcile
from gateway.core.slots import slot_of
from gateway.core.tombstone import Forgotten
from gateway.core.windows import DENSE_CHARS, dense_text, dense_window_text
from gateway.flows.browse import pages
from gateway.flows.repeating import given_before_forgetting
from gateway.ports import Extractor, Services

T = TypeVar("T")

KNOWN_PAGE = 300
"""Facts that are read whole. Whoever has more is asked for by relevance beside the newest."""
STANDING_PAGE = 500
SHOWN = 100
"""Known facts that an extractor is shown: about 2,000 tokens."""
NEAR = 8
"""Known facts looked at for each new one."""
TOLD_TURNS = 500
"""Turns that are looked up to learn when values were told, for late exchanges alone."""
NEIGHBOURS = 16
"""Stored turns of a session that are read to find the neighbours of new ones."""
CHARS_A_TOKEN = 4
LONG_CHARS = 16_000
"""Above this, guards and comparisons take longer than a request should wait: in a thread."""


@dataclass
class Vectors:
    """Embeddings of one batch by text, so that nothing is embedded twice; empty while the
    embedder is away."""

    of: dict[str, Vector] = field(default_factory=dict)

    async def have(self, services: Services, texts: Sequence[str]) -> None:
        """Embed those of the texts that are missing, in one call."""
        missing = list(dict.fromkeys(text for text in texts if text and text not in self.of))
        if not missing:
            return
        try:
            vectors = await services.embedder.embed(missing)
        except EmbedderUnavailable:
            # Memories are stored without; the sweep gives them theirs when it is back.
            return
        self.of.update(zip(missing, vectors, strict=True))


async def plan_for(
    services: Services,
    settings: AppSettings,
    extractor: Extractor | None,
    owner: Owner,
    exchanges: Sequence[Exchange],
    vectors: Vectors,
    *,
    now: Instant,
) -> Plan:
    """What to write for these exchanges. Raises ExtractorUnavailable, StoreUnavailable."""
    exchanges = in_order(exchanges)
    now = round(now, 6)  # as finely as stores keep times
    rules = rules_of(settings)
    turns = await turns_to_keep(services, owner, exchanges, rules, now=now)
    trivial = settings.extraction.skip_trivial and all(holds_nothing(e) for e in exchanges)
    if extractor is None or trivial:
        await vectors.have(services, texts_of(turns))
        plan = await _aside(
            exchanges,
            lambda: reconcile((), (), exchanges, rules=rules, now=now, turns=turns),
        )
        return plan if extractor is None else _noted(plan, {"skipped.trivial": len(exchanges)})
    known, stones = await known_of(services, owner, exchanges, now=now)
    batch = batch_of(exchanges, known, settings)
    answer = await extractor.extract(batch)
    judged = await _aside(exchanges, partial(judge, answer, batch, house_of(settings)))
    late = await given_before_forgetting(services, owner, exchanges, stones)
    facts = [fact for fact in judged.facts if fact.turn.turn_id not in late]
    await vectors.have(services, [*texts_of(turns), *(_dense(f) for f in facts)])
    near, found = await nearest(services, owner, facts, vectors, known)
    known = list({m.id: m for m in [*found, *known]}.values())
    reconciled = partial(
        reconcile,
        facts,
        known,
        exchanges,
        rules=rules,
        now=now,
        near=near,
        vectors=[vectors.of.get(_dense(fact)) for fact in facts],
        told=await told_again(services, owner, known, exchanges),
        turns=[put for put in turns if put.memory.id not in late],
        forgotten=Forgotten(owner, stones),
    )
    plan = await _aside(exchanges, reconciled)
    plan = await _without_left_out(services, owner, plan, turns, now=now)
    return _noted(plan, {f"dropped.{why}": n for why, n in judged.dropped.items()})


async def _aside(exchanges: Sequence[Exchange], step: Callable[[], T]) -> T:
    """What reads these exchanges closely, in a thread where that takes long."""
    long = sum(e.size for e in exchanges) > LONG_CHARS
    return await asyncio.to_thread(step) if long else step()


def rules_of(settings: AppSettings) -> Rules:
    """The settings as reconciling needs them."""
    keep = {name: seconds_of(getattr(settings.retention, name)) for name in (*TYPES, "turn")}
    return Rules(
        rank=settings.extraction.rank,
        retention=keep,
        turns=settings.memory.turns == "on",
        tool_output=settings.extraction.tool_output,
    )


def house_of(settings: AppSettings) -> House:
    """The settings as the guards need them."""
    return House(
        tool_output=settings.extraction.tool_output,
        redact=settings.privacy.redact,
        allow_types=settings.privacy.allow_types,
        deny_types=settings.privacy.deny_types,
        examples=_examples(settings.extraction.prompt),
    )


@lru_cache(maxsize=64)
def _examples(prompt: Path | None) -> tuple[Example, ...]:
    return examples_in(extraction_prompt(prompt))


# --- what was said -----------------------------------------------------------------------------


async def turns_to_keep(
    services: Services,
    owner: Owner,
    exchanges: Sequence[Exchange],
    rules: Rules,
    *,
    now: Instant,
) -> list[Put]:
    """The turns as memories, with their windows; none where the settings keep none."""
    if not rules.turns:
        return []
    keep = rules.retention["turn"]
    reading = partial(
        kept_turns,
        exchanges,
        expires_at=None if keep is None else now + keep,
        now=now,
        tool_output=rules.tool_output,
    )
    fresh = await _aside(exchanges, reading)
    return await _in_windows(services, owner, fresh, now=now)


async def _in_windows(
    services: Services, owner: Owner, fresh: Sequence[Memory], *, now: Instant
) -> list[Put]:
    sessions = list(dict.fromkeys(turn.session for turn in fresh if turn.session is not None))
    return with_windows(fresh, await newest_of(services, owner, sessions, now=now))


async def newest_of(
    services: Services, owner: Owner, sessions: Sequence[str], *, now: Instant
) -> dict[str | None, Sequence[Memory]]:
    """The newest stored turns of each session, `NEIGHBOURS` at most.

    The neighbours of a turn that is said now are among them; those of one that arrives late may
    lie further back, and then it does without. One look serves all sessions, most of which are
    new or short: of a batch of 30 it took the store 0.2 ms, where one each took 4. A session that
    long ones crowded out of it is asked for by itself.
    """
    turns: dict[str | None, list[Memory]] = {session: [] for session in sessions}
    where = Where(kinds=("turn",), expired_before=now)
    short = list(sessions)
    if len(sessions) > 1:
        limit = NEIGHBOURS * len(sessions)
        of_all = replace(where, sessions=tuple(sessions))
        page = await services.store.page(owner, of_all, limit=limit)
        for turn in page:
            turns.setdefault(turn.session, []).append(turn)
        whole = len(page) < limit
        short = [] if whole else [s for s in sessions if len(turns[s]) < NEIGHBOURS]
    for session in short:
        alone = replace(where, session=session)
        turns[session] = await services.store.page(owner, alone, limit=NEIGHBOURS)
    return {session: some[:NEIGHBOURS] for session, some in turns.items()}


async def _without_left_out(
    services: Services, owner: Owner, plan: Plan, turns: Sequence[Put], *, now: Instant
) -> Plan:
    """The plan with windows that hold no word of the turns that it leaves out, or forgets."""
    planned = {write.memory.id for write in plan.writes if isinstance(write, Put)}
    if all(put.memory.id in planned for put in turns):
        return plan
    gone = {write.id for write in plan.writes if isinstance(write, Forget)}
    ours = {put.memory.id for put in turns}
    fresh = [
        put.memory
        for put in turns
        if put.memory.id in planned and put.memory.source.exchange_id in plan.exchange_ids
    ]
    puts = [
        put
        for put in await _in_windows(services, owner, fresh, now=now)
        if put.memory.id not in gone
    ]
    others = [w for w in plan.writes if not (isinstance(w, Put) and w.memory.id in ours)]
    return replace(plan, writes=(*puts, *others))


def batch_of(
    exchanges: Sequence[Exchange], known: Sequence[Memory], settings: AppSettings
) -> ExtractionBatch:
    """The batch as an extractor is shown it.

    `now` is the time of what was said last, so that a log of last year is read as of then.
    """
    turns = numbered_turns(exchanges)
    budget = settings.extraction.max_batch_tokens * CHARS_A_TOKEN
    shown = shown_texts([turn.text for turn in turns], budget)
    return ExtractionBatch(
        now=max((turn.at for turn in turns), default=exchanges[-1].at),
        timezone=timezone_of(exchanges, known),
        known=tuple(
            KnownMemory(n, memory)
            for n, memory in enumerate(worth_showing(known, turns, SHOWN), start=1)
        ),
        turns=tuple(_shown(turn, text) for turn, text in zip(turns, shown, strict=True)),
    )


def _shown(turn: ExtractionTurn, text: str | None) -> ExtractionTurn:
    return turn if text is None else replace(turn, shown=text)


# --- what is known -----------------------------------------------------------------------------


async def known_of(
    services: Services, owner: Owner, exchanges: Sequence[Exchange], *, now: Instant
) -> tuple[list[Memory], list[Memory]]:
    """The facts that this batch may touch, active and quarantined ones; for an exchange that
    arrives late, those superseded meanwhile too, among which its facts belong. And the
    tombstones of what was forgotten."""
    where = Where(kinds=("fact",), statuses=("active", "quarantined"), expired_before=now)
    gone = replace(where, statuses=("forgotten",))
    # One look for almost everybody; tombstones alone never crowd out what is known.
    both = replace(where, statuses=(*where.statuses, *gone.statuses))
    first = await services.store.page(owner, both, limit=KNOWN_PAGE)
    stones = [m for m in first if m.status == "forgotten"]
    known = {m.id: m for m in first if m.status != "forgotten"}
    if len(first) >= KNOWN_PAGE:
        stones = [m async for page in pages(services, owner, gone) for m in page]
        known = {m.id: m for m in await services.store.page(owner, where, limit=KNOWN_PAGE)}
    if len(known) >= KNOWN_PAGE:
        standing = replace(where, types=("profile", "preference", "task_state"))
        for memory in await services.store.page(owner, standing, limit=STANDING_PAGE):
            known.setdefault(memory.id, memory)
        said = "\n".join(t.text for e in exchanges for t in e.turns if t.role == "user")
        found = await services.store.search(
            owner, Probe(said[-DENSE_CHARS:], replace(where, statuses=("active",)), limit=SHOWN)
        )
        known = {**found.memories, **known}
    if may_be_late(known.values(), exchanges):
        past = replace(where, statuses=("superseded",))
        for memory in await services.store.page(owner, past, limit=KNOWN_PAGE):
            known.setdefault(memory.id, memory)
    return list(known.values()), stones


def may_be_late(known: Iterable[Memory], exchanges: Sequence[Exchange]) -> bool:
    """Whether something was written since these exchanges were said, so that they may belong
    before it."""
    first = exchanges[0].at
    return any(memory.updated_at > first or memory.created_at > first for memory in known)


async def told_again(
    services: Services, owner: Owner, known: Sequence[Memory], exchanges: Sequence[Exchange]
) -> Mapping[str, Instant]:
    """For exchanges that may be late: when things were told, keyed values before all, as far as
    their turns are still there."""
    if not may_be_late(known, exchanges):
        return {}
    keyed_last = sorted(known, key=lambda m: slot_of(m.type, m.key) is not None)
    ids = [id for m in keyed_last for id in m.covers][-TOLD_TURNS:]
    turns = await services.store.get(owner, list(dict.fromkeys(ids)))
    return {turn.id: turn.created_at for turn in turns}


async def nearest(
    services: Services,
    owner: Owner,
    facts: Sequence[Fact],
    vectors: Vectors,
    known: Sequence[Memory],
) -> tuple[list[Mapping[str, float]], list[Memory]]:
    """For each fact the cosine to the known facts near it, and those facts."""
    if not known:
        return [{} for _ in facts], []
    where = Where(kinds=("fact",))

    async def near(fact: Fact) -> tuple[Mapping[str, float], list[Memory]]:
        vector = vectors.of.get(_dense(fact))
        if vector is None or fact.action in ("retract", "duplicate"):
            return {}, []
        probe = Probe(fact.text, where, limit=NEAR, dense=vector)
        found = await services.store.search(owner, probe)
        scores = dict(found.lists.get("dense", ()))
        return scores, [found.memories[id] for id in scores if id in found.memories]

    results = await asyncio.gather(*(near(fact) for fact in facts))
    return [scores for scores, _ in results], [m for _, some in results for m in some]


def texts_of(puts: Sequence[Put]) -> list[str]:
    """What is to be embedded for these."""
    texts = [dense_text(put.memory) for put in puts]
    return texts + [dense_window_text(put.window) for put in puts if put.window is not None]


def _dense(fact: Fact) -> str:
    return fact.text[:DENSE_CHARS]


def _noted(plan: Plan, more: Mapping[str, int]) -> Plan:
    return replace(plan, notes=(*plan.notes, *sorted(more.items())))
