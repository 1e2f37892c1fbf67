"""What this process holds of its users between one recall and the next: what always counts, what
superseded facts rested on, and which words that wait are forgotten. Who writes a memory, or erases
somebody, says so here.
"""

from __future__ import annotations

from typing import Final

from gateway.flows.outdated import Outdated
from gateway.flows.standing import StandingCache

standing_memories: Final = StandingCache()
outdated_facts: Final = Outdated()
forgotten_waiting: Final = StandingCache()
"""The tombstones of turns that wait to be distilled. They come with a write, which changes the
version: to look for them in each recall took 0.1 ms here and as much in the store's process."""


def forget(tenant: str) -> None:
    """Drop what this process holds of a tenant that was erased."""
    standing_memories.forget(tenant)
    outdated_facts.forget(tenant)
    forgotten_waiting.forget(tenant)


def superseded_written(tenant: str) -> None:
    """What is held of a tenant's superseded facts may be another now."""
    outdated_facts.forget(tenant)
