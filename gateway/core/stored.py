"""A memory at rest: what of it stands open beside the vectors, and what is sealed.

A stored record has two parts. The body (id, words, quote, metadata, where it came from,
history) is sealed with the owner's key and bound to its point. Beside it stand plain fields
for the filters of a search: kinds, types and times, which reveal no words. What a filter must
match but nobody may read (metadata, sessions) stands there as keyed hashes, and the tokens of
the lexical vectors are keyed hashes too (`KeyedTokens`). Ids that come from outside are in the
body alone: a point's id is derived from the tenant and the memory's id.

The JSON that users see is in `core/records.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import make_dataclass
from operator import attrgetter
from sys import intern
from types import MappingProxyType
from typing import Any, Final, cast

import orjson

from gateway.core.errors import Unreadable
from gateway.core.identity import Owner
from gateway.core.memory import Entry, Memory, Source, Version, in_microseconds

RECORD_VERSION: Final = 1
"""Version of the record layout. Older ones are read; a newer one stops the reader."""

REFERENCE: Final = "@"
"""Begins a reference to a point, which a store gives out where it cannot know the memory's id
(that is sealed); no memory's own id may begin so."""

Seal = Callable[[Owner, bytes, str], bytes]
Unseal = Callable[[Owner, bytes, str], bytes]

_REFERENCE = re.compile(REFERENCE + "[0-9a-f]{32}")
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_NAMESPACE = uuid.UUID("6f0d2a0e-5d0b-5b63-9c1c-0f1b8a6f2f35")
_UNSEALED_KEY = b"memory-gateway/unsealed"

OWED: Final = "yes"
"""Marks what waits for its vector. A word, as Edge 0.9 does not match booleans."""

STANDING_TYPES: Final = frozenset({"profile", "preference"})


# --- names ---------------------------------------------------------------------------------


def point_id(tenant: str, memory_id: str) -> str:
    """The id of a memory's point (32 hex digits); a reference names its point itself."""
    if is_reference(memory_id):
        return memory_id[1:]
    # What uuid.uuid5 makes of it, in a quarter of its 9 µs; each write asks thrice.
    name = _NAMESPACE.bytes + f"{tenant}\0{_clean(memory_id)}".encode()
    digest = hashlib.sha1(name, usedforsecurity=False).hexdigest()
    return f"{digest[:12]}5{digest[13:16]}{_VARIANT[digest[16]]}{digest[17:32]}"


def reference(point: str) -> str:
    """What `get` and `delete` take in place of a memory's id."""
    return REFERENCE + point


def is_reference(memory_id: str) -> bool:
    """Whether this has the form of a reference. Whose the point is, is checked when it is read."""
    return _REFERENCE.fullmatch(memory_id) is not None


def tag(owner: Owner, name: str, value: Any) -> str:
    """A keyed hash that a filter can match: the same name and value, the same tag, for this
    owner alone. Numbers that are equal in JSON (1 and 1.0) are equal here."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    said = f"{_clean(name)}\0".encode() + _json(value)
    key = owner.key or _UNSEALED_KEY
    return hmac.new(key, owner.tenant.encode() + b"\0" + said, hashlib.sha256).hexdigest()[:20]


def tags_of(owner: Owner, memory: Memory) -> list[str]:
    """Tags of a memory's session and metadata (a list in metadata: each of its elements too);
    of what is forgotten none."""
    if memory.status == "forgotten":
        return []
    tags = [tag(owner, "session", memory.session)] if memory.session is not None else []
    for name, value in memory.metadata.items():
        tags.append(tag(owner, f"m.{name}", value))
        if isinstance(value, list):
            tags += [tag(owner, f"m.{name}", element) for element in value[:100]]
    return tags


class KeyedTokens:
    """Token hashes of texts as one owner's own, one-way without the owner's key.

    Plain token hashes could be looked up in a dictionary. Keyed ones also keep each owner's
    posting lists apart: at 100,000 points of 200 users a lexical search over two lists took
    0.21 ms (p99 0.33) against 0.56 (1.95) with shared tokens, a long question 1.6 ms against
    16, and what others store does not slow it down. 0.4 µs a token, from a state that the key has
    gone into already; what is written together is hashed by one of these, since a turn's words
    stand in its window and in its neighbours' windows again.
    """

    def __init__(self, owner: Owner) -> None:
        key = hashlib.blake2b(owner.tenant.encode(), key=owner.key, person=b"tokens").digest()
        self._keyed = hashlib.blake2b(digest_size=4, key=key)
        self._of: dict[int, int] = {}

    def __call__(self, indices: Iterable[int]) -> list[int]:
        """The hashes of one text's tokens, in their order."""
        seen: dict[int, None] = {}
        for index in indices:
            hashed = self._of.get(index)
            if hashed is None:
                one = self._keyed.copy()
                one.update(index.to_bytes(4, "big"))
                hashed = self._of[index] = int.from_bytes(one.digest(), "big")
            while hashed in seen:  # two tokens of one text must not become one index
                hashed = (hashed + 1) & 0xFFFFFFFF
            seen[hashed] = None
        return list(seen)


