"""What tests of the web share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.lab.scripted_upstream import ScriptedUpstream
from tests.web.house import House, house

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def gateway(tmp_path: Path, upstream: ScriptedUpstream, redis: Redis) -> AsyncIterator[House]:
    """A gateway with default settings before the scripted upstream."""
    async with house(tmp_path, upstream.base_url, redis) as opened:
        yield opened
