"""One recall under way: its parts are begun as early as each can be, and waited for together.

The search needs nobody's answer but the owner's: it can be begun before it is known which
conversation the question belongs to (`Asking.begin`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from time import perf_counter
from typing import Final, NamedTuple

from gateway.config import AppSettings
from gateway.core.batch import asks_for_nothing
from gateway.core.choice import Budget, Offer, choose, is_standing
from gateway.core.excerpt import Ref, read_ref
from gateway.core.exchange import Exchange, turn_memory_id
from gateway.core.identity import Owner
from gateway.core.memory import TYPES, Found, Instant, Memory, Where
from gateway.core.question import LONG_CHARS, asked_text, asks, asks_of_the_past, cleaned
from gateway.core.ranking import Asked, rank, reranked
from gateway.core.relevance import Scale, has_half_of, relevance
from gateway.core.scored import Scored
from gateway.core.timeline import remembered_zone
from gateway.core.waiting import among, just_said
from gateway.flows.between import forgotten_waiting, outdated_facts, standing_memories
from gateway.flows.candidates import Candidates, Stage
from gateway.flows.of_a_time import memories_of, those_alone, times_alone
from gateway.flows.outdated import OVER, corrected
from gateway.flows.parts import Parts
from gateway.flows.question import Question, Recalled, budget_of
from gateway.ports import Services

REREAD: Final = 20
"""The best candidates that a cross-encoder reads, if one is set: some 5 ms each."""
REREAD_CHARS: Final = 1000
PENDING: Final = 50
"""Exchanges not yet distilled that are looked at."""

MOST_FORMER: Final = 10
"""Turns that told what was so before, where the past is asked about."""


class _Search(NamedTuple):
    """What of a search depends on what is known of the person: how many memories that always
    count it is to bring, and in which language it is made."""

    standing: int
    language: str | None


class Asking:
    """One recall under way, of one question or of one that is not known in full yet. Who makes
    it ends it (`parts.end`)."""

    def __init__(
        self,
        services: Services,
        settings: AppSettings,
        owner: Owner,
        question: Question,
        now: Instant,
        *,
        seconds: float,
    ) -> None:
        self._services = services
        self._settings = settings
        self._owner = owner
        self._question = question
        self._now = now
        self._own = cleaned(question.text)
        self._text = asked_text(question.text, question.before)
        self.parts = Parts(seconds)
        self.candidates = Candidates(services, settings, owner, self._text, self.parts)
        self._kept: Sequence[Memory] | None = None
        self._search: _Search | None = None
        self._waiting: asyncio.Task[Sequence[Exchange]] | None = None
        self._forgotten: Collection[str] = ()
        self._timezone = question.timezone

    # --- the journey -------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to look. What always counts is taken to be what it was last; where the
        conversation says otherwise, `recall` searches once more.

        What was distilled between the search and a later look at what waits would be in neither:
        that begins first. And what always counts, found now, may be older than the version that
        the conversation tells, under which it would be kept until the next write: where nothing
        is kept yet, `recall` searches.
        """
        self._waiting = self.parts.begin(self._pending(), "recall-pending")
        if not self._keeps_standing:
            self._begin(_Search(self._most_standing, None))
            return
        self._kept = standing_memories.last(self._owner.tenant, now=self._now)
        if self._kept is not None:
            self._begin(_Search(0, self._language()))

    def _begin(self, search: _Search) -> None:
        self._search = search
        self.candidates.begin(self._where(), standing=search.standing, language=search.language)

    async def recall(self, question: Question | None = None) -> Recalled:
        """The whole journey, one step a line. `question`: with all that is known by now."""
        self._question = question or self._question
        pending = self._waiting or self.parts.begin(self._pending(), "recall-pending")
        sticky = self._begin_sticky()
        if self._question.again:
            return self._same_again(await self._block(sticky, pending))
        forgotten = self.parts.begin(self._forgotten_of(pending), "recall-forgotten")
        self._kept = self._kept_standing()
        search = _Search(self._standing_wanted(), self._language())
        # The one before is not cut short: a breaker may have let it through to try the store.
        if self._search is None or (self._search != search and await self.candidates.answers()):
            self._begin(search)
        found, stage = await self.candidates.find()
        scale = await self.candidates.scale() if found.lists.get("dense") else None
        held = await self._block(sticky, pending)
        waiting = await self.parts.within(pending, "pending") or ()
        self._forgotten = await self.parts.within(forgotten, "forgotten", needed=False) or ()
        standing = self._standing_of(found, stage)
        self._find_timezone(standing or (), held)
        found = await self.of_its_time(found, self._where())
        found = await self._with_former(found, standing or ())
        outdated = await self.outdated_turns(found, [memory for _, memory in held])
        held = [(ref, memory) for ref, memory in held if memory.id not in outdated]
        ranked = await self.ranking(found, outdated)
        if len(self._settings.memory.types) < len(TYPES) or self._settings.memory.turns == "off":
            ranked = [s for s in ranked if self._counts(s.memory)]
        return self._chosen(found, stage, scale, ranked, standing, held, waiting)

    async def of_its_time(self, found: Found, where: Where) -> Found:
        """What was found; the memories of the time that is asked about, where nothing else is."""
        store, zone = self._services.store, self._timezone
        now = self._now if self._question.as_of is None else self._question.as_of
        spans = times_alone(self._text, now=now, timezone=zone)
        if not spans:
            return found
        looking = memories_of(store, self._owner, where, spans, now=now, timezone=zone)
        task = self.parts.begin(looking, "recall-dated")
        return those_alone(found, await self.parts.within(task, "dated") or ())

    async def ranking(self, found: Found, outdated: Collection[str] = ()) -> list[Scored]:
        """The candidates by score; reread by a cross-encoder where the settings ask for it."""
        former = await self._former_turns(found)
        began = perf_counter()
        question = self._question
        asked = Asked(self._text, self._own, question.as_of, self._timezone)
        ranked = rank(asked, found, now=self._now, outdated=outdated, former=former)
        self.parts.took("scoring", began)
        reranker = self._services.reranker
        if reranker is None or self._settings.memory.rerank == "off" or len(ranked) < 2:
            return ranked
        texts = [s.memory.text[:REREAD_CHARS] for s in ranked[:REREAD]]
        reading = self.parts.begin(reranker.rerank(self._text, texts), "recall-rerank")
        fits = await self.parts.within(reading, "rerank")
        return ranked if fits is None else reranked(ranked, fits)

    def _chosen(
        self,
        found: Found,
        stage: Stage,
        scale: Scale | None,
        ranked: Sequence[Scored],
        standing: Sequence[Memory] | None,
        held: Sequence[tuple[Ref, Memory]],
        waiting: Sequence[Exchange],
    ) -> Recalled:
        """Choose under the budget."""
        began = perf_counter()
        question, memory = self._question, self._settings.memory
        if stage == "none" and standing is not None:
            stage = "profile"
        if stage == "none" and not held and not waiting:
            self.parts.took("total", self.parts.began)
            return Recalled(stage_ms=self.parts.took_ms)
        conversation = question.conversation
        session = conversation.session if conversation is not None else None
        said = just_said(
            waiting if memory.turns == "on" else (),
            text=self._text,
            session=session,
            known={*found.memories, *self._forgotten},
            as_of=question.as_of,
        )
        choice = choose(
            Offer(
                self._text,
                sticky=held,
                standing=[m for m in standing or () if self._counts(m) and not self._is_over(m)],
                just_said=said,
                ranked=ranked,
                relevant=self._is_relevant(found, ranked, scale),
                present=question.present,
                session=session,
                exchange=question.exchange,
                timezone=self._timezone,
            ),
            self._budget(),
        )
        for scored in ranked:
            scored.left_out = choice.left_out.get(scored.memory.id)
        self.parts.took("choice", began)
        self.parts.took("total", self.parts.began)
        return Recalled(
            memories=choice.memories,
            lines=choice.lines,
            refs=choice.refs,
            status="partial" if self.parts.missing else "ok",
            stage=stage,
            tokens=choice.tokens,
            considered=tuple(ranked),
            stage_ms=self.parts.took_ms,
            timezone=self._timezone,
            cut=choice.cut,
        )

    def _is_relevant(self, found: Found, ranked: Sequence[Scored], scale: Scale | None) -> bool:
        """Whether what was found is about what is looked for, or about what is asked in so many
        words: the turn before ("Priya?") or a page that is pasted may be of something else, and
        drowns them. Of these words alone there is no vector. "Great!" asks for nothing, and any
        memory may have that word; it leaves the block as it is."""
        if asks_for_nothing(self._own, self._question.before):
            return False
        if found.lists.get("dated"):
            return True
        floor = self._settings.memory.floor
        if relevance(self._text, found, ranked, scale=scale) >= floor:
            return True
        if self._text == self._own and len(self._own) <= LONG_CHARS:
            return False
        return any(relevance(ask, found, ranked, scale=None) >= floor for ask in asks(self._own))

    def _same_again(self, held: Sequence[tuple[Ref, Memory]]) -> Recalled:
        """The block as it is: nothing new is looked for."""
        self._find_timezone((), held)
        choice = choose(Offer(self._text, sticky=held, timezone=self._timezone), self._budget())
        self.parts.took("total", self.parts.began)
        late = self.parts.missing
        return Recalled(
            memories=choice.memories,
            lines=choice.lines,
            refs=choice.refs,
            status="ok" if not late else "partial" if held else "degraded",
            stage="none" if late and not held else "full",
            tokens=choice.tokens,
            stage_ms=self.parts.took_ms,
            timezone=self._timezone,
            cut=choice.cut,
        )

    # --- the parts ---------------------------------------------------------------------------

    def _begin_sticky(self) -> asyncio.Task[list[Memory]] | None:
        conversation = self._question.conversation
        if conversation is None or not conversation.injected:
            return None
        ids = [read_ref(text).id for text in conversation.injected]
        return self.parts.begin(self._services.store.get(self._owner, ids), "recall-sticky")

    async def _block(
        self, sticky: asyncio.Task[list[Memory]] | None, pending: asyncio.Task[Sequence[Exchange]]
    ) -> list[tuple[Ref, Memory]]:
        """What stands in the conversation's block and may still stand there, in the store or
        waiting for it: a turn of the queue left the block with the first question that it did not
        answer, and came back with the next one that it did."""
        held = await self.parts.within(sticky, "sticky")
        conversation = self._question.conversation
        if held is None or conversation is None:
            return []
        refs = [read_ref(text) for text in conversation.injected]
        by_id = {memory.id: memory for memory in held}
        if gone := {ref.id for ref in refs}.difference(by_id):
            by_id |= among(await self.parts.within(pending, "pending") or (), gone)
        return [
            (ref, memory)
            for ref in refs
            if (memory := by_id.get(ref.id)) is not None and self._still_holds(memory)
        ]

    def _still_holds(self, memory: Memory) -> bool:
        if memory.expires_at is not None and memory.expires_at <= self._now:
            return False
        as_of = self._question.as_of
        if as_of is not None:
            held_then = memory.valid_from <= as_of and not (
                memory.valid_to is not None and memory.valid_to <= as_of
            )
            return held_then and memory.status in ("active", "superseded") and self._counts(memory)
        return memory.status == "active" and self._counts(memory)

    async def outdated_turns(self, found: Found, held: Sequence[Memory] = ()) -> Collection[str]:
        """Turns whose fact was corrected, or superseded by one that holds (at `as_of`, where a time
        is asked about), unless the question is about the past."""
        if asks_of_the_past(self._own):
            return ()
        # What the block holds is judged alike whether this question's search found it or not:
        # else it would leave with one question and break the prompt cache.
        memories = {**{memory.id: memory for memory in held}, **found.memories}
        known = (*memories.values(), *(self._kept or ()))
        wrong = frozenset(corrected((m for m in known if m.history), memories))
        if self._question.as_of is None:
            said = (memory for memory in memories.values() if memory.kind == "turn")
            wrong |= {turn.id for turn in said if OVER in turn.metadata}
        return await self._superseded_by([m for m in known if m.supersedes]) | wrong

    async def _with_former(self, found: Found, standing: Sequence[Memory]) -> Found:
        """And, where the past is asked about, what a fact that always counts took the place of, and
        itself: by the words of the question ("my previous employer") none of it may be found."""
        if self._question.as_of is not None or not asks_of_the_past(self._own):
            return found
        facts = [m for m in standing if m.supersedes and has_half_of(self._own, m)]
        await self._superseded_by(facts)
        turns, _ = outdated_facts.turns(self._owner.tenant, facts, now=self._now)
        missing = sorted(turns.difference(found.memories))[:MOST_FORMER]
        if not missing:
            return found
        getting = self.parts.begin(self._services.store.get(self._owner, missing), "recall-former")
        former = [
            memory
            for memory in await self.parts.within(getting, "former", needed=False) or ()
            if self._still_holds(memory)
        ]
        if not former:
            return found
        by_id = {memory.id: memory for memory in (*facts, *former)}
        return Found(
            lists={**found.lists, "former": [(id, 1.0) for id in by_id]},
            memories={**found.memories, **by_id},
        )

    async def _former_turns(self, found: Found) -> dict[str, str]:
        """Where the past is asked about: the turns that told what was so before, each with the fact
        that is so now."""
        facts = [m for m in found.memories.values() if m.supersedes and m.status == "active"]
        if not facts or self._question.as_of is not None or not asks_of_the_past(self._own):
            return {}
        await self._superseded_by(facts)
        tenant, now = self._owner.tenant, self._now
        return {turn: f.id for f in facts for turn in outdated_facts.turns(tenant, [f], now=now)[0]}

    async def _superseded_by(self, facts: Sequence[Memory]) -> frozenset[str]:
        """The turns that told what these have superseded, as far as it is learnt in time."""
        turns, unknown = outdated_facts.turns(self._owner.tenant, facts, now=self._now)
        if unknown:
            learning = outdated_facts.learn(
                self._services.store, self._owner, unknown, now=self._now
            )
            task = self.parts.begin(learning, "recall-outdated")
            await self.parts.within(task, "outdated", needed=False)
            turns, _ = outdated_facts.turns(self._owner.tenant, facts, now=self._now)
        return turns

    async def _pending(self) -> Sequence[Exchange]:
        return await self._services.queue.pending(self._owner, limit=PENDING)

    async def _forgotten_of(self, pending: asyncio.Task[Sequence[Exchange]]) -> Collection[str]:
        """The turns among those that wait which were forgotten meanwhile: the queue gives them on
        to a worker, who finds their tombstones, and so does who would recall them until then."""
        tenant, version = self._owner.tenant, self._version
        gone = forgotten_waiting.get(tenant, version=version, now=self._now) if version else None
        if gone is None:
            ids = [turn_memory_id(e.origin, turn.n) for e in await pending for turn in e.turns]
            known = await self._services.store.get(self._owner, ids) if ids else ()
            gone = tuple(memory for memory in known if memory.status == "forgotten")
            forgotten_waiting.keep(tenant, gone, version=version, now=self._now)
        return {memory.id for memory in gone}

    # --- what settings and question say ----------------------------------------------------------

    def _where(self) -> Where:
        question = self._question
        kinds = question.kinds
        if self._settings.memory.turns == "off":
            kinds = ("fact",)
        return Where(
            kinds=kinds,
            types=question.types,
            as_of=question.as_of,
            metadata=question.metadata,
            expired_before=self._now,
        )

    def _counts(self, memory: Memory) -> bool:
        """Types that the settings leave out are not asked of the store, as turns have none."""
        types = self._settings.memory.types
        if memory.kind == "turn":
            return self._settings.memory.turns == "on"
        return memory.type is None or len(types) == len(TYPES) or memory.type in types

    def _is_over(self, memory: Memory) -> bool:
        """A preference whose time has passed is found where it is asked about, and is followed no
        more; what is pinned stays."""
        at = self._now if self._question.as_of is None else self._question.as_of
        return memory.valid_to is not None and memory.valid_to <= at and not memory.pinned

    def _budget(self) -> Budget:
        return budget_of(self._question, self._settings.memory)

    def _kept_standing(self) -> Sequence[Memory] | None:
        """What always counts, as an earlier recall found it and still holds; None: ask for it.

        Where the state is away there is no version to go by, and what is kept serves for a
        minute, but only if the store is away as well (`_standing_of`).
        """
        if not self._keeps_standing:
            return None
        return standing_memories.get(self._owner.tenant, version=self._version, now=self._now)

    @property
    def _version(self) -> str:
        """Changes with every write of a memory; "" where shared state cannot tell."""
        conversation = self._question.conversation
        return conversation.standing_version if conversation is not None else ""

    def _standing_wanted(self) -> int:
        return 0 if self._version and self._kept is not None else self._most_standing

    @property
    def _most_standing(self) -> int:
        """Twice as many as are used: those whose time has passed stand among them."""
        return 2 * self._settings.memory.standing_max

    @property
    def _keeps_standing(self) -> bool:
        """What always counts is the same for every question, but of another time or a part."""
        question = self._question
        return question.as_of is None and not (
            question.metadata or question.kinds or question.types
        )

    def _standing_of(self, found: Found, stage: Stage) -> Sequence[Memory] | None:
        """Profile, preferences and what is pinned: as kept, else as found now; None: unknown."""
        if stage == "none" or self._search is None or not self._search.standing:
            return self._kept
        memories = [
            found.memories[id] for id, _ in found.lists.get("standing", ()) if id in found.memories
        ]
        standing = [m for m in memories if is_standing(m) and not self._is_over(m)]
        standing = standing[: self._settings.memory.standing_max]
        if self._keeps_standing:
            standing_memories.keep(
                self._owner.tenant, standing, version=self._version, now=self._now
            )
        return standing

    def _find_timezone(
        self, standing: Sequence[Memory], held: Sequence[tuple[Ref, Memory]]
    ) -> None:
        """The request's timezone; where it names none that which is remembered, in which "today"
        was read when what was said was distilled."""
        known = (*standing, *(memory for _, memory in held))
        holds = (m for m in known if self._counts(m) and not self._is_over(m))
        self._timezone = self._question.timezone or remembered_zone(holds)

    def _language(self) -> str | None:
        """The user's language, where a preference that is known here names it."""
        kept = (m for m in self._kept or () if m.key == "language" and not self._is_over(m))
        return next((m.value for m in kept if m.value), None)