# --- a record ------------------------------------------------------------------------------


def to_payload(owner: Owner, entry: Entry, seal: Seal, *, embedded: bool) -> dict[str, Any]:
    """A memory as a point's payload. `embedded` says whether its vector goes with it.

    `live` holds the tenant while the memory is active, so that the usual search filters by one
    condition: each further one cost 0.2 ms per list at 100,000 points.
    """
    memory = in_microseconds(entry.memory)
    point = point_id(owner.tenant, memory.id)
    payload: dict[str, Any] = {
        "v": RECORD_VERSION,
        "tenant": owner.tenant,
        "kind": memory.kind,
        "status": memory.status,
        "created_at": memory.created_at,
        "updated_at": memory.updated_at,
        "valid_from": memory.valid_from,
        "body": b2a_base64(seal(owner, body_of(memory), point), newline=False).decode(),
    }
    if memory.status == "active":
        payload["live"] = owner.tenant
    if memory.type is not None:
        payload["type"] = memory.type
    if memory.valid_to is not None:
        payload["valid_to"] = memory.valid_to
    if memory.expires_at is not None:
        payload["expires_at"] = memory.expires_at
    if (order := standing_order(memory)) is not None:
        payload["standing"] = order
    if tags := tags_of(owner, memory):
        payload["tags"] = tags
    if not embedded and memory.status != "forgotten" and memory.text:
        payload["owed"] = OWED
    return payload


def from_payload(
    owner: Owner,
    point: str,
    payload: Mapping[str, Any],
    unseal: Unseal,
    names: dict[str, str] | None = None,
) -> Memory:
    """The memory of a point. Raises Unreadable: damaged, or of a newer version. `names`: as
    `memory_of` has it."""
    version = payload.get("v")
    if not isinstance(version, int) or version > RECORD_VERSION:
        raise Unreadable(
            f"a stored memory has record version {version!r}; this program reads up to"
            f" {RECORD_VERSION}. Start the newer program that wrote it",
            code="record_version",
        )
    try:
        sealed = a2b_base64(payload["body"], strict_mode=True)
    except (KeyError, TypeError, ValueError) as exc:
        raise Unreadable(f"point {point} has no readable body") from exc
    return memory_of(unseal(owner, sealed, point), names)


def standing_order(memory: Memory) -> float | None:
    """Place among the memories that count whatever the question; None for the others.

    Pinned ones first, then the important, then the newest (a second is 1e-13: it only parts
    equals).
    """
    if not memory.text or memory.status == "forgotten":
        return None
    if memory.pinned or (memory.kind == "fact" and memory.type in STANDING_TYPES):
        newest = min(max(memory.created_at, 0.0), 9e10) / 1e13
        return (2.0 if memory.pinned else 0.0) + round(memory.importance, 2) + newest
    return None


