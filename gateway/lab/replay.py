"""Recorded recalls again, under the settings of today: what would be injected instead, and what
that costs.

Each recall is run at its own time over the memories that were known by then, in a scratch store
with today's embedder, template and settings. Where exchanges were distilled again too
(`lab/redistil`), those are the facts that would have been drawn. Memories corrected since are
searched as they read now; everything else is as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, cast

from gateway.config import AppSettings, Settings
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.core.memory import Memory
from gateway.core.wording import gist
from gateway.flows.recall import Recalled, recall
from gateway.flows.receipts import versions
from gateway.lab.evaluate import patient
from gateway.lab.recordings import Known, Recording, UserRecordings
from gateway.lab.redistil import Batch, Redistilled
from gateway.lab.score import quantile
from gateway.lab.scratch import Once, load, scratch_owner, scratch_services
from gateway.ports import Embedder, Reranker


@dataclass(frozen=True, slots=True)
class Compared:
    """One recall then and now, over the memories of then and those of now, by id.

    Facts are compared by what they say: distilled again, one of another wording may have the id
    that its forerunner had.
    """

    user: str
    recording: Recording
    recalled: Recalled
    ms: float
    memories_then: Mapping[str, Memory]
    memories_now: Mapping[str, Memory]

    @property
    def then(self) -> list[str]:
        return [_meant(id, self.memories_then) for id in self.recording.brought]

    @property
    def now(self) -> list[str]:
        return [_meant(memory.id, self.memories_now) for memory in self.recalled.memories]

    @property
    def added(self) -> list[str]:
        """Ids of what is injected now and was not then."""
        before = set(self.then)
        shown = zip(self.recalled.memories, self.now, strict=True)
        return [memory.id for memory, meant in shown if meant not in before]

    @property
    def gone(self) -> list[str]:
        """Ids of what was injected then and is not now."""
        present = set(self.now)
        shown = zip(self.recording.brought, self.then, strict=True)
        return [id for id, meant in shown if meant not in present]

    @property
    def same(self) -> bool:
        """The same memories in the same order: the same bytes, if the template is."""
        return self.then == self.now

    def covered(self, *, now: bool) -> float:
        """The share of its evidence that is injected: by a memory that is it, or that rests on
        the turn that it is."""
        memories = self.memories_now if now else self.memories_then
        ids = [m.id for m in self.recalled.memories] if now else self.recording.brought
        rested = {turn for id in ids if id in memories for turn in memories[id].covers}
        shown = {*(self.now if now else self.then), *rested}
        wanted = [{id, _meant(id, self.memories_then)} for id in self.recording.evidence]
        return sum(not shown.isdisjoint(one) for one in wanted) / len(wanted)


def _meant(id: str, memories: Mapping[str, Memory]) -> str:
    memory = memories.get(id)
    return id if memory is None or memory.kind == "turn" else f"says {gist(memory.text).canonical}"


# --- running again -----------------------------------------------------------------------------


async def replay(
    users: Sequence[UserRecordings],
    *,
    embedder: Embedder,
    settings_for: Callable[[str], AppSettings],
    reranker: Reranker | None = None,
    redistilled: Sequence[Redistilled] = (),
    done: Callable[[int], object] = lambda _: None,
) -> list[Compared]:
    """Every recall again, in the order of its user's times. `redistilled` are the memories that
    these users would have instead, in their order; without, those of the recording."""
    instead = [again.memories for again in redistilled] or [user.memories for user in users]
    compared = []
    for user, memories in zip(users, instead, strict=True):
        settings = patient(settings_for(user.app))
        waiting = _Waiting()
        services = replace(scratch_services(Once(embedder), reranker), queue=cast("Any", waiting))
        owner = scratch_owner(user.user)
        then, now = _by_id(user.memories), _by_id(memories)
        known = Known(memories)
        for recording in user.recalls:
            if fresh := known.until(recording.at):
                await load(services, owner, fresh)
            waiting.exchanges = known.waiting(recording.at)
            began = perf_counter()
            found = await recall(services, settings, owner, recording.question, now=recording.at)
            ms = (perf_counter() - began) * 1000.0
            compared.append(Compared(user.user, recording, found, ms, then, now))
            done(1)
    return compared


class _Waiting:
    """A queue in which wait the exchanges that waited at the time of a recall."""

    def __init__(self) -> None:
        self.exchanges: Sequence[Exchange] = ()

    async def pending(self, _owner: Owner, *, limit: int = 50) -> Sequence[Exchange]:
        return self.exchanges[-limit:]


def _by_id(memories: Iterable[Memory]) -> Mapping[str, Memory]:
    return {memory.id: memory for memory in memories}


# --- what changed --------------------------------------------------------------------------------


def figures(compared: Sequence[Compared], embedder: Embedder, settings: Settings) -> dict[str, Any]:
    """One JSON object: the sums first, then each recall."""
    model = embedder.model
    labelled = [c for c in compared if c.recording.evidence]
    return {
        "recalls": len(compared),
        "changed": sum(not c.same for c in compared),
        "embedding": "none" if model is None else f"{model.provider}:{model.name}",
        "versions": versions(settings),
        "tokens": {
            "then": _mean([c.recording.tokens for c in compared]),
            "now": _mean([c.recalled.tokens for c in compared]),
        },
        "p50_ms": {
            "then": round(quantile([c.recording.ms for c in compared], 0.5), 3),
            "now": round(quantile([c.ms for c in compared], 0.5), 3),
        },
        "evidence_recall": {
            "labelled": len(labelled),
            "then": _mean([c.covered(now=False) for c in labelled]),
            "now": _mean([c.covered(now=True) for c in labelled]),
        },
        "results": [_told(c) for c in compared],
    }


def _told(c: Compared) -> dict[str, Any]:
    return {
        "id": c.recording.id,
        "user": c.user,
        "query": c.recording.question.text,
        "same": c.same,
        "stage": c.recalled.stage,
        "then": list(c.recording.brought),
        "now": [memory.id for memory in c.recalled.memories],
        "added": _named(c.added, c.memories_now),
        "gone": _named(c.gone, c.memories_then),
        "tokens": {"then": c.recording.tokens, "now": c.recalled.tokens},
        "ms": {"then": c.recording.ms, "now": round(c.ms, 3)},
    }


def _named(ids: Sequence[str], memories: Mapping[str, Memory]) -> list[dict[str, str | None]]:
    return [{"id": id, "text": memories[id].text if id in memories else None} for id in ids]


def drawn(redistilled: Sequence[Redistilled]) -> dict[str, Any]:
    """What distilling again changed: the sums first, then each batch."""
    batches = [(again.user, batch) for again in redistilled for batch in again.batches]
    shown = [_batch(user, batch) for user, batch in batches]
    return {
        "exchanges": sum(len(batch.exchanges) for _, batch in batches),
        "batches": len(batches),
        "failed": sum(batch.failed is not None for _, batch in batches),
        "seconds": round(sum(batch.seconds for _, batch in batches), 3),
        "facts": {
            "then": sum(len(batch.then) for _, batch in batches),
            "now": sum(len(batch.now) for _, batch in batches),
            "same": sum(row["same"] for row in shown),
            "kept": sum(again.kept for again in redistilled),
        },
        "dropped": dict(sum((again.dropped for again in redistilled), Counter[str]())),
        "results": shown,
    }


def _batch(user: str, batch: Batch) -> dict[str, Any]:
    then, now = _says(batch.then), _says(batch.now)
    return {
        "user": user,
        "exchanges": [exchange.id for exchange in batch.exchanges],
        "said": [
            {"role": turn.role, "text": turn.text}
            for exchange in batch.exchanges
            for turn in exchange.turns
        ],
        "same": len(then.keys() & now.keys()),
        "added": _facts(then, now),
        "gone": _facts(now, then),
        "seconds": round(batch.seconds, 3),
        "failed": batch.failed,
    }


def _says(facts: Sequence[Memory]) -> dict[tuple[str, str, str], Memory]:
    """By type, by key and by what it says: one of these is another is another fact."""
    return {(m.type or "", m.key or "", gist(m.text).canonical): m for m in facts}


def _facts(
    without: Collection[tuple[str, str, str]], facts: Mapping[tuple[str, str, str], Memory]
) -> list[dict[str, Any]]:
    return [
        {"id": m.id, "type": m.type, "key": m.key, "text": m.text, "status": m.status}
        for said, m in facts.items()
        if said not in without
    ]


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
