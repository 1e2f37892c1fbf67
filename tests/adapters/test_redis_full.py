"""A Redis that answers and takes no writes (it is full, or a replica): a part that is down."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.adapters.cipher import AesGcmCipher
from gateway.adapters.embedded_redis import EmbeddedRedis
from gateway.adapters.redis_queue import RedisQueue
from gateway.adapters.redis_state import RedisState
from gateway.adapters.redis_wire import RedisWire
from gateway.config import ExtractionSettings, QueueSettings
from gateway.core.errors import QueueUnavailable, StateUnavailable


@pytest.mark.parametrize(
    ("refusing", "taking", "reason"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OutOfMemoryError"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "ReadOnlyError"),
    ],
)
async def test_queue_and_state_of_a_redis_that_takes_no_writes_are_down_until_it_does(
    tmp_path: Path, refusing: str, taking: str, reason: str
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    wire = RedisWire(await server.start(), timeout_s=5)
    queue = RedisQueue(
        wire,  # type: ignore[arg-type]  # as wiring gives it
        cipher=AesGcmCipher(),
        by_tenant=None,
        settings=QueueSettings(),
        extraction_for=lambda _: ExtractionSettings(),
    )
    state = RedisState(wire, AesGcmCipher())  # type: ignore[arg-type]
    try:
        for _ in range(2):
            await queue.ping()
            await state.ping()
            await wire.execute_command(*refusing.split())
            with pytest.raises(QueueUnavailable, match=reason):
                await queue.ping()
            with pytest.raises(StateUnavailable, match=reason):
                await state.ping()
            await wire.execute_command(*taking.split())
        assert await wire.execute_command("DBSIZE") == 0
    finally:
        await wire.aclose()
        await server.stop()
