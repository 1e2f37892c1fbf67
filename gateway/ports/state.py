"""What a conversation has seen: shared by all gateway processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.core.identity import Owner
from gateway.core.memory import Instant


@dataclass(frozen=True, slots=True)
class Opening:
    """What a request shows of its conversation.

    `marks` are fingerprints of its messages in order (`core/capture`), system ones left out;
    `session` is the id that the client named, if any. `alone` is the mark that the last answer
    among them has by itself, and how many messages follow it: it counts where the answer is not
    known in its place, as the message before it was changed. `turn` is the mark of the last user
    message.
    """

    marks: tuple[str, ...]
    session: str | None
    now: Instant
    idle_gap_s: float
    alone: tuple[str, int] | None = None
    turn: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """What is known of a conversation when a request of it comes in.

    `fresh` counts the messages at the end of the request that were not seen before.
    `injected` are the ids of the memories in the conversation's block, in their order.
    `recalled_for` is the mark of the user turn that recall last ran for, so that a tool loop
    recalls once. `standing_version` changes when a memory of this user is written.
    """

    session: str
    fresh: int
    injected: tuple[str, ...] = ()
    recalled_for: str | None = None
    standing_version: str = ""


@dataclass(frozen=True, slots=True)
class Injected:
    """What a conversation's block holds from now on: the ids of memories in their order, and the
    mark of the user turn that they were recalled for."""

    ids: tuple[str, ...]
    recalled_for: str


class ConversationState(Protocol):
    """Shared by all gateway processes; one round trip to open. Raises StateUnavailable."""

    async def open(self, owner: Owner, opening: Opening) -> Conversation: ...

    async def note_injected(
        self, owner: Owner, session: str, injected: Injected, *, now: Instant
    ) -> None: ...

    async def note_seen(
        self,
        owner: Owner,
        session: str,
        marks: Sequence[str],
        *,
        now: Instant,
        owed: int = 0,
        injected: Injected | None = None,
    ) -> None:
        """These messages are captured (or will be): they are not new any more. With `injected`,
        what `note_injected` would note, in the same round trip.

        Where their answer broke off, `owed` says how many of them were new: the same request
        asked again, the whole answer still owed, finds as many.
        """
        ...

    async def touch_standing(self, tenant: str) -> bool:
        """A memory of this tenant was written: caches of profile and preferences are stale. False
        where the tenant was erased, through whichever process."""
        ...

    async def standing_version(self, tenant: str) -> str: ...

    async def remember_limit(self, app: str, model: str, limit: Mapping[str, Any]) -> None:
        """What an upstream model could not take (context length, no system role) of an app, or of
        a person (`flows/limits.scope_of`)."""
        ...

    async def limits(self, app: str, model: str) -> dict[str, Any]: ...

    async def once(self, owner: Owner, key: str, answer: bytes | None = None) -> bytes | None:
        """Idempotency: the answer kept for this key, keeping `answer` where none was."""
        ...

    async def allow(self, bucket: str, cost: int, per_minute: int, *, now: Instant) -> float:
        """Rate limit: 0.0 where allowed, else seconds until it would be."""
        ...

    async def charge(self, bucket: str, cost: int, per_minute: int, *, now: Instant) -> None:
        """Take from a bucket what was used already, into debt if need be."""
        ...

    async def erase(self, tenant: str) -> int: ...

    async def count(self, tenant: str) -> int: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...
