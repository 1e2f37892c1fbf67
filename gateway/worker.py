"""The worker: takes pending exchanges, user by user, and has them remembered.

Strategy: a fixed number of hands, each taking the next user who is due from one of the sets of
services in turn. With nothing due they rest until something is; one that finds work wakes
another. Beside them one sweeper goes round. Asked to stop, hands finish what they hold within
the grace that the caller gives, or give it back when they are cancelled.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable
from typing import Final

from gateway.core.errors import GatewayError, QueueUnavailable, Unavailable
from gateway.flows.remember import Desk, remember_next
from gateway.flows.sweep import drain_spool, sweep
from gateway.flows.tasks import beside, ended
from gateway.ports import Deployment, Extractor, Services
from gateway.telemetry.logs import Outage, log

REST_S: Final = 0.25
"""The longest rest: what falls due meanwhile waits so long at most. A look costs 0.3 ms."""
SHORTEST_REST_S: Final = 0.01
OUTAGE_REST_S: Final = 1.0
BESIDE_CHATS: Final = 1
"""Users whose memories are written at a time where chats search the same store: while eight wrote
3,000 exchanges in 0.5 s, a call of the store waited for 4.3 ms (a busy machine: 8 to 12); while one
did, in 0.75 s, for 1.1 (2)."""
SPOOL_EVERY_S: Final = 1.0
"""How often it is looked whether what waits on disk can go to the queue."""

_log = log("worker")


class Worker:
    """Works for all sets of services of a deployment, `concurrency` users at a time."""

    def __init__(self, deployment: Deployment, concurrency: int) -> None:
        self._deployment = deployment
        self._concurrency = max(1, concurrency)
        # Names a process in the queue's books, for people who look there.
        self._name = f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(3)}"
        self._desk = Desk(
            deployment.settings_for,
            self._extractor_for,
            metrics=deployment.metrics,
            at_once=BESIDE_CHATS if deployment.settings.embedded else self._concurrency,
        )
        self._queue_outage = Outage(_log, "queue")

    def _extractor_for(self, app: str) -> Extractor | None:
        return self._deployment.services_for(app).extractor

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set and what is in hand is done.

        Cancelled before that, the hands give back what they hold.
        """
        hands = [beside(self._hand(n, stop), f"worker hand {n}") for n in range(self._concurrency)]
        round_ = beside(self._sweeps(stop), "sweep")
        spool = beside(drain_spools(self._deployment, stop), "drain the spool")
        try:
            await asyncio.gather(*hands)
        finally:
            for task in (*hands, round_, spool):
                await ended(task)

    # --- hands -------------------------------------------------------------------------------

    async def _hand(self, n: int, stop: asyncio.Event) -> None:
        turn = n
        while not stop.is_set():
            every = self._deployment.all_services()
            worked = False
            for i in range(len(every)):
                worked = await self._one(every[(turn + i) % len(every)]) or worked
                if stop.is_set():
                    return
            turn += 1
            if not worked:
                await _rest(stop, await self._rest_s())

    async def _one(self, services: Services) -> bool:
        """Whether there was something to do."""
        try:
            worked = await remember_next(services, self._desk, self._name)
        except Unavailable as exc:
            self._queue_outage.failed(exc.message)
            await asyncio.sleep(OUTAGE_REST_S)
            return False
        except GatewayError as exc:
            # What only a newer program can read: it was given back, for that program.
            _log.error("lease_refused", reason=exc.message)
            return False
        except Exception as exc:  # noqa: BLE001
            # One fault must not take the hands of all other users' work away.
            _log.error("hand_stumbled", error=type(exc).__name__)
            await asyncio.sleep(OUTAGE_REST_S)
            return False
        self._queue_outage.recovered()
        return worked

    async def _rest_s(self) -> float:
        """Until the next user falls due, as far as that is known, within bounds."""
        due = [REST_S]
        for services in self._deployment.all_services():
            try:
                at = await services.queue.next_due()
            except QueueUnavailable:
                return OUTAGE_REST_S
            except Exception as exc:  # noqa: BLE001
                # A hand that ended here would take all others along, and nobody would distil.
                _log.error("hand_stumbled", error=type(exc).__name__)
                return OUTAGE_REST_S
            if at is not None:
                due.append(at - services.clock())
        return max(SHORTEST_REST_S, min(due))

    # --- beside them ---------------------------------------------------------------------------

    async def _sweeps(self, stop: asyncio.Event) -> None:
        every_s = self._deployment.settings.retention.sweep_every_s
        while not stop.is_set():
            for services in self._deployment.all_services():
                await _guarded("sweep", sweep(services, self._deployment.metrics))
            await _rest(stop, every_s)


async def drain_spools(deployment: Deployment, stop: asyncio.Event) -> None:
    """Hand what waits on this machine's disk to the queue, again and again until `stop`, and
    once more then. Also where workers are processes of their own, for they see other disks."""
    ending = False
    while not ending:
        ending = stop.is_set()
        for services in deployment.all_services():
            await _guarded("spool", drain_spool(services))
        await _rest(stop, SPOOL_EVERY_S)


async def _guarded(what: str, work: Awaitable[object]) -> None:
    try:
        await work
    except Unavailable:
        return  # it is said where chats and hands meet it
    except Exception as exc:  # noqa: BLE001
        # A round that met a fault must not end all later rounds of this process.
        _log.error("round_failed", what=what, error=type(exc).__name__)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the end is asked for."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
