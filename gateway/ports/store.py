"""Memory: where it rests, and how its words become numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias

from gateway.core.identity import Owner
from gateway.core.memory import Entry, Found, Instant, Memory, Probe, Where
from gateway.ports.models import EmbeddingModel

Sparse: TypeAlias = tuple[list[int], list[float]]
"""A sparse vector: token hashes, each once, and their weights."""


class Lexicon(Protocol):
    """Words to sparse vectors for BM25 (the store adds IDF). Pure computation; no waiting.

    A text without a language is read as English; a language that is known adds its stems. Any
    script works, and a document and a query of the same words always share tokens.
    """

    def document(self, text: str, language: str | None = None, *, window: bool = False) -> Sparse:
        """Weights by frequency and length; `window`: lengths are those of a neighbourhood."""
        ...

    def query(self, text: str, language: str | None = None) -> Sparse:
        """Each token once, weight 1; bounded however long the text is."""
        ...


class MemoryStore(Protocol):
    """Where memories rest: a Qdrant server, Qdrant Edge, or the in-memory twin.

    Raises StoreUnavailable. Sees the owner on every call, filters by tenant in one place,
    and checks it again on what comes back.
    """

    async def open(self) -> None:
        """Connect or load; make the collection where there is none.

        Raises SettingsError where the stored vector size differs from the embedder's,
        naming both and the way out.
        """
        ...

    @property
    def model(self) -> EmbeddingModel | None:
        """The model whose vectors are stored; None where there are none yet."""
        ...

    @property
    def notes(self) -> Mapping[str, str]:
        """What an operator should know of this store and can mend, by subject: for `doctor`."""
        ...

    async def adopt(self, model: EmbeddingModel, *, replace: bool = False) -> None:
        """From now on hold vectors of this model; repeating it changes nothing.

        Raises SettingsError where those of another model are stored, naming both and the way
        out. `replace` (the command `reembed`) drops those instead and marks every memory as
        waiting for its vector (`unembedded`); words find them meanwhile.
        """
        ...

    async def put(self, owner: Owner, entries: Sequence[Entry]) -> None:
        """Write whole entries by id; an entry of the same id is replaced, windows included."""
        ...

    async def add_vectors(self, owner: Owner, entries: Sequence[Entry]) -> int:
        """Give stored memories the dense vectors of these entries; how many got them.

        What else is stored of them stays (their words' windows too). One that has gone, or was
        updated since it was read, is left alone.
        """
        ...

    async def get(self, owner: Owner, ids: Sequence[str]) -> list[Memory]:
        """The memories of these ids in the order asked, whatever their status; missing ones
        are left out."""
        ...

    async def page(
        self, owner: Owner, where: Where, *, limit: int, after: tuple[Instant, str] | None = None
    ) -> list[Memory]:
        """Newest first; those of one instant in a fixed order of the store's own. `after` is
        the last one already seen (it may be gone by now)."""
        ...

    async def search(self, owner: Owner, probe: Probe) -> Found:
        """All lists of a probe in one batched call."""
        ...

    async def delete(self, owner: Owner, ids: Sequence[str]) -> int:
        """Remove points for good; how many there were."""
        ...

    async def erase(self, tenant: str) -> int:
        """Remove every point of a tenant; how many there were."""
        ...

    def let_go(self, tenant: str) -> None:
        """Hold nothing for speed of a tenant that was erased, perhaps by another process."""
        ...

    async def count(self, tenant: str, where: Where | None = None) -> int:
        """How many points a tenant has; with None every one, tombstones included."""
        ...

    async def expired(self, now: Instant, limit: int) -> list[tuple[str, str]]:
        """(tenant, reference) of memories whose `expires_at` has passed, over all tenants.

        Ids are sealed with their owner's key; `get` and `delete` take a reference for an id.
        """
        ...

    async def unembedded(self, limit: int) -> list[tuple[str, str]]:
        """(tenant, reference) of memories that wait for their vector, over all tenants."""
        ...

    async def tenants(self) -> list[str]:
        """Every tenant with a point: what a sweep compares with the directory."""
        ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class Writers(Protocol):
    """Of all processes, who may change a tenant's memories now. Raises StateUnavailable."""

    async def take(self, tenant: str) -> str:
        """Wait for one's turn; the token that one holds it by. It ends some seconds after its
        holder was last heard of."""
        ...

    async def keep(self, tenant: str, token: str) -> bool:
        """Hold it for longer; whether it was still held."""
        ...

    async def leave(self, tenant: str, token: str) -> None:
        """Let the next one in. Harmless where it is not held any more."""
        ...
