"""Erasing a person: the incarnation and its key first, then every place that holds their records.

Once the directory has dropped the incarnation nothing can be written for it: queue and stores
see a tenant that is no more, and copies in logs and backups have lost the key that opens them.
Removing the records themselves follows at once; where a part is away it is finished by the
sweep, and the receipt says so until then.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from gateway.core.errors import NotFound, Unavailable
from gateway.core.identity import Person
from gateway.core.memory import Instant, rfc3339
from gateway.ports import Services


async def erase(services: Services, person: Person, *, now: Instant) -> dict[str, Any]:
    """Erase all that is known of a person and return the erasure receipt.

    A person of whom nothing is known gets a receipt too, with nothing counted.
    Raises DirectoryUnavailable where not even the key could be dropped: nothing is promised
    then.
    """
    owners = await services.directory.incarnations(person)
    for owner in owners:
        await services.directory.drop(owner)
    counts: dict[str, int] = {}
    left: set[str] = set()
    for owner in owners:
        removed, away = await remove_records(services, owner.tenant)
        left |= away
        for name, count in removed.items():
            counts[name] = counts.get(name, 0) + count
    record = {
        "id": "era_" + secrets.token_hex(12),
        "app": person.app,
        "user": person.user,
        "tenants": [owner.tenant for owner in owners],
        "at": rfc3339(now),
        "counts": counts,
        "completed": not left,
    }
    await services.directory.erased(record)
    return public(record)


async def remove_records(services: Services, tenant: str) -> tuple[dict[str, int], set[str]]:
    """Remove a tenant's records everywhere: counts by name, and the parts that were away."""
    counts: dict[str, int] = {}
    left: set[str] = set()
    for name, remove in _places(services).items():
        try:
            removed = await remove(tenant)
        except Unavailable:
            left.add(name)
            continue
        counts |= removed if isinstance(removed, Mapping) else {name: removed}
    return counts, left


def _places(services: Services) -> dict[str, Callable[[str], Awaitable[Any]]]:
    """Queue before store: work in flight must find its lease gone before its points are."""
    return {
        "queue": services.queue.erase,
        "spool": services.spool.erase,
        "state": services.state.erase,
        "receipts": services.receipts.erase,
        "memories": services.store.erase,
    }


async def verify(services: Services, person: Person, id: str) -> dict[str, Any]:
    """Look again at what is left of an erased incarnation, place by place, and remove nothing:
    a look that tidied up first could never find anything.

    Raises NotFound for an unknown receipt or another person's, and Unavailable where a place
    cannot be asked: that it is empty is only said after looking.
    """
    record = await find(services, person, id)
    remaining: dict[str, int] = {}
    for tenant in record["tenants"]:
        for name, count in (await _counted(services, tenant)).items():
            remaining[name] = remaining.get(name, 0) + count
    return {
        "id": record["id"],
        "completed": not any(remaining.values()),
        "remaining": remaining,
    }


async def _counted(services: Services, tenant: str) -> dict[str, int]:
    return {
        "queue": await services.queue.count(tenant),
        "spool": await services.spool.count(tenant),
        "state": await services.state.count(tenant),
        "receipts": await services.receipts.count(tenant),
        "memories": await services.store.count(tenant),
    }


async def find(services: Services, person: Person, id: str) -> dict[str, Any]:
    """One erasure receipt of this person. Raises NotFound."""
    for record in await services.directory.erased():
        if record["id"] == id and (record["app"], record["user"]) == (person.app, person.user):
            return record
    raise NotFound(f"no erasure {id[:80]!r} of this user", param="id", code="erasure_not_found")


def public(record: Mapping[str, Any]) -> dict[str, Any]:
    """An erasure receipt as its owner sees it."""
    return {k: v for k, v in record.items() if k != "tenants"}
