"""What callers of the memory API may send: one model a body, checked before anything is done.

The same models describe themselves in `/openapi.json`.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gateway.core.memory import Instant, Kind, Status, Type, parse_rfc3339

MAX_TEXT = 1_000_000
MAX_MANY = 1000
MAX_METADATA_BYTES = 16 * 1024


def _time(value: Any) -> Any:
    if value is None or isinstance(value, float):
        return value
    try:
        return parse_rfc3339(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("a time in RFC 3339 such as 2026-05-23T09:00:00+02:00 is needed") from None


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("must say something")
    return value


def _unbroken(value: str) -> str:
    """A lone surrogate cannot be stored as UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair, which is no character") from None
    return value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(value)) > MAX_METADATA_BYTES:
        raise ValueError(f"more than {MAX_METADATA_BYTES} bytes of metadata")
    return value


Text = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_unbroken), AfterValidator(_said)
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_unbroken)]
Time = Annotated[Instant, BeforeValidator(_time)]
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=False)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class MemoryDraft(Body):
    """A memory to be stored."""

    text: Text
    type: Type | None = None
    kind: Kind = "fact"
    key: Name | None = None
    value: Annotated[str, Field(max_length=2000)] | None = None
    importance: Share = 0.5
    pinned: bool = False
    speaker: Name | None = None
    session: Name | None = None
    created_at: Time | None = None
    valid_from: Time | None = None
    expires_at: Time | None = None
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _typed(self) -> MemoryDraft:
        if self.kind == "fact" and self.type is None:
            raise ValueError(
                "type: a fact needs one of profile, preference, interaction, task_state"
            )
        if self.kind == "turn" and self.type is not None:
            raise ValueError("type: a turn has none")
        return self


class MemoryChange(Body):
    """What is to be different about a memory; what is absent stays."""

    text: Text | None = None
    type: Type | None = None
    key: Name | None = None
    value: Annotated[str, Field(max_length=2000)] | None = None
    importance: Share | None = None
    pinned: bool | None = None
    status: Literal["active", "superseded", "quarantined"] | None = None
    valid_from: Time | None = None
    valid_to: Time | None = None
    expires_at: Time | None = None
    metadata: Metadata | None = None


class SearchBody(Body):
    """A question to an owner's memories."""

    query: Annotated[str, Field(max_length=MAX_TEXT)]
    limit: Annotated[int, Field(ge=1, le=200)] = 10
    types: tuple[Type, ...] = Field((), strict=False)
    kinds: tuple[Kind, ...] = Field((), strict=False)
    metadata: Metadata = Field(default_factory=dict)
    as_of: Time | None = None


class LoggedMessage(BaseModel):
    """One message of an existing chat log; other fields of it are passed over."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None


class LoggedExchange(Body):
    """Messages that were exchanged at one time."""

    messages: Annotated[list[LoggedMessage], Field(min_length=1, max_length=1000)]
    at: Time
    session: Name | None = None
    timezone: Name | None = None


class ExchangesBody(Body):
    """Existing chat logs."""

    exchanges: Annotated[list[LoggedExchange], Field(min_length=1, max_length=MAX_MANY)]


class ListQuery(Body):
    """Which memories a list shows."""

    type: Type | None = None
    kind: Kind | None = None
    status: Status | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: str | None = None
