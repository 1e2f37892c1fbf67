"""What this process has captured and shared state may not know of yet.

Clients send their history again with every message; shared state tells what of it is new. What
was captured while it was away, or whose note is still on its way, must not count as new in the
next request: that would be said twice. So a note is kept here from before its exchange is
handed over until shared state has it, and whoever opens a conversation has it noted first.
Beside that what is left is tried again each second, once more when the process is to end.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from gateway.core.errors import Unavailable
from gateway.core.identity import Owner
from gateway.core.memory import Instant
from gateway.ports import ConversationState, Deployment, Injected

AGAIN_S: Final = 1.0
MARKS: Final = 500_000
"""Marks kept at most, some 50 MB; the longest unused go first."""


@dataclass(frozen=True, slots=True, eq=False)
class Note:
    """The arguments of `ConversationState.note_seen`."""

    session: str
    marks: tuple[str, ...]
    now: Instant
    owed: int = 0
    injected: Injected | None = None


class Unnoted:
    """Notes of one process, by tenant, in the order in which they were made."""

    def __init__(self, most: int = MARKS) -> None:
        self._of: OrderedDict[str, deque[Note]] = OrderedDict()
        self._owners: dict[str, Owner] = {}
        self._trying = False
        self._most = most
        self._marks = 0

    def __len__(self) -> int:
        return sum(len(notes) for notes in self._of.values())

    def keep(self, owner: Owner, note: Note) -> None:
        self._owners[owner.tenant] = owner
        self._of.setdefault(owner.tenant, deque()).append(note)
        self._of.move_to_end(owner.tenant)
        self._marks += len(note.marks)
        while self._marks > self._most:
            tenant, notes = next(iter(self._of.items()))
            self._removed(tenant, notes.popleft())

    def drop(self, owner: Owner, note: Note) -> None:
        """It is noted, or was not captured after all."""
        notes = self._of.get(owner.tenant, ())
        if note in notes:
            self._of[owner.tenant].remove(note)
            self._removed(owner.tenant, note)

    async def pay(self, state: ConversationState, owner: Owner) -> None:
        """Have shared state note all that is kept for an owner. Raises StateUnavailable: what
        is not noted then stays."""
        while notes := self._of.get(owner.tenant):
            note = notes[0]
            await state.note_seen(
                owner,
                note.session,
                note.marks,
                now=note.now,
                owed=note.owed,
                injected=note.injected,
            )
            self.drop(owner, note)

    def try_again(self, deployment: Deployment) -> None:
        """Have what is left noted in the background, as soon as shared state is back."""
        if not self._trying:
            self._trying = True
            deployment.background.spawn(self._again(deployment), "note what was seen")

    async def _again(self, deployment: Deployment) -> None:
        try:
            ending = False
            while self._of and not ending:
                await asyncio.sleep(AGAIN_S)
                ending = deployment.draining
                away: set[int] = set()  # apps may have shared state of their own
                for owner in tuple(self._owners.values()):
                    state = deployment.services_for(owner.person.app).state
                    if id(state) in away:
                        continue
                    try:
                        await self.pay(state, owner)
                    except Unavailable:
                        away.add(id(state))
        finally:
            self._trying = False

    def _removed(self, tenant: str, note: Note) -> None:
        self._marks -= len(note.marks)
        if not self._of[tenant]:
            del self._of[tenant]
            self._owners.pop(tenant, None)
