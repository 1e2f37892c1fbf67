"""Exchanges as Redis holds them: a header in clear that the script reads, and what is sealed."""

from __future__ import annotations

import hashlib
from struct import Struct
from typing import Final

from gateway.core.exchange import Exchange
from gateway.core.identity import Owner
from gateway.core.memory import Instant
from gateway.core.wire import exchange_from_bytes, exchange_to_bytes
from gateway.ports import Cipher

HEADER: Final = Struct(">dddIB")
"""As the script writes it: at, accepted, sequence number, characters, complete."""


def hidden(owner: Owner, exchange_id: str) -> str:
    """An exchange's name in Redis: its own id is a fingerprint of words, which can be guessed."""
    known = exchange_id.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(known, key=owner.key, digest_size=16).hexdigest()


def sealed(cipher: Cipher, owner: Owner, id: str, exchange: Exchange) -> bytes:
    """An exchange as it is handed to the script; `id` is its hidden one."""
    return cipher.seal(owner, exchange_to_bytes(exchange), f"exchange:{id}")


def accepted_at(record: bytes) -> Instant:
    """When the exchange that the script gave was accepted."""
    accepted: Instant = HEADER.unpack_from(record)[1]
    return accepted


def opened(cipher: Cipher, owner: Owner, id: str, record: bytes) -> Exchange:
    """An exchange as the script gave it. Raises Unreadable."""
    return exchange_from_bytes(cipher.open(owner, record[HEADER.size :], f"exchange:{id}"))
