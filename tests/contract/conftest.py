"""The stores that the contract suite runs over, each empty at the start of a test.

The server adapter is driven through the real client in its local mode, over HTTP to a stand-in
for a server (`tests/qdrant_over_http`), and to a real one where GATEWAY_TEST_QDRANT_URL names it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.inmemory import InMemoryStore
from gateway.adapters.qdrant.edge import QdrantEdgeStore
from gateway.adapters.qdrant.server import QdrantServerStore
from gateway.config import QdrantSettings
from gateway.ports import EmbeddingModel, MemoryStore
from tests.contract.local_mode import LocalMode
from tests.qdrant_over_http import QdrantOverHttp

SERVER = os.environ.get("GATEWAY_TEST_QDRANT_URL")
MODEL = EmbeddingModel("test", "three-numbers", 3)


@pytest.fixture(scope="session")
def qdrant_over_http() -> Iterator[str]:
    with QdrantOverHttp() as running:
        yield running.url


@pytest.fixture(params=["inmemory", "edge", "client", "http", *(["server"] if SERVER else [])])
async def bare(request: pytest.FixtureRequest, quick_path: Path) -> AsyncIterator[MemoryStore]:
    """A store that has not seen an embedder yet."""
    cipher, lexicon = AesGcmCipher(), Bm25Lexicon()
    store: MemoryStore
    match request.param:
        case "inmemory":
            store = InMemoryStore(lexicon)
        case "edge":
            store = QdrantEdgeStore(quick_path / "qdrant", cipher=cipher, lexicon=lexicon)
        case "client":
            settings = QdrantSettings(url="http://local.invalid")
            connection = LocalMode(settings)
            store = QdrantServerStore(
                settings, cipher=cipher, lexicon=lexicon, connection=connection
            )
        case kind:
            url = SERVER if kind == "server" else request.getfixturevalue("qdrant_over_http")
            settings = QdrantSettings(url=url, collection=f"test-{secrets.token_hex(6)}")
            store = QdrantServerStore(settings, cipher=cipher, lexicon=lexicon)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect")
        await store.open()
    try:
        yield store
    finally:
        if request.param in ("http", "server"):
            httpx.delete(f"{url}/collections/{settings.collection}").raise_for_status()
        await store.close()


@pytest.fixture
async def store(bare: MemoryStore) -> MemoryStore:
    """A store that holds vectors of three numbers."""
    await bare.adopt(MODEL)
    return bare


async def until(what: object, wanted: object, *, seconds: float = 5.0) -> None:
    """Wait for what a server does behind its answer."""
    for _ in range(int(seconds / 0.02)):
        if await what() == wanted:  # type: ignore[operator]
            return
        await asyncio.sleep(0.02)
    assert await what() == wanted  # type: ignore[operator]
