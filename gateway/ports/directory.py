"""Whose: who is who, what seals their texts, who may act for them, and whose tokens are true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway.core.identity import Owner, Person
from gateway.core.keys import GatewayKey
from gateway.core.memory import Instant


class Cipher(Protocol):
    """Seals texts with an owner's key. Pure computation; no waiting.

    `context` binds a sealed text to its place (a point id, a queue key): opened elsewhere,
    it is refused. An owner with an empty key is not sealed: bytes pass as they are, marked
    so that either kind is read back.
    """

    def seal(self, owner: Owner, plain: bytes, context: str) -> bytes: ...

    def open(self, owner: Owner, sealed: bytes, context: str) -> bytes:
        """Raises Unreadable."""
        ...

    def let_go(self) -> None:
        """Hold no key for speed any more: one of them was destroyed."""
        ...


class Directory(Protocol):
    """Who is who: persons, the identities linked to them, and incarnations with their keys.

    Raises DirectoryUnavailable. Keys live here and nowhere else; dropping one makes all that
    it sealed unreadable, wherever copies rest.
    """

    async def owner(self, person: Person, *, create: bool = False) -> Owner | None:
        """The person's present incarnation, links followed; made at first sight if `create`."""
        ...

    async def by_tenant(self, tenant: str) -> Owner | None:
        """The owner of a tenant; None once it was erased."""
        ...

    async def incarnations(self, person: Person) -> list[Owner]:
        """All that a person's erasure must end: the present incarnation, and those that
        linked identities had before they were linked."""
        ...

    async def drop(self, owner: Owner) -> None:
        """End this incarnation and destroy its key. Repeating it is harmless."""
        ...

    async def ended(self, since: str = "") -> tuple[str, list[str]]:
        """The tenants that any process has dropped since, and what to ask with the next time.

        Without `since` only the latter. They are told for a week; a process that could not ask
        for longer could not serve anybody either.
        """
        ...

    def let_go(self, tenant: str) -> None:
        """Hold nothing for speed of a tenant that was dropped, perhaps by another process."""
        ...

    async def compact(self) -> None:
        """Have dropped keys leave the directory's own log too, where that is a step of its
        own (a sweep calls it)."""
        ...

    async def link(self, identity: Person, person: Person) -> None:
        """From now on `identity` means `person` (same app). Raises Unprocessable for a cycle."""
        ...

    async def unlink(self, identity: Person) -> None: ...

    async def links(self, person: Person) -> list[str]:
        """The users linked to this person."""
        ...

    async def people(
        self, app: str | None = None, *, prefix: str = "", limit: int = 100, after: str = ""
    ) -> list[Person]:
        """Known persons in order of (app, user), for operators.

        `after` is the last user already seen; without an app, "app/user" (no app's name
        holds a slash).
        """
        ...

    async def keep_erasure(self, record: Mapping[str, Any]) -> None:
        """Keep an erasure's receipt, or a later state of the one with its `id`. Of one person
        and of all the newest stay."""
        ...

    async def erasure(self, id: str) -> dict[str, Any] | None:
        """The erasure receipt with this id."""
        ...

    async def erased(self, *, unfinished: bool = False) -> list[dict[str, Any]]:
        """Erasure receipts, newest first; of thousands, so that a user's call asks for one."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class KeyStore(Protocol):
    """Gateway API keys and the append-only audit. Raises DirectoryUnavailable."""

    async def add(self, key: GatewayKey) -> None: ...

    async def find(self, id: str) -> GatewayKey | None: ...

    async def all(self) -> list[GatewayKey]: ...

    async def revoke(self, id: str, at: Instant) -> bool: ...

    async def audit(self, entry: Mapping[str, Any]) -> None:
        """Append who did what to whose memory, and when; never content."""
        ...

    async def audited(
        self, *, limit: int = 100, app: str | None = None, user: str | None = None
    ) -> list[dict[str, Any]]:
        """Audit entries, newest first."""
        ...


class Revocations(Protocol):
    """Sessions and links that were good and are no more, for all processes. Raises
    StateUnavailable."""

    async def revoke(self, name: str, *, now: Instant, until: Instant) -> None:
        """Take back what this name stands for. Kept until then, when it would end by itself."""
        ...

    async def revoked_at(self, name: str) -> Instant | None:
        """When it was last taken back; None where it was not."""
        ...


class JwksSource(Protocol):
    """The public keys that sign users' tokens (RFC 7517), by the URL they are published at."""

    async def keys(self, url: str, *, kid: str | None) -> Sequence[Mapping[str, Any]]:
        """The keys published there, as JWKs; fetched again, within limits, where none is
        called `kid`. Raises KeysUnavailable where none were ever had."""
        ...

    async def close(self) -> None: ...
