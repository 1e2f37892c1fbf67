"""Handing over what was said: to the queue, or to the disk while Redis is away.

It happens after the last byte went to the client, in the background. A next request of the
same person waits for what is under way (`Underway`), so that a client without patience finds
its last turn captured, and captured once. Where neither will have it (a full disk refuses both)
it waits in memory for some minutes, within a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from gateway.config import AppSettings
from gateway.core.errors import DirectoryUnavailable, OverBudget, OwnerGone, QueueUnavailable
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner, Person
from gateway.core.memory import Instant
from gateway.core.redaction import redact_exchange
from gateway.flows.unnoted import Note
from gateway.ports import Background, Services
from gateway.telemetry.logs import Outage, log

_queue = Outage(log("handover"), "handing over to the queue")
_spool = Outage(log("handover"), "handing over to the disk")

Result: TypeAlias = Literal["queued", "spooled", "duplicate", "dropped"]

OFF_THE_LOOP_CHARS: Final = 4000

QUEUE_S: Final = 0.5
"""How long a queue that hangs is waited for: what was answered is durable within a second."""

SEEN: Final = 64
"""Messages that are noted from the disk: the latest, which a next request is compared with."""

PATIENCE_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0, *[15.0] * 40)
"""Pauses between tries while neither queue nor disk takes anything: ten minutes in all."""
HELD_CHARS: Final = 32_000_000
"""What waits in memory meanwhile, at most, in characters of what was said."""

TURN_S: Final = 1.0
"""How long work waits for earlier work of the same person that it comes after."""

OWNER_RETRIES_S = (0.2, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
"""Pauses between tries to learn whose an exchange is, while the directory is away."""


async def hand_over(
    services: Services,
    settings: AppSettings,
    owner: Owner,
    exchange: Exchange,
    *,
    now: Instant,
    note: Note | None = None,
    patient: bool = False,
) -> Result:
    """Accept an exchange for distilling, without what must never be stored (`privacy.redact`).

    `duplicate`: it was accepted before. `dropped`: its owner was erased, or a bound of queue
    or spool is reached. What is `spooled` is on disk, with the `note` that shared state is to be
    told of it, and goes to the queue later. Who is `patient` waits where the disk refuses.
    """
    exchange = await _redacted(exchange, settings)
    result = await _tried(services, owner, exchange, now=now, note=note)
    if result is None and patient and _held.chars + exchange.size <= HELD_CHARS:
        result = await _tried_again(services, owner, exchange, now=now, note=note)
    return result or "dropped"


async def _tried(
    services: Services, owner: Owner, exchange: Exchange, *, now: Instant, note: Note | None
) -> Result | None:
    """None where neither queue nor disk would have it."""
    try:
        # Given up, it may have been accepted all the same: the queue refuses the second one.
        async with asyncio.timeout(QUEUE_S):
            accepted = await services.queue.put(owner, exchange, now=now)
    except (QueueUnavailable, TimeoutError):
        if note is not None:
            exchange = replace(exchange, seen=note.marks[-SEEN:], owed=note.owed)
        try:
            return await _spooled(services, owner, exchange)
        except OwnerGone:
            return "dropped"
    except OwnerGone:
        services.directory.let_go(owner.tenant)
        return "dropped"
    except OverBudget as exc:
        _queue.failed(exc.message)
        return "dropped"
    _queue.recovered()
    return "queued" if accepted else "duplicate"


async def _redacted(exchange: Exchange, settings: AppSettings) -> Exchange:
    """Redaction takes about 0.2 ms for each 1,000 characters: long texts go to a thread."""
    if exchange.size < OFF_THE_LOOP_CHARS:
        return redact_exchange(exchange, settings.privacy.redact)
    return await asyncio.to_thread(redact_exchange, exchange, settings.privacy.redact)


async def _tried_again(
    services: Services, owner: Owner, exchange: Exchange, *, now: Instant, note: Note | None
) -> Result | None:
    _held.chars += exchange.size
    try:
        for pause_s in PATIENCE_S:
            await asyncio.sleep(pause_s)
            result = await _tried(services, owner, exchange, now=now, note=note)
            if result is not None:
                return result
        return None
    finally:
        _held.chars -= exchange.size


class _Held:
    """What waits in the memory of this process."""

    chars = 0


_held = _Held()


async def _spooled(services: Services, owner: Owner, exchange: Exchange) -> Result | None:
    try:
        await services.spool.append(owner, exchange)
    except OverBudget as exc:
        _spool.failed(exc.message)
        return None
    _spool.recovered()
    return "spooled"


async def owner_at_last(services: Services, person: Person) -> Owner | None:
    """The person's owner, tried for some minutes while the directory is away; else None.

    Nothing can be sealed, so nothing kept, before it is known whose it is.
    """
    for pause_s in (*OWNER_RETRIES_S, None):
        try:
            return await services.directory.owner(person, create=True)
        except DirectoryUnavailable:
            if pause_s is None:
                return None
            await asyncio.sleep(pause_s)
    return None


class Underway:
    """Hand-overs of this process that have begun and not ended, by person."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._of: dict[Person, set[asyncio.Task[Any]]] = {}

    def spawn(
        self, person: Person, work: Coroutine[Any, Any, Any], name: str, *, in_turn: bool = False
    ) -> None:
        """Do `work` in the background; it counts as under way for `person` until its end.
        `in_turn`: once what is under way for them now is over, or `TURN_S` later."""
        earlier = tuple(self._of.get(person, ())) if in_turn else ()
        task = self._background.spawn(_after(earlier, work) if earlier else work, name)
        self._of.setdefault(person, set()).add(task)
        task.add_done_callback(partial(self._over, person))

    def _over(self, person: Person, task: asyncio.Task[Any]) -> None:
        left = self._of[person]
        left.discard(task)
        if not left:
            del self._of[person]

    def any(self, person: Person) -> bool:
        return person in self._of

    async def settled(self, person: Person) -> None:
        """Wait for what is under way for this person now."""
        if tasks := tuple(self._of.get(person, ())):
            await asyncio.wait(tasks)


async def _after(earlier: Collection[asyncio.Task[Any]], work: Coroutine[Any, Any, Any]) -> None:
    try:
        await asyncio.wait(earlier, timeout=TURN_S)
    except BaseException:
        work.close()
        raise
    await work
