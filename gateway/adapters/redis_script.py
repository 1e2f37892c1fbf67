"""How adapters ask the Redis that processes share: scripts by their hash, failures in our words.

The one thing of Redis's that several adapters hold in common; each has its keys and scripts to
itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from gateway.core.errors import StateUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

T = TypeVar("T")

FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""What a client raises where Redis does not answer. A cluster without a node that can be reached
raises what redis-py does not count among its own errors."""


def probe(namespace: str = "") -> tuple[str | int, ...]:
    """A write that changes nothing: of a string that is not there, nothing is set. A server that is
    full, or a replica now, answers PING, and refuses this as it refuses what is handed to it."""
    return "SETRANGE", f"{namespace}{{p0}}:probe", 0, ""


class Script:
    """A script of `lua/`, and the hash that Redis keeps it under."""

    __slots__ = ("sha", "text")

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text("utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def run(self, client: Redis | RedisCluster, keys: Sequence[str], *args: Any) -> Any:
        """What it returns; a server that was restarted, or never saw it, is sent the text.

        Raises `FAILURES`; in `answered`, StateUnavailable.
        """
        try:
            return await client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.text, len(keys), *keys, *args)


async def answered(asked: Awaitable[T]) -> T:
    """What shared state answers. Raises StateUnavailable where it does not."""
    try:
        return await asked
    except FAILURES as exc:
        raise StateUnavailable(
            f"Redis, as shared state, does not answer as it should ({type(exc).__name__}); see that"
            " it runs, has room, and that redis.url (or redis.state_url) is right",
            code="state_unavailable",
        ) from exc
