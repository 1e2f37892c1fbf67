"""The stores that the contract suite runs over, each empty at the start of a test.

The server adapter is driven through the real client in its local mode, and through a real server
where GATEWAY_TEST_QDRANT_URL names one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from gateway.adapters.bm25 import Bm25Lexicon
from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.inmemory import InMemoryStore
from gateway.adapters.qdrant.edge import QdrantEdgeStore
from gateway.adapters.qdrant.server import QdrantServerStore
from gateway.config import QdrantSettings
from gateway.ports import EmbeddingModel, MemoryStore

SERVER = os.environ.get("GATEWAY_TEST_QDRANT_URL")
MODEL = EmbeddingModel("test", "three-numbers", 3)


@pytest.fixture(params=["inmemory", "edge", "client", *(["server"] if SERVER else [])])
async def bare(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MemoryStore]:
    """A store that has not seen an embedder yet."""
    cipher, lexicon = AesGcmCipher(), Bm25Lexicon()
    client: AsyncQdrantClient | None = None
    store: MemoryStore
    match request.param:
        case "inmemory":
            store = InMemoryStore(lexicon)
        case "edge":
            store = QdrantEdgeStore(tmp_path / "qdrant", cipher=cipher, lexicon=lexicon)
        case "client":
            with warnings.catch_warnings():
                # It says that local mode has no payload indexes.
                warnings.simplefilter("ignore")
                client = AsyncQdrantClient(":memory:")
            settings = QdrantSettings(url="http://local.invalid")
            store = QdrantServerStore(settings, cipher=cipher, lexicon=lexicon, client=client)
        case _:
            settings = QdrantSettings(url=SERVER, collection=f"test-{secrets.token_hex(6)}")
            client = AsyncQdrantClient(url=SERVER)
            store = QdrantServerStore(settings, cipher=cipher, lexicon=lexicon)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect")
        await store.open()
    try:
        yield store
    finally:
        if request.param == "server" and client is not None:
            await client.delete_collection(settings.collection)
            await client.close()
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
