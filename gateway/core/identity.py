"""Whose memory it is. A `Person` is who was named; an `Owner` is whose records they are.

Erasing a person ends their incarnation: the next record starts a new one, under a new
tenant and a new key, so that work still in flight for the old one finds no owner.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

PARTITIONS = 64
"""Number of Redis slots that users are spread over (`{p0}` … `{p63}`)."""

DEFAULT_APP = "default"


@dataclass(frozen=True, slots=True)
class Person:
    """A user within an app, as the caller names them."""

    app: str
    user: str


@dataclass(frozen=True, slots=True)
class Owner:
    """One incarnation of a person.

    `tenant` is random and unique to the incarnation: it is all that stores and queues
    know of a person. `key` seals this incarnation's texts (32 bytes; empty where sealing
    is off).
    """

    person: Person
    tenant: str
    key: bytes = field(default=b"", repr=False)

    @property
    def app(self) -> str:
        return self.person.app

    @property
    def user(self) -> str:
        return self.person.user

    @property
    def partition(self) -> int:
        return partition_of(self.tenant)


def new_owner(person: Person) -> Owner:
    """A fresh incarnation with a tenant and a key of its own."""
    return Owner(person, tenant=secrets.token_hex(16), key=secrets.token_bytes(32))


def partition_of(tenant: str) -> int:
    """The partition of a tenant, stable over processes and versions.

    Tenants are random, so that spreading them is spreading users; taking it from the
    tenant lets a worker that holds only a tenant find its slot.
    """
    return int.from_bytes(hashlib.blake2b(tenant.encode(), digest_size=4).digest()) % PARTITIONS
