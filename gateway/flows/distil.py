"""From a user's pending exchanges to a plan of what to write. Nothing is written here.

The journey: what is known of this user, what was said, what an extractor makes of it, what of
that is believed, how near it lies to what is known, and so what is to be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

from gateway.config import AppSettings, extraction_prompt, seconds_of
from gateway.core.batch import (
    holds_nothing,
    in_order,
    kept_turns,
    numbered_turns,
    timezone_of,
    tokens_to_extract,
    with_windows,
    worth_showing,
)
from gateway.core.book import Rules
from gateway.core.delivery import Forget, Plan, Put
from gateway.core.errors import ExtractorUnavailable
from gateway.core.exchange import Exchange
from gateway.core.extraction import (
    ExtractionBatch,
    ExtractionTurn,
    KnownMemory,
    shown_texts,
)
from gateway.core.guards import Example, Fact, House, examples_in, judge
from gateway.core.identity import Owner
from gateway.core.memory import TYPES, Instant, Memory, Where
from gateway.core.reconcile import reconcile
from gateway.core.tombstone import Forgotten
from gateway.flows.everything import all_forgotten
from gateway.flows.hindsight import (
    Later,
    first_told,
    heard_of,
    places_in,
    said_later,
    takes_back,
    told_before,
)
from gateway.flows.known import SHOWN, known_of, nearest, told_again
from gateway.flows.repeating import given_before_forgetting
from gateway.flows.tasks import aside
from gateway.flows.vectors import Vectors, dense_fact, texts_of
from gateway.ports import Extractor, Services

NEIGHBOURS = 16
"""Stored turns of a session that are read to find the neighbours of new ones."""
CHARS_A_TOKEN = 4


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
    chars = sum(exchange.size for exchange in exchanges)
    rules = rules_of(settings)
    turns = await turns_to_keep(services, owner, exchanges, rules, now=now)
    trivial = settings.extraction.skip_trivial and all(holds_nothing(e) for e in exchanges)
    if extractor is None or trivial:
        await vectors.have(services, texts_of(turns))
        plan = await aside(
            chars,
            lambda: reconcile((), (), exchanges, rules=rules, now=now, turns=turns),
        )
        return plan if extractor is None else _noted(plan, {"skipped.trivial": len(exchanges)})
    known, stones = await known_of(services, owner, exchanges, now=now)
    batch = batch_of(exchanges, known, settings)
    answer = await extractor.extract(batch)
    judged = await aside(chars, partial(judge, answer, batch, house_of(settings)))
    late = await given_before_forgetting(services, owner, exchanges, stones)
    facts = [fact for fact in judged.facts if fact.turn.turn_id not in late]
    await vectors.have(services, [*texts_of(turns), *(dense_fact(f) for f in facts)])
    near, found = await nearest(services, owner, facts, vectors, known)
    known = list({m.id: m for m in [*found, *known]}.values())
    reconciled = partial(
        reconcile,
        known=known,
        exchanges=exchanges,
        rules=rules,
        now=now,
        near=near,
        vectors=[vectors.of.get(dense_fact(fact)) for fact in facts],
        told=await told_again(services, owner, known, exchanges),
        turns=[put for put in turns if put.memory.id not in late],
        forgotten=Forgotten(owner, stones),
    )
    plan = await aside(chars, partial(reconciled, facts))
    heard = heard_of(plan, batch)
    later = await said_later(services, owner, heard, batch, now=now)
    if later:
        await _counted(services, settings, owner, later, now=now)
        try:
            back = await _taken_back(settings, extractor, heard, later, batch)
        except ExtractorUnavailable as exc:
            if not exc.counts_as_try:
                raise
            # What was drawn from the batch itself is not lost for it, nor the batch cut in halves.
            back = []
            plan = _noted(plan, {"skipped.later_words": len(later)})
        if back:
            others = [turn.distilled for turn in later if turn.distilled is not None]
            plan = await aside(chars, partial(reconciled, [*facts, *back], distilled=others))
    plan = await _without_left_out(services, owner, plan, turns, now=now)
    plan = await all_forgotten(services, owner, plan, facts, exchanges, known, now=now)
    return _noted(plan, {f"dropped.{why}": n for why, n in judged.dropped.items()})


async def _counted(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    later: Sequence[Later],
    *,
    now: Instant,
) -> None:
    """A second request counts in the budget of the day as far as there is any left. It is not
    waited for: the first one's answer would be lost."""
    limit = settings.extraction.daily_token_budget
    if limit is not None and services.budget is not None:
        chars = sum(len(each.turn.text) for each in later)
        await services.budget.spend(owner.app, tokens_to_extract(chars), limit, now=now)


async def _taken_back(
    settings: AppSettings,
    extractor: Extractor,
    heard: Sequence[Memory],
    later: Sequence[Later],
    batch: ExtractionBatch,
) -> list[Fact]:
    """What later turns take back of what is heard of only now. A value that one of them set has
    its place by its time already, so that it only ends what it names. Raises
    ExtractorUnavailable."""
    turns = [replace(each.turn, n=n) for n, each in enumerate(later, start=1)]
    places = places_in(batch)
    before = first_told([m for m in heard if any(told_before(m, turn, places) for turn in turns)])
    asked = as_shown(turns, before, settings, timezone=batch.timezone)
    answer = await extractor.extract(asked)
    chars = sum(len(turn.text) for turn in turns)
    judged = await aside(chars, partial(judge, answer, asked, house_of(settings)))
    return [
        replace(fact, action="retract", turn=later[fact.turn.n - 1].turn)
        for fact in judged.facts
        if takes_back(fact, places)
    ]


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
    fresh = await aside(sum(exchange.size for exchange in exchanges), reading)
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
    shown = worth_showing(known, turns, SHOWN)
    batch = as_shown(turns, shown, settings, timezone=timezone_of(exchanges, known))
    return batch if turns else replace(batch, now=exchanges[-1].at)


def as_shown(
    turns: Sequence[ExtractionTurn],
    known: Sequence[Memory],
    settings: AppSettings,
    *,
    timezone: str,
) -> ExtractionBatch:
    """These turns, cut to the budget, with what is known numbered from 1."""
    budget = settings.extraction.max_batch_tokens * CHARS_A_TOKEN
    shown = shown_texts([turn.text for turn in turns], budget)
    return ExtractionBatch(
        now=max((turn.at for turn in turns), default=0.0),
        timezone=timezone,
        known=tuple(KnownMemory(n, memory) for n, memory in enumerate(known, start=1)),
        turns=tuple(_shown(turn, text) for turn, text in zip(turns, shown, strict=True)),
    )


def _shown(turn: ExtractionTurn, text: str | None) -> ExtractionTurn:
    return turn if text is None else replace(turn, shown=text)


def _noted(plan: Plan, more: Mapping[str, int]) -> Plan:
    return replace(plan, notes=(*plan.notes, *sorted(more.items())))
