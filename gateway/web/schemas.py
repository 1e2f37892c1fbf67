"""What callers of the memory API may send: one model a body, checked before anything is done.

The same models describe themselves in `/openapi.json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.core.errors import BadRequest
from gateway.core.exchange import MAX_SPEAKER_CHARS
from gateway.core.memory import Instant, Kind, Memory, Type, parse_rfc3339
from gateway.core.tombstone import MAX_HISTORY
from gateway.web.context import is_timezone

MAX_TEXT = 200_000
MAX_MANY = 1000
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 16


def _time(value: Any) -> Any:
    if value is None:
        return None
    try:
        return parse_rfc3339(value if isinstance(value, str) else "")
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "a time in RFC 3339 of the years 2 to 9998 is needed, such as 2026-05-23T09:00:00+02:00"
        ) from None


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


def _zone(value: str) -> str:
    """What is unknown would be read as UTC without a word, and "tomorrow" be another day."""
    if not is_timezone(value):
        raise ValueError("an IANA name such as Europe/Berlin is needed")
    return value


def _small(value: dict[str, Any]) -> dict[str, Any]:
    """Level by level, as a reader that calls itself would end where nesting is deep enough."""
    level: list[Any] = [value]
    for _ in range(MAX_METADATA_DEPTH):
        level = [
            part
            for whole in level
            if isinstance(whole, dict | list)
            for part in (whole.values() if isinstance(whole, dict) else whole)
        ]
        if not level:
            break
    else:
        raise ValueError(f"metadata is nested more than {MAX_METADATA_DEPTH} levels deep")
    try:
        size = len(orjson.dumps(value))
    except TypeError:
        raise ValueError("metadata holds what is no JSON") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"more than {MAX_METADATA_BYTES} bytes of metadata")
    return value


Listed = Literal["active", "superseded", "quarantined"]
"""A status that can be seen and set; what was forgotten shows in its history alone."""
Text = Annotated[
    str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_unbroken), AfterValidator(_said)
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_unbroken)]
Session = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_unbroken)]
Time = Annotated[
    Instant,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation"),
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Lenient(Body):
    """An optional field that is sent as null is absent: many clients write what they lack so."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        return {
            name: value
            for name, value in sent.items()
            if value is not None or name not in cls.model_fields
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler(core_schema)
        body = handler.resolve_ref_schema(described)
        needed = body.get("required", ())
        for name, field in body.get("properties", {}).items():
            if name not in needed and {"type": "null"} not in field.get("anyOf", ()):
                body["properties"][name] = {"anyOf": [field, {"type": "null"}]}
        return described


class MemoryDraft(Lenient):
    """A memory to be stored."""

    text: Text
    type: Type | None = None
    kind: Kind = "fact"
    key: Name | None = None
    value: Annotated[str, Field(max_length=2000)] | None = None
    importance: Share = 0.5
    pinned: bool = False
    speaker: Name | None = None
    session: Session | None = None
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
        if self.kind == "turn":
            self.type = self.key = self.value = None  # facts have these
        return self


EMPTIED = ("key", "value", "valid_to", "expires_at")
"""The fields that a correction empties by null; a memory has the others always."""


class MemoryChange(Body):
    """What is to be different about a memory; what is absent stays."""

    text: Text | None = None
    type: Type | None = None
    key: Name | None = None
    value: Annotated[str, Field(max_length=2000)] | None = None
    importance: Share | None = None
    pinned: bool | None = None
    status: Listed | None = None
    valid_from: Time | None = None
    valid_to: Time | None = None
    expires_at: Time | None = None
    metadata: Metadata | None = None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        described = handler(core_schema)
        fields = handler.resolve_ref_schema(described)["properties"]
        for name, field in fields.items():
            field.pop("default")  # absent is not null
            if name not in EMPTIED:
                (fields[name],) = (kind for kind in field["anyOf"] if kind != {"type": "null"})
        return described


class SearchBody(Lenient):
    """A question to an owner's memories."""

    query: Annotated[str, Field(max_length=MAX_TEXT)]
    limit: Annotated[int, Field(ge=1, le=1000)] = 10
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


class LoggedExchange(Lenient):
    """Messages that were exchanged at one time."""

    messages: Annotated[list[LoggedMessage], Field(min_length=1, max_length=1000)]
    at: Time
    session: Session | None = None
    timezone: Annotated[str, AfterValidator(_zone)] | None = None


class ExchangesBody(Body):
    """Existing chat logs."""

    exchanges: Annotated[list[LoggedExchange], Field(min_length=1, max_length=MAX_MANY)]


class Feedback(Body):
    """What a person thought of an answer; `receipt_id` is its X-Memory-Receipt-Id."""

    thumb: Literal["up", "down"]
    receipt_id: Name | None = None


class ListQuery(Body):
    """Which memories a list shows."""

    type: Type | None = None
    kind: Kind | None = None
    status: Listed | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    cursor: str | None = None


def check_sizes(memory: Memory) -> None:
    """The bounds of a memory that was read by other means. Raises BadRequest.

    None is narrower than what corrections make: what was exported must go in again.
    """
    for name, text, most in (
        ("text", memory.text, MAX_TEXT),
        ("key", memory.key, 200),
        ("value", memory.value, 2000),
        ("speaker", memory.speaker, MAX_SPEAKER_CHARS),
        ("source.session", memory.session, 256),
        ("source.exchange_id", memory.source.exchange_id, 200),
        ("source.quote", memory.source.quote, MAX_TEXT),
        *((f"history[{n}].text", past.text, MAX_TEXT) for n, past in enumerate(memory.history)),
    ):
        if text is not None and len(text) > most:
            raise BadRequest(f"{name}: at most {most} characters", param=name)
    if not memory.text.strip() and memory.status != "forgotten":
        raise BadRequest("text: must say something", param="text")
    if len(memory.history) > MAX_HISTORY or len(memory.covers) > MAX_HISTORY:
        raise BadRequest(f"history, covers: at most {MAX_HISTORY} entries", param="history")
    try:
        _small(dict(memory.metadata))
    except ValueError as exc:
        raise BadRequest(f"metadata: {exc}", param="metadata") from None
