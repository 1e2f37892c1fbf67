"""What is kept of answers for those who ask later: receipts one by one, and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from gateway.core.identity import Owner
from gateway.core.memory import Instant


class Receipts(Protocol):
    """Why it said that: what one request considered and injected. Raises StateUnavailable."""

    async def keep(self, owner: Owner, receipt: Mapping[str, Any]) -> None: ...

    async def get(self, owner: Owner, id: str) -> dict[str, Any] | None: ...

    async def recent(self, owner: Owner, *, limit: int = 50) -> list[dict[str, Any]]: ...

    async def replace(self, owner: Owner, receipt: Mapping[str, Any]) -> None:
        """Another state of a receipt that is kept; nothing happens where it has ended."""
        ...

    async def erase(self, tenant: str) -> int: ...

    async def count(self, tenant: str) -> int: ...


Group = Literal["memory", "holdout", "shadow"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """What was seen of one group of an app's users. Conversations and people are estimates."""

    exchanges: int = 0
    repeated: int = 0
    up: int = 0
    down: int = 0
    conversations: int = 0
    people: int = 0


class Tally(Protocol):
    """Counts over all processes, by app, without content or names. Raises StateUnavailable."""

    async def exchange(
        self,
        app: str,
        group: Group,
        *,
        conversation: str,
        tenant: str,
        repeated: bool,
        now: Instant,
    ) -> None:
        """One request was answered; `repeated`: it asked again what was asked before."""
        ...

    async def thumb(self, app: str, group: Group, *, up: bool, by: int, now: Instant) -> None: ...

    async def groups(self, app: str, *, days: int, now: Instant) -> dict[Group, GroupCounts]:
        """What was counted in the last days, for each group of which there is anything."""
        ...

    async def made(self, app: str, ids: Sequence[str], *, now: Instant) -> None:
        """Facts of these ids were written."""
        ...

    async def injected(self, app: str, ids: Sequence[str], *, now: Instant) -> None: ...

    async def never_injected(self, app: str, *, now: Instant) -> tuple[int, int]:
        """Of the facts made this month and last: how many, and how many of them were never
        injected. Estimates."""
        ...

    async def tell(self, process: str, counted: bytes, *, now: Instant) -> None:
        """What a process has counted so far, in place of what it told before; it is gone some
        seconds after the last time."""
        ...

    async def told(self) -> list[bytes]:
        """What each process that runs told last."""
        ...
