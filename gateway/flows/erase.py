"""Erasing a person: the incarnation and its key first, then every place that holds their records.

Once the directory has dropped the incarnation nothing can be written for it: queue and stores
see a tenant that is no more, and copies in logs and backups have lost the key that opens them.
Removing the records themselves follows at once; where a part is away the receipt says so, and
`finish` (called by the sweep, and by whoever looks again) completes it.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from gateway.core.errors import NotFound, Unavailable
from gateway.core.identity import Owner, Person
from gateway.core.memory import Instant, rfc3339
from gateway.flows import recall
from gateway.ports import Services


async def erase(services: Services, person: Person, *, now: Instant) -> dict[str, Any]:
    """Erase all that is known of a person, under whatever linked name, and return the receipt.

    A person of whom nothing is known gets a receipt too, with nothing counted.
    Raises DirectoryUnavailable where not even the key could be dropped: nothing is promised
    then, and the same call can be made again.
    """
    owners = await services.directory.incarnations(person)
    record = {
        "id": "era_" + secrets.token_hex(12),
        "app": person.app,
        "user": person.user,
        "users": sorted({person.user, *(owner.user for owner in owners)}),
        "tenants": [owner.tenant for owner in owners],
        "at": rfc3339(now),
        "counts": {},
        "completed": False,
    }
    # First of all: whatever happens from here on, it is known what there is to be finished.
    await services.directory.keep_erasure(record)
    for owner in owners:
        await services.directory.drop(owner)
    counts, left = await _removed(services, owners)
    record |= {"counts": counts, "completed": not left, "left": sorted(left)}
    await services.directory.keep_erasure(record)
    return public(record)


async def _removed(services: Services, owners: Sequence[Owner]) -> tuple[dict[str, int], set[str]]:
    counts: dict[str, int] = {}
    left: set[str] = set()
    for owner in owners:
        removed, away = await remove_records(services, owner.tenant)
        left |= away
        for name, count in removed.items():
            counts[name] = counts.get(name, 0) + count
    return counts, left


async def remove_records(services: Services, tenant: str) -> tuple[dict[str, int], set[str]]:
    """Remove a tenant's records everywhere: counts by name, and the parts that were away."""
    recall.forget(tenant)
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


async def finish(services: Services, record: Mapping[str, Any]) -> dict[str, Any]:
    """Remove what is left of an erasure: a part was away, or something that was in flight
    landed late. The record as it is now."""
    left: set[str] = set()
    counts = dict(record["counts"])
    for tenant in record["tenants"]:
        if owner := await services.directory.by_tenant(tenant):
            await services.directory.drop(owner)
        removed, away = await remove_records(services, tenant)
        left |= away
        for name, count in removed.items():
            counts[name] = counts.get(name, 0) + count
    done = {**record, "counts": counts, "completed": not left, "left": sorted(left)}
    if done != record:
        await services.directory.keep_erasure(done)
    return done


async def finish_all(services: Services) -> int:
    """Complete the erasures that could not be completed when they were asked for; how many
    are still open. What cannot be asked now is tried again with the next call."""
    records = await services.directory.erased(unfinished=True)
    done = [await finish(services, record) for record in records]
    return sum(not record["completed"] for record in done)


async def verify(services: Services, person: Person, id: str) -> dict[str, Any]:
    """Look again at what is left of an erased incarnation, place by place.

    It counts first and tidies up after: a look that tidied up first could never find anything.
    Raises NotFound for an unknown receipt or another person's, and Unavailable where a place
    cannot be asked: that it is empty is only said after looking.
    """
    record = await find(services, person, id)
    remaining: dict[str, int] = {}
    for tenant in record["tenants"]:
        for name, count in (await _counted(services, tenant)).items():
            remaining[name] = remaining.get(name, 0) + count
    clean = not any(remaining.values())
    if not (clean and record["completed"]):
        await finish(services, record)
    return {"id": record["id"], "completed": clean, "remaining": remaining}


async def _counted(services: Services, tenant: str) -> dict[str, int]:
    return {
        "directory": int(await services.directory.by_tenant(tenant) is not None),
        "queue": await services.queue.count(tenant),
        "spool": await services.spool.count(tenant),
        "state": await services.state.count(tenant),
        "receipts": await services.receipts.count(tenant),
        "memories": await services.store.count(tenant),
    }


async def find(services: Services, person: Person, id: str) -> dict[str, Any]:
    """One erasure receipt of this person, under any of their names. Raises NotFound."""
    record = await services.directory.erasure(id)
    if record is not None and record["app"] == person.app and person.user in record["users"]:
        return record
    raise NotFound(f"no erasure {id[:80]!r} of this user", param="id", code="erasure_not_found")


def public(record: Mapping[str, Any]) -> dict[str, Any]:
    """An erasure receipt as its owner sees it."""
    return {k: v for k, v in record.items() if k not in ("tenants", "users")}
