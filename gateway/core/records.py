"""A memory as its user sees it (JSON), and as it is taken along and brought back (a row each).

`to_public` is the shape of docs/api.md; what is absent is left out. `to_export` adds all that a
recall rests on, so that what is exported, erased and imported is recalled as before;
`from_export` reads it and says what is wrong with a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

from gateway.core.errors import BadRequest
from gateway.core.identity import Owner
from gateway.core.memory import (
    EVENTS,
    KINDS,
    TYPES,
    VIAS,
    Instant,
    Kind,
    Memory,
    Role,
    Source,
    Status,
    Version,
    Via,
    parse_rfc3339,
    rfc3339,
)

STATUSES: tuple[Status, ...] = get_args(Status)
ROLES: tuple[str, ...] = get_args(Role)

MAX_ID = 200
_ID = re.compile(r"[^@\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,199}")

T = TypeVar("T", bound=str)


def to_public(memory: Memory, owner: Owner) -> dict[str, Any]:
    """The memory as the API answers it; times are RFC 3339, optional fields are there only
    where they have a value."""
    source = memory.source
    shown = {
        "id": memory.id,
        "user": owner.user,
        "app": owner.app,
        "kind": memory.kind,
        "type": memory.type,
        "key": memory.key,
        "value": memory.value,
        "text": memory.text,
        "importance": memory.importance,
        "pinned": memory.pinned,
        "status": memory.status,
        "created_at": rfc3339(memory.created_at),
        "updated_at": rfc3339(memory.updated_at),
        "valid_from": rfc3339(memory.valid_from),
        "valid_to": _time_or_none(memory.valid_to),
        "expires_at": _time_or_none(memory.expires_at),
        "superseded_by": memory.superseded_by,
        "supersedes": memory.supersedes,
        "source": _present(
            {
                "exchange_id": source.exchange_id,
                "session": source.session,
                "role": source.role,
                "quote": source.quote,
                "via": source.via,
            }
        ),
        # Of what was forgotten it holds the prints (`core/tombstone`), which are nobody's to see.
        "metadata": {} if memory.status == "forgotten" else dict(memory.metadata),
    }
    return _present(shown)


def to_export(memory: Memory, owner: Owner) -> dict[str, Any]:
    """The memory whole: its public shape and everything else that a recall rests on."""
    return to_public(memory, owner) | _present(
        {
            "superseded_at": _time_or_none(memory.superseded_at),
            "speaker": memory.speaker,
            "covers": list(memory.covers) or None,
            "history": [
                _present(
                    {
                        "at": rfc3339(v.at),
                        "event": v.event,
                        "text": v.text,
                        "key": v.key,
                        "value": v.value,
                        "via": v.via,
                    }
                )
                for v in memory.history
            ]
            or None,
        }
    )


def from_export(row: Any) -> Memory:
    """Read what `to_export` wrote (`user` and `app` are not looked at: the caller's count).

    Raises BadRequest with the field that is wrong.
    """
    read = _Row(row)
    created_at = read.time("created_at")
    kind: Kind = read.one_of("kind", KINDS)
    type_ = read.maybe("type", lambda name: read.one_of(name, TYPES))
    if kind == "fact" and type_ is None:
        raise BadRequest(f"type: one of {', '.join(TYPES)} is needed for a fact", param="type")
    source = _Row(read.mapping("source"), "source.")
    return Memory(
        id=read.id("id"),
        kind=kind,
        type=type_ if kind == "fact" else None,
        text=read.text("text"),
        key=read.maybe("key", read.text) if kind == "fact" else None,
        value=read.maybe("value", read.text) if kind == "fact" else None,
        importance=read.share("importance", 0.5),
        pinned=read.flag("pinned"),
        status=read.one_of("status", STATUSES, "active"),
        created_at=created_at,
        updated_at=read.time("updated_at", created_at),
        valid_from=read.time("valid_from", created_at),
        valid_to=read.maybe("valid_to", read.time),
        expires_at=read.maybe("expires_at", read.time),
        superseded_at=read.maybe("superseded_at", read.time),
        superseded_by=read.maybe("superseded_by", read.id),
        supersedes=read.maybe("supersedes", read.id),
        source=Source(
            role=source.one_of("role", ROLES, "user"),
            via=source.one_of("via", VIAS, "import"),
            exchange_id=source.maybe("exchange_id", source.text),
            session=source.maybe("session", source.text),
            quote=source.maybe("quote", source.text),
        ),
        speaker=read.maybe("speaker", read.text),
        covers=tuple(read.ids("covers")),
        metadata=read.mapping("metadata"),
        history=tuple(_version(v, i) for i, v in enumerate(read.list("history"))),
    )


def _version(row: Any, number: int) -> Version:
    read = _Row(row, f"history[{number}].")
    via: Via = read.one_of("via", VIAS, "chat")
    return Version(
        at=read.time("at"),
        event=read.one_of("event", EVENTS),
        text=read.text("text", ""),
        key=read.maybe("key", read.text),
        value=read.maybe("value", read.text),
        via=via,
    )


class _Row:
    """Fields of a JSON object, each read strictly and named in the refusal."""

    def __init__(self, row: Any, prefix: str = "") -> None:
        if not isinstance(row, Mapping):
            raise BadRequest(
                f"{prefix.rstrip('.') or 'a row'}: a JSON object is needed",
                param=prefix.rstrip(".") or None,
            )
        self.row = row
        self.prefix = prefix

    def maybe(self, name: str, read: Callable[[str], Any]) -> Any:
        return None if self.row.get(name) is None else read(name)

    def text(self, name: str, default: str | None = None) -> str:
        value = self.row.get(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "a text is needed")
        return value

    def id(self, name: str) -> str:
        value = self.text(name)
        if not _ID.fullmatch(value):
            raise self._wrong(
                name, f"1 to {MAX_ID} characters, no control characters, not beginning with @"
            )
        return value

    def ids(self, name: str) -> list[str]:
        ids = self.list(name)
        if not all(isinstance(id, str) and _ID.fullmatch(id) for id in ids):
            raise self._wrong(name, "a list of memory ids is needed")
        return ids

    def time(self, name: str, default: Instant | None = None) -> Instant:
        value = self.row.get(name)
        if value is None and default is not None:
            return default
        try:
            return parse_rfc3339(value if isinstance(value, str) else "")
        except (ValueError, OverflowError):
            raise self._wrong(
                name,
                "an RFC 3339 time of the years 2 to 9998 is needed, such as 2026-05-23T09:00:00Z",
            ) from None

    def share(self, name: str, default: float) -> float:
        value = self.row.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(name, "a number from 0 to 1 is needed")
        return float(value)

    def flag(self, name: str) -> bool:
        value = self.row.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false is needed")
        return value

    def one_of(self, name: str, allowed: tuple[T, ...], default: T | None = None) -> T:
        value = self.row.get(name, default)
        for choice in allowed:
            if choice == value:
                return choice
        raise self._wrong(name, f"one of {', '.join(allowed)} is needed")

    def mapping(self, name: str) -> Mapping[str, Any]:
        value = self.row.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self._wrong(name, "a JSON object is needed")
        return value

    def list(self, name: str) -> list[Any]:
        value = self.row.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "a list is needed")
        return value

    def _wrong(self, name: str, need: str) -> BadRequest:
        return BadRequest(f"{self.prefix}{name}: {need}", param=f"{self.prefix}{name}")


def _time_or_none(at: Instant | None) -> str | None:
    return None if at is None else rfc3339(at)


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
