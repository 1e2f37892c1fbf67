"""The port `Spool`: exchanges on disk while Redis is away, handed over when it is back.

Here is what waits; the file itself, its format and its lock stand in `file.py`. What is said
is on disk before `append` returns, and appends that come together share one sync, so that
`queue.durable` need not be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import structlog

from gateway.adapters.spool.file import Append, Frame, SpoolFile, frame_of
from gateway.core.errors import (
    OverBudget,
    OwnerGone,
    SpoolUnavailable,
    Unavailable,
    Unreadable,
)
from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.core.wire import NEWER, exchange_from_bytes, exchange_to_bytes
from gateway.ports import Cipher

T = TypeVar("T")

_log = structlog.get_logger("gateway.spool")


class _Handed(NamedTuple):
    """How many of a user's were taken; where in the file the first lies that was not, and why."""

    taken: int
    kept: int | None = None
    away: bool = False
    error: Exception | None = None


class FileSpool:
    """The port `Spool` in `directory` (made 0700), at most `max_bytes` of it.

    `by_tenant` finds the owner of what is drained (`Directory.by_tenant`).
    """

    def __init__(
        self,
        directory: Path,
        *,
        cipher: Cipher,
        by_tenant: Callable[[str], Awaitable[Owner | None]],
        max_bytes: int,
    ) -> None:
        self._file = SpoolFile(directory, max_bytes)
        self._cipher = cipher
        self._by_tenant = by_tenant
        self._waiting: list[Append] = []
        self._writing = False
        self._work: asyncio.Future[list[Exception | None]] | None = None
        self._gone: set[str] = set()
        self._draining = asyncio.Lock()

    async def open(self) -> None:
        """Make the directory, and cut what a kill left unfinished.

        Raises SettingsError where it cannot be used, Unreadable where a newer program wrote it.
        """
        await asyncio.to_thread(self._file.open)

    async def append(self, owner: Owner, exchange: Exchange) -> None:
        """Keep an exchange; it is on disk on return.

        Raises OverBudget at the bound and where the disk refuses, OwnerGone after `erase`.
        """
        sealed = self._cipher.seal(owner, exchange_to_bytes(exchange), "spool")
        settled = asyncio.get_running_loop().create_future()
        asked = Append(owner.tenant, frame_of(owner.tenant, sealed), settled)
        self._waiting.append(asked)
        if not self._writing:
            self._write_waiting()
        await asked.settled

    def _write_waiting(self) -> None:
        """Group commit: all that wait go out with one sync, and those that come meanwhile
        with the next. It goes on although a caller is cancelled, for others share the write."""
        batch, self._waiting = self._waiting, []
        self._writing = bool(batch)
        if batch:
            append = partial(self._file.append, batch, self._gone)
            work = asyncio.get_running_loop().run_in_executor(None, append)
            work.add_done_callback(partial(self._written, batch))
            self._work = work

    def _written(
        self, batch: Sequence[Append], work: asyncio.Future[list[Exception | None]]
    ) -> None:
        failed = work.exception()
        outcomes = [failed] * len(batch) if failed else work.result()
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.settled.done():  # its caller was cancelled
                continue
            if outcome is None:
                each.settled.set_result(None)
            else:
                each.settled.set_exception(outcome)
        self._write_waiting()

    async def drain(self, put: Callable[[Owner, Exchange], Awaitable[Any]]) -> int:
        """Hand each spooled exchange to `put`, each user's oldest first, and forget it once taken;
        how many.

        Ends early, and keeps the rest, where `put` raises QueueUnavailable or the directory is
        away. Where it raises anything else (OverBudget, or an error of its own, which is raised
        again at the end) it goes on with the other users, and all from there on is offered again
        the next time: the queue refuses what it has. Drops what has no owner any more. One
        process drains at a time: for another this is 0. Raises Unreadable for what only a newer
        program can read, likewise at the end.
        """
        async with self._draining:
            with self._file.only_drainer() as alone:
                return await self._drain(put) if alone else 0

    async def _drain(self, put: Callable[[Owner, Exchange], Awaitable[Any]]) -> int:
        taken, generation, place = 0, b"", 0
        full: set[str] = set()
        error: Exception | None = None
        while True:
            chunk = await asyncio.to_thread(self._file.next_chunk, generation, place)
            if not chunk.frames:
                break
            # One user's after the other, all users at once: a busy Redis answers each in turn.
            lines: dict[str, list[Frame]] = {}
            for frame in chunk.frames:
                lines.setdefault(frame.tenant, []).append(frame)
            nothing_kept = not full
            handed = await asyncio.gather(
                *(self._hand_line(line, put, full) for line in lines.values())
            )
            taken += sum(line.taken for line in handed)
            end = chunk.frames[-1].end
            reached = min((line.kept for line in handed if line.kept is not None), default=end)
            if nothing_kept and reached > chunk.start:
                await asyncio.to_thread(self._file.advance, chunk.generation, reached)
            error = next((line.error for line in handed if line.error is not None), error)
            if any(line.away for line in handed):
                break
            generation, place = chunk.generation, end
        if error is not None:
            raise error
        return taken

    async def _hand_line(
        self,
        frames: Sequence[Frame],
        put: Callable[[Owner, Exchange], Awaitable[Any]],
        full: set[str],
    ) -> _Handed:
        """One user's exchanges, in order, up to the first that is not taken."""
        taken = 0
        for frame in frames:
            if frame.tenant in full:
                return _Handed(taken, kept=frame.start)
            try:
                taken += await self._hand(frame, put)
            except OverBudget:
                full.add(frame.tenant)
                return _Handed(taken, kept=frame.start)
            except Unavailable:
                return _Handed(taken, kept=frame.start, away=True)
            except Exception as exc:  # noqa: BLE001 (raised once all users had their turn)
                full.add(frame.tenant)
                return _Handed(taken, kept=frame.start, error=exc)
        return _Handed(taken)

    async def _hand(self, frame: Frame, put: Callable[[Owner, Exchange], Awaitable[Any]]) -> int:
        """One exchange: 1 where it was taken, 0 where it was known already or is to be dropped."""
        owner = await self._by_tenant(frame.tenant)
        if owner is None:
            return 0
        try:
            exchange = exchange_from_bytes(self._cipher.open(owner, frame.sealed, "spool"))
        except Unreadable as exc:
            if exc.code == NEWER:
                raise
            _log.error("spooled_exchange_dropped", reason="it cannot be opened")
            return 0
        try:
            return int(await put(owner, exchange) is not False)
        except OwnerGone:
            return 0

    async def erase(self, tenant: str) -> int:
        """Rewrite the file without a tenant, whose words are then nowhere in it; how many
        exchanges were waiting. What is appended for it later is refused.

        Raises SpoolUnavailable where the disk does not let it: a full one, or no descriptor left.
        """
        self._gone.add(tenant)
        return await self._asked(self._file.remove, tenant)

    async def count(self, tenant: str | None = None) -> int:
        """How many exchanges wait here, of one tenant or of all. Raises SpoolUnavailable."""
        return await self._asked(self._file.count, tenant)

    @staticmethod
    async def _asked(step: Callable[[T], int], of: T) -> int:
        try:
            return await asyncio.to_thread(step, of)
        except OSError as exc:
            raise SpoolUnavailable(
                f"the spool cannot be read or rewritten: {exc.strerror}. See to its disk"
            ) from exc
        except OverBudget as exc:  # another process holds it
            raise SpoolUnavailable(exc.message) from exc

    async def close(self) -> None:
        """Wait for what is being written."""
        while self._writing and self._work is not None:
            await asyncio.wait({self._work})