def body_of(memory: Memory) -> bytes:
    """Everything of a memory as a JSON list, in the order that `memory_of` reads."""
    source = memory.source
    return _json(
        [
            _source_of(source),
            list(memory.covers),
            dict(memory.metadata),
            [[v.at, v.event, v.text, v.key, v.value, v.via] for v in memory.history],
            *_plain_of(memory),
        ]
    )


def memory_of(body: bytes, names: dict[str, str] | None = None) -> Memory:
    """The memory that `body_of` wrote. Raises Unreadable.

    `names` belongs to the memories that are kept together: sessions and exchanges that two of them
    have are one object.
    """
    try:
        origin, covers, metadata, history, *plain = orjson.loads(body)
        source = _SourceDraft(*origin)
        memory = _MemoryDraft(
            *plain,
            source,
            tuple(covers),
            metadata,
            tuple([Version(*version) for version in history]),
        )
        _share(memory, source, names)
    except (orjson.JSONDecodeError, TypeError, ValueError) as exc:
        raise Unreadable("a stored memory's body is not as it was written") from exc
    source.__class__, memory.__class__ = Source, Memory
    return cast(Memory, memory)


def _share(memory: Any, source: Any, names: dict[str, str] | None) -> None:
    """Let equal words, times and what is empty be one object: opened memories are kept by the ten
    thousand, and this takes two fifths off each (to 0.7 kB) for 0.5 µs.

    Only words that are few are interned: CPython 3.12.0 to 3.12.6 never frees one that was
    (https://github.com/python/cpython/issues/113993).
    """
    memory.kind, memory.status = intern(memory.kind), intern(memory.status)
    if memory.type is not None:
        memory.type = intern(memory.type)
    if memory.updated_at == memory.created_at:
        memory.updated_at = memory.created_at
    if memory.valid_from == memory.created_at:
        memory.valid_from = memory.created_at
    memory.importance = _USUAL.get(memory.importance, memory.importance)
    if not memory.metadata:
        memory.metadata = _NOTHING
    source.role, source.via = intern(source.role), intern(source.via)
    if names is not None:
        if source.session is not None:
            source.session = names.setdefault(source.session, source.session)
        if source.exchange_id is not None:
            source.exchange_id = names.setdefault(source.exchange_id, source.exchange_id)


# A search opens a hundred memories. Making a frozen dataclass sets each field through
# object.__setattr__: 4.7 µs for a Memory and its Source. Filling an object of the same slots
# and giving it the frozen class takes 0.9 µs.

_PLAIN: Final = (
    "id", "kind", "text", "created_at", "updated_at", "valid_from", "type", "key", "value",
    "importance", "pinned", "status", "valid_to", "expires_at", "superseded_at", "superseded_by",
    "supersedes", "speaker",
)  # fmt: skip
"""The fields of a body that are stored as they are, in this order for good (RECORD_VERSION)."""
_MADE: Final = ("source", "covers", "metadata", "history")
_SOURCE: Final = ("role", "via", "exchange_id", "session", "quote")


_USUAL: Final = {n / 20: n / 20 for n in range(21)}
"""How important memories are said to be, nearly all of them."""
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

_plain_of: Final = attrgetter(*_PLAIN)
_source_of: Final = attrgetter(*_SOURCE)


def _drafting(names: Sequence[str], *bases: type) -> Any:
    """A class of these slots whose objects may be filled plainly."""
    return make_dataclass("_Draft", names, bases=bases, slots=True)


_MemoryDraft: Final = _drafting((*_PLAIN, *_MADE), *Memory.__bases__)
_SourceDraft: Final = _drafting(_SOURCE)


# --- bytes ---------------------------------------------------------------------------------


def _json(value: Any) -> bytes:
    """JSON with sorted keys; what UTF-8 cannot carry (lone surrogates) becomes U+FFFD."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return orjson.dumps(_cleaned(value), option=orjson.OPT_SORT_KEYS)


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, Mapping):
        return {_clean(str(k)): _cleaned(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(v) for v in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


def _clean(text: str) -> str:
    if text.isascii():
        return text
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
