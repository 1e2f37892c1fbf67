"""What any test may ask for. Keep it small: what one room needs stands in that room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """A scripted upstream on a real uvicorn; `upstream.base_url` is where it listens."""
    with ScriptedUpstream() as running:
        yield running
