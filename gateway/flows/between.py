"""What this process holds of its users between one recall and the next: what always counts, and
what superseded facts rested on. Who writes a memory, or erases somebody, says so here.
"""

from __future__ import annotations

from typing import Final

from gateway.flows.outdated import Outdated
from gateway.flows.standing import StandingCache

standing_memories: Final = StandingCache()
outdated_facts: Final = Outdated()


def forget(tenant: str) -> None:
    """Drop what this process holds of a tenant that was erased."""
    standing_memories.forget(tenant)
    outdated_facts.forget(tenant)


def superseded_written(tenant: str) -> None:
    """What is held of a tenant's superseded facts may be another now."""
    outdated_facts.forget(tenant)
