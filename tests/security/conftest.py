"""What the attacks ask for: a worker's surroundings with a scripted model, and a whole gateway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flows.conftest import _scripted_model, model, shop
from tests.qdrant_over_http import QdrantOverHttp
from tests.web.conftest import gateway

__all__ = ["_scripted_model", "gateway", "model", "qdrant", "shop"]


@pytest.fixture(scope="session")
def qdrant() -> Iterator[str]:
    """The URL of a stand-in for a Qdrant server, for deployments in the server mode."""
    with QdrantOverHttp() as running:
        yield running.url
