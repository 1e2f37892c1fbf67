"""Recall: the right memories, few of them, in time. One path for chat, search and evaluation.

Stages, under one deadline: the search for words starts at once while the question's embedding
is computed; then the search by vector; then scoring (`core/ranking`), the floor
(`core/relevance`) and the choice under a budget (`core/choice`). A part that is late or away is
left out, and the stage says how far recall came: full, lexical, profile (kept from an earlier
recall), none. Nothing here raises for a part that is away, but `search`, whose caller asked for
nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final, Literal, TypeVar

from gateway.config import AppSettings
from gateway.core.choice import Budget, Offer, choose, is_standing
from gateway.core.errors import EmbedderUnavailable, StoreUnavailable, Unavailable
from gateway.core.excerpt import Ref, read_ref
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.core.injection import BLOCK_CLOSE, BLOCK_OPEN, HEADER, estimate_tokens
from gateway.core.memory import (
    NOTHING_FOUND,
    TYPES,
    Found,
    Instant,
    Kind,
    ListName,
    Memory,
    Probe,
    Type,
    Vector,
    Where,
)
from gateway.core.question import asked_text, cleaned, just_said, may_name_someone
from gateway.core.ranking import Asked, Scored, named_speakers, rank, without_names
from gateway.core.relevance import PROBES, Scale, known_scale, relevance, scale_of
from gateway.flows.standing import StandingCache
from gateway.flows.tasks import beside
from gateway.ports import Conversation, EmbeddingModel, Services
from gateway.telemetry.logs import log

__all__ = ["Question", "Recalled", "Scored", "candidates", "recall", "search"]

T = TypeVar("T")
Status = Literal["ok", "partial", "degraded"]
Stage = Literal["full", "lexical", "profile", "none"]

BY_WORDS: Final = 50
BY_VECTOR: Final = 80
"""Results asked of each list. 100 and 100 find as much (83.5 against 83.7 of the evidence on
LoCoMo in ten), 40 and 40 a point less, and every candidate is opened and scored."""
PENDING: Final = 50
"""Exchanges not yet distilled that are looked at."""
SCORING_SHARE: Final = 0.05
"""The share of the deadline that is kept for scoring, after the last answer has come."""

_log = log("recall")
_standing = StandingCache()
_scales: dict[EmbeddingModel, Scale] = {}
"""What the cosines of each model mean; measured once in a process."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and in which surroundings.

    `before` is the turn before it; `present` are the texts that the request itself still
    contains. `again`: this user turn was recalled for already (a tool loop), so the
    block stays as it is. The last three lower the settings.
    """

    text: str
    before: str = ""
    conversation: Conversation | None = None
    as_of: Instant | None = None
    timezone: str | None = None
    present: tuple[str, ...] = ()
    again: bool = False
    kinds: tuple[Kind, ...] = ()
    types: tuple[Type, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    max_memories: int | None = None
    deadline_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Recalled:
    """What is to be injected, in the order of the block, and how it came about.

    `refs` run parallel to `memories` and are what a conversation keeps of them: ids, with the
    place where only a passage was taken. `considered` is every candidate, best first.
    """

    memories: tuple[Memory, ...] = ()
    refs: tuple[str, ...] = ()
    status: Status = "degraded"
    stage: Stage = "none"
    tokens: int = 0
    considered: tuple[Scored, ...] = ()
    stage_ms: Mapping[str, float] = field(default_factory=dict)


async def recall(
    services: Services, settings: AppSettings, owner: Owner, question: Question, *, now: Instant
) -> Recalled:
    """What this request should remember; within the deadline, whatever is away."""
    deadline_ms = settings.memory.deadline_ms
    if question.deadline_ms is not None:
        deadline_ms = min(deadline_ms, question.deadline_ms)
    asking = _Asking(services, settings, owner, question, now, deadline_ms=deadline_ms)
    try:
        return await asking.recall()
    finally:
        asking.end()


async def search(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    query: str,
    *,
    where: Where,
    limit: int,
    now: Instant,
) -> list[Scored]:
    """The best `limit` memories for a query, whatever the floor. Raises Unavailable."""
    found = await candidates(services, settings, owner, query, where=where, now=now)
    return rank(Asked(asked_text(query), as_of=where.as_of), found, now=now)[:limit]


async def candidates(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    query: str,
    *,
    where: Where,
    now: Instant,
) -> Found:
    """What the store finds for a query, before it is ranked. Raises Unavailable."""
    patience_ms = settings.qdrant.timeout_s * 1000.0
    question = Question(query, as_of=where.as_of)
    asking = _Asking(services, settings, owner, question, now, deadline_ms=patience_ms)
    try:
        found, stage = await asking.candidates(replace(where, expired_before=now), standing=0)
    finally:
        asking.end()
    if stage == "none":
        raise asking.failure or StoreUnavailable("the store did not answer in time; try again")
    return found


def forget(tenant: str) -> None:
    """Drop what this process holds of a tenant that was erased."""
    _standing.forget(tenant)


class _Asking:
    """One recall under way: what it began, what went wrong, how long the parts took."""

    def __init__(
        self,
        services: Services,
        settings: AppSettings,
        owner: Owner,
        question: Question,
        now: Instant,
        *,
        deadline_ms: float,
    ) -> None:
        self._services = services
        self._settings = settings
        self._owner = owner
        self._question = question
        self._now = now
        self._began = perf_counter()
        self._until = self._began + deadline_ms * (1.0 - SCORING_SHARE) / 1000.0
        self._tasks: list[asyncio.Task[Any]] = []
        self.own = cleaned(question.text)
        self.text = asked_text(question.text, question.before)
        self.stage_ms: dict[str, float] = {}
        self.failure: Unavailable | None = None
        self._left_out = False

    # --- the journey -------------------------------------------------------------------------

    async def recall(self) -> Recalled:
        """The whole journey, one step a line."""
        sticky = self._begin_sticky()
        if self._question.again:
            return self._same_again(await self._within(sticky, "sticky") or [])
        pending = self._begin(self._pending(), "recall-pending")
        found, stage = await self.candidates(
            self._where(), standing=self._settings.memory.standing_max
        )
        scale = await self._scale() if found.lists.get("dense") else None
        held = await self._within(sticky, "sticky") or []
        waiting = await self._within(pending, "pending") or ()
        return self._chosen(found, stage, scale, held, waiting)

    def _chosen(
        self,
        found: Found,
        stage: Stage,
        scale: Scale | None,
        held: Sequence[tuple[Ref, Memory]],
        waiting: Sequence[Exchange],
    ) -> Recalled:
        """Score what came, and choose under the budget."""
        began = perf_counter()
        question, memory = self._question, self._settings.memory
        standing = self._standing_of(found, stage)
        if stage == "none" and standing is not None:
            stage = "profile"
        if stage == "none" and not held and not waiting:
            self._took("total", self._began)
            return Recalled(stage_ms=self.stage_ms)
        asked = Asked(self.text, self.own, question.as_of, question.timezone)
        ranked = [s for s in rank(asked, found, now=self._now) if self._counts(s.memory)]
        conversation = question.conversation
        said = just_said(
            waiting if memory.turns == "on" else (),
            text=self.text,
            session=conversation.session if conversation is not None else None,
            known=found.memories,
        )
        choice = choose(
            Offer(
                self.text,
                sticky=held,
                standing=[m for m in standing or () if self._counts(m)],
                just_said=said,
                ranked=ranked,
                relevant=relevance(self.text, found, ranked, scale=scale) >= memory.floor,
                present=question.present,
            ),
            self._budget(),
        )
        self._took("scoring", began)
        self._took("total", self._began)
        return Recalled(
            memories=choice.memories,
            refs=choice.refs,
            status="partial" if self._left_out else "ok",
            stage=stage,
            tokens=choice.tokens,
            considered=tuple(
                Scored(s.memory, s.score, s.why, choice.left_out.get(s.memory.id)) for s in ranked
            ),
            stage_ms=self.stage_ms,
        )

    async def candidates(self, where: Where, *, standing: int) -> tuple[Found, Stage]:
        """What the store finds by words, then by vector; how far it came."""
        if not self.text.strip():
            probe = Probe("", where, 1, standing=standing)
            always = await self._within(self._begin(self._search(probe), "recall"), "lexical")
            return (NOTHING_FOUND, "none") if always is None else (always, "full")
        probe = Probe(self.text, where, BY_WORDS, language=self._language(), standing=standing)
        by_words = self._begin(self._search(probe), "recall-lexical")
        if self._settings.embedding.provider == "none":
            found = await self._within(by_words, "lexical")
            return (NOTHING_FOUND, "none") if found is None else (found, "lexical")
        vector: asyncio.Task[Vector] | None = None
        if not may_name_someone(self.text):
            vector = self._begin(self._embedded(self.text), "recall-embedding")
        found = await self._within(by_words, "lexical")
        if found is None:
            return NOTHING_FOUND, "none"
        if vector is None:
            speakers = named_speakers(found.memories.values())
            bare = without_names(self.text, speakers) or self.text
            vector = self._begin(self._embedded(bare), "recall-embedding")
        dense = await self._within(vector, "embedding")
        if dense is None:
            return found, "lexical"
        by_vector = self._begin(
            self._search(Probe("", where, BY_VECTOR, dense=dense)), "recall-dense"
        )
        more = await self._within(by_vector, "dense")
        if more is None:
            return found, "lexical"
        return _merged(found, more), "full"

    def _same_again(self, held: Sequence[tuple[Ref, Memory]]) -> Recalled:
        """The block as it is: nothing new is looked for."""
        choice = choose(Offer(self.text, sticky=held), self._budget())
        self._took("total", self._began)
        failed = self._left_out
        return Recalled(
            memories=choice.memories,
            refs=choice.refs,
            status="degraded" if failed else "ok",
            stage="none" if failed else "full",
            tokens=choice.tokens,
            stage_ms=self.stage_ms,
        )

    # --- the parts ---------------------------------------------------------------------------

    async def _search(self, probe: Probe) -> Found:
        return await self._services.store.search(self._owner, probe)

    async def _embedded(self, text: str) -> Vector:
        vectors = await self._services.embedder.embed([text], query=True)
        return vectors[0]

    def _begin_sticky(self) -> asyncio.Task[list[tuple[Ref, Memory]]] | None:
        conversation = self._question.conversation
        if conversation is None or not conversation.injected:
            return None
        return self._begin(self._sticky_memories(conversation.injected), "recall-sticky")

    async def _sticky_memories(self, injected: Sequence[str]) -> list[tuple[Ref, Memory]]:
        """What stands in the conversation's block and may still stand there."""
        refs = [read_ref(text) for text in injected]
        held = await self._services.store.get(self._owner, [ref.id for ref in refs])
        by_id = {memory.id: memory for memory in held}
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

    async def _pending(self) -> Sequence[Exchange]:
        conversation = self._question.conversation
        if conversation is not None and conversation.pending:
            return conversation.pending
        return await self._services.queue.pending(self._owner, limit=PENDING)

    async def _scale(self) -> Scale | None:
        """What this model's cosines mean; None where that is not known in time. A model that is
        not known by name is asked for a few texts, once."""
        model = self._services.embedder.model
        if model is None:
            return None
        scale = known_scale(model.name) or _scales.get(model)
        if scale is None:
            texts = [question for question, _ in PROBES] + [answer for _, answer in PROBES]
            probing = self._begin(self._services.embedder.embed(texts), "recall-scale")
            vectors = await self._within(probing, "scale", needed=False)
            if vectors is None or len(vectors) != len(texts):
                return None
            half = len(PROBES)
            scale = _scales[model] = scale_of(vectors[:half], vectors[half:])
        return scale

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

    def _budget(self) -> Budget:
        memory, question = self._settings.memory, self._question
        tokens, memories = memory.max_tokens, memory.max_memories
        if question.max_tokens is not None:
            tokens = min(tokens, question.max_tokens)
        if question.max_memories is not None:
            memories = min(memories, question.max_memories)
        frame = estimate_tokens("\n".join([BLOCK_OPEN, memory.template or HEADER, BLOCK_CLOSE]))
        # `split` puts one block into the system prompt and one at the end.
        overhead = 2 * frame if memory.placement == "split" else frame
        return Budget(tokens, memories, memory.standing_max, overhead)

    def _standing_of(self, found: Found, stage: Stage) -> Sequence[Memory] | None:
        """Profile, preferences and what is pinned: as found now, else as kept; None: unknown."""
        conversation = self._question.conversation
        version = conversation.standing_version if conversation is not None else ""
        tenant = self._owner.tenant
        if stage == "none":
            return (
                None
                if self._question.as_of is not None
                else _standing.get(tenant, version=version, now=self._now)
            )
        memories = [
            found.memories[id] for id, _ in found.lists.get("standing", ()) if id in found.memories
        ]
        standing = [m for m in memories if is_standing(m)]
        if self._question.as_of is None and not self._question.metadata:
            _standing.keep(tenant, standing, version=version, now=self._now)
        return standing

    def _language(self) -> str | None:
        """The user's language, where a preference that is known here names it."""
        conversation = self._question.conversation
        version = conversation.standing_version if conversation is not None else ""
        kept = _standing.get(self._owner.tenant, version=version, now=self._now) or ()
        return next((m.value for m in kept if m.key == "language" and m.value), None)

    # --- time and failure ----------------------------------------------------------------------

    def _begin(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = beside(work, name)
        self._tasks.append(task)
        return task

    async def _within(
        self, task: asyncio.Task[T] | None, part: str, *, needed: bool = True
    ) -> T | None:
        """The part's answer; None where it is late or away, which is noted if it was `needed`."""
        if task is None:
            return None
        began = perf_counter()
        if not task.done():
            await asyncio.wait((task,), timeout=max(0.0, self._until - began))
        self._took(part, began)
        if not task.done():
            self._left_out |= needed
            return None
        try:
            return task.result()
        except EmbedderUnavailable as exc:
            # No embedder by choice is not a part that is missing.
            self._left_out |= needed and exc.code != "none"
        except Unavailable as exc:
            self._left_out |= needed
            self.failure = exc
        except Exception as exc:  # noqa: BLE001 (memory never fails a chat, whatever an adapter does)
            self._left_out |= needed
            _log.error("recall_part_failed", part=part, error=type(exc).__name__)
        return None

    def _took(self, part: str, began: float) -> None:
        self.stage_ms[part] = (perf_counter() - began) * 1000.0

    def end(self) -> None:
        """Nothing that was begun outlives the recall; nobody waits for what is late."""
        for task in self._tasks:
            if task.done():
                if not task.cancelled():
                    task.exception()
            else:
                task.cancel()
                task.add_done_callback(_looked_at)


def _looked_at(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _merged(one: Found, other: Found) -> Found:
    lists: dict[ListName, Sequence[tuple[str, float]]] = {
        name: hits for name, hits in one.lists.items() if hits
    }
    lists |= {name: hits for name, hits in other.lists.items() if hits}
    return Found(lists=lists, memories={**one.memories, **other.memories})
