"""Sweeping: what time and outages leave behind is put right, a little at a time.

Spooled exchanges go to the queue; memories past their end go; memories stored while the
embedder was away get their vectors; what belongs to nobody any more (its owner was erased
while it was being written) goes too. Each part is for itself: one that is away does not stop
the others, and all of it may run in several processes at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.errors import (
    EmbedderUnavailable,
    GatewayError,
    OverBudget,
    OwnerGone,
    StateUnavailable,
    Unavailable,
)
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.core.memory import Entry, Where
from gateway.core.windows import dense_text, dense_window_text, windows_of
from gateway.flows.erase import finish_all
from gateway.flows.writing import stale
from gateway.ports import Services
from gateway.telemetry.logs import log
from gateway.telemetry.metrics import Metrics

BATCH: Final = 500
"""Records looked at in one step; a step is repeated while it finds that many."""
STEPS: Final = 200
"""Of each part of a sweep: the rest is the next sweep's."""
AROUND: Final = 50
"""Turns of a session that are read for the window of one of them."""

FEW: Final = 20
"""Owners without a name that a sweep removes however few others there are."""

_log = log("sweep")


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep mended, counted."""

    drained: int = 0
    expired: int = 0
    embedded: int = 0
    orphans: int = 0
    open_erasures: int = 0

    def any(self) -> bool:
        return bool(self.drained or self.expired or self.embedded or self.orphans)


async def sweep(services: Services, metrics: Metrics) -> Swept:
    """One sweep. Never raises for a part that is away; what was done is counted."""
    counts: dict[str, int] = {}
    for name, part in (
        ("drained", drain_spool),
        ("expired", remove_expired),
        ("embedded", embed_owed),
        ("orphans", remove_orphans),
        ("open_erasures", finish_all),
    ):
        try:
            counts[name] = await part(services)
        except Unavailable as exc:
            _log.debug("sweep_postponed", part=name, reason=exc.message)
    try:
        await services.directory.compact()  # keys of the erased leave its log too
    except Unavailable as exc:
        _log.debug("sweep_postponed", part="compact", reason=exc.message)
    swept = Swept(**counts)
    metrics.expired.inc(swept.expired)
    metrics.swept.labels("vector").inc(swept.embedded)
    metrics.swept.labels("orphan").inc(swept.orphans)
    metrics.swept.labels("spooled").inc(swept.drained)
    if swept.any():
        _log.info(
            "swept",
            drained=swept.drained,
            expired=swept.expired,
            embedded=swept.embedded,
            orphans=swept.orphans,
        )
    return swept


async def drain_spool(services: Services) -> int:
    """Hand what waits on disk to the queue, oldest first; how many exchanges.

    Raises QueueUnavailable while Redis is away still: nothing is lost, it stays on disk. What
    waits is not counted first: that reads all of it (256 MiB took 0.4 s of CPU), and each second.
    """

    async def put(owner: Owner, exchange: Exchange) -> None:
        if exchange.seen:
            await _noted(services, owner, exchange)
            exchange = replace(exchange, seen=(), owed=0)
        await services.queue.put(owner, exchange, now=services.clock())

    try:
        return await services.spool.drain(put)
    except OverBudget as exc:
        _log.warning("spool_waits", reason=exc.message)
        return 0


async def _noted(services: Services, owner: Owner, exchange: Exchange) -> None:
    """Whoever said it sends it again with the next message: it must not count as new then."""
    with suppress(StateUnavailable):  # of a server of its own; what was said does not wait for it
        await services.state.note_seen(
            owner, exchange.session, exchange.seen, now=services.clock(), owed=exchange.owed
        )


async def remove_expired(services: Services) -> int:
    """Delete memories whose `expires_at` has passed; how many."""
    removed = 0
    for _ in range(STEPS):
        before, expired = removed, await services.store.expired(services.clock(), BATCH)
        for tenant, references in _by_tenant(expired).items():
            owner = await services.directory.by_tenant(tenant)
            if owner is None:
                continue  # `remove_orphans` judges those
            removed += await services.store.delete(owner, references)
            with suppress(OwnerGone):  # erased meanwhile: nothing of it is left to be stale
                await stale(services, tenant)
        if len(expired) < BATCH or removed == before:
            break
    return removed


async def embed_owed(services: Services) -> int:
    """Give memories stored without a vector theirs; how many got one."""
    if services.embedder.model is None:
        return 0
    given = 0
    for _ in range(STEPS):
        owed = await services.store.unembedded(BATCH)
        progress = 0
        for tenant, references in _by_tenant(owed).items():
            owner = await services.directory.by_tenant(tenant)
            if owner is None:
                continue  # `remove_orphans` judges those
            progress += (got := await _embed(services, owner, references))
            given += got
        if len(owed) < BATCH or not progress:
            break
    return given


async def _embed(services: Services, owner: Owner, references: list[str]) -> int:
    memories = [
        m for m in await services.store.get(owner, references) if m.status != "forgotten" and m.text
    ]
    windows: dict[str, str] = {}
    for session in {m.session for m in memories if m.kind == "turn" and m.session is not None}:
        where = Where(kinds=("turn",), session=session, statuses=("active", "quarantined"))
        line = {m.id: m for m in await services.store.page(owner, where, limit=AROUND)}
        line |= {m.id: m for m in memories if m.session == session}
        windows |= windows_of(line.values())
    texts = list(
        dict.fromkeys(
            [dense_text(m) for m in memories]
            + [dense_window_text(windows[m.id]) for m in memories if m.id in windows]
        )
    )
    if not texts:
        return 0
    try:
        vectors = dict(zip(texts, await services.embedder.embed(texts), strict=True))
    except EmbedderUnavailable:
        return 0
    return await services.store.add_vectors(
        owner,
        [
            Entry(
                m,
                dense=vectors[dense_text(m)],
                window=windows.get(m.id),
                dense_window=vectors[dense_window_text(windows[m.id])] if m.id in windows else None,
            )
            for m in memories
        ],
    )


async def remove_orphans(services: Services) -> int:
    """Erase what belongs to owners that are no more; how many records."""
    removed = 0
    tenants = await services.store.tenants()
    # Asked anew for each: a user may come into being while the sweep runs, never go back.
    gone = [each for each in tenants if await services.directory.by_tenant(each) is None]
    if len(gone) > FEW and 2 * len(gone) > len(tenants):
        gone = await _erased_here(services, tenants, gone)
    for tenant in gone:
        removed += await services.store.erase(tenant)
        try:
            await services.queue.erase(tenant)
            await services.state.erase(tenant)
            await services.receipts.erase(tenant)
        except GatewayError as exc:
            _log.debug("sweep_postponed", part="orphans", reason=exc.message)
    return removed


async def _erased_here(
    services: Services, tenants: Sequence[str], gone: Sequence[str]
) -> list[str]:
    """Of the owners that are no more those whose erasure is on record, where most that the store
    holds are unknown: it can hardly be this directory's then. A gateway with the `redis.url` of
    another house, or whose directory was lost, erased everybody's memories within five minutes,
    before that could be put right."""
    records = await services.directory.erased()
    erased = {tenant for record in records for tenant in record["tenants"]}
    strangers = len(gone) - len(erased.intersection(gone))
    if strangers <= FEW:
        return list(gone)
    _log.error(
        "orphans_left",
        owners=len(tenants),
        unknown=strangers,
        reason="the directory does not know most of those whose memories the store holds; nothing"
        " of them is removed. Are redis.url and qdrant.url of one house? Embedded: are"
        " directory.sqlite and qdrant/?",
    )
    return [tenant for tenant in gone if tenant in erased]


def _by_tenant(found: Iterable[tuple[str, str]]) -> Mapping[str, list[str]]:
    grouped: defaultdict[str, list[str]] = defaultdict(list)
    for tenant, reference in found:
        grouped[tenant].append(reference)
    return grouped
